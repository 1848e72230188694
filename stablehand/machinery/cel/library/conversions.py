"""Conversions between types: int(x), string(x), type(x) and so on."""

from __future__ import annotations

import math
from typing import Any

from stablehand.machinery.cel.errors import CelError
from stablehand.machinery.cel.functions import overload
from stablehand.machinery.cel.lexer import MAX_INT, MAX_UINT, MIN_INT
from stablehand.machinery.cel.library.operators import checked, unsigned
from stablehand.machinery.cel.values import Duration, Timestamp, TypeValue, UInt, type_name

_TRUE, _FALSE = ("1", "t", "T", "true", "TRUE", "True"), ("0", "f", "F", "false", "FALSE", "False")


@overload("dyn(T) -> dyn")
def _dyn(value: Any) -> Any:
    return value


@overload("type(T) -> type")
def _type(value: Any) -> TypeValue:
    return TypeValue(type_name(value))


@overload("int(int) -> int", "int(uint) -> int")
def _int(value: int) -> int:
    return checked(int(value))


@overload("int(double) -> int")
def _int_of_double(value: float) -> int:
    if not math.isfinite(value) or not MIN_INT < value < MAX_INT:
        raise CelError("integer overflow")
    return int(value)


@overload("int(string) -> int")
def _int_of_string(value: str) -> int:
    digits = value[1:] if value[:1] in ("-", "+") else value
    if not digits.isascii() or not digits.isdigit() or not MIN_INT <= int(value) <= MAX_INT:
        raise CelError(f"type conversion error from 'string' to 'int': {_syntax('ParseInt', value, digits)}")
    return int(value)


def _syntax(function: str, value: str, digits: str) -> str:
    from stablehand.machinery.fielderrors import quote

    why = "value out of range" if digits.isascii() and digits.isdigit() else "invalid syntax"
    return f"strconv.{function}: parsing {quote(value)}: {why}"


@overload("int(timestamp) -> int")
def _int_of_time(value: Timestamp) -> int:
    return value.nanos // 10**9


@overload("uint(uint) -> uint", "uint(int) -> uint")
def _uint(value: int) -> UInt:
    return unsigned(int(value))


@overload("uint(double) -> uint")
def _uint_of_double(value: float) -> UInt:
    if not math.isfinite(value) or not 0 <= value < MAX_UINT:
        raise CelError("unsigned integer overflow")
    return UInt(value)


@overload("uint(string) -> uint")
def _uint_of_string(value: str) -> UInt:
    if not value.isascii() or not value.isdigit() or int(value) > MAX_UINT:
        raise CelError(f"type conversion error from 'string' to 'uint': {_syntax('ParseUint', value, value)}")
    return UInt(int(value))


@overload("double(double) -> double", "double(int) -> double", "double(uint) -> double")
def _double(value: float) -> float:
    return float(value)


@overload("double(string) -> double")
def _double_of_string(value: str) -> float:
    try:
        if value != value.strip() or "_" in value:
            raise ValueError
        return float(value)
    except ValueError:
        raise CelError(f"type conversion error from 'string' to 'double': {_syntax('ParseFloat', value, '')}") from None


@overload("bool(bool) -> bool")
def _bool(value: bool) -> bool:
    return value


@overload("bool(string) -> bool")
def _bool_of_string(value: str) -> bool:
    if value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise CelError(f"type conversion error from 'string' to 'bool': {_syntax('ParseBool', value, '')}")


def double_text(value: float) -> str:
    """A double as Go's strconv.FormatFloat(f, 'g', -1, 64) prints it."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if value == int(value) and abs(value) < 1e21:
        return str(int(value))
    text = repr(value)
    if "e" not in text:
        return text
    mantissa, exponent = text.split("e")
    mantissa = mantissa.removesuffix(".0")
    return f"{mantissa}e{exponent[0] if exponent[0] in '+-' else '+'}{exponent.lstrip('+-').rjust(2, '0')}"


@overload("string(string) -> string")
def _string(value: str) -> str:
    return value


@overload("string(int) -> string", "string(uint) -> string")
def _string_of_int(value: int) -> str:
    return str(int(value))


@overload("string(double) -> string")
def _string_of_double(value: float) -> str:
    return double_text(value)


@overload("string(bool) -> string")
def _string_of_bool(value: bool) -> str:
    return "true" if value else "false"


@overload("string(bytes) -> string")
def _string_of_bytes(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise CelError("invalid UTF-8 in bytes, cannot convert to string") from None


@overload("string(timestamp) -> string", "string(duration) -> string")
def _string_of_time(value: Timestamp | Duration) -> str:
    from stablehand.machinery.cel.library.times import text

    return text(value)


@overload("bytes(string) -> bytes")
def _bytes(value: str) -> bytes:
    return value.encode()


@overload("bytes(bytes) -> bytes")
def _bytes_same(value: bytes) -> bytes:
    return value
