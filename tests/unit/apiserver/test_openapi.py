"""OpenAPI documents: both versions from the same definitions, and gnostic's protobuf form."""

from __future__ import annotations

import json
import struct
from types import SimpleNamespace
from typing import Any

import pytest

from stablehand.apiserver import openapi, openapi2
from stablehand.apiserver.contract import StatusError
from stablehand.apiserver.registry import Registry
from stablehand.apiserver.strategies.custom import CustomStrategy
from stablehand.machinery.resources import ALL_VERBS, Resource

CRD: dict[str, Any] = {
    "spec": {
        "group": "example.com",
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "properties": {
                                    "size": {"type": "integer", "minimum": 1, "default": 2, "nullable": True},
                                    "port": {"x-kubernetes-int-or-string": True},
                                    "any": {
                                        "type": "object",
                                        "properties": {"a": {"type": "string"}},
                                        "x-kubernetes-preserve-unknown-fields": True,
                                    },
                                },
                            }
                        },
                    }
                },
            }
        ],
    }
}


@pytest.fixture(scope="module")
def core() -> Any:
    registry = Registry()
    row = Resource("example.com", "v1", "Widget", "widgets", verbs=ALL_VERBS, custom=True)
    registry.set_custom("widgets.example.com", [(row, CustomStrategy(row, CRD, CRD["spec"]["versions"][0]))])
    return SimpleNamespace(registry=registry)


@pytest.fixture(scope="module")
def swagger(core: Any) -> dict[str, Any]:
    return openapi2.document(core)


def test_properties_named_like_keywords_are_kept(core: Any) -> None:
    doc = openapi.document(core, "apiextensions.k8s.io", "v1")
    assert doc is not None
    name = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"
    properties = doc["components"]["schemas"][name]["properties"]
    assert {"enum", "type", "$ref", "properties"} <= set(properties)


def test_removed_versions_have_kinds_of_their_own(core: Any) -> None:
    doc = openapi.document(core, "extensions", "v1beta1")
    assert doc is not None
    schema = doc["components"]["schemas"]["io.k8s.api.extensions.v1beta1.Deployment"]
    gvk = {"group": "extensions", "version": "v1beta1", "kind": "Deployment"}
    assert schema["x-kubernetes-group-version-kind"] == [gvk] and "spec" in schema["properties"]


def test_stamps_change_with_the_schema_only(core: Any) -> None:
    other = json.loads(json.dumps(CRD).replace('"minimum": 1', '"minimum": 3'))
    registry = Registry()
    row = Resource("example.com", "v1", "Widget", "widgets", verbs=ALL_VERBS, custom=True)
    registry.set_custom("widgets.example.com", [(row, CustomStrategy(row, other, other["spec"]["versions"][0]))])
    changed = SimpleNamespace(registry=registry)
    assert openapi.stamp(core, "example.com", "v1") != openapi.stamp(changed, "example.com", "v1")  # type: ignore[arg-type]
    assert openapi.stamp(core, "apps", "v1") == openapi.stamp(changed, "apps", "v1")  # type: ignore[arg-type]


def test_swagger_says_what_old_kubectl_needs(swagger: dict[str, Any]) -> None:
    definitions = swagger["definitions"]
    spec = definitions["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"]
    assert spec["items"] == {"$ref": "#/definitions/io.k8s.api.core.v1.Container"}
    assert (spec["x-kubernetes-patch-merge-key"], spec["x-kubernetes-patch-strategy"]) == ("name", "merge")
    quantity = definitions["io.k8s.apimachinery.pkg.api.resource.Quantity"]
    assert quantity == {"type": "string"}
    widget = definitions["com.example.v1.Widget"]["properties"]
    assert widget["metadata"]["$ref"] == "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
    fields = widget["spec"]["properties"]
    assert fields["size"] == {"type": "integer", "minimum": 1}
    assert "type" not in fields["any"] and "properties" not in fields["any"] and "type" not in fields["port"]
    assert definitions["com.example.v1.WidgetList"]["properties"]["items"]["type"] == "array"
    patch = swagger["paths"]["/apis/example.com/v1/namespaces/{namespace}/widgets/{name}"]["patch"]
    assert "dryRun" in {p["name"] for p in patch["parameters"]}


def test_every_reference_has_a_definition(swagger: dict[str, Any]) -> None:
    text = json.dumps(swagger)
    referred = {part.split('"')[0] for part in text.split("#/definitions/")[1:]}
    assert referred <= set(swagger["definitions"])


def _fields(data: bytes) -> list[tuple[int, Any]]:
    out: list[tuple[int, Any]] = []
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        tag = varint()
        if tag & 7 == 0:
            out.append((tag >> 3, varint()))
        elif tag & 7 == 1:
            out.append((tag >> 3, struct.unpack("<d", data[at : at + 8])[0]))
            at += 8
        else:
            size = varint()
            out.append((tag >> 3, data[at : at + size]))
            at += size
    return out


def test_gnostic_form() -> None:
    schema = {
        "type": "object",
        "required": ["a"],
        "properties": {"a": {"$ref": "#/definitions/b", "description": "d"}, "n": {"type": "integer", "minimum": 1}},
        "additionalProperties": {"type": "string"},
        "x-kubernetes-list-type": "atomic",
    }
    raw = openapi2.to_protobuf({"swagger": "2.0", "definitions": {"x": schema}})
    document = dict(_fields(raw))
    assert document[1] == b"2.0"
    ((number, pair),) = _fields(document[9])
    named = dict(_fields(pair))
    assert number == 1 and named[1] == b"x"
    got = dict(_fields(named[2]))
    assert dict(_fields(got[22])) == {1: b"object"} and got[19] == b"a"
    properties = [dict(_fields(p)) for _, p in _fields(got[25])]
    assert [p[1] for p in properties] == [b"a", b"n"]
    assert dict(_fields(properties[0][2])) == {1: b"#/definitions/b", 4: b"d"}
    assert dict(_fields(properties[1][2]))[9] == 1.0
    assert dict(_fields(dict(_fields(got[21]))[1])) == {22: b"\n\x06string"}
    extension = dict(_fields(got[31]))
    assert extension[1] == b"x-kubernetes-list-type" and dict(_fields(extension[2])) == {2: b'"atomic"\n'}


def test_negotiation() -> None:
    old = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
    assert openapi2._media(old + ",application/json") == openapi2.PROTOBUF
    assert openapi2._media("") == openapi2._media("*/*") == openapi2.JSON
    with pytest.raises(StatusError) as caught:
        openapi2._media("text/html")
    assert caught.value.code == 406


def test_an_aggregated_servers_document_of_version_2() -> None:
    from stablehand.apiserver.aggregation.openapi import _readable, from_v2

    gvk = {"group": "g.io", "version": "v1", "kind": "Thing"}
    operation = {
        "operationId": "listThings", "x-kubernetes-group-version-kind": gvk, "schemes": ["https"],
        "parameters": [{"in": "path", "name": "n"}, {"in": "query", "name": "limit", "type": "integer"}],
        "responses": {"200": {"description": "OK", "schema": {"$ref": "#/definitions/ThingList"}}, "401": {}},
    }  # fmt: skip
    item = {"get": operation, "parameters": [{"in": "path", "name": "x"}]}
    things = {"properties": {"items": {"type": "array", "items": {"$ref": "#/definitions/Thing"}}}}
    doc = {"definitions": {"Thing": {}, "ThingList": things}, "paths": {"/apis/g.io/v1/things": item, "/other": item}}
    found = _readable(doc, ("g.io", "v1"))
    assert list(found["paths"]) == ["/apis/g.io/v1/things"]
    kept = found["paths"]["/apis/g.io/v1/things"]["get"]
    assert [p["name"] for p in kept["parameters"]] == ["limit"]
    assert kept["responses"]["401"] == {"description": "", "schema": {}}
    made = from_v2(found, ("g.io", "v1"))
    assert made["paths"]["/apis/g.io/v1/things"]["get"]["x-kubernetes-group-version-kind"] == gvk
    items = made["components"]["schemas"]["ThingList"]["properties"]["items"]["items"]
    assert items == {"$ref": "#/components/schemas/Thing"}
    assert _readable({"definitions": {"Thing": {"type": 7}}}, ("g.io", "v1")) == {}  # cannot be told in binary
