"""Kubernetes' named formats: format.dns1123Label().validate(x) is an optional list of complaints."""

from __future__ import annotations

import base64
import binascii
import re
import uuid
from collections.abc import Callable

from stablehand.machinery import names
from stablehand.machinery.cel.errors import CelError
from stablehand.machinery.cel.functions import opaque, overload
from stablehand.machinery.cel.library.network import _is_url
from stablehand.machinery.cel.library.times import parse_timestamp
from stablehand.machinery.cel.values import NONE, Opt


class Format:
    __slots__ = ("check", "name")

    def __init__(self, name: str, check: Callable[[str], list[str]]) -> None:
        self.name, self.check = name, check

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Format) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)


opaque("kubernetes.NamedFormat", Format)
_F = "kubernetes.NamedFormat"


def _uri(text: str) -> list[str]:
    return [] if _is_url(text) else ["invalid URI for request"]


def _uuid(text: str) -> list[str]:
    hexadecimal = re.fullmatch(r"[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}", text)
    try:
        uuid.UUID(text)
    except ValueError:
        hexadecimal = None
    return [] if hexadecimal else ["does not match the UUID format"]


def _byte(text: str) -> list[str]:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return ["invalid base64"]
    return []


def _date(text: str) -> list[str]:
    try:
        parse_timestamp(f"{text}T00:00:00Z")
    except ValueError:
        return ["invalid date"]
    return []


def _datetime(text: str) -> list[str]:
    try:
        parse_timestamp(text)
    except ValueError:
        return ["invalid datetime"]
    return []


def _prefixed(check: Callable[[str], list[str]]) -> Callable[[str], list[str]]:
    """Names that may end in a dash, as generateName's do."""
    return lambda text: check(text[:-1] + "a" if text.endswith("-") else text)


_FORMATS: dict[str, Callable[[str], list[str]]] = {
    "dns1123Label": names.dns1123_label,
    "dns1123Subdomain": names.dns1123_subdomain,
    "dns1035Label": names.dns1035_label,
    "qualifiedName": names.qualified_name,
    "labelValue": names.label_value,
    "dns1123LabelPrefix": _prefixed(names.dns1123_label),
    "dns1123SubdomainPrefix": _prefixed(names.dns1123_subdomain),
    "dns1035LabelPrefix": _prefixed(names.dns1035_label),
    "uri": _uri,
    "uuid": _uuid,
    "byte": _byte,
    "date": _date,
    "datetime": _datetime,
}


def _declare(name: str, check: Callable[[str], list[str]]) -> None:
    @overload(f"format.{name}() -> {_F}")
    def _make() -> Format:
        return Format(name, check)


for _name, _check in _FORMATS.items():
    _declare(_name, _check)


@overload(f"format.named(string) -> optional_type({_F})")
def _named(name: str) -> Opt:
    check = _FORMATS.get(name)
    return NONE if check is None else Opt(Format(name, check))


@overload(f"{_F}::validate(string) -> optional_type(list(string))")
def _validate(made: Format, text: str) -> Opt:
    if type(text) is not str:
        raise CelError("no such overload")
    found = made.check(text)
    return Opt(list(found)) if found else NONE
