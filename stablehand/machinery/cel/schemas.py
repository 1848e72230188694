"""Types and values of custom resources: an OpenAPI schema as a CEL type, JSON data as that type has it.

Most JSON is CEL data as it is. Where the schema says number, date-time, duration or byte, or a set or map list, a
converter makes the CEL value; schemas without any of these have none, and data is passed on uncopied.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from typing import Any

from stablehand.machinery import schema as schemas
from stablehand.machinery.cel.library.times import parse_duration, parse_timestamp
from stablehand.machinery.cel.types import (
    BOOL,
    BYTES,
    DOUBLE,
    DURATION,
    DYN,
    INT,
    STRING,
    TIMESTAMP,
    Field,
    ObjectType,
    Type,
    list_of,
    map_of,
)
from stablehand.machinery.cel.values import MapList, SetList
from stablehand.machinery.types import Obj

Convert = Callable[[Any], Any]
RESERVED = frozenset(
    {
        "true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if", "import",
        "let", "loop", "package", "namespace", "return", "var", "void", "while",
    }
)  # fmt: skip
_NAME = re.compile(r"[a-zA-Z_./-][a-zA-Z0-9_./-]*")
_ESCAPES = {"__": "__underscores__", ".": "__dot__", "-": "__dash__", "/": "__slash__"}
_METADATA = ObjectType("metadata", (), {"name": Field(STRING, "name"), "generateName": Field(STRING, "generateName")})


def escape(name: str) -> str | None:
    """A property's name as expressions write it ("if" -> "__if__", "a-b" -> "a__dash__b"); None: it cannot be."""
    if name in RESERVED:
        return f"__{name}__"
    if not _NAME.fullmatch(name):
        return None
    return re.sub(r"__|[.\-/]", lambda m: _ESCAPES[m[0]], name)


def declare(raw: Obj, resource: bool = False) -> Type | None:
    """The type of a schema; None for one that expressions cannot see (no type, unknown fields preserved).
    `resource`: a custom resource's root, or an embedded resource, which has apiVersion, kind and metadata."""
    if raw.get("x-kubernetes-int-or-string"):
        return DYN
    resource = resource or bool(raw.get("x-kubernetes-embedded-resource"))
    kind = raw.get("type")
    if kind == "array":
        item = declare(raw.get("items") or {})
        return None if item is None else list_of(item)
    if kind == "object":
        values = raw.get("additionalProperties")
        if isinstance(values, dict):
            value = declare(values)
            return None if value is None else map_of(STRING, value)
        fields: dict[str, Field] = {}
        for name, child in (raw.get("properties") or {}).items():
            found, shown = declare(child), escape(name)
            if found is not None and shown is not None:
                fields[shown] = Field(found, name)
        if resource:
            fields["apiVersion"], fields["kind"] = Field(STRING, "apiVersion"), Field(STRING, "kind")
            fields["metadata"] = Field(_METADATA, "metadata")
        return ObjectType("object", (), fields)
    if kind == "string":
        form = raw.get("format")
        by_format = {"byte": BYTES, "date": TIMESTAMP, "date-time": TIMESTAMP, "duration": DURATION}
        return by_format.get(form or "", STRING)
    return {"boolean": BOOL, "integer": INT, "number": DOUBLE}.get(kind or "")


_KINDS: dict[int, Type] = {
    schemas.STRING: STRING, schemas.BOOLEAN: BOOL, schemas.INTEGER: INT, schemas.NUMBER: DOUBLE,
    schemas.TIME: TIMESTAMP, schemas.MICRO_TIME: TIMESTAMP, schemas.BYTES: BYTES,
}  # fmt: skip


def declare_kind(schema: schemas.Schema) -> Type:
    """The type of a built-in kind, for type checking only: policies are evaluated on JSON as it is."""
    return _declared(schema, {})


def declare_custom_kind(raw: Obj) -> Type:
    """The type of a custom kind as policies see it, with all of its metadata."""
    found = declare(raw, resource=True)
    if not isinstance(found, ObjectType) or found.fields is None:
        return DYN
    return ObjectType(
        "object", (), {**found.fields, "metadata": Field(declare_kind(schemas.object_meta()), "metadata")}
    )


def _declared(schema: schemas.Schema, known: dict[int, Type]) -> Type:
    if id(schema) in known:
        return known[id(schema)]
    if schema.kind == schemas.OBJECT:
        fields: dict[str, Field] = {}
        made = known[id(schema)] = ObjectType(
            schema.name or "object", (), fields
        )  # before its fields: may be recursive
        for name, child in schema.props.items():
            declared = Field(_declared(child, known), name)
            fields[name] = declared  # as it is in the JSON that is evaluated: metadata.namespace
            if (shown := escape(name)) is not None:
                fields[shown] = declared
        return made
    if schema.kind == schemas.ARRAY and schema.item is not None:
        return list_of(_declared(schema.item, known))
    if schema.kind == schemas.MAP and schema.item is not None:
        return map_of(STRING, _declared(schema.item, known))
    return _KINDS.get(schema.kind, DYN)


def converter(raw: Obj) -> Convert | None:
    """What makes CEL values of data of this schema; None: nothing to do."""
    if raw.get("x-kubernetes-int-or-string"):
        return None
    kind = raw.get("type")
    if kind == "number":
        return lambda v: float(v) if type(v) is int else v
    if kind == "string":
        return _FORMATS.get(raw.get("format") or "")
    if kind == "array":
        return _array(raw)
    if kind == "object":
        values = raw.get("additionalProperties")
        if isinstance(values, dict):
            each = converter(values)
            if each is None:
                return None
            return lambda v: {k: each(x) for k, x in v.items()} if isinstance(v, dict) else v
        fields = {
            name: made
            for name, child in (raw.get("properties") or {}).items()
            if (made := converter(child)) is not None
        }
        if not fields:
            return None

        def convert(value: Any) -> Any:
            if not isinstance(value, dict):
                return value
            changed = {name: made(value[name]) for name, made in fields.items() if name in value}
            return {**value, **changed} if changed else value

        return convert
    return None


def _array(raw: Obj) -> Convert | None:
    each = converter(raw.get("items") or {})
    list_type = raw.get("x-kubernetes-list-type")
    keys = tuple(raw.get("x-kubernetes-list-map-keys") or ())
    if each is None and list_type not in ("set", "map"):
        return None

    def convert(value: Any) -> Any:
        if not isinstance(value, list):
            return value
        items = value if each is None else [each(item) for item in value]
        return SetList(items) if list_type == "set" else MapList(items, keys) if list_type == "map" else items

    return convert


def _guarded(parse: Convert) -> Convert:
    """Data that does not parse stays as it is: the schema's own validation says what is wrong with it."""

    def convert(value: Any) -> Any:
        try:
            return parse(value)
        except (ValueError, TypeError, binascii.Error):
            return value

    return convert


_FORMATS: dict[str, Convert] = {
    "byte": _guarded(lambda v: base64.b64decode(v, validate=True)),
    "date": _guarded(lambda v: parse_timestamp(f"{v}T00:00:00Z")),
    "date-time": _guarded(parse_timestamp),
    "duration": _guarded(parse_duration),
}
