"""Services, names and policies as a user of a real cluster meets them: real pods, kubectl, the API server's proxy."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

from tests.integration.conftest import Cluster


def pod(name: str, *command: str, **labels: str) -> dict[str, Any]:
    container: dict[str, Any] = {"name": "c", "image": "httpd", "imagePullPolicy": "IfNotPresent"}
    spec: dict[str, Any] = {"terminationGracePeriodSeconds": 0, "containers": [container], "hostname": name}
    if command:
        container["command"] = list(command)
    else:
        container["ports"] = [{"name": "http", "containerPort": 80}]
        probe = {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1, "failureThreshold": 1}
        container["readinessProbe"] = probe
        container["volumeMounts"] = [{"name": "page", "mountPath": "/usr/local/apache2/htdocs"}]
        spec |= {"subdomain": "heads", "volumes": [{"name": "page", "configMap": {"name": "page"}}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}


def service(name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def policy(peer: dict[str, Any]) -> dict[str, Any]:
    spec = {
        "podSelector": {"matchLabels": {"app": "web"}},
        "policyTypes": ["Ingress"],
        "ingress": [{"from": [{"podSelector": peer}], "ports": [{"port": "http"}]}],
    }
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "web"},
        "spec": spec,
    }


def test_a_cluster(node_cluster: Cluster) -> None:
    cluster = node_cluster

    def apply(*objects: dict[str, Any]) -> None:
        body = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        cluster.kubectl("apply", "-f", "-", stdin=json.dumps(body))

    def inside(*command: str) -> str:
        return cluster.kubectl("exec", "client", "--", *command, check=False).stdout.strip()

    def fetch(url: str) -> str:
        return inside("curl", "-s", "-m", "1", url)

    ports = [{"name": "http", "port": 8080, "targetPort": "http"}]
    page = '<a href="/rewriteme">test</a>'
    apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "page"}, "data": {"index.html": page}},
        pod("web", app="web"),
        pod("client", "sleep", "1000", app="client"),
        service("web", type="NodePort", selector={"app": "web"}, ports=ports),
        service("heads", clusterIP="None", selector={"app": "web"}, ports=ports),
        service("alias", type="ExternalName", externalName="web.default.svc.cluster.local"),
    )
    cluster.kubectl("wait", "--for=condition=Ready", "pod/web", "pod/client", "--timeout=60s")
    node_port = cluster.get("service", "web")["spec"]["ports"][0]["nodePort"]
    address = cluster.get("pod", "web")["status"]["podIP"]

    # Names, forward and back, and what stands behind them.
    cluster.until(lambda: fetch("http://web:8080/") == page)
    assert fetch("http://alias:8080/") == fetch("http://web.heads.default.svc.cluster.local/") == page
    assert inside("getent", "hosts", address).split() == [address, "web.heads.default.svc.cluster.local"]
    assert inside("getent", "hosts", "nobody.default.svc.cluster.local") == ""

    # Node ports, on the host's loopback address too.
    for host in ("127.0.0.1", "10.246.0.1"):
        with urllib.request.urlopen(f"http://{host}:{node_port}/", timeout=5) as answer:
            assert answer.read().decode() == page

    # The API server's proxy: by port name and number; links lead back through it.
    base = "/api/v1/namespaces/default"
    for which in ("services/web", "services/web:http", "services/http:web:8080", "pods/web", "pods/http:web:80"):
        got = cluster.kubectl("get", "--raw", f"{base}/{which}/proxy/").stdout
        assert got == page.replace("/rewriteme", f"{base}/{which}/proxy/rewriteme")

    # A policy keeps the client out and lets probes and the node in; the client's label opens it.
    apply(policy({"matchLabels": {"friend": "yes"}}))
    cluster.until(lambda: fetch("http://web:8080/") == "")
    assert fetch(f"http://{address}/") == ""
    with urllib.request.urlopen(f"http://{address}/", timeout=5) as answer:
        assert answer.status == 200
    cluster.kubectl("label", "pod", "client", "friend=yes")
    cluster.until(lambda: fetch("http://web:8080/") == page)
    ready = {c["type"]: c for c in cluster.get("pod", "web")["status"]["conditions"]}["Ready"]
    assert ready["status"] == "True"
    cluster.kubectl("label", "pod", "client", "friend-")
    cluster.until(lambda: fetch("http://web:8080/") == "")
    cluster.kubectl("delete", "networkpolicy", "web")
    cluster.until(lambda: fetch("http://web:8080/") == page)
