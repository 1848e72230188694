"""metrics.k8s.io through the real kubectl, from a kubelet that the test plays; handed over to a server of the user's."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.integration.conftest import Cluster
from tests.integration.played_kubelet import PlayedKubelet


@pytest.fixture(scope="module")
def kubelet(control_plane: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlayedKubelet]:
    played = PlayedKubelet(tmp_path_factory.mktemp("kubelet"))
    played.use = {("default", "p", "busy"): (0.25, 64 << 20), ("default", "p", "idle"): (0.0, 64 << 20)}
    c, node = control_plane, json.dumps(played.node("n"))
    c.kubectl("create", "-f", "-", stdin=node)
    c.kubectl("replace", "--subresource", "status", "-f", "-", stdin=node)
    c.until(lambda: c.kubectl("get", "sa", "default", check=False).returncode == 0)
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "labels": {"app": "x"}},
        "spec": {
            "nodeName": "n",
            "containers": [{"name": "busy", "image": "x"}, {"name": "idle", "image": "x"}],
            "tolerations": [{"operator": "Exists"}],
        },
    }
    c.kubectl("create", "-f", "-", stdin=json.dumps(pod))
    try:
        yield played
    finally:
        played.end()


def test_top(control_plane: Cluster, kubelet: PlayedKubelet) -> None:
    c = control_plane
    assert c.kubectl("top", "nodes", "--no-headers").stdout.split() == ["n", "500m", "25%", "512Mi", "50%"]
    assert c.kubectl("top", "pods", "--no-headers").stdout.split() == ["p", "250m", "128Mi"]
    rows = c.kubectl("top", "pods", "--containers", "--no-headers", "--sort-by", "cpu").stdout.split()
    assert rows == ["p", "busy", "250m", "64Mi", "p", "idle", "0m", "64Mi"]
    assert c.kubectl("top", "pod", "-l", "app=x", "--no-headers").stdout.split()[0] == "p"
    assert "No resources found" in c.kubectl("top", "pods", "-l", "app=y", check=False).stderr
    assert 'podmetrics.metrics.k8s.io "default/q" not found' in c.kubectl("top", "pod", "q", check=False).stderr


def test_objects_and_tables(control_plane: Cluster, kubelet: PlayedKubelet) -> None:
    c = control_plane
    found = json.loads(c.kubectl("get", "--raw", "/apis/metrics.k8s.io/v1beta1/namespaces/default/pods/p").stdout)
    assert found["kind"] == "PodMetrics" and found["timestamp"] and found["window"].endswith("s")
    assert [x["name"] for x in found["containers"]] == ["busy", "idle"]
    assert found["containers"][0]["usage"]["memory"] == "64Mi"
    listed = json.loads(c.kubectl("get", "--raw", "/apis/metrics.k8s.io/v1beta1/nodes").stdout)
    assert listed["kind"] == "NodeMetricsList" and listed["items"][0]["metadata"]["labels"] == {"a": "b"}
    assert c.kubectl("get", "podmetrics").stdout.split()[:4] == ["NAME", "CPU", "MEMORY", "WINDOW"]
    assert "metrics.k8s.io/v1beta1" in c.kubectl("api-versions").stdout
    assert "window" in c.kubectl("explain", "podmetrics").stdout
    assert "usage" in c.kubectl("explain", "podmetrics.containers").stdout
    assert c.kubectl("auth", "can-i", "list", "pods.metrics.k8s.io", "--as", "x", check=False).returncode
    c.kubectl("create", "rolebinding", "viewer", "--clusterrole", "view", "--user", "x")
    c.until(lambda: not c.kubectl("auth", "can-i", "list", "pods.metrics.k8s.io", "--as", "x", check=False).returncode)
    assert c.get("apiservice", "v1beta1.metrics.k8s.io")["status"]["conditions"][0]["reason"] == "Local"


def test_a_metrics_server_takes_over(control_plane: Cluster, kubelet: PlayedKubelet) -> None:
    c = control_plane
    service = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": "v1beta1.metrics.k8s.io"},
        "spec": {
            "service": {"name": "metrics-server", "namespace": "kube-system"},
            "group": "metrics.k8s.io",
            "version": "v1beta1",
            "insecureSkipTLSVerify": True,
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
        },
    }
    c.kubectl("apply", "-f", "-", stdin=json.dumps(service))
    c.until(lambda: c.kubectl("top", "nodes", check=False).returncode)
    c.until(
        lambda: (
            c.get("apiservice", "v1beta1.metrics.k8s.io")["status"]["conditions"][0].get("reason") == "ServiceNotFound"
        )
    )
    c.kubectl("delete", "apiservice", "v1beta1.metrics.k8s.io")
    c.until(lambda: c.kubectl("top", "nodes", check=False).returncode == 0)
    c.until(lambda: c.kubectl("get", "apiservice", "v1beta1.metrics.k8s.io", check=False).returncode == 0)
