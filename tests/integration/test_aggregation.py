"""API aggregation against a real HTTPS server that this test runs, through kubectl."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from stablehand.launch.pki import Pki
from tests.integration.conftest import Cluster
from tests.integration.hollow import Api

GROUP = "sample.stablehand.dev"
BASE = f"/apis/{GROUP}/v1"
LISTS = {
    "operationId": "listThings", "x-kubernetes-action": "list", "responses": {"200": {"description": "OK"}},
    "x-kubernetes-group-version-kind": {"group": GROUP, "version": "v1", "kind": "Thing"},
}  # fmt: skip
THING = {
    "type": "object", "properties": {"size": {"type": "integer", "description": "how big"}},
    "x-kubernetes-group-version-kind": [{"group": GROUP, "version": "v1", "kind": "Thing"}],
}  # fmt: skip


class Sample:
    """Serves one kind, Thing, and remembers who asked."""

    def __init__(self, folder: Path, proxy_ca: str) -> None:
        pki = Pki(folder)
        certificate, key = pki.certificate("sample", "sample", hosts=("sample.default.svc",), server=True)
        self.ca = base64.b64encode(pki.ca_pem.encode()).decode()
        self.users: set[str | None] = set()
        users = self.users
        thing = {
            "name": "things",
            "singularName": "thing",
            "namespaced": True,
            "kind": "Thing",
            "verbs": ["get", "list"],
        }
        answers: dict[str, Any] = {
            BASE: {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": f"{GROUP}/v1", "resources": [thing]},
            f"{BASE}/namespaces/default/things": {
                "kind": "ThingList", "apiVersion": f"{GROUP}/v1", "metadata": {"resourceVersion": "1"},
                "items": [{"kind": "Thing", "apiVersion": f"{GROUP}/v1", "metadata": {"name": "one"}}],
            },
            "/openapi/v3": {"paths": {BASE[1:]: {"serverRelativeURL": f"/openapi/v3{BASE}?hash=ABC"}}},
            f"/openapi/v3{BASE}": {
                "openapi": "3.0.0", "components": {"schemas": {"dev.Thing": THING}},
                "paths": {f"{BASE}/namespaces/{{namespace}}/things": {"get": LISTS}},
            },
            "/openapi/v2": {
                "swagger": "2.0", "definitions": {"dev.Thing": THING},
                "paths": {f"{BASE}/things": {"get": {"operationId": "listThings", "responses": {"200": {}}}}, "/x": {}},
            },
        }  # fmt: skip

        class Handler(BaseHTTPRequestHandler):
            def upgrade(self) -> None:
                """Says who asks, then echoes."""
                self.send_response(101)
                self.send_header("Upgrade", self.headers["Upgrade"])
                self.send_header("Connection", "Upgrade")
                self.end_headers()
                asker = {k: self.headers[k] for k in ("X-Remote-User", "Authorization", "Impersonate-User")}
                self.wfile.write(json.dumps(asker).encode() + b"\n")
                while line := self.rfile.readline():
                    self.wfile.write(line)
                self.close_connection = True

            def do_GET(self) -> None:
                if "Upgrade" in self.headers:
                    return self.upgrade()
                assert isinstance(self.connection, ssl.SSLSocket)
                subject = dict(pair[0] for pair in (self.connection.getpeercert() or {}).get("subject", ()))  # type: ignore[misc]
                if subject.get("commonName") == "front-proxy-client":
                    users.add(self.headers.get("X-Remote-User"))
                found = answers.get(self.path.split("?")[0])
                body = json.dumps(found or {"kind": "Status", "status": "Failure", "code": 404}).encode()
                self.send_response(200 if found else 404)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=proxy_ca)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def sample(control_plane: Cluster, tmp_path: Path) -> Iterator[Sample]:
    config = control_plane.get("cm", "extension-apiserver-authentication", "-n", "kube-system")["data"]
    served = Sample(tmp_path / "pki", config["requestheader-client-ca-file"])
    try:
        yield served
    finally:
        control_plane.kubectl("delete", "apiservice", f"v1.{GROUP}", "--ignore-not-found")
        served.server.shutdown()
        served.server.server_close()


def test_an_aggregated_api_is_found_and_used(control_plane: Cluster, sample: Sample) -> None:
    c = control_plane
    name, port = f"v1.{GROUP}", sample.server.server_port
    spec = {
        "group": GROUP, "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 10, "caBundle": sample.ca,
        "service": {"name": "sample", "namespace": "default", "port": port},
    }  # fmt: skip
    obj = {"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": name}, "spec": spec}
    c.kubectl("apply", "-f", "-", stdin=json.dumps(obj))

    def available() -> dict[str, str]:
        conditions = (c.get("apiservice", name).get("status") or {}).get("conditions") or [{}]
        return conditions[0]  # type: ignore[no-any-return]

    c.until(lambda: available().get("reason") == "ServiceNotFound")
    assert "503" in c.kubectl("get", "--raw", f"{BASE}/namespaces/default/things", "-v6", check=False).stderr
    c.kubectl("create", "service", "externalname", "sample", "--external-name", "localhost")
    c.until(lambda: available().get("status") == "True")
    assert c.kubectl("get", "apiservice", name, "--no-headers").stdout.split()[:3] == [name, "default/sample", "True"]
    assert GROUP in c.kubectl("api-versions").stdout
    assert "things" in c.kubectl("api-resources", "--api-group", GROUP).stdout
    assert c.kubectl("get", "things", "-o", "name").stdout.strip() == f"thing.{GROUP}/one"
    c.kubectl("get", "things", "--as", "jane", check=False)
    assert {"kubernetes-admin", "admin"} & {u or "" for u in sample.users} or len(sample.users) > 1
    refused = c.kubectl("get", "things", "--as", "jane", check=False).stderr
    assert 'User "jane" cannot list resource "things"' in refused
    _documents(c)
    _upgraded(Api(c.data_dir / "kubeconfig.yaml"))
    c.kubectl("delete", "svc", "sample")
    c.until(lambda: available().get("status") == "False")


def _documents(c: Cluster) -> None:
    """The server's OpenAPI documents are there under ours."""
    index = json.loads(c.kubectl("get", "--raw", "/openapi/v3").stdout)["paths"]
    where = index[BASE[1:]]["serverRelativeURL"]
    assert where == f"/openapi/v3{BASE}?hash=ABC"
    assert json.loads(c.kubectl("get", "--raw", where).stdout)["components"]["schemas"] == {"dev.Thing": THING}
    merged = json.loads(c.kubectl("get", "--raw", "/openapi/v2").stdout)
    assert merged["definitions"]["dev.Thing"] == THING and "/x" not in merged["paths"]
    assert merged["paths"][f"{BASE}/things"]["get"]["operationId"] == "listThings"
    assert "size" in c.kubectl("explain", "things.size").stdout


def _upgraded(api: Api) -> None:
    """A connection that becomes something else is carried through, under the name of who asks."""
    host, port = api.server.removeprefix("https://").split(":")
    plain = socket.create_connection((host, int(port)), timeout=10)
    with api.context.wrap_socket(plain, server_hostname=host) as wire:
        head = f"GET {BASE}/namespaces/default/things/one/stream HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\n"
        wire.sendall((head + "Upgrade: SPDY/3.1\r\nX-Remote-User: root\r\n\r\n").encode())
        stream = wire.makefile("rb")
        assert b" 101 " in stream.readline()
        while stream.readline().strip():
            pass
        asker = json.loads(stream.readline())
        assert asker["X-Remote-User"] not in (None, "root") and asker["Authorization"] is None
        for line in (b"hello\n", b"again\n"):
            wire.sendall(line)
            assert stream.readline() == line


def test_what_is_served_here_is_registered_as_local(control_plane: Cluster) -> None:
    c = control_plane
    listed = c.kubectl("get", "apiservices", "--no-headers").stdout
    assert [line.split()[:3] for line in listed.splitlines() if line.startswith("v1.apps ")] == [
        ["v1.apps", "Local", "True"]
    ]
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
    names = {"plural": "stones", "singular": "stone", "kind": "Stone"}
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "stones.local.stablehand.dev"},
        "spec": {"group": "local.stablehand.dev", "scope": "Cluster", "names": names, "versions": [version]},
    }
    c.kubectl("apply", "-f", "-", stdin=json.dumps(crd))
    c.until(lambda: c.kubectl("get", "apiservice", "v1.local.stablehand.dev", check=False).returncode == 0)
    c.kubectl("delete", "crd", "stones.local.stablehand.dev")
    c.until(lambda: c.kubectl("get", "apiservice", "v1.local.stablehand.dev", check=False).returncode != 0)
