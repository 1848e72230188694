"""Kubernetes quantities: quantity("1.5Gi") and what can be asked of it."""

from __future__ import annotations

from decimal import Decimal

from stablehand.machinery import quantity
from stablehand.machinery.cel.errors import CelError
from stablehand.machinery.cel.functions import opaque, overload
from stablehand.machinery.cel.lexer import MAX_INT, MIN_INT


class Quantity:
    __slots__ = ("value",)

    def __init__(self, value: Decimal) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Quantity) and other.value == self.value

    def __hash__(self) -> int:
        return hash(self.value)


opaque("kubernetes.Quantity", Quantity)
_Q = "kubernetes.Quantity"


@overload(f"quantity(string) -> {_Q}")
def _quantity(text: str) -> Quantity:
    try:
        return Quantity(quantity.parse(text))
    except quantity.QuantityError as e:
        raise CelError(str(e)) from None


@overload("isQuantity(string) -> bool")
def _is_quantity(text: str) -> bool:
    return quantity.is_quantity(text)


@overload(f"{_Q}::sign() -> int")
def _sign(q: Quantity) -> int:
    return (q.value > 0) - (q.value < 0)


def _integral(q: Quantity) -> bool:
    return q.value == q.value.to_integral_value() and MIN_INT <= q.value <= MAX_INT


@overload(f"{_Q}::isInteger() -> bool")
def _is_integer(q: Quantity) -> bool:
    return _integral(q)


@overload(f"{_Q}::asInteger() -> int")
def _as_integer(q: Quantity) -> int:
    if not _integral(q):
        raise CelError("cannot convert value to integer")
    return int(q.value)


@overload(f"{_Q}::asApproximateFloat() -> double")
def _as_float(q: Quantity) -> float:
    return float(q.value)


@overload(f"{_Q}::isGreaterThan({_Q}) -> bool")
def _greater(a: Quantity, b: Quantity) -> bool:
    return a.value > b.value


@overload(f"{_Q}::isLessThan({_Q}) -> bool")
def _less(a: Quantity, b: Quantity) -> bool:
    return a.value < b.value


@overload(f"{_Q}::compareTo({_Q}) -> int")
def _compare(a: Quantity, b: Quantity) -> int:
    return (a.value > b.value) - (a.value < b.value)


@overload(f"{_Q}::add({_Q}) -> {_Q}")
def _add(a: Quantity, b: Quantity) -> Quantity:
    return Quantity(a.value + b.value)


@overload(f"{_Q}::add(int) -> {_Q}")
def _add_int(a: Quantity, b: int) -> Quantity:
    return Quantity(a.value + b)


@overload(f"{_Q}::sub({_Q}) -> {_Q}")
def _sub(a: Quantity, b: Quantity) -> Quantity:
    return Quantity(a.value - b.value)


@overload(f"{_Q}::sub(int) -> {_Q}")
def _sub_int(a: Quantity, b: int) -> Quantity:
    return Quantity(a.value - b)
