"""/openapi/v2: the Swagger 2.0 document, in JSON and in gnostic's protobuf form (openapi.v2.Document).

kubectl older than 1.27 validates, explains and computes patches from it; newer clients fall back on it. It is the
document of /openapi/v3 of all groups in one, custom resources included. Only its compressed bytes are kept.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import struct
from collections.abc import Callable
from typing import Any

import orjson

from stablehand.apiserver import errors, openapi
from stablehand.apiserver.contract import Request, Response
from stablehand.apiserver.core import Core
from stablehand.apiserver.discovery import KUBERNETES
from stablehand.machinery.types import Obj

JSON = "application/json"
PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
_PROTOBUF_NAMES = (PROTOBUF, "application/com.github.proto-openapi.spec.v2@v1.0+protobuf")
_SPECIAL = {
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {"type": "string", "format": "int-or-string"},
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {"type": "string"},
}
# What Swagger 2.0 cannot say; upstream leaves it out of this document too.
_DROPPED = {"nullable", "oneOf", "anyOf", "allOf", "not", "default", "example", "x-kubernetes-validations"}
_IN_ORDER = ("get", "put", "post", "delete", "patch")


def _schema(node: Any) -> Any:
    """A v3 schema (or a built-in definition) as a v2 one."""
    if not isinstance(node, dict):
        return node
    if "allOf" in node and len(node["allOf"]) == 1 and "$ref" in node["allOf"][0]:
        node = {**{k: v for k, v in node.items() if k != "allOf"}, **node["allOf"][0]}
    out: Obj = {}
    for key, value in node.items():
        if key in _DROPPED:
            continue
        if key == "$ref":
            out[key] = "#/definitions/" + value.rpartition("/")[2]
        elif key in ("items", "additionalProperties"):
            out[key] = _schema(value)
        elif key == "properties":
            out[key] = {name: _schema(v) for name, v in value.items()}
        else:
            out[key] = value
    if node.get("x-kubernetes-int-or-string"):
        out.pop("type", None)
    if node.get("x-kubernetes-preserve-unknown-fields"):
        # Old kubectl would refuse or drop what the schema does not name: to it, anything may be here.
        for key in ("type", "properties", "items", "additionalProperties"):
            out.pop(key, None)
    return out


def _parameter(parameter: Obj) -> Obj:
    return {**{k: v for k, v in parameter.items() if k != "schema"}, **parameter.get("schema", {})}


def _operation(operation: Obj) -> Obj:
    out = {k: v for k, v in operation.items() if k not in ("requestBody", "responses", "parameters")}
    parameters = [_parameter(p) for p in operation.get("parameters", ())]
    if "requestBody" in operation:
        schema = operation["requestBody"]["content"][JSON]["schema"]
        parameters.insert(0, {"name": "body", "in": "body", "required": True, "schema": _schema(schema)})
    ok = operation["responses"]["200"]["content"][JSON]["schema"]
    out.update(produces=[JSON], parameters=parameters, responses={"200": {"description": "OK", "schema": _schema(ok)}})
    return out


def document(core: Core) -> Obj:
    """The whole document as JSON values; some megabytes."""
    paths: Obj = {}
    definitions: Obj = {}
    raw = openapi.definitions()
    for group in ["", *core.registry.groups()]:
        for version in core.registry.versions(group):
            part = openapi.document(core, group, version, raw)
            if part is None:
                continue
            for path, item in part["paths"].items():
                paths[path] = {method: _operation(item[method]) for method in _IN_ORDER if method in item}
            for name, schema in part["components"]["schemas"].items():
                if name not in definitions:
                    definitions[name] = _SPECIAL.get(name) or _schema(schema)
    return {
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": KUBERNETES},
        "paths": paths,
        "definitions": definitions,
    }


# --- gnostic's protobuf form -----------------------------------------------------------------------------------------
# A message is a table: JSON key -> (field number, encoder). Keys beginning with "x-" are vendor extensions, whose
# number is under "x-". Encoders return a field's payload; _field adds its tag and, where it is not a varint, its size.


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _bytes_field(number: int, payload: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(payload)) + payload


Encoder = Callable[[int, Any], bytes]


def _string(number: int, value: str) -> bytes:
    return _bytes_field(number, value.encode())


def _strings(number: int, value: list[str]) -> bytes:
    return b"".join(_string(number, v) for v in value)


def _bool(number: int, value: bool) -> bytes:
    return _varint(number << 3) + (b"\x01" if value else b"\x00")


def _int(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value & (1 << 64) - 1)


def _double(number: int, value: float) -> bytes:
    return _varint(number << 3 | 1) + struct.pack("<d", value)


def _any(value: Any) -> bytes:
    """openapi.v2.Any with its YAML text; JSON is YAML."""
    return _string(2, json.dumps(value) + "\n")


def _anys(number: int, value: list[Any]) -> bytes:
    return b"".join(_bytes_field(number, _any(v)) for v in value)


def _type(number: int, value: str) -> bytes:
    return _bytes_field(number, _string(1, value))


def _items(number: int, value: Obj) -> bytes:
    return _bytes_field(number, _bytes_field(1, _message(_SCHEMA, value)))


def _additional(number: int, value: Obj | bool) -> bytes:
    inner = _bool(2, value) if isinstance(value, bool) else _bytes_field(1, _message(_SCHEMA, value))
    return _bytes_field(number, inner)


def _named(inner: int, table: dict[str, tuple[int, Encoder]]) -> Encoder:
    """A map as the ordered pairs of a message's field `inner`."""

    def encode(number: int, value: Obj) -> bytes:
        pairs = (_string(1, name) + _bytes_field(2, _message(table, v)) for name, v in value.items())
        return _bytes_field(number, b"".join(_bytes_field(inner, pair) for pair in pairs))

    return encode


def _sub(table: dict[str, tuple[int, Encoder]]) -> Encoder:
    return lambda number, value: _bytes_field(number, _message(table, value))


def _message(table: dict[str, tuple[int, Encoder]], value: Obj) -> bytes:
    out = []
    for key, item in value.items():
        found = table.get(key)
        if found is not None:
            out.append(found[1](found[0], item))
        elif key.startswith("x-"):
            out.append(_bytes_field(table["x-"][0], _string(1, key) + _bytes_field(2, _any(item))))
        # What gnostic has no field for cannot be said in this form.
    return b"".join(out)


_SCHEMA: dict[str, tuple[int, Encoder]] = {
    "$ref": (1, _string),
    "format": (2, _string),
    "title": (3, _string),
    "description": (4, _string),
    "multipleOf": (6, _double),
    "maximum": (7, _double),
    "exclusiveMaximum": (8, _bool),
    "minimum": (9, _double),
    "exclusiveMinimum": (10, _bool),
    "maxLength": (11, _int),
    "minLength": (12, _int),
    "pattern": (13, _string),
    "maxItems": (14, _int),
    "minItems": (15, _int),
    "uniqueItems": (16, _bool),
    "maxProperties": (17, _int),
    "minProperties": (18, _int),
    "required": (19, _strings),
    "enum": (20, _anys),
    "additionalProperties": (21, _additional),
    "type": (22, _type),
    "items": (23, _items),
    "x-": (31, _string),
}
_SCHEMA["properties"] = (25, _named(1, _SCHEMA))
_BODY: dict[str, tuple[int, Encoder]] = {
    "name": (2, _string),
    "in": (3, _string),
    "required": (4, _bool),
    "schema": (5, _sub(_SCHEMA)),
}
_QUERY: dict[str, tuple[int, Encoder]] = {
    "required": (1, _bool),
    "in": (2, _string),
    "description": (3, _string),
    "name": (4, _string),
    "type": (6, _string),
    "uniqueItems": (20, _bool),
}


def _parameters(number: int, value: list[Obj]) -> bytes:
    out = []
    for parameter in value:
        if parameter["in"] == "body":
            inner = _bytes_field(1, _message(_BODY, parameter))
        else:
            inner = _bytes_field(2, _bytes_field(3, _message(_QUERY, parameter)))
        out.append(_bytes_field(number, _bytes_field(1, inner)))
    return b"".join(out)


def _responses(number: int, value: Obj) -> bytes:
    out = []
    for code, response in value.items():
        body = _string(1, response["description"]) + _bytes_field(
            2, _bytes_field(1, _message(_SCHEMA, response["schema"]))
        )
        out.append(_bytes_field(1, _string(1, code) + _bytes_field(2, _bytes_field(1, body))))
    return _bytes_field(number, b"".join(out))


_OPERATION: dict[str, tuple[int, Encoder]] = {
    "description": (3, _string),
    "operationId": (5, _string),
    "produces": (6, _strings),
    "consumes": (7, _strings),
    "parameters": (8, _parameters),
    "responses": (9, _responses),
    "x-": (13, _string),
}
_PATH_ITEM = {
    method: (number, _sub(_OPERATION))
    for method, number in (("get", 2), ("put", 3), ("post", 4), ("delete", 5), ("patch", 8))
}
_DOCUMENT: dict[str, tuple[int, Encoder]] = {
    "swagger": (1, _string),
    "info": (2, _sub({"title": (1, _string), "version": (2, _string)})),
    "paths": (8, _named(2, _PATH_ITEM)),
    "definitions": (9, _named(1, _SCHEMA)),
}


def to_protobuf(doc: Obj) -> bytes:
    """openapi.v2.Document of a Swagger document."""
    return _message(_DOCUMENT, doc)


# --- serving ---------------------------------------------------------------------------------------------------------


class Kept:
    """A server's compressed documents by media type, of one generation of its registry and of the aggregated servers' documents."""

    def __init__(self) -> None:
        self.generation = (-1, -1)
        self.documents: dict[str, bytes] = {}


def _media(accept: str) -> str:
    """The media type to answer in. Raises StatusError 406."""
    for clause in accept.split(","):
        media = clause.partition(";")[0].strip()
        if media in _PROTOBUF_NAMES:
            return PROTOBUF
        if media in ("", JSON, "*/*", "application/*"):
            return JSON
    raise errors.not_acceptable()


async def handle(core: Core, request: Request, kept: Kept) -> Response:
    """Answers GET /openapi/v2: 200, or 304 for an ETag the client has. Raises StatusError 406."""
    media = _media(request.headers.get("Accept") or "")
    generation = (core.registry.generation, core.aggregation.openapi.generation)
    if kept.generation != generation:
        kept.generation, kept.documents = generation, {}
    packed = kept.documents.get(media)
    if packed is None:
        doc = document(core)
        core.aggregation.openapi.merge(doc)
        encode = to_protobuf if media == PROTOBUF else orjson.dumps
        packed = await asyncio.to_thread(lambda: gzip.compress(encode(doc), 6, mtime=0))
        if kept.generation == generation:
            kept.documents[media] = packed
    etag = '"' + hashlib.sha256(packed).hexdigest()[:32].upper() + '"'
    headers = {"Etag": etag, "Vary": "Accept-Encoding, Accept"}
    if request.headers.get("If-None-Match") == etag:
        return Response({}, raw=b"", code=304, content_type=media, headers=headers)
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        return Response({}, raw=packed, content_type=media, headers={**headers, "Content-Encoding": "gzip"})
    return Response({}, raw=gzip.decompress(packed), content_type=media, headers=headers)
