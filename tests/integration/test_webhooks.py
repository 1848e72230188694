"""Admission webhooks against a real HTTPS server that this test runs, through kubectl."""

from __future__ import annotations

import base64
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from stablehand.launch.pki import Pki
from tests.integration.conftest import Cluster, free_port

Answer = Callable[[dict[str, Any]], dict[str, Any]]


class Hooks:
    """A webhook server; `answers` says by path what comes back, `seen` what was asked."""

    def __init__(self, folder: Path) -> None:
        pki = Pki(folder)
        certificate, key = pki.certificate("hook", "hook", hosts=("127.0.0.1",), server=True)
        self.ca = base64.b64encode(pki.ca_pem.encode()).decode()
        self.answers: dict[str, Answer] = {}
        self.seen: list[dict[str, Any]] = []
        hooks = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                request = review["request"]
                hooks.seen.append({**request, "path": self.path})
                response = hooks.answers[self.path.split("?")[0]](request)
                response.setdefault("uid", request["uid"])
                body = json.dumps({"kind": review["kind"], "apiVersion": review["apiVersion"], "response": response})
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def hook(self, name: str, path: str, rules: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        return {
            "name": f"{name}.stablehand.dev",
            "clientConfig": {"url": f"https://127.0.0.1:{self.server.server_port}{path}", "caBundle": self.ca},
            "rules": rules,
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            **more,
        }


def patch(*operations: dict[str, Any]) -> dict[str, Any]:
    text = base64.b64encode(json.dumps(operations).encode()).decode()
    return {"allowed": True, "patchType": "JSONPatch", "patch": text}


def rule(resource: str, *operations: str, group: str = "") -> dict[str, Any]:
    return {"apiGroups": [group], "apiVersions": ["v1"], "resources": [resource], "operations": list(operations)}


@pytest.fixture
def hooks(control_plane: Cluster, tmp_path: Path) -> Iterator[Hooks]:
    served = Hooks(tmp_path / "pki")
    try:
        yield served
    finally:
        for kind in ("mutatingwebhookconfiguration", "validatingwebhookconfiguration"):
            control_plane.kubectl("delete", kind, "--all")
        served.server.shutdown()
        served.server.server_close()


def register(c: Cluster, kind: str, name: str, *webhooks: dict[str, Any]) -> None:
    version = "admissionregistration.k8s.io/v1"
    obj = {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "webhooks": list(webhooks)}
    c.kubectl("apply", "-f", "-", stdin=json.dumps(obj))


def test_mutating_webhooks_change_and_are_asked_again(control_plane: Cluster, hooks: Hooks) -> None:
    c = control_plane
    sidecar = {"op": "add", "path": "/spec/containers/-", "value": {"name": "side", "image": "side"}}

    def count(request: dict[str, Any]) -> dict[str, Any]:
        number = str(len(request["object"]["spec"]["containers"]))
        return patch({"op": "add", "path": "/metadata/annotations", "value": {"containers": number}})

    hooks.answers = {"/count": count, "/side": lambda request: patch(sidecar)}
    pods = [rule("pods", "CREATE")]
    register(
        c, "MutatingWebhookConfiguration", "a",
        hooks.hook("count", "/count", pods, reinvocationPolicy="IfNeeded"),
        hooks.hook("side", "/side", pods, namespaceSelector={"matchLabels": {"kubernetes.io/metadata.name": "default"}}),
    )  # fmt: skip
    c.until(lambda: c.kubectl("get", "sa", "default", check=False).returncode == 0)
    c.kubectl("run", "hooked", "--image", "x")
    pod = c.get("pod", "hooked")
    assert [x["name"] for x in pod["spec"]["containers"]] == ["hooked", "side"]
    assert pod["metadata"]["annotations"]["containers"] == "2"
    # What a webhook adds is defaulted and admitted like the rest.
    assert pod["spec"]["containers"][1]["imagePullPolicy"] == "Always"
    assert pod["spec"]["containers"][1]["volumeMounts"][0]["mountPath"].startswith("/var/run/secrets")
    asked = hooks.seen[0]
    assert asked["kind"] == {"group": "", "version": "v1", "kind": "Pod"} and asked["operation"] == "CREATE"
    assert asked["userInfo"]["username"] == "kubernetes-admin" or asked["userInfo"]["groups"]
    assert asked["options"]["kind"] == "CreateOptions" and asked["dryRun"] is False and asked["path"].endswith("10s")
    c.kubectl("create", "ns", "elsewhere")
    c.until(lambda: c.kubectl("get", "sa", "default", "-n", "elsewhere", check=False).returncode == 0)
    c.kubectl("run", "hooked", "--image", "x", "-n", "elsewhere")
    assert len(c.get("pod", "hooked", "-n", "elsewhere")["spec"]["containers"]) == 1
    c.kubectl("delete", "pod", "hooked", "--now")
    c.kubectl("delete", "ns", "elsewhere")


def test_validating_webhooks_refuse_and_warn(control_plane: Cluster, hooks: Hooks) -> None:
    c = control_plane

    def judge(request: dict[str, Any]) -> dict[str, Any]:
        obj = request["object"] or request["oldObject"]
        if request["operation"] == "DELETE":
            keep = obj["metadata"]["name"] == "kept"
            return {"allowed": not keep, "status": {"message": "it is dear to us", "code": 403, "reason": "Forbidden"}}
        if (obj.get("data") or {}).get("x") == "bad":
            return {"allowed": False, "status": {"message": "x is bad"}}
        return {"allowed": True, "warnings": ["x is unusual"]}

    hooks.answers = {"/judge": judge}
    watched = {"matchLabels": {"watched": "yes"}}
    register(
        c, "ValidatingWebhookConfiguration", "v",
        hooks.hook("judge", "/judge", [rule("configmaps", "CREATE", "UPDATE", "DELETE")], objectSelector=watched),
    )  # fmt: skip
    config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: kept, labels: {watched: 'yes'}}\ndata: {x: good}\n"
    assert "Warning: x is unusual" in c.kubectl("apply", "-f", "-", stdin=config).stderr
    refused = c.kubectl("apply", "-f", "-", stdin=config.replace("good", "bad"), check=False)
    assert 'admission webhook "judge.stablehand.dev" denied the request: x is bad' in refused.stderr
    assert c.get("cm", "kept")["data"] == {"x": "good"}
    deleted = c.kubectl("delete", "cm", "kept", check=False)
    assert "(Forbidden)" in deleted.stderr and "denied the request: it is dear to us" in deleted.stderr
    dry = c.kubectl("apply", "--dry-run=server", "-f", "-", stdin=config.replace("good", "fine"))
    assert "configured" in dry.stdout and hooks.seen[-1]["dryRun"] is True
    c.kubectl("label", "cm", "kept", "watched-")  # the old object still matches; the new one does not
    c.kubectl("delete", "cm", "kept")


def test_a_webhook_that_fails(control_plane: Cluster, hooks: Hooks) -> None:
    c = control_plane
    nobody = {"url": f"https://127.0.0.1:{free_port()}/x", "caBundle": hooks.ca}
    rules = [rule("secrets", "CREATE")]
    broken = {**hooks.hook("broken", "/x", rules), "clientConfig": nobody}
    register(c, "ValidatingWebhookConfiguration", "f", broken)
    refused = c.kubectl("create", "secret", "generic", "s", check=False).stderr
    assert 'failed calling webhook "broken.stablehand.dev": failed to call webhook: Post "https://127' in refused
    service = {"service": {"name": "absent", "namespace": "default"}, "caBundle": hooks.ca}
    register(c, "ValidatingWebhookConfiguration", "f", {**broken, "clientConfig": service})
    refused = c.kubectl("create", "secret", "generic", "s", check=False).stderr
    assert 'service "absent" not found' in refused
    register(c, "ValidatingWebhookConfiguration", "f", {**broken, "failurePolicy": "Ignore"})
    c.kubectl("create", "secret", "generic", "s")
    c.kubectl("delete", "secret", "s")


def test_scale_is_told_as_a_scale(control_plane: Cluster, hooks: Hooks) -> None:
    c = control_plane

    def judge(request: dict[str, Any]) -> dict[str, Any]:
        return {"allowed": request["object"]["spec"].get("replicas", 0) < 3, "status": {"message": "too many"}}

    hooks.answers = {"/judge": judge}
    c.kubectl("create", "deployment", "scaled", "--image", "x", "--replicas", "0")
    scales = [rule("deployments/scale", "UPDATE", group="apps")]
    register(c, "ValidatingWebhookConfiguration", "s", hooks.hook("judge", "/judge", scales))
    refused = c.kubectl("scale", "deployment", "scaled", "--replicas", "3", check=False)
    assert "denied the request: too many" in refused.stderr
    asked = hooks.seen[-1]
    assert asked["kind"]["kind"] == "Scale" and asked["subResource"] == "scale" and asked["name"] == "scaled"
    c.kubectl("scale", "deployment", "scaled", "--replicas", "1")
    managers = c.get("deployment", "scaled", "--show-managed-fields")["metadata"]["managedFields"]
    assert "scale" in {m.get("subresource") for m in managers}
    c.kubectl("delete", "deployment", "scaled")
