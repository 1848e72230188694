"""Sets of fields, kept in the very form managedFields stores them (FieldsV1).

A set is a nested dict: keys are path elements ("f:spec", 'k:{"name":"a"}', 'v:"x"'), a node that is empty or has
"." is a member itself. The root is never a member, so {} at the root is the empty set. Building sets from objects
and comparing two objects need the schema: atomic values count as one field. Who owns a set is machinery.ownership.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, TypeAlias

import orjson

from stablehand.machinery.schema import ANY, ARRAY, MAP, OBJECT, S_ANY, Schema

FieldSet: TypeAlias = dict[str, Any]

_KEY_DEFAULTS = {"protocol": "TCP"}
# Structs that Go embeds by value: always there, so creating an object does not make anyone the owner of the struct.
_BY_VALUE = frozenset(
    {"metadata", "spec", "status", "template", "strategy", "updateStrategy", "jobTemplate", "containers", "resources"}
)
_MISSING = object()


class SetError(ValueError):
    """An object that does not fit its schema's list keys; str() is upstream's message, path included."""


@lru_cache(maxsize=8192)
def _key_element(names: tuple[str, ...], values: tuple[Any, ...]) -> str:
    return "k:" + orjson.dumps(dict(zip(names, values)), option=orjson.OPT_SORT_KEYS).decode()


@lru_cache(maxsize=8192)
def _value_element(value: Any) -> str:
    return "v:" + orjson.dumps(value).decode()


def element_of(schema: Schema, item: Any) -> str:
    """The path element of an item of a "map" or "set" list."""
    if schema.list_type == "set":
        return _value_element(item) if not isinstance(item, dict | list) else "v:" + orjson.dumps(item).decode()
    if not isinstance(item, dict):
        raise SetError("associative list with keys may not have non-map elements")
    names: list[str] = []
    values: list[Any] = []
    defaults = schema.key_defaults if schema.custom else _KEY_DEFAULTS
    for name in schema.map_keys:
        value = item.get(name)
        if value is None:
            value = defaults.get(name)
            if value is None:
                if schema.custom:
                    raise _omitted(name)
                continue
        names.append(name)
        values.append(value)
    if not names:
        raise _omitted(schema.map_keys[0] if schema.map_keys else "")
    return _key_element(tuple(names), tuple(values))


def _omitted(name: str) -> SetError:
    text = f'associative list with keys has an element that omits key field "{name}"'
    return SetError(text + " (and doesn't have default value)")


def child_schema(schema: Schema, key: str) -> Schema:
    if schema.kind == OBJECT:
        node = schema.props.get(key)
        if node is not None:
            return node
        return schema if schema.custom and schema.kind == ANY else _unknown(schema)
    if schema.kind == MAP and schema.item is not None:
        return schema.item
    return _unknown(schema)


DEDUCED = Schema(ANY)  # below x-kubernetes-preserve-unknown-fields: maps are granular, lists atomic
DEDUCED.preserve = True
DEDUCED.custom = True


def _unknown(schema: Schema) -> Schema:
    return DEDUCED if schema.custom else S_ANY


def is_leaf(schema: Schema, value: Any) -> bool:
    """Whether the value is owned as a whole."""
    if type(value) is dict:
        if schema.kind in (OBJECT, MAP):
            return schema.map_type == "atomic"
        return not schema.custom
    if type(value) is list:
        return schema.kind != ARRAY or schema.list_type not in ("set", "map")
    return True


def full_set(schema: Schema, value: Any, *, containers: bool) -> FieldSet:
    """All fields of a value, as a node. `containers`: maps and lists count as members themselves, as they do in the
    entries of updates; in those of applies only their leaves and list items do."""
    result: FieldSet = {}
    if type(value) is dict:
        if schema.kind == OBJECT:
            props = schema.props
            for key, child in value.items():
                if child is None:
                    if schema.custom:  # null is a value there, where the schema allows it
                        result["f:" + key] = {}
                    continue
                node = props.get(key)
                if type(child) is dict or type(child) is list:
                    node = node or _unknown(schema)
                    if is_leaf(node, child):
                        result["f:" + key] = {}
                        continue
                    sub = _within("f:" + key, node, child, containers)
                    if containers and key not in _BY_VALUE and sub:
                        sub["."] = {}
                    elif not sub and type(child) is list and not containers:
                        continue
                    result["f:" + key] = sub
                else:
                    result["f:" + key] = {}
        else:
            node = child_schema(schema, "")
            for key, child in value.items():
                if is_leaf(node, child) or not child:
                    result["f:" + key] = {}
                else:
                    sub = _within("f:" + key, node, child, containers)
                    if sub and (containers or not node.custom or node.kind != ANY):
                        sub["."] = {}
                    result["f:" + key] = sub
    else:
        node = schema.item or S_ANY
        for element, items in grouped(schema, value).items():
            if len(items) > 1:
                if not containers:
                    raise SetError(f": duplicate entries for key {element_text(element)}")
                result[element] = {}  # what is below cannot be told apart
            elif is_leaf(node, items[0]):
                result[element] = {}
            else:
                sub = _within(element, node, items[0], containers)
                sub["."] = {}
                result[element] = sub
    return result


def _within(element: str, node: Schema, value: Any, containers: bool) -> FieldSet:
    """The set of a value below another one, which errors tell the way of."""
    try:
        return full_set(node, value, containers=containers)
    except SetError as error:
        raise SetError(f"{element_text(element)}{error}") from None


def grouped(schema: Schema, items: list[Any]) -> dict[str, list[Any]]:
    """The items of a "map" or "set" list by their elements; several where items have the same. Raises SetError."""
    result: dict[str, list[Any]] = {}
    for index, item in enumerate(items):
        try:
            element = element_of(schema, item)
        except SetError as error:
            raise SetError(f": element {index}: {error}") from None
        result.setdefault(element, []).append(item)
    return result


def compare(
    schema: Schema, old: Any, new: Any, changed: FieldSet, removed: FieldSet, skip: frozenset[str] = frozenset()
) -> None:
    """Adds to `changed` what is added or modified from old to new, to `removed` what is gone. Both values are maps,
    or both are lists with keys."""
    if type(new) is dict:
        for key, value in new.items():
            before = old.get(key, _MISSING)
            if before is value or key in skip or (value is None and not schema.custom):
                continue
            if before is _MISSING or before is None:
                _added(schema, key, value, changed)
            elif before != value:
                _compare_one("f:" + key, child_schema(schema, key), before, value, changed, removed)
        for key, value in old.items():
            gone = key not in new if schema.custom else value is not None and new.get(key) is None
            if gone and key not in skip:
                _added(schema, key, value, removed)
    else:
        node = schema.item or S_ANY
        was, now = grouped(schema, old), grouped(schema, new)
        for element, items in now.items():
            before = was.get(element)
            if before is None:
                changed[element] = _items_set(node, items)
            elif before != items:
                _compare_items(element, node, before, items, changed, removed)
        for element, items in was.items():
            if element not in now:
                removed[element] = _items_set(node, items)


def _compare_items(
    element: str, node: Schema, before: list[Any], items: list[Any], changed: FieldSet, removed: FieldSet
) -> None:
    """Items with one element that differ; where one side has several of them, they count as a whole."""
    if len(before) == len(items) == 1:
        _compare_one(element, node, before[0], items[0], changed, removed)
        return
    changed[element] = _items_set(node, items)
    if len(before) == 1 and not is_leaf(node, before[0]):
        removed[element] = full_set(node, before[0], containers=True)


def _compare_one(element: str, node: Schema, before: Any, value: Any, changed: FieldSet, removed: FieldSet) -> None:
    if type(before) is not type(value) or is_leaf(node, value):
        changed[element] = {}
        return
    sub_changed: FieldSet = {}
    sub_removed: FieldSet = {}
    compare(node, before, value, sub_changed, sub_removed)
    if sub_changed:
        changed[element] = sub_changed
    if sub_removed:
        removed[element] = sub_removed


def _added(schema: Schema, key: str, value: Any, out: FieldSet) -> None:
    node = child_schema(schema, key)
    if is_leaf(node, value):
        out["f:" + key] = {}
        return
    sub = full_set(node, value, containers=True)
    if sub and key not in _BY_VALUE:
        sub["."] = {}
    out["f:" + key] = sub


def _items_set(node: Schema, items: list[Any]) -> FieldSet:
    if len(items) > 1 or is_leaf(node, items[0]):
        return {}
    sub = full_set(node, items[0], containers=True)
    sub["."] = {}
    return sub


def collapse(schema: Schema, fields: FieldSet) -> FieldSet:
    """A set as it is under the schema of today: what has become atomic is owned as a whole. The set itself when
    nothing changes. (What was atomic and no longer is stays owned as one field, as upstream leaves it.)"""
    result = fields
    for element, node in fields.items():
        if element == "." or not node:
            continue
        if element[:2] == "f:":
            below = child_schema(schema, element[2:])
        else:
            below = schema.item or S_ANY
        now = {} if _atomic(below) else collapse(below, node)
        if now is not node:
            if result is fields:
                result = dict(fields)
            result[element] = now
    return result


def _atomic(schema: Schema) -> bool:
    if schema.kind in (OBJECT, MAP):
        return schema.map_type == "atomic"
    return schema.kind == ARRAY and schema.list_type not in ("set", "map")


# --- set algebra ------------------------------------------------------------------------------------------------


def is_member(node: FieldSet) -> bool:
    return not node or "." in node


def union(a: FieldSet, b: FieldSet) -> FieldSet:
    """The union of two roots. Shares nodes with its inputs."""
    if not a:
        return b
    if not b:
        return a
    result = dict(a)
    for element, node in b.items():
        mine = result.get(element)
        if mine is None:
            result[element] = node
        elif mine is not node:
            result[element] = _union(mine, node)
    return result


def _union(a: FieldSet, b: FieldSet) -> FieldSet:
    if not a or not b:
        whole = a or b
        return {".": {}, **whole} if whole else whole
    return union(a, b)


def difference(a: FieldSet, b: FieldSet) -> FieldSet:
    """What is in root a and not in root b; a itself when nothing goes."""
    result = a
    for element, node in a.items():
        other = b.get(element)
        if other is None:
            continue
        if element == ".":
            left: FieldSet | None = None
        else:
            left = _difference(node, other)
        if left is node:
            continue
        if result is a:
            result = dict(a)
        if left is None:
            del result[element]
        else:
            result[element] = left
    return result


def _difference(a: FieldSet, b: FieldSet) -> FieldSet | None:
    if not a:
        return None if is_member(b) else a
    if not b:
        b = {".": {}}
    left = difference(a, b)
    if len(left) == 1 and "." in left:
        return {}
    return left or None


def intersection(a: FieldSet, b: FieldSet) -> FieldSet:
    """What is in both roots."""
    result: FieldSet = {}
    small, large = (a, b) if len(a) <= len(b) else (b, a)
    for element, node in small.items():
        other = large.get(element)
        if other is None:
            continue
        if element == ".":
            result["."] = {}
            continue
        both = is_member(node) and is_member(other)
        sub = intersection(node, other)
        sub.pop(".", None)
        if sub:
            if both:
                sub["."] = {}
            result[element] = sub
        elif both:
            result[element] = {}
    return result


def paths(root: FieldSet, prefix: str = "") -> Iterator[str]:
    """Every member as upstream prints a path: .spec.containers[name="a"].image"""
    for element, node in root.items():
        if element == ".":
            continue
        text = prefix + element_text(element)
        if is_member(node):
            yield text
        yield from paths(node, text)


def element_text(element: str) -> str:
    kind, body = element[:2], element[2:]
    if kind == "f:":
        return "." + body
    if kind == "k:":
        parts = (f"{k}={orjson.dumps(v).decode()}" for k, v in orjson.loads(body).items())
        return f"[{','.join(parts)}]"
    if kind == "v:":
        return f"[={body}]"
    return f"[{body}]"
