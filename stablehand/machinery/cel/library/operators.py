"""Arithmetic, comparison, membership. Integers have 64 bits and overflow is an error; && || ?: are syntax (compiler)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from stablehand.machinery.cel.errors import CelError, no_overload
from stablehand.machinery.cel.functions import overload
from stablehand.machinery.cel.lexer import MAX_INT, MAX_UINT, MIN_INT
from stablehand.machinery.cel.values import (
    Duration,
    MapList,
    SetList,
    Timestamp,
    UInt,
    contains,
    equals,
    is_number,
    map_find,
)


def checked(value: int) -> int:
    if MIN_INT <= value <= MAX_INT:
        return value
    raise CelError("integer overflow")


def unsigned(value: int) -> UInt:
    if 0 <= value <= MAX_UINT:
        return UInt(value)
    raise CelError("unsigned integer overflow")


# --- sums


@overload("_+_(int, int) -> int")
def _add(a: int, b: int) -> int:
    return checked(a + b)


@overload("_-_(int, int) -> int")
def _sub(a: int, b: int) -> int:
    return checked(a - b)


@overload("_*_(int, int) -> int")
def _mul(a: int, b: int) -> int:
    return checked(a * b)


@overload("_+_(uint, uint) -> uint")
def _uadd(a: int, b: int) -> UInt:
    return unsigned(int(a) + int(b))


@overload("_-_(uint, uint) -> uint")
def _usub(a: int, b: int) -> UInt:
    return unsigned(int(a) - int(b))


@overload("_*_(uint, uint) -> uint")
def _umul(a: int, b: int) -> UInt:
    return unsigned(int(a) * int(b))


def _truncated(a: int, b: int) -> tuple[int, int]:
    """Quotient and remainder as C and Go have them: towards zero."""
    quotient = abs(a) // abs(b)
    if (a < 0) != (b < 0):
        quotient = -quotient
    return quotient, a - b * quotient


@overload("_/_(int, int) -> int")
def _div(a: int, b: int) -> int:
    if b == 0:
        raise CelError("division by zero")
    return checked(_truncated(a, b)[0])


@overload("_%_(int, int) -> int")
def _mod(a: int, b: int) -> int:
    if b == 0:
        raise CelError("modulus by zero")
    if a == MIN_INT and b == -1:
        raise CelError("integer overflow")
    return _truncated(a, b)[1]


@overload("_/_(uint, uint) -> uint")
def _udiv(a: int, b: int) -> UInt:
    if b == 0:
        raise CelError("division by zero")
    return UInt(int(a) // int(b))


@overload("_%_(uint, uint) -> uint")
def _umod(a: int, b: int) -> UInt:
    if b == 0:
        raise CelError("modulus by zero")
    return UInt(int(a) % int(b))


@overload("_+_(double, double) -> double")
def _fadd(a: float, b: float) -> float:
    return a + b


@overload("_-_(double, double) -> double")
def _fsub(a: float, b: float) -> float:
    return a - b


@overload("_*_(double, double) -> double")
def _fmul(a: float, b: float) -> float:
    return a * b


@overload("_/_(double, double) -> double")
def _fdiv(a: float, b: float) -> float:
    if b:
        return a / b
    if math.isnan(a) or not a:
        return math.nan
    return math.copysign(math.inf, a) * math.copysign(1.0, b)


@overload("-_(int) -> int")
def _neg(a: int) -> int:
    return checked(-a)


@overload("-_(double) -> double")
def _fneg(a: float) -> float:
    return -a


@overload("!_(bool) -> bool")
def _not(a: bool) -> bool:
    return not a


@overload("_+_(string, string) -> string", "_+_(bytes, bytes) -> bytes")
def _join(a: Any, b: Any) -> Any:
    return a + b


@overload("_+_(list(T), list(T)) -> list(T)")
def _list_add(a: list[Any], b: list[Any]) -> list[Any]:
    if isinstance(a, SetList):
        return SetList([*a, *(item for item in b if not contains(a, item))])
    if isinstance(a, MapList):
        merged: dict[Any, Any] = {a.identity(item): item for item in a}
        merged.update((a.identity(item), item) for item in b)
        return MapList(list(merged.values()), a.keys)
    return [*a, *b]


# --- time arithmetic


def timestamp_of(nanos: int) -> Timestamp:
    from stablehand.machinery.cel.library.times import MAX_TIME, MIN_TIME

    if MIN_TIME <= nanos <= MAX_TIME:
        return Timestamp(nanos)
    raise CelError("timestamp overflow")


def duration_of(nanos: int) -> Duration:
    if MIN_INT <= nanos <= MAX_INT:
        return Duration(nanos)
    raise CelError("integer overflow")


@overload("_+_(timestamp, duration) -> timestamp")
def _time_add(a: Timestamp, b: Duration) -> Timestamp:
    return timestamp_of(a.nanos + b.nanos)


@overload("_+_(duration, timestamp) -> timestamp")
def _time_radd(a: Duration, b: Timestamp) -> Timestamp:
    return timestamp_of(a.nanos + b.nanos)


@overload("_-_(timestamp, duration) -> timestamp")
def _time_sub(a: Timestamp, b: Duration) -> Timestamp:
    return timestamp_of(a.nanos - b.nanos)


@overload("_-_(timestamp, timestamp) -> duration")
def _between(a: Timestamp, b: Timestamp) -> Duration:
    return duration_of(a.nanos - b.nanos)


@overload("_+_(duration, duration) -> duration")
def _duration_add(a: Duration, b: Duration) -> Duration:
    return duration_of(a.nanos + b.nanos)


@overload("_-_(duration, duration) -> duration")
def _duration_sub(a: Duration, b: Duration) -> Duration:
    return duration_of(a.nanos - b.nanos)


@overload("-_(duration) -> duration")
def _duration_neg(a: Duration) -> Duration:
    return duration_of(-a.nanos)


# --- comparison


def less(a: Any, b: Any) -> bool:
    """a < b for values of one ordered type, or two numbers. Raises CelError."""
    ta, tb = type(a), type(b)
    if ta is tb and (ta is int or ta is str or ta is float or ta is bool or ta in (bytes, UInt, Timestamp, Duration)):
        return bool(a < b)
    if is_number(a) and is_number(b):
        return bool(a < b)
    raise no_overload()


_ORDERED = ["bool", "int", "uint", "double", "string", "bytes", "timestamp", "duration"]
_NUMBERS = ["int", "uint", "double"]


def _ordered(name: str) -> Callable[[Callable[[Any, Any], bool]], Callable[[Any, Any], bool]]:
    pairs = [(t, t) for t in _ORDERED] + [(a, b) for a in _NUMBERS for b in _NUMBERS if a != b]
    return overload(*(f"{name}({a}, {b}) -> bool" for a, b in pairs))


@_ordered("_<_")
def _lt(a: Any, b: Any) -> bool:
    return bool(a < b)


@_ordered("_>_")
def _gt(a: Any, b: Any) -> bool:
    return bool(b < a)


def _unordered(a: Any, b: Any) -> bool:
    """One of them is not a number (NaN): every comparison is false."""
    return bool(a != a or b != b)


@_ordered("_<=_")
def _le(a: Any, b: Any) -> bool:
    return not b < a and not _unordered(a, b)


@_ordered("_>=_")
def _ge(a: Any, b: Any) -> bool:
    return not a < b and not _unordered(a, b)


overload("_==_(T, T) -> bool")(equals)


@overload("_!=_(T, T) -> bool")
def _ne(a: Any, b: Any) -> bool:
    return not equals(a, b)


@overload("@in(T, list(T)) -> bool")
def _in_list(item: Any, container: list[Any]) -> bool:
    return contains(container, item)


@overload("@in(T, map(T, V)) -> bool")
def _in_map(key: Any, container: dict[Any, Any]) -> bool:
    return map_find(container, key).present


@overload("size(string) -> int", "size(bytes) -> int", "size(list(T)) -> int", "size(map(K, V)) -> int")
@overload("string::size() -> int", "bytes::size() -> int", "list(T)::size() -> int", "map(K, V)::size() -> int")
def _size(value: Any) -> int:
    return len(value)
