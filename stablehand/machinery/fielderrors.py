"""Errors about one field of an object, worded as apimachinery's field.Error words them.

Validators build lists of these; the API server turns a list into one Status with a cause per error
(`invalid_message`, `FieldError.cause`). Nothing here decides what is valid.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

REQUIRED = "FieldValueRequired"
INVALID = "FieldValueInvalid"
NOT_SUPPORTED = "FieldValueNotSupported"
FORBIDDEN = "FieldValueForbidden"
DUPLICATE = "FieldValueDuplicate"
TOO_LONG = "FieldValueTooLong"
TOO_MANY = "FieldValueTooMany"
NOT_FOUND = "FieldValueNotFound"
TYPE_INVALID = "FieldValueTypeInvalid"
INTERNAL = "InternalError"

_TEXT = {
    REQUIRED: "Required value",
    INVALID: "Invalid value",
    NOT_SUPPORTED: "Unsupported value",
    FORBIDDEN: "Forbidden",
    DUPLICATE: "Duplicate value",
    TOO_LONG: "Too long",
    TOO_MANY: "Too many",
    NOT_FOUND: "Not found",
    TYPE_INVALID: "Invalid value",
    INTERNAL: "Internal error",
}
_WITHOUT_VALUE = frozenset({REQUIRED, FORBIDDEN, TOO_LONG, INTERNAL})


class Omit:
    """The bad value is left out of the message."""


OMIT = Omit()


@dataclass(frozen=True, slots=True)
class Verbatim:
    """A bad value that is printed just so (Go structs)."""

    text: str


def quote(text: str) -> str:
    """A string as Go's %q prints it (close enough for printable text)."""
    return orjson.dumps(text).decode()


def go_value(value: Any) -> str:
    """A value as field.Error prints it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, Verbatim):
        return value.text
    if value is None:
        return "null"
    if isinstance(value, int | float):
        return str(value)
    return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()


@dataclass(frozen=True, slots=True)
class FieldError:
    """One error: `type` is the cause reason of the API ("FieldValueInvalid", …), `field` the path."""

    type: str
    field: str
    bad_value: Any = OMIT
    detail: str = ""

    @property
    def reason(self) -> str:
        return self.type

    def body(self) -> str:
        """The message without the path: what a Status cause carries."""
        text = _TEXT[self.type]
        if self.type not in _WITHOUT_VALUE and self.bad_value is not OMIT:
            text = f"{text}: {go_value(self.bad_value)}"
        return f"{text}: {self.detail}" if self.detail else text

    message_body = body

    def message(self) -> str:
        return f"{self.field}: {self.body()}"

    def cause(self) -> dict[str, str]:
        return {"reason": self.type, "message": self.body(), "field": self.field}

    def under(self, prefix: str) -> FieldError:
        """The same error with its path below another one."""
        if not prefix:
            return self
        glue = "" if self.field.startswith("[") or not self.field else "."
        return FieldError(self.type, f"{prefix}{glue}{self.field}", self.bad_value, self.detail)


def required(field: str, detail: str = "") -> FieldError:
    return FieldError(REQUIRED, field, "", detail)


def invalid(field: str, value: Any, detail: str) -> FieldError:
    return FieldError(INVALID, field, value, detail)


def not_supported(field: str, value: Any, supported: Sequence[str]) -> FieldError:
    detail = "supported values: " + ", ".join(quote(v) for v in supported) if supported else ""
    return FieldError(NOT_SUPPORTED, field, value, detail)


def forbidden(field: str, detail: str) -> FieldError:
    return FieldError(FORBIDDEN, field, "", detail)


def duplicate(field: str, value: Any) -> FieldError:
    return FieldError(DUPLICATE, field, value)


def too_long(field: str, value: Any, limit: int) -> FieldError:
    if limit < 0:
        return FieldError(TOO_LONG, field, value, "value is too long")
    return FieldError(TOO_LONG, field, value, f"may not be more than {limit} {'byte' if limit == 1 else 'bytes'}")


def too_many(field: str, actual: int, limit: int) -> FieldError:
    noun = "item" if limit == 1 else "items"
    return FieldError(TOO_MANY, field, actual, f"must have at most {limit} {noun}")


def not_found(field: str, value: Any) -> FieldError:
    return FieldError(NOT_FOUND, field, value)


def type_invalid(field: str, value: Any, detail: str) -> FieldError:
    return FieldError(TYPE_INVALID, field, value, detail)


def internal(field: str, detail: str) -> FieldError:
    return FieldError(INTERNAL, field, "", detail)


def aggregate(errors: Iterable[FieldError]) -> str:
    """Several errors as one text: `a` or `[a, b]`, duplicates once."""
    messages = list(dict.fromkeys(e.message() for e in errors))
    return messages[0] if len(messages) == 1 else f"[{', '.join(messages)}]"


def invalid_message(kind: str, name: str, errors: Sequence[FieldError]) -> str:
    """The message of a 422 Status. `kind` is the GroupKind as upstream prints it: "Pod", "Deployment.apps"."""
    return f"{kind} {quote(name)} is invalid: {aggregate(errors)}"
