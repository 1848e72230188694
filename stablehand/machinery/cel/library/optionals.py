"""Optional values. a.?b, a[?b], optMap and optFlatMap are syntax (compiler)."""

from __future__ import annotations

from typing import Any

from stablehand.machinery.cel.functions import overload
from stablehand.machinery.cel.values import NONE, Opt, is_zero


@overload("optional.of(T) -> optional_type(T)")
def _of(value: Any) -> Opt:
    return Opt(value)


@overload("optional.none() -> optional_type(T)")
def _none() -> Opt:
    return NONE


@overload("optional.ofNonZeroValue(T) -> optional_type(T)")
def _of_non_zero(value: Any) -> Opt:
    return NONE if is_zero(value) else Opt(value)


@overload("optional_type(T)::hasValue() -> bool")
def _has_value(value: Opt) -> bool:
    return value.present


@overload("optional_type(T)::value() -> T")
def _value(value: Opt) -> Any:
    return value.get()


@overload("optional_type(T)::orValue(T) -> T")
def _or_value(value: Opt, default: Any) -> Any:
    return value.value if value.present else default


@overload("optional_type(T)::or(optional_type(T)) -> optional_type(T)")
def _or(value: Opt, other: Opt) -> Opt:
    return value if value.present else other
