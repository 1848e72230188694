"""Conversion webhooks of custom resources against a real HTTPS server that this test runs, through kubectl."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Cluster
from tests.integration.test_webhooks import Hooks

GROUP = "convert.stablehand.dev"


def convert(request: dict[str, Any]) -> dict[str, Any]:
    """v1 says spec.hostPort: "host:port", v2 spec.host and spec.port."""
    out = []
    for obj in request["objects"]:
        new = json.loads(json.dumps(obj))
        new["apiVersion"] = request["desiredAPIVersion"]
        if request["desiredAPIVersion"].endswith("/v2"):
            host, _, port = new["spec"].pop("hostPort").partition(":")
            new["spec"] |= {"host": host, "port": port}
        else:
            new["spec"]["hostPort"] = f"{new['spec'].pop('host')}:{new['spec'].pop('port')}"
        if new["metadata"]["name"] == "bad":
            return {"result": {"status": "Failure", "message": "it cannot be said"}}
        out.append(new)
    return {"result": {"status": "Success"}, "convertedObjects": out}


@pytest.fixture
def hooks(control_plane: Cluster, tmp_path: Path) -> Iterator[Hooks]:
    served = Hooks(tmp_path / "pki")
    served.answers = {"/convert": convert}
    try:
        yield served
    finally:
        control_plane.kubectl("delete", "crd", f"links.{GROUP}", "--ignore-not-found")
        served.server.shutdown()
        served.server.server_close()


def version(name: str, storage: bool, *fields: str) -> dict[str, Any]:
    spec = {"type": "object", "properties": {f: {"type": "string"} for f in fields}, "required": list(fields)}
    schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}
    columns = [{"name": f, "type": "string", "jsonPath": f".spec.{f}"} for f in fields]
    return {"name": name, "served": True, "storage": storage, "schema": schema, "additionalPrinterColumns": columns}


def test_each_version_is_read_and_written_as_itself(control_plane: Cluster, hooks: Hooks) -> None:
    c = control_plane
    client = {"url": f"https://127.0.0.1:{hooks.server.server_port}/convert", "caBundle": hooks.ca}
    conversion = {"strategy": "Webhook", "webhook": {"clientConfig": client, "conversionReviewVersions": ["v1"]}}
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"links.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {"plural": "links", "singular": "link", "kind": "Link"},
            "versions": [version("v1", True, "hostPort"), version("v2", False, "host", "port")],
            "conversion": conversion,
        },
    }
    c.kubectl("apply", "-f", "-", stdin=json.dumps(crd))
    c.kubectl("wait", "--for=condition=Established", f"crd/links.{GROUP}")

    def link(name: str, api: str, **spec: str) -> str:
        return json.dumps({"apiVersion": f"{GROUP}/{api}", "kind": "Link", "metadata": {"name": name}, "spec": spec})

    c.kubectl("apply", "-f", "-", stdin=link("one", "v1", hostPort="a:1"))
    c.kubectl("apply", "-f", "-", stdin=link("two", "v2", host="b", port="2"))
    assert c.get(f"links.v2.{GROUP}", "one")["spec"] == {"host": "a", "port": "1"}
    assert c.get(f"links.v1.{GROUP}", "two")["spec"] == {"hostPort": "b:2"}
    listed = c.get(f"links.v2.{GROUP}")["items"]
    assert [(i["apiVersion"], i["spec"]["host"]) for i in listed] == [(f"{GROUP}/v2", "a"), (f"{GROUP}/v2", "b")]
    assert c.kubectl("get", f"links.v1.{GROUP}", "--no-headers").stdout.split()[1::2] == ["a:1", "b:2"]
    c.kubectl("patch", f"links.v2.{GROUP}", "one", "--type=merge", "-p", '{"spec":{"port":"9"}}')
    assert c.get(f"links.v1.{GROUP}", "one")["spec"] == {"hostPort": "a:9"}
    c.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=link("two", "v2", host="c", port="3"))
    assert c.get(f"links.v1.{GROUP}", "two")["spec"] == {"hostPort": "c:3"}
    watched = c.kubectl("get", "--raw", f"/apis/{GROUP}/v2/links?watch=1&timeoutSeconds=1").stdout
    assert {json.loads(line)["object"]["spec"]["host"] for line in watched.splitlines()} == {"a", "c"}
    refused = c.kubectl("apply", "-f", "-", stdin=link("bad", "v2", host="x", port="1"), check=False).stderr
    assert "conversion webhook for" in refused and "it cannot be said" in refused
    # Checked in the version that was written.
    invalid = c.kubectl("apply", "-f", "-", stdin=link("three", "v2", host="x"), check=False).stderr
    assert "spec.port" in invalid and "Required value" in invalid
    c.kubectl("delete", f"links.v2.{GROUP}", "--all")
