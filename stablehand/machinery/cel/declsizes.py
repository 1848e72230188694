"""How large the values of a CRD's schema may be: what the cost of rules is estimated with.

Follows apiextensions-apiserver pkg/apiserver/schema/cel/model/schemas.go: where the schema has no limit, a request's
largest size is the limit, divided by the least that one element takes in JSON.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from stablehand.machinery.cel.ranges import Range
from stablehand.machinery.cel.schemas import escape
from stablehand.machinery.types import Obj

_REQUEST = 3 * 1024 * 1024
_STRING_FORMATS = {"duration": (3, 32), "date": (12, 12), "date-time": (21, 32)}  # least in JSON, longest
_SCALARS = {"boolean": 4, "number": 1, "integer": 1}


@dataclass(slots=True)
class Declared:
    """A schema node: the least bytes of JSON it takes, and the most elements it has."""

    least: int
    most: int = 0
    fields: dict[str, Declared] = field(default_factory=dict)
    key: Declared | None = None
    item: Declared | None = None

    def size_at(self, path: tuple[str, ...]) -> Range | None:
        """The size of the value at a path that begins with a variable of this type; None where it leads nowhere."""
        node: Declared | None = self
        for step in path[1:]:
            if node is None:
                return None
            if step in ("@items", "@values"):
                node = node.item
            elif step == "@keys":
                node = node.key
            else:
                node = node.fields.get(step)
        return None if node is None else Range(0, node.most)

    def cardinality(self) -> int:
        """How often such a value fits into one request."""
        return _REQUEST // (self.least + 1)


_ANY_STRING = Declared(2, _REQUEST - 2)
# The keys of maps: apiservercel.StringType, which has no limit of its own and counts as 0 elements.
_KEY = Declared(2)
_META = Declared(2, 0, {"name": _ANY_STRING, "generateName": _ANY_STRING})


def declared(schema: Obj, resource: bool = False) -> Declared | None:
    """The sizes of a schema; None for one that rules do not see. `resource`: the root of a resource."""
    if schema.get("x-kubernetes-int-or-string"):
        return Declared(1, _REQUEST - 2)
    kind = schema.get("type")
    if kind == "array":
        items = schema.get("items")
        item = declared(items) if isinstance(items, dict) else None
        if item is None:
            return None
        limit = schema.get("maxItems")
        most = max(limit, 0) if limit is not None else (_REQUEST - 2) // (item.least + 1)
        return Declared(2, most, item=item)
    if kind == "object":
        return _object(schema, resource or bool(schema.get("x-kubernetes-embedded-resource")))
    if kind == "string":
        return _string(schema)
    least = _SCALARS.get(kind or "")
    return None if least is None else Declared(least)


def _object(schema: Obj, resource: bool) -> Declared | None:
    values = schema.get("additionalProperties")
    if isinstance(values, dict):
        value = declared(values)
        if value is None:
            return None
        limit = schema.get("maxProperties")
        most = max(limit, 0) if limit is not None else (_REQUEST - 2) // (value.least + 6)
        return Declared(2, most, key=_KEY, item=value)
    fields: dict[str, Declared] = {}
    least, needed = 2, schema.get("required") or ()
    properties: Obj = schema.get("properties") or {}
    for name, child in properties.items():
        if resource and name in ("apiVersion", "kind", "metadata"):
            continue
        found = declared(child)
        if found is None:
            continue
        if (shown := escape(name)) is not None:
            fields[shown] = found
        if name in needed and child.get("default") is None:
            least += len(name.encode()) + found.least + 4
    if resource:
        for name, known in (("apiVersion", _ANY_STRING), ("kind", _ANY_STRING), ("metadata", _META)):
            fields[name] = known
            if name in needed:
                least += len(name) + known.least + 4
    return Declared(least, 0, fields)


def _string(schema: Obj) -> Declared:
    form, limit = schema.get("format") or "", schema.get("maxLength")
    if form in _STRING_FORMATS:
        return Declared(*_STRING_FORMATS[form])
    if limit is not None:
        # A character of maxLength may take four bytes; bytes are counted as they are.
        return Declared(2, max(limit, 0) * (1 if form == "byte" else 4))
    words = [len(word.encode()) for word in schema.get("enum") or () if isinstance(word, str)]
    return Declared(2, max(words) if words and form != "byte" else _REQUEST - 2)
