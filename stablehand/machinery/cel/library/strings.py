"""Strings: CEL's own functions, the extended strings library (version 2), Kubernetes' find and findAll."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from stablehand.machinery.cel.errors import CelError
from stablehand.machinery.cel.functions import overload
from stablehand.machinery.cel.library.conversions import double_text
from stablehand.machinery.cel.values import Duration, Timestamp, TypeValue, UInt, type_name
from stablehand.machinery.regex import RegexError, compile_re2

_UPPER = str.maketrans("abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_LOWER = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")


def regex(pattern: str) -> re.Pattern[str]:
    """A compiled RE2 pattern. Raises CelError."""
    try:
        return compile_re2(pattern)
    except RegexError as e:
        raise CelError(str(e)) from None


@overload("string::contains(string) -> bool")
def _contains(text: str, part: str) -> bool:
    return part in text


@overload("string::startsWith(string) -> bool")
def _starts(text: str, part: str) -> bool:
    return text.startswith(part)


@overload("string::endsWith(string) -> bool")
def _ends(text: str, part: str) -> bool:
    return text.endswith(part)


@overload("string::matches(string) -> bool", "matches(string, string) -> bool")
def _matches(text: str, pattern: str) -> bool:
    return regex(pattern).search(text) is not None


@overload("string::find(string) -> string")
def _find(text: str, pattern: str) -> str:
    found = regex(pattern).search(text)
    return found.group() if found else ""


@overload("string::findAll(string) -> list(string)", "string::findAll(string, int) -> list(string)")
def _find_all(text: str, pattern: str, limit: int = -1) -> list[str]:
    found = [m.group() for m in regex(pattern).finditer(text)]
    return found if limit < 0 else found[:limit]


@overload("string::charAt(int) -> string")
def _char_at(text: str, at: int) -> str:
    if not 0 <= at <= len(text):
        raise CelError(f"index out of range: {at}")
    return text[at : at + 1]


def _offset(text: str, at: int) -> None:
    if not 0 <= at <= len(text):
        raise CelError(f"index out of range: {at}")


@overload("string::indexOf(string) -> int", "string::indexOf(string, int) -> int")
def _index_of(text: str, part: str, start: int = 0) -> int:
    _offset(text, start)
    return text.find(part, start)


@overload("string::lastIndexOf(string) -> int")
def _last_index_of(text: str, part: str) -> int:
    return text.rfind(part)


@overload("string::lastIndexOf(string, int) -> int")
def _last_index_from(text: str, part: str, start: int) -> int:
    _offset(text, start)
    return text.rfind(part, 0, start + len(part))


@overload("string::lowerAscii() -> string")
def _lower(text: str) -> str:
    return text.translate(_LOWER)


@overload("string::upperAscii() -> string")
def _upper(text: str) -> str:
    return text.translate(_UPPER)


@overload("string::replace(string, string) -> string", "string::replace(string, string, int) -> string")
def _replace(text: str, old: str, new: str, count: int = -1) -> str:
    return text.replace(old, new, count)


@overload("string::split(string) -> list(string)", "string::split(string, int) -> list(string)")
def _split(text: str, separator: str, limit: int = -1) -> list[str]:
    if limit == 0:
        return []
    if separator:
        return text.split(separator, -1 if limit < 0 else limit - 1)
    if limit < 0 or len(text) <= limit:
        return list(text)
    return [*text[: limit - 1], text[limit - 1 :]]


@overload("string::substring(int) -> string")
def _tail(text: str, start: int) -> str:
    _offset(text, start)
    return text[start:]


@overload("string::substring(int, int) -> string")
def _substring(text: str, start: int, end: int) -> str:
    if start > end:
        raise CelError(f"invalid substring range. start: {start}, end: {end}")
    _offset(text, start)
    _offset(text, end)
    return text[start:end]


@overload("string::trim() -> string")
def _trim(text: str) -> str:
    return text.strip()


@overload("list(string)::join() -> string", "list(string)::join(string) -> string")
def _join(items: list[Any], separator: str = "") -> str:
    for item in items:
        if type(item) is not str:
            raise CelError("no such overload")
    return separator.join(items)


@overload("strings.quote(string) -> string")
def _quote(text: str) -> str:
    escapes = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v", "\\": "\\\\"}
    return '"' + "".join(escapes.get(c, '\\"' if c == '"' else c) for c in text) + '"'


@overload("jsonpatch.escapeKey(string) -> string")
def _escape_key(text: str) -> str:
    return text.replace("~", "~0").replace("/", "~1")


# --- format

_CLAUSE = re.compile(r"%(?:%|(?:\.(\d+))?([a-zA-Z]))|%")


@overload("string::format(list(dyn)) -> string")
def _format(text: str, args: list[Any]) -> str:
    remaining = iter(args)

    def clause(found: re.Match[str]) -> str:
        if found.group() == "%%":
            return "%"
        verb = _VERBS.get(found[2] or "")
        if verb is None:
            raise CelError(f'could not parse formatting clause: unrecognized formatting clause "{found[2] or ""}"')
        try:
            value = next(remaining)
        except StopIteration:
            raise CelError(f"index {len(args)} out of range") from None
        try:
            return verb(value, int(found[1]) if found[1] else 6)
        except _Wrong as e:
            raise CelError(f"error during formatting: {e}") from None

    return _CLAUSE.sub(clause, text)


class _Wrong(Exception):
    pass


def _plain(value: Any, _: int = 6) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return double_text(value).replace("+Inf", "Infinity").replace("-Inf", "-Infinity")
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, Timestamp | Duration):
        from stablehand.machinery.cel.library.times import text

        return text(value)
    if isinstance(value, TypeValue):
        return value.name
    if isinstance(value, list):
        return "[" + ", ".join(_plain(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(sorted(f"{_plain(k)}: {_plain(v)}" for k, v in value.items())) + "}"
    raise _Wrong(
        f"string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, "
        f"durations, and timestamps, was given {type_name(value)}"
    )


def _decimal(value: Any, _: int) -> str:
    if type(value) is float:
        return _plain(value)
    if type(value) not in (int, UInt):
        raise _Wrong(f"decimal clause can only be used on integers, was given {type_name(value)}")
    return str(int(value))


def _fixed(value: Any, precision: int) -> str:
    if type(value) not in (float, int, UInt):
        raise _Wrong(f"fixed-point clause can only be used on doubles, was given {type_name(value)}")
    return f"{value:.{precision}f}"


def _scientific(value: Any, precision: int) -> str:
    if type(value) not in (float, int, UInt):
        raise _Wrong(f"scientific clause can only be used on doubles, was given {type_name(value)}")
    return f"{value:.{precision}e}"


def _based(base: str, name: str) -> Callable[[Any, int], str]:
    def render(value: Any, _: int) -> str:
        if base in ("x", "X") and isinstance(value, str | bytes):
            digits = (value.encode() if isinstance(value, str) else value).hex()
            return digits.upper() if base == "X" else digits
        if base == "b" and isinstance(value, bool):
            return "1" if value else "0"
        if type(value) not in (int, UInt):
            raise _Wrong(f"{name} clause can only be used on integers, was given {type_name(value)}")
        return format(int(value), base)

    return render


_VERBS: dict[str, Callable[[Any, int], str]] = {
    "s": _plain, "d": _decimal, "f": _fixed, "e": _scientific, "b": _based("b", "binary"), "o": _based("o", "octal"),
    "x": _based("x", "hex"), "X": _based("X", "hex"),
}  # fmt: skip
