"""Paths into a CRD's schema (".spec.name", "['a.b']"), as fieldPath of CEL rules and selectableFields write them.

Follows ValidFieldPath of apiextensions-apiserver pkg/apiserver/schema/cel. Not the JSONPath of printer columns.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from stablehand.machinery.types import Obj

# A delimiter, a quoted name, or what is between delimiters.
_TOKEN = re.compile(r"[.\[\]]|'(?:[^'\\]|\\.)*'|[^.\[\]]+")


def resolve_path(schema: Obj, text: str, *, brackets: bool = True) -> tuple[list[str], Obj]:
    """The names that a path goes through, and the schema it leads to. Raises ValueError with upstream's text."""
    names: list[str] = []
    tokens = iter(_TOKEN.findall(text))
    for token in tokens:
        if token == "[":
            if not brackets:
                raise ValueError("array notation is not allowed")
            name = _quoted(_next(tokens))
            schema = _below(schema, name)
            closing = _next(tokens)
            if closing != "]":
                raise ValueError(f"expected ] but got {closing}")
        elif token == ".":
            name = _next(tokens)
            schema = _below(schema, name)
        else:
            raise ValueError(f"expected [ or . but got: {token}")
        names.append(name)
    return names, schema


def _next(tokens: Iterator[str]) -> str:
    token = next(tokens, None)
    if token is None:
        raise ValueError("unexpected end of JSON path")
    return token


def _quoted(token: str) -> str:
    if len(token) < 2 or token[0] != "'" or token[-1] != "'":
        raise ValueError(f"expected single quoted string but got {token}")
    return re.sub(r"\\(.)", r"\1", token[1:-1])


def _below(schema: Obj, name: str) -> Obj:
    properties, rest = schema.get("properties"), schema.get("additionalProperties")
    if properties is not None:
        found = properties.get(name)
    else:
        found = rest if isinstance(rest, dict) else None
    if not isinstance(found, dict):
        raise ValueError("does not refer to a valid field")
    return found
