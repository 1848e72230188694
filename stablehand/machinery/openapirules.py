"""What a CRD's schema may say of OpenAPI: keywords, types, list and map types, default values' places.

Follows ValidateCustomResourceDefinitionOpenAPISchema upstream (apiextensions validation.go). Structurality is
structuralrules.py's; CEL rules, which are looked at only when nothing is wrong here, are rulechecks.py's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from stablehand.machinery.fielderrors import FieldError, Verbatim, forbidden, invalid, not_supported, required
from stablehand.machinery.types import Obj

_TYPES = ("array", "boolean", "integer", "number", "object", "string")
_UNSUPPORTED = ("id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref")
_META = ("metadata", "kind", "apiVersion")
_LIST_TYPE, _MAP_TYPE, _KEYS = "x-kubernetes-list-type", "x-kubernetes-map-type", "x-kubernetes-list-map-keys"
_UNIQUE = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"


@dataclass(frozen=True, slots=True)
class Leniency:
    """What an update may keep because the old definition has it already."""

    types: bool = False
    non_atomic_sets: bool = False
    map_keys: bool = False


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in the object a schema stands. `no_default`: why there may be no default, "" when there may."""

    no_default: str = ""
    inside_meta: bool = False


def check_openapi(schema: Obj, path: str, leniency: Leniency) -> list[FieldError]:
    """What a root schema says that no CRD's schema may say."""
    return list(_node(schema, path, _Place(), leniency, True))


def _node(schema: Obj, path: str, place: _Place, leniency: Leniency, root: bool) -> Iterator[FieldError]:
    yield from _keywords(schema, path, place, leniency)
    if schema.get("uniqueItems"):
        yield forbidden(f"{path}.uniqueItems", _UNIQUE)
    properties: Obj = schema.get("properties") or {}
    rest = schema.get("additionalProperties")
    if rest is not None:
        if properties and rest is not True:
            text = "additionalProperties and properties are mutual exclusive"
            yield forbidden(f"{path}.additionalProperties", text)
        if isinstance(rest, dict):
            below = place
            if place.inside_meta:
                below = replace(place, no_default="inside additionalProperties applying to object metadata")
            yield from _node(rest, f"{path}.additionalProperties", below, leniency, False)
    for name, child in properties.items():
        below = place
        if (root or schema.get("x-kubernetes-embedded-resource")) and name in _META:
            below = replace(place, inside_meta=True, no_default=f"in top-level {name}" if root else place.no_default)
        yield from _node(child, f"{path}.properties[{name}]", below, leniency, False)
    for where, child in _parts(schema):
        yield from _node(child, f"{path}.{where}", place, leniency, False)
    yield from _extensions(schema, path)
    yield from _list_type(schema, path, leniency)
    if schema.get(_LIST_TYPE) == "map":
        yield from _map_list(schema, path)
    if not leniency.map_keys:
        yield from map_list_items(schema, path)


def _parts(schema: Obj) -> Iterator[tuple[str, Obj]]:
    """The other schemas below one, and their paths."""
    for key in ("patternProperties", "definitions", "dependencies"):
        for name, child in (schema.get(key) or {}).items():
            if isinstance(child, dict):
                yield f"{key}[{name}]", child
    if isinstance(child := schema.get("not"), dict):
        yield "not", child
    for key in ("allOf", "oneOf", "anyOf"):
        for index, child in enumerate(schema.get(key) or ()):
            yield f"{key}[{index}]", child
    items = schema.get("items")
    if isinstance(items, dict):
        yield "items", items
    elif isinstance(items, list):
        for index, child in enumerate(items):
            yield f"items[{index}]", child


def _keywords(schema: Obj, path: str, place: _Place, leniency: Leniency) -> Iterator[FieldError]:
    kind = schema.get("type") or ""
    if kind and kind not in _TYPES and not leniency.types:
        yield not_supported(f"{path}.type", kind, _TYPES)
    if schema.get("default") is not None and place.no_default:
        yield forbidden(f"{path}.default", f"must not be set {place.no_default}")
    for key in _UNSUPPORTED:
        if schema.get(key):
            yield forbidden(f"{path}.{key}", f"{key} is not supported")
    if kind == "null":
        yield forbidden(f"{path}.type", "type cannot be set to null, use nullable as an alternative")
    if isinstance(schema.get("items"), list) and schema["items"]:
        yield forbidden(f"{path}.items", "items must be a schema object and not an array")
    if place.inside_meta and schema.get("x-kubernetes-embedded-resource"):
        yield forbidden(f"{path}.x-kubernetes-embedded-resource", "must not be used inside of resource meta")


def _typed(schema: Obj, path: str, key: str, wanted: str) -> Iterator[FieldError]:
    kind, text = schema.get("type") or "", f"must be {wanted} if {key} is specified"
    if kind != wanted:
        yield invalid(f"{path}.type", kind, text) if kind else required(f"{path}.type", text)


def _extensions(schema: Obj, path: str) -> Iterator[FieldError]:
    if schema.get("x-kubernetes-preserve-unknown-fields") is False:
        yield invalid(f"{path}.x-kubernetes-preserve-unknown-fields", False, "must be true or undefined")
    map_type = schema.get(_MAP_TYPE)
    if map_type is not None:
        yield from _typed(schema, path, _MAP_TYPE, "object")
        if map_type not in ("atomic", "granular"):
            yield not_supported(f"{path}.{_MAP_TYPE}", map_type, ("atomic", "granular"))


def _pointer(value: Any) -> Any:
    """A *string as the field error prints it: nil is null."""
    return Verbatim("null") if value is None else value


def set_items(schema: Obj, path: str) -> Iterator[FieldError]:
    """Items of sets are compared as wholes."""
    items = schema.get("items")
    if schema.get(_LIST_TYPE) != "set" or not isinstance(items, dict):
        return
    text = "must be atomic as item of a list with x-kubernetes-list-type=set"
    given = items.get(_LIST_TYPE)
    if items.get("type") == "array" and given not in (None, "atomic"):
        yield invalid(f"{path}.items.{_LIST_TYPE}", _pointer(given), text)
    elif items.get("type") == "object" and items.get(_MAP_TYPE) != "atomic":
        yield invalid(f"{path}.items.{_MAP_TYPE}", _pointer(given), text)


def _list_type(schema: Obj, path: str, leniency: Leniency) -> Iterator[FieldError]:
    list_type, keys = schema.get(_LIST_TYPE), schema.get(_KEYS)
    if list_type is not None:
        if schema.get("type") != "array":
            yield from _typed(schema, path, _LIST_TYPE, "array")
        elif not leniency.non_atomic_sets:
            yield from set_items(schema, path)
        if list_type not in ("atomic", "set", "map"):
            yield not_supported(f"{path}.{_LIST_TYPE}", list_type, ("atomic", "set", "map"))
    if keys and list_type != "map":
        text = f"must be map if {_KEYS} is non-empty"
        where = f"{path}.{_LIST_TYPE}"
        yield required(where, text) if list_type is None else invalid(where, list_type, text)


def _map_list(schema: Obj, path: str) -> Iterator[FieldError]:
    """A list of type map: objects with the keys among their scalar fields."""
    keys, items = schema.get(_KEYS) or [], schema.get("items")
    if not keys:
        yield required(f"{path}.{_KEYS}", f"must not be empty if {_LIST_TYPE} is map")
    if items is None:
        yield required(f"{path}.items", f"must have a schema if {_LIST_TYPE} is map")
    elif not isinstance(items, dict):
        yield invalid(f"{path}.items", items, f"must only have a single schema if {_LIST_TYPE} is map")
    elif items.get("type") != "object":
        text = f"must be object if parent array's {_LIST_TYPE} is map"
        yield invalid(f"{path}.items.type", items.get("type") or "", text)
    else:
        properties: Obj = items.get("properties") or {}
        seen: set[str] = set()
        for key in keys:
            if key not in properties:
                yield invalid(f"{path}.{_KEYS}", keys, "entries must all be names of item properties")
            elif properties[key].get("type") in ("array", "object"):
                text = f"must be a scalar type if parent array's {_LIST_TYPE} is map"
                yield invalid(f"{path}.items.properties[{key}].type", "object", text)
            if key in seen:
                yield invalid(f"{path}.{_KEYS}", keys, "must not contain duplicate entries")
            seen.add(key)


def map_list_items(schema: Obj, path: str) -> Iterator[FieldError]:
    """Items of sets and maps are never null; a map's keys are always there."""
    items, list_type = schema.get("items"), schema.get(_LIST_TYPE)
    if not isinstance(items, dict) or list_type not in ("set", "map"):
        return
    if items.get("nullable"):
        yield forbidden(f"{path}.items.nullable", f"cannot be nullable when {_LIST_TYPE} is {list_type}")
    if list_type == "set":
        return
    properties: Obj = items.get("properties") or {}
    for key in schema.get(_KEYS) or ():
        if key not in properties:
            continue
        where = f"{path}.items.properties[{key}]"
        if key not in (items.get("required") or ()) and properties[key].get("default") is None:
            text = "so it must have a default or be a required property"
            yield required(f"{where}.default", f"this property is in {_KEYS}, {text}")
        if properties[key].get("nullable"):
            yield forbidden(f"{where}.nullable", f"this property is in {_KEYS}, so it cannot be nullable")


def leniency_for(schemas: list[Obj]) -> Leniency:
    """What the schemas of a stored definition already have of what would be refused today."""
    types = non_atomic = map_keys = False
    for root in schemas:
        for schema in every(root):
            types = types or bool(schema.get("type") and schema["type"] not in _TYPES)
            non_atomic = non_atomic or next(set_items(schema, ""), None) is not None
            map_keys = map_keys or next(map_list_items(schema, ""), None) is not None
    return Leniency(types, non_atomic, map_keys)


def every(schema: Obj) -> Iterator[Obj]:
    """A schema and all schemas below it."""
    yield schema
    for child in (schema.get("properties") or {}).values():
        yield from every(child)
    if isinstance(rest := schema.get("additionalProperties"), dict):
        yield from every(rest)
    for _, child in _parts(schema):
        yield from every(child)
