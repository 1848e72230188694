"""What counts as a name, a label or a port name: the functions of apimachinery's util/validation.

Each takes a value and answers the list of upstream's complaints about it, empty when it is fine. They know
nothing of fields or kinds.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_LABEL_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_WILDCARD = re.compile(r"\*\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_QUALIFIED = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_C_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CONFIG_KEY = re.compile(r"[-._a-zA-Z0-9]+")
_HTTP_HEADER = re.compile(r"[-A-Za-z0-9]+")
_PORT_CHARS = re.compile(r"[-a-z0-9]+")
_PORT_LETTER = re.compile(r"[a-z]")
_SYSCTL_TEXT = r"([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_SYSCTL = re.compile(_SYSCTL_TEXT)
_PERCENT = re.compile(r"[0-9]+%")

_LABEL_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
    "with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
_LABEL_1035_TEXT = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is "
    "'[a-z]([-a-z0-9]*[a-z0-9])?')"
)
_SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
    "and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_WILDCARD_TEXT = (
    "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of "
    "lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', "
    "regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_QUALIFIED_TEXT = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character "
    "(e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
_LABEL_VALUE_TEXT = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
_ENV_TEXT = "a valid environment variable name must consist only of printable ASCII characters other than '='"
_CONFIG_KEY_TEXT = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  "
    "or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
)
_HTTP_HEADER_TEXT = (
    "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for "
    "validation is '[-A-Za-z0-9]+')"
)


def _too_long(limit: int) -> str:
    return f"must be no more than {limit} bytes"


def dns1123_label(value: str) -> list[str]:
    errors = []
    if len(value) > 63:
        errors.append(_too_long(63))
    if not _LABEL.fullmatch(value):
        errors.append(_LABEL_TEXT)
    return errors


def dns1035_label(value: str) -> list[str]:
    errors = []
    if len(value) > 63:
        errors.append(_too_long(63))
    if not _LABEL_1035.fullmatch(value):
        errors.append(_LABEL_1035_TEXT)
    return errors


def dns1123_subdomain(value: str) -> list[str]:
    errors = []
    if len(value) > 253:
        errors.append(_too_long(253))
    if not _SUBDOMAIN.fullmatch(value):
        errors.append(_SUBDOMAIN_TEXT)
    return errors


def wildcard_subdomain(value: str) -> list[str]:
    errors = []
    if len(value) > 253:
        errors.append(_too_long(253))
    if not _WILDCARD.fullmatch(value):
        errors.append(_WILDCARD_TEXT)
    return errors


def path_segment(value: str) -> list[str]:
    """A name that only has to fit into a URL path (RBAC kinds, …)."""
    if value in (".", ".."):
        return [f"may not be '{value}'"]
    return [f"may not contain '{part}'" for part in ("/", "%") if part in value]


@lru_cache(maxsize=4096)
def _qualified(value: str) -> tuple[str, ...]:
    errors: list[str] = []
    parts = value.split("/")
    if len(parts) == 1:
        name = parts[0]
    elif len(parts) == 2:
        prefix, name = parts
        if not prefix:
            errors.append("prefix part must be non-empty")
        else:
            errors.extend("prefix part " + text for text in dns1123_subdomain(prefix))
    else:
        return (
            "a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start and end with "
            "an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
            "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' "
            "(e.g. 'example.com/MyName')",
        )
    if not name:
        errors.append("name part must be non-empty")
    elif len(name) > 63:
        errors.append("name part " + _too_long(63))
    if not _QUALIFIED.fullmatch(name):
        errors.append("name part " + _QUALIFIED_TEXT)
    return tuple(errors)


def qualified_name(value: str) -> list[str]:
    """A label key, an annotation key (lower-cased first), a resource name, a finalizer."""
    return list(_qualified(value))


@lru_cache(maxsize=4096)
def _label_value(value: str) -> tuple[str, ...]:
    errors = []
    if len(value) > 63:
        errors.append(_too_long(63))
    if not _LABEL_VALUE.fullmatch(value):
        errors.append(_LABEL_VALUE_TEXT)
    return tuple(errors)


def label_value(value: str) -> list[str]:
    return list(_label_value(value))


def env_var_name(value: str) -> list[str]:
    """The relaxed rule of v1.34 and later: any printable ASCII but '='."""
    if not value:
        return ["environment variable name must be non-empty"]
    if all(" " <= char <= "~" and char != "=" for char in value):
        return []
    return [_ENV_TEXT]


def config_key(value: str) -> list[str]:
    errors = []
    if len(value) > 253:
        errors.append(_too_long(253))
    if not _CONFIG_KEY.fullmatch(value):
        errors.append(_CONFIG_KEY_TEXT)
    if value == ".":
        errors.append("must not be '.'")
    elif value == "..":
        errors.append("must not be '..'")
    elif value.startswith(".."):
        errors.append("must not start with '..'")
    return errors


def sysctl(value: str) -> list[str]:
    """The name of a kernel parameter, its parts divided by dots or slashes."""
    if len(value) <= 253 and _SYSCTL.fullmatch(value):
        return []
    return [f"must have at most 253 characters and match regex ^{_SYSCTL_TEXT}$"]


def http_header(value: str) -> list[str]:
    return [] if _HTTP_HEADER.fullmatch(value) else [_HTTP_HEADER_TEXT]


def c_identifier(value: str) -> bool:
    return _C_IDENTIFIER.fullmatch(value) is not None


def port_number(value: int) -> list[str]:
    return [] if 1 <= value <= 65535 else ["must be between 1 and 65535, inclusive"]


def port_name(value: str) -> list[str]:
    errors = []
    if len(value) > 15:
        errors.append("must be no more than 15 characters")
    if not _PORT_CHARS.fullmatch(value):
        errors.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not _PORT_LETTER.search(value):
        errors.append("must contain at least one letter (a-z)")
    if "--" in value:
        errors.append("must not contain consecutive hyphens")
    if value and (value[0] == "-" or value[-1] == "-"):
        errors.append("must not begin or end with a hyphen")
    return errors


def percent(value: str) -> list[str]:
    if _PERCENT.fullmatch(value):
        return []
    return [
        "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used "
        "for validation is '[0-9]+%')"
    ]


def ip_address(value: str) -> list[str]:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return ["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"]
    return []
