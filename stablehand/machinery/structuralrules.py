"""Whether a CRD's schema is structural: types outside of junctors, nothing but value validations inside of them.

Follows apiextensions-apiserver pkg/apiserver/schema/{validation,complete}.go, texts and paths included. What OpenAPI
allows at all is openapirules.py's, defaults are structuraldefaults.py's, CEL rules rulechecks.py's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stablehand.machinery.fielderrors import FieldError, forbidden, invalid, required
from stablehand.machinery.regex import RegexError, compile_re2
from stablehand.machinery.types import Obj

_ROOT, _ITEM, _FIELD = range(3)
_MISSING_TYPE = {
    _ROOT: "must not be empty at the root",
    _ITEM: "must not be empty for specified array items",
    _FIELD: "must not be empty for specified object fields",
}
_INT_OR_STRING = [{"type": "integer"}, {"type": "string"}]
_PRESERVE = "x-kubernetes-preserve-unknown-fields"
_EMBEDDED = "x-kubernetes-embedded-resource"
_INT_OR_STRING_KEY = "x-kubernetes-int-or-string"
# What a schema in a junctor may not say, and upstream's word for how it should be.
_FORBIDDEN_INSIDE = (
    ("default", "be undefined"),
    ("title", "be empty"),
    ("description", "be empty"),
    ("nullable", "be false"),
    (_PRESERVE, "be false"),
    (_EMBEDDED, "be false"),
    (_INT_OR_STRING_KEY, "be false"),
    ("x-kubernetes-list-map-keys", "be empty"),
    ("x-kubernetes-list-type", "be undefined"),
    ("x-kubernetes-map-type", "be undefined"),
    ("x-kubernetes-validations", "be empty"),
)
_KNOWN_META = frozenset({"name", "generateName"})


def check_structural(schema: Obj, path: str) -> list[FieldError]:
    """What keeps a root schema from being structural, sorted by message; `path` is that of the schema."""
    errors = [*_invariants(schema, _ROOT, path), *_complete(schema, schema, path, path)]
    return sorted(errors, key=lambda e: e.message())


def _child(raw: Any) -> Obj | None:
    """A schema below, where one is given (and not true, false, or an array of schemas)."""
    return raw if isinstance(raw, dict) else None


def _invariants(schema: Obj, level: int, path: str) -> Iterator[FieldError]:
    kind = schema.get("type") or ""
    items = _child(schema.get("items"))
    if kind == "array" and items is None:
        yield required(f"{path}.items", "must be specified")
    if items is not None:
        yield from _invariants(items, _ITEM, f"{path}.items")
    properties: Obj = schema.get("properties") or {}
    for name, child in properties.items():
        yield from _invariants(child, _FIELD, f"{path}.properties[{name}]")
    rest = schema.get("additionalProperties")
    if rest is not None:
        if level == _ROOT:
            yield forbidden(f"{path}.additionalProperties", "must not be used at the root")
        if isinstance(rest, dict):
            yield from _invariants(rest, _FIELD, f"{path}.additionalProperties")
    yield from _extensions(schema, path)
    any_of: Any = schema.get("anyOf") or []
    all_of: Any = schema.get("allOf") or []
    skip_all = bool(all_of) and (all_of[0].get("anyOf") == _INT_OR_STRING)
    yield from _validations(schema, any_of == _INT_OR_STRING, skip_all, path)
    yield from _types(schema, level, path)


def _extensions(schema: Obj, path: str) -> Iterator[FieldError]:
    if schema.get(_INT_OR_STRING_KEY):
        for key in (_PRESERVE, _EMBEDDED):
            if schema.get(key):
                yield invalid(f"{path}.{key}", True, "must be false if x-kubernetes-int-or-string is true")


def _types(schema: Obj, level: int, path: str) -> Iterator[FieldError]:
    kind, embedded = schema.get("type") or "", bool(schema.get(_EMBEDDED))
    properties: Obj = schema.get("properties") or {}
    if embedded and kind != "object":
        text = "must be object if x-kubernetes-embedded-resource is true"
        yield invalid(f"{path}.type", kind, text) if kind else required(f"{path}.type", text)
    elif not kind and not schema.get(_INT_OR_STRING_KEY) and not schema.get(_PRESERVE):
        yield required(f"{path}.type", _MISSING_TYPE[level])
    if embedded and schema.get("additionalProperties") is not None:
        text = "must not be used if x-kubernetes-embedded-resource is set"
        yield forbidden(f"{path}.additionalProperties", text)
    if level == _ROOT and kind and kind != "object":
        yield invalid(f"{path}.type", kind, "must be object at the root")
    if level == _ROOT or embedded:
        for name in ("kind", "apiVersion"):
            given = properties.get(name)
            if given is not None and given.get("type") != "string":
                yield invalid(f"{path}.properties[{name}].type", given.get("type") or "", "must be string")
    metadata = properties.get("metadata")
    if metadata is not None:
        where = f"{path}.properties[metadata]"
        if (level == _ROOT or embedded) and metadata.get("type") != "object":
            yield invalid(f"{where}.type", metadata.get("type") or "", "must be object")
        if level == _ROOT and not _plain_metadata(metadata):
            text = "must not specify anything other than name and generateName, but metadata is implicitly specified"
            yield forbidden(where, text)
    if embedded and not schema.get(_PRESERVE) and not properties:
        text = "must not be empty if x-kubernetes-embedded-resource is true without "
        yield required(f"{path}.properties", text + _PRESERVE)


def _plain_metadata(schema: Obj) -> bool:
    given = {key for key, value in schema.items() if value not in (None, "", False, [], {})}
    return given <= {"type", "default", "properties"} and set(schema.get("properties") or ()) <= _KNOWN_META


def _validations(schema: Obj, skip_any: bool, skip_all_any: bool, path: str) -> Iterator[FieldError]:
    """The junctors and the pattern of a schema."""
    if not skip_any:
        for index, part in enumerate(schema.get("anyOf") or ()):
            yield from _nested(part, False, f"{path}.anyOf[{index}]")
    for index, part in enumerate(schema.get("allOf") or ()):
        yield from _nested(part, skip_all_any and index == 0, f"{path}.allOf[{index}]")
    for index, part in enumerate(schema.get("oneOf") or ()):
        yield from _nested(part, False, f"{path}.oneOf[{index}]")
    if (negated := _child(schema.get("not"))) is not None:
        yield from _nested(negated, False, f"{path}.not")
    if pattern := schema.get("pattern"):
        try:
            compile_re2(pattern)
        except RegexError as e:
            yield invalid(f"{path}.pattern", pattern, f"must be a valid regular expression, but isn't: {e}")


def _nested(schema: Obj, skip_any: bool, path: str) -> Iterator[FieldError]:
    """A schema in a junctor."""
    yield from _validations(schema, skip_any, False, path)
    if (items := _child(schema.get("items"))) is not None:
        yield from _nested(items, False, f"{path}.items")
    properties: Obj = schema.get("properties") or {}
    for name, child in properties.items():
        yield from _nested(child, False, f"{path}.properties[{name}]")
    if schema.get("type"):
        yield forbidden(f"{path}.type", "must be empty to be structural")
    if schema.get("additionalProperties") is not None:
        yield forbidden(f"{path}.additionalProperties", "must be undefined to be structural")
    for key, wanted in _FORBIDDEN_INSIDE:
        if schema.get(key) is not None and (schema[key] or key == "default"):
            yield forbidden(f"{path}.{key}", f"must {wanted} to be structural")
    if "metadata" in properties:
        yield forbidden(f"{path}.properties[metadata]", "must not be specified in a nested context")


def _complete(part: Obj, schema: Obj | None, path: str, within: str) -> Iterator[FieldError]:
    """Every field that junctors speak of has a schema outside of them: `schema`, at `path`."""
    if schema is None:
        yield required(path, f"because it is defined in {within}")
        return
    if (negated := _child(part.get("not"))) is not None:
        yield from _complete_nested(negated, schema, path, f"{within}.not")
    for key in ("allOf", "anyOf", "oneOf"):
        for index, below in enumerate(part.get(key) or ()):
            yield from _complete_nested(below, schema, path, f"{within}.{key}[{index}]")


def _complete_nested(part: Obj, schema: Obj | None, path: str, within: str) -> Iterator[FieldError]:
    if schema is None:
        yield required(path, f"because it is defined in {within}")
        return
    yield from _complete(part, schema, path, within)
    if (items := _child(part.get("items"))) is not None:
        yield from _complete_nested(items, _child(schema.get("items")), f"{path}.items", f"{within}.items")
    known: Obj = schema.get("properties") or {}
    for name, below in (part.get("properties") or {}).items():
        where, there = f"{path}.properties[{name}]", f"{within}.properties[{name}]"
        yield from _complete_nested(below, known.get(name), where, there)
