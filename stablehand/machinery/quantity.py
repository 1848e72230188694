"""Resource quantities ("100m", "1Gi", "1e3"): parsing, canonical text, arithmetic.

Follows apimachinery's resource.Quantity: exact decimals, nothing finer than nano, the canonical form keeps the
suffix family (binary, decimal, exponent) of what was written.
"""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, ROUND_UP, Context, Decimal
from functools import lru_cache

_NUMBER = re.compile(r"([+-]?)([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(.*)", re.DOTALL)
_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_EXPONENT = re.compile(r"[eE]([+-]?[0-9]+)")
_NANO = Decimal("1e-9")
_BINARY_SUFFIX = {power: suffix for suffix, power in _BINARY.items()}
_DECIMAL_SUFFIX = {power: suffix for suffix, power in _DECIMAL.items()}
_EXACT = Context(prec=80)

FORMAT_ERROR = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
SUFFIX_ERROR = "unable to parse quantity's suffix"


class QuantityError(ValueError):
    """Not a quantity; str() is upstream's message."""


@lru_cache(maxsize=2048)
def _parse(text: str) -> tuple[Decimal, str]:
    found = _NUMBER.fullmatch(text)
    if found is None:
        raise QuantityError(FORMAT_ERROR)
    sign, digits, suffix = found.groups()
    number = Decimal(sign + digits)
    if suffix in _DECIMAL:
        value, family = _EXACT.scaleb(number, _DECIMAL[suffix]), "decimal"
    elif suffix in _BINARY:
        value, family = _EXACT.multiply(number, Decimal(1024 ** _BINARY[suffix])), "binary"
    elif exponent := _EXPONENT.fullmatch(suffix):
        value, family = _EXACT.scaleb(number, int(exponent.group(1))), "exponent"
    elif re.fullmatch(r"[eEinumkKMGTP]*[-+]?[0-9]*", suffix):
        raise QuantityError(SUFFIX_ERROR)
    else:
        raise QuantityError(FORMAT_ERROR)
    if value != value.to_integral_value() and value % _NANO:
        value = value.quantize(_NANO, rounding=ROUND_UP, context=_EXACT)  # finer than nano rounds away from zero
    return value, family


def parse(quantity: str | int | float | Decimal) -> Decimal:
    """The exact value. Raises QuantityError."""
    if isinstance(quantity, str):
        return _parse(quantity)[0]
    if isinstance(quantity, Decimal):
        return quantity
    return _parse(repr(quantity))[0]


def is_quantity(text: str) -> bool:
    try:
        _parse(text)
    except QuantityError:
        return False
    return True


def format_decimal(value: Decimal, suffix: str = "") -> str:
    """Canonical text of a value: "binary", "decimal" or "exponent" family (default decimal)."""
    if value == 0:
        return "0"
    if suffix == "binary":
        if -1024 < value < 1024 or value != value.to_integral_value():
            suffix = "decimal"
        else:
            number, power = int(value), 0
            while number % 1024 == 0 and power < 6:
                number //= 1024
                power += 1
            return f"{number}{_BINARY_SUFFIX[power]}" if power else str(number)
    sign, digits, raw = value.normalize(_EXACT).as_tuple()
    exponent = int(raw)
    number = int("".join(map(str, digits)))
    shift = exponent % 3
    number *= 10**shift
    exponent -= shift
    while number % 1000 == 0:
        number //= 1000
        exponent += 3
    if exponent > 18 and suffix != "exponent":
        number *= 10 ** (exponent - 18)
        exponent = 18
    minus = "-" if sign else ""
    if suffix == "exponent":
        return f"{minus}{number}e{exponent}" if exponent else f"{minus}{number}"
    return f"{minus}{number}{_DECIMAL_SUFFIX[exponent]}"


@lru_cache(maxsize=2048)
def canonical(text: str) -> str:
    """The text the API server answers for a quantity: 1000m -> 1, 1024Mi -> 1Gi, 0.5Gi -> 512Mi."""
    value, family = _parse(text)
    return format_decimal(value, family)


def compare(a: str | int | float, b: str | int | float) -> int:
    left, right = parse(a), parse(b)
    return (left > right) - (left < right)


def add(*quantities: str | int | float) -> str:
    """The canonical sum, in the suffix family of the first term that is not zero."""
    total, family = Decimal(0), ""
    for quantity in quantities:
        value, own = _parse(quantity if isinstance(quantity, str) else repr(quantity))
        total += value
        if not family and value:
            family = own
    return format_decimal(total, family or "decimal")


def milli(quantity: str | int | float) -> int:
    """Thousandths, rounded up: "100m" -> 100, "0.5" -> 500."""
    return int((parse(quantity) * 1000).to_integral_value(rounding=ROUND_CEILING))


cpu_milli = milli


def whole(quantity: str | int | float) -> int:
    """The integer value, rounded up (bytes of a memory quantity, pods, …)."""
    return int(parse(quantity).to_integral_value(rounding=ROUND_CEILING))


to_bytes = whole


def format_milli(value: int) -> str:
    """CPU thousandths as a quantity: 1500 -> "1500m", 2000 -> "2"."""
    return str(value // 1000) if value % 1000 == 0 else f"{value}m"


def format_bytes(value: int) -> str:
    """A byte count as a canonical binary quantity: 1073741824 -> "1Gi"."""
    return format_decimal(Decimal(value), "binary")
