"""Schemas of custom resources: an openAPIV3Schema compiled to nodes, its defaults applied, objects validated by it.

Words its complaints as apiextensions does. CEL rules (x-kubernetes-validations) are customrules.py's. Whether a schema
itself is acceptable is the CustomResourceDefinition strategy's to say.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import orjson

from stablehand.machinery.fielderrors import (
    NOT_SUPPORTED,
    FieldError,
    duplicate,
    invalid,
    required,
    too_long,
    too_many,
    type_invalid,
)
from stablehand.machinery.fieldsets import DEDUCED, SetError, element_of
from stablehand.machinery.regex import RegexError, compile_re2
from stablehand.machinery.schema import (
    ARRAY,
    BOOLEAN,
    INT_OR_STRING,
    INTEGER,
    MAP,
    NUMBER,
    OBJECT,
    STRING,
    Schema,
    object_meta,
)
from stablehand.machinery.structuralformats import FORMATS
from stablehand.machinery.types import Obj


def _scalar(kind: int, go_type: str, exact: type | None = None) -> Schema:
    node = Schema(kind, go_type, exact)
    node.custom = True
    return node


_SCALARS = {
    "string": _scalar(STRING, "string", str),
    "boolean": _scalar(BOOLEAN, "bool", bool),
    "integer": _scalar(INTEGER, "int64", int),
    "number": _scalar(NUMBER, "float64"),
}
_INT_OR_STRING = _scalar(INT_OR_STRING, "intstr.IntOrString")
_PLAIN_STRING = Schema(STRING, "string", str)
_DROPPED = frozenset({"description", "title", "example", "externalDocs", "x-kubernetes-validations"})


def compile_structural(schema: Obj | None, preserve_unknown: bool = False) -> Schema:
    """The node tree of a CRD version's openAPIV3Schema; decode, ownership, defaults and validation take it."""
    raw = _slim(schema or {"type": "object", "x-kubernetes-preserve-unknown-fields": True})
    if preserve_unknown:
        raw["x-kubernetes-preserve-unknown-fields"] = True
    raw.setdefault("type", "object")
    root = _node(raw)
    root.props = {**root.props, "apiVersion": _PLAIN_STRING, "kind": _PLAIN_STRING, "metadata": object_meta()}
    root.name = "Object"
    root.raw = raw
    return root


def _slim(schema: Obj) -> Obj:
    """A copy without what only documentation needs."""
    result: Obj = {}
    for key, value in schema.items():
        if key in _DROPPED:
            continue
        if key in ("properties", "patternProperties"):
            result[key] = {name: _slim(child) for name, child in (value or {}).items()}
        elif key in ("items", "additionalProperties", "not") and isinstance(value, dict):
            result[key] = _slim(value)
        elif key in ("allOf", "anyOf", "oneOf"):
            result[key] = [_slim(child) for child in value or ()]
        else:
            result[key] = value
    return result


def _node(raw: Obj) -> Schema:
    if raw.get("x-kubernetes-int-or-string"):
        return _INT_OR_STRING
    kind = raw.get("type", "")
    preserve = bool(raw.get("x-kubernetes-preserve-unknown-fields"))
    if kind == "object" or raw.get("properties") or raw.get("x-kubernetes-embedded-resource"):
        values = raw.get("additionalProperties")
        if values and not raw.get("properties"):
            node = Schema(MAP, "map")
            node.item = _node(values) if isinstance(values, dict) else DEDUCED
        else:
            node = Schema(OBJECT, "object")
            node.props = {name: _node(child) for name, child in raw.get("properties", {}).items()}
            node.required = frozenset(raw.get("required", ()))
            node.preserve = preserve
            if raw.get("x-kubernetes-embedded-resource"):
                node.props = {
                    "apiVersion": _PLAIN_STRING,
                    "kind": _PLAIN_STRING,
                    **node.props,
                    "metadata": object_meta(),
                }
        node.map_type = raw.get("x-kubernetes-map-type", "")
    elif kind == "array":
        node = Schema(ARRAY, "[]")
        items = raw.get("items")
        node.item = _node(items) if isinstance(items, dict) else DEDUCED
        node.list_type = raw.get("x-kubernetes-list-type", "")
        node.map_keys = tuple(raw.get("x-kubernetes-list-map-keys", ()))
        fields = (items.get("properties") or {}) if isinstance(items, dict) else {}
        node.key_defaults = {key: fields[key]["default"] for key in node.map_keys if "default" in fields.get(key, {})}
    elif kind in _SCALARS:
        return _SCALARS[kind]
    else:
        return DEDUCED
    node.custom = True
    node.nullable = bool(raw.get("nullable"))
    return node


# --- defaults ---------------------------------------------------------------------------------------------------


def apply_defaults(schema: Schema, obj: Obj) -> None:
    """Fills in the defaults of a custom resource's schema, in place."""
    if schema.raw is not None:
        _default(schema.raw, obj)


def _default(raw: Obj, value: Any) -> None:
    if isinstance(value, dict):
        for name, child in raw.get("properties", {}).items():
            if "default" in child:
                current = value.get(name)
                if name not in value or (current is None and not child.get("nullable")):
                    value[name] = orjson.loads(orjson.dumps(child["default"]))
            if isinstance(value.get(name), dict | list):
                _default(child, value[name])
        rest = raw.get("additionalProperties")
        if isinstance(rest, dict):
            known = raw.get("properties", {})
            for name, child_value in value.items():
                if name not in known:
                    if child_value is None and "default" in rest and not rest.get("nullable"):
                        value[name] = orjson.loads(orjson.dumps(rest["default"]))
                    _default(rest, value[name])
    elif isinstance(value, list) and isinstance(raw.get("items"), dict):
        items = raw["items"]
        for index, item in enumerate(value):
            if item is None and "default" in items and not items.get("nullable"):
                value[index] = orjson.loads(orjson.dumps(items["default"]))
            _default(items, value[index])


# --- validation -------------------------------------------------------------------------------------------------


_ABSENT = object()


def validate_custom(schema: Schema, obj: Obj, old: Obj | None = None) -> list[FieldError]:
    """What is wrong with a custom resource by its schema. Metadata is validated elsewhere. With `old`, the object
    before an update, what the update did not touch may be wrong (CRD validation ratcheting)."""
    if schema.raw is None:
        return []
    errors = list(_check(schema.raw, obj, "", root=True))
    if errors and old is not None:
        errors = list(_check(schema.raw, obj, "", root=True, old=old))
    listed = list(_check_lists(schema, obj, ""))
    if listed and not (old is not None and next(_check_lists(schema, old, ""), None)):
        errors.extend(listed)
    return errors


def check_value(raw: Obj, value: Any) -> list[FieldError]:
    """What is wrong with a value by an openAPIV3Schema (not compiled); paths are those within the value."""
    node = _node(_slim(raw))
    return [*_check(raw, value, ""), *(_check_lists(node, value, "") if node.custom else ())]


_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
}


def _type_name(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "number"
    return "array" if isinstance(value, list) else "string" if isinstance(value, str) else "object"


def _is_type(value: Any, kind: str) -> bool:
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    if isinstance(value, bool) and kind != "boolean":
        return False
    return isinstance(value, _TYPES.get(kind, (object,)))


def _check(raw: Obj, value: Any, path: str, *, root: bool = False, old: Any = _ABSENT) -> Iterator[FieldError]:
    """`old`: the value before an update, where it has one that it can be told from others by."""
    if (value is None and raw.get("nullable")) or (old is not _ABSENT and value == old):
        return
    kind = raw.get("type", "")
    if raw.get("x-kubernetes-int-or-string"):
        if isinstance(value, bool) or not isinstance(value, int | str):
            yield _wrong_type(path, value, "integer,string")
            return
    elif kind and not _is_type(value, kind):
        yield _wrong_type(path, value, kind)
        return
    elif not kind and value is None:
        if raw.get("x-kubernetes-preserve-unknown-fields"):
            return
    if (allowed := raw.get("enum")) is not None and not any(type(a) is type(value) and a == value for a in allowed):
        yield _unsupported(path, value, allowed)
    if isinstance(value, str):
        yield from _check_string(raw, value, path)
    elif isinstance(value, bool):
        pass
    elif isinstance(value, int | float):
        yield from _check_number(raw, value, path)
    elif isinstance(value, list):
        yield from _check_list(raw, value, path, old)
    elif isinstance(value, dict):
        yield from _check_object(raw, value, path, root, old)
    yield from _check_combined(raw, value, path, root, old)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _wrong_type(path: str, value: Any, kind: str) -> FieldError:
    got = _type_name(value)
    return type_invalid(path, got, f'{path} in body must be of type {kind}: "{got}"')


def _unsupported(path: str, value: Any, allowed: list[Any]) -> FieldError:
    shown = ", ".join(orjson.dumps(a if isinstance(a, str) else orjson.dumps(a).decode()).decode() for a in allowed)
    return FieldError(NOT_SUPPORTED, path, value, "supported values: " + shown)


def _pattern(text: str) -> re.Pattern[str] | None:
    try:
        return compile_re2(text)
    except RegexError:
        return None  # an expression beyond our translation: better to accept than to refuse every object


def _check_string(raw: Obj, value: str, path: str) -> Iterator[FieldError]:
    if (limit := raw.get("maxLength")) is not None and len(value) > limit:
        yield too_long(path, value, limit)
    if (limit := raw.get("minLength")) is not None and len(value) < limit:
        yield invalid(path, value, f"{path} in body should be at least {limit} chars long")
    if text := raw.get("pattern"):
        pattern = _pattern(text)
        if pattern is not None and not pattern.search(value):
            yield invalid(path, value, f"{path} in body should match '{text}'")
    check = FORMATS.get(raw.get("format", ""))
    if check is not None and not check(value):
        yield invalid(path, value, f"{path} in body must be of type {raw['format']}: {orjson.dumps(value).decode()}")


def _check_number(raw: Obj, value: int | float, path: str) -> Iterator[FieldError]:
    if (limit := raw.get("maximum")) is not None:
        if raw.get("exclusiveMaximum"):
            if value >= limit:
                yield invalid(path, value, f"{path} in body should be less than {_plain(limit)}")
        elif value > limit:
            yield invalid(path, value, f"{path} in body should be less than or equal to {_plain(limit)}")
    if (limit := raw.get("minimum")) is not None:
        if raw.get("exclusiveMinimum"):
            if value <= limit:
                yield invalid(path, value, f"{path} in body should be greater than {_plain(limit)}")
        elif value < limit:
            yield invalid(path, value, f"{path} in body should be greater than or equal to {_plain(limit)}")
    if (step := raw.get("multipleOf")) and value % step:
        yield invalid(path, value, f"{path} in body should be a multiple of {_plain(step)}")
    bits = {"int32": 31, "int64": 63}.get(raw.get("format", ""))
    if bits and not -(2**bits) <= value < 2**bits:
        yield invalid(path, value, f'{path} in body must be of type {raw["format"]}: "{value}"')


def _plain(number: int | float) -> str:
    return str(int(number)) if float(number).is_integer() else str(number)


def _counterparts(raw: Obj, old: Any) -> Callable[[Any], Any]:
    """What finds the old one of an item: by its keys in a list of type map, nothing in others."""
    keys = raw.get("x-kubernetes-list-map-keys") or ()
    if raw.get("x-kubernetes-list-type") != "map" or not isinstance(old, list):
        return lambda item: _ABSENT

    def identity(item: Any) -> str:
        return orjson.dumps([item.get(key) for key in keys]).decode() if isinstance(item, dict) else ""

    known = {identity(item): item for item in old}
    return lambda item: known.get(identity(item), _ABSENT)


def _check_list(raw: Obj, value: list[Any], path: str, old: Any) -> Iterator[FieldError]:
    if (limit := raw.get("maxItems")) is not None and len(value) > limit:
        yield too_many(path, len(value), limit)
    if (limit := raw.get("minItems")) is not None and len(value) < limit:
        yield invalid(path, len(value), f"{path} in body should have at least {limit} items")
    if raw.get("uniqueItems") and len({orjson.dumps(v, option=orjson.OPT_SORT_KEYS) for v in value}) < len(value):
        yield invalid(path, value, f"{path} in body shouldn't contain duplicates")
    items = raw.get("items")
    if isinstance(items, dict):
        counterpart = _counterparts(raw, old)
        for index, item in enumerate(value):
            yield from _check(items, item, f"{path}[{index}]", old=counterpart(item))


def _check_object(raw: Obj, value: Obj, path: str, root: bool, old: Any) -> Iterator[FieldError]:
    if (limit := raw.get("maxProperties")) is not None and len(value) > limit:
        yield too_many(path, len(value), limit)
    if (limit := raw.get("minProperties")) is not None and len(value) < limit:
        yield invalid(path, len(value), f"{path} in body should have at least {limit} properties")
    for name in raw.get("required", ()):
        if name not in value:
            yield required(_join(path, name))
    properties = raw.get("properties", {})
    rest = raw.get("additionalProperties")
    before = old if isinstance(old, dict) else {}
    for name, child in value.items():
        if root and name in ("apiVersion", "kind", "metadata"):
            continue
        if name in properties:
            yield from _check(properties[name], child, _join(path, name), old=before.get(name, _ABSENT))
        elif isinstance(rest, dict):
            yield from _check(rest, child, _join(path, name), old=before.get(name, _ABSENT))
    if raw.get("x-kubernetes-embedded-resource"):
        for name in ("apiVersion", "kind"):
            if not value.get(name):
                yield required(_join(path, name), "must not be empty")


def _check_combined(raw: Obj, value: Any, path: str, root: bool, old: Any) -> Iterator[FieldError]:
    def fits(schema: Obj) -> bool:
        return next(_check(schema, value, path, root=root, old=old), None) is None

    for schema in raw.get("allOf", ()):
        found = list(_check(schema, value, path, root=root, old=old))
        if found:
            yield from found
            yield invalid(path, "", f'"{path}" must validate all the schemas (allOf)')
    if (choices := raw.get("anyOf")) and not raw.get("x-kubernetes-int-or-string") and not any(map(fits, choices)):
        yield from _check(choices[0], value, path, root=root, old=old)
        yield invalid(path, "", f'"{path}" must validate at least one schema (anyOf)')
    if choices := raw.get("oneOf"):
        count = sum(map(fits, choices))
        if count != 1:
            found_text = "Found none valid" if count == 0 else f"Found {count} valid alternatives"
            if count == 0:
                yield from _check(choices[0], value, path, root=root, old=old)
            yield invalid(path, "", f'"{path}" must validate one and only one schema (oneOf). {found_text}')
    if (unwanted := raw.get("not")) and fits(unwanted):
        yield invalid(path, "", f'"{path}" must not validate the schema (not)')


def _check_lists(node: Schema, value: Any, path: str) -> Iterator[FieldError]:
    """Items of set and map lists must differ."""
    if type(value) is dict:
        for name, child in value.items():
            sub = node.props.get(name) if node.kind == OBJECT else node.item if node.kind == MAP else None
            if sub is not None and sub.custom and type(child) in (dict, list):
                yield from _check_lists(sub, child, _join(path, name))
    elif type(value) is list and node.kind == ARRAY:
        seen: set[str] = set()
        for index, item in enumerate(value):
            where = f"{path}[{index}]"
            if node.list_type in ("set", "map"):
                try:
                    element = element_of(node, item)
                except SetError:
                    continue
                if element in seen:
                    shown = item if node.list_type == "set" else orjson.loads(element[2:])
                    yield duplicate(where, shown)
                seen.add(element)
            if node.item is not None and type(item) in (dict, list):
                yield from _check_lists(node.item, item, where)
