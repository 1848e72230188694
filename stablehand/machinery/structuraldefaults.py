"""Whether the default values in a CRD's schema are good ones: nothing that would be pruned, valid by schema and rules.

Follows apiextensions-apiserver pkg/apiserver/schema/defaulting/validation.go. Applying defaults is structural.py's;
where a default may stand at all is openapirules.py's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from stablehand.machinery.fielderrors import FieldError, invalid
from stablehand.machinery.openapirules import every
from stablehand.machinery.structural import check_value
from stablehand.machinery.types import Obj

_META = ("metadata", "apiVersion", "kind")


def check_defaults(schema: Obj, path: str, *, pruned: bool = True) -> list[FieldError]:
    """What is wrong with the defaults of a structural root schema; `pruned`: unknown fields in them are an error."""
    return list(_node(schema, path, pruned, True))


def has_defaults(schema: Obj) -> bool:
    """Whether a schema has a default anywhere (outside of additionalProperties, where there may be none)."""
    return b'"default"' in orjson.dumps(schema)


def has_unpruned(schema: Obj) -> bool:
    """Whether a default of the schema has fields that the schema does not know."""
    return has_defaults(schema) and any(
        node.get("default") is not None and prune_value(node, node["default"]) != node["default"]
        for node in every(schema)
    )


_UNKNOWN = "must not have unknown fields"


def _node(schema: Obj, path: str, pruned: bool, root: bool) -> Iterator[FieldError]:
    default = schema.get("default")
    if default is not None:
        if pruned and prune_value(schema, default) != default:
            yield invalid(f"{path}.default", default, _UNKNOWN)
        found = [error.under(f"{path}.default") for error in check_value(schema, default)]
        yield from found or _ruled(schema, default, f"{path}.default")
    if isinstance(items := schema.get("items"), dict):
        yield from _node(items, f"{path}.items", pruned, False)
    for name, child in (schema.get("properties") or {}).items():
        if not (root and name in _META):
            yield from _node(child, f"{path}.properties[{name}]", pruned, False)


def _ruled(schema: Obj, default: Any, path: str) -> Iterator[FieldError]:
    """What the CEL rules of the schema say of a default, as an unchanged value and as a new one."""
    if b'"x-kubernetes-validations"' not in orjson.dumps(schema):
        return
    from stablehand.machinery.customrules import compile_rules, evaluate_rules

    rules = compile_rules(schema)
    if rules is None:
        return
    kept, tolerated = evaluate_rules(rules, default, default)
    found = kept + tolerated or evaluate_rules(rules, default, None)[0]
    for error in found:
        yield (
            error.under(path) if error.field != "<nil>" else FieldError(error.type, path, error.bad_value, error.detail)
        )


def prune_value(schema: Obj, value: Any) -> Any:
    """A value without the fields that its schema does not know."""
    if isinstance(value, list):
        items = schema.get("items")
        return [prune_value(items, item) for item in value] if isinstance(items, dict) else value
    if not isinstance(value, dict):
        return value
    keep_all = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    embedded = bool(schema.get("x-kubernetes-embedded-resource"))
    known: Obj = schema.get("properties") or {}
    rest = schema.get("additionalProperties")
    out: Obj = {}
    for name, child in value.items():
        if embedded and name in _META:
            out[name] = child
        elif name in known:
            out[name] = prune_value(known[name], child)
        elif isinstance(rest, dict):
            out[name] = prune_value(rest, child)
        elif rest or keep_all:
            out[name] = child
    return out
