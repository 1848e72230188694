"""Kubernetes' list functions, and sets."""

from __future__ import annotations

import itertools
from typing import Any

from stablehand.machinery.cel.errors import CelError, no_overload
from stablehand.machinery.cel.functions import dispatcher, overload
from stablehand.machinery.cel.library.operators import less
from stablehand.machinery.cel.values import Duration, contains, equals

_ORDERED = ("int", "uint", "double", "bool", "duration", "timestamp", "string", "bytes")
_SUMMED = ("int", "uint", "double", "duration")


@overload(*(f"list({t})::isSorted() -> bool" for t in _ORDERED))
def _is_sorted(items: list[Any]) -> bool:
    return not any(less(b, a) for a, b in itertools.pairwise(items))


@overload(*(f"list({t})::sum() -> {t}" for t in _SUMMED))
def _sum(items: list[Any]) -> Any:
    if not items:
        return 0
    add = dispatcher("_+_", False)
    total = items[0]
    if not isinstance(total, int | float | Duration) or isinstance(total, bool):
        raise no_overload()
    for item in items[1:]:
        total = add(total, item)
    return total


@overload(*(f"list({t})::min() -> {t}" for t in _ORDERED))
def _min(items: list[Any]) -> Any:
    if not items:
        raise CelError("min called on empty list")
    best = items[0]
    for item in items[1:]:
        if less(item, best):
            best = item
    return best


@overload(*(f"list({t})::max() -> {t}" for t in _ORDERED))
def _max(items: list[Any]) -> Any:
    if not items:
        raise CelError("max called on empty list")
    best = items[0]
    for item in items[1:]:
        if less(best, item):
            best = item
    return best


@overload("list(T)::indexOf(T) -> int")
def _index_of(items: list[Any], wanted: Any) -> int:
    return next((at for at, item in enumerate(items) if equals(item, wanted)), -1)


@overload("list(T)::lastIndexOf(T) -> int")
def _last_index_of(items: list[Any], wanted: Any) -> int:
    return next((at for at in range(len(items) - 1, -1, -1) if equals(items[at], wanted)), -1)


@overload("sets.contains(list(T), list(T)) -> bool")
def _set_contains(whole: list[Any], part: list[Any]) -> bool:
    return all(contains(whole, item) for item in part)


@overload("sets.equivalent(list(T), list(T)) -> bool")
def _set_equivalent(a: list[Any], b: list[Any]) -> bool:
    return _set_contains(a, b) and _set_contains(b, a)


@overload("sets.intersects(list(T), list(T)) -> bool")
def _set_intersects(a: list[Any], b: list[Any]) -> bool:
    return any(contains(b, item) for item in a)
