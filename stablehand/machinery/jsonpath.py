"""The part of kubectl's JSONPath that additionalPrinterColumns and selectableFields may use.

Fields, quoted fields, indexes, slices, wildcards, unions of fields and filters (`[?(@.type=="Ready")]`); no templates.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

Step = Callable[[Any], list[Any]]

_FILTER = re.compile(r"""\?\(\s*@([^=!<>]*?)\s*(?:(==|!=|>=|<=|>|<)\s*(.+?)\s*)?\)""")


class JSONPathError(ValueError):
    """A path this module does not understand."""


@lru_cache(maxsize=256)
def compile_path(path: str) -> Callable[[Any], list[Any]]:
    """A function from an object to the values the path finds. Raises JSONPathError."""
    text = path.strip()
    if text.startswith("{") and text.endswith("}"):
        text = text[1:-1].strip()
    if text.startswith("$"):
        text = text[1:]
    steps: list[Step] = []
    at = 0
    while at < len(text):
        if text[at] == "[":
            end = _closing(text, at)
            steps.append(_bracket(text[at + 1 : end].strip()))
            at = end + 1
        elif text.startswith("..", at):
            raise JSONPathError(f"unsupported JSONPath: {path}")
        elif text[at] == ".":
            at += 1
            if at < len(text) and text[at] == "*":
                steps.append(_every)
                at += 1
                continue
            name, at = _name(text, at)
            if name:
                steps.append(_field(name))
        else:
            name, at = _name(text, at)
            if not name:
                raise JSONPathError(f"unsupported JSONPath: {path}")
            steps.append(_field(name))

    def find(obj: Any) -> list[Any]:
        found = [obj]
        for step in steps:
            found = [value for item in found for value in step(item)]
        return found

    return find


def _closing(text: str, at: int) -> int:
    depth, quote = 0, ""
    for index in range(at, len(text)):
        char = text[index]
        if quote:
            if char == quote:
                quote = ""
        elif char in "'\"":
            quote = char
        elif char == "[":
            depth += 1
        elif char == "]":
            depth -= 1
            if depth == 0:
                return index
    raise JSONPathError(f"unterminated array: {text}")


def _name(text: str, at: int) -> tuple[str, int]:
    name = ""
    while at < len(text) and text[at] not in ".[":
        if text[at] == "\\" and at + 1 < len(text):
            at += 1
        name += text[at]
        at += 1
    return name.strip(), at


def _field(name: str) -> Step:
    def step(value: Any) -> list[Any]:
        return [value[name]] if isinstance(value, dict) and name in value else []

    return step


def _every(value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    return list(value.values()) if isinstance(value, dict) else []


def _bracket(body: str) -> Step:
    if body == "*":
        return _every
    if body.startswith("?"):
        return _filter(body)
    if body[:1] in ("'", '"'):
        fields = [_field(part.strip().strip("'\"")) for part in body.split(",")]
        return lambda value: [found for field in fields for found in field(value)]
    if ":" in body:
        bounds = [int(part) if part.strip() else None for part in body.split(":")]
        return lambda value: value[slice(*bounds)] if isinstance(value, list) else []
    try:
        index = int(body)
    except ValueError:
        raise JSONPathError(f"invalid array index {body}") from None
    return lambda value: [value[index]] if isinstance(value, list) and -len(value) <= index < len(value) else []


def _literal(text: str) -> Any:
    if text[:1] in ("'", '"'):
        return text[1:-1]
    if text in ("true", "false"):
        return text == "true"
    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        return text


def _filter(body: str) -> Step:
    found = _FILTER.fullmatch(body)
    if found is None:
        raise JSONPathError(f"unsupported filter {body}")
    path, op, literal = found.groups()
    find = compile_path(path or "$")
    want = _literal(literal) if literal is not None else None

    def holds(item: Any) -> bool:
        values = find(item)
        if not values:
            return False
        have = values[0]
        if op is None:
            return True
        if op == "==":
            return bool(have == want)
        if op == "!=":
            return bool(have != want)
        if type(have) is not type(want) and not (isinstance(have, int | float) and isinstance(want, int | float)):
            return False
        return bool({">": have > want, "<": have < want, ">=": have >= want, "<=": have <= want}[op])  # type: ignore[operator]

    def step(value: Any) -> list[Any]:
        return [item for item in _every(value) if holds(item)]

    return step
