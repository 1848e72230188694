"""Label and field selectors: parsing, matching, printing.

Takes selector strings of URLs (`a=b,c in (x,y),!d`) and LabelSelector objects of specs. Which fields a kind
offers to field selectors is the API server's to know.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from stablehand.machinery import names
from stablehand.machinery.fielderrors import FieldError, aggregate, invalid

IN, NOT_IN, EQUALS, DOUBLE_EQUALS, NOT_EQUALS = "in", "notin", "=", "==", "!="
EXISTS, ABSENT, GREATER, LESS = "exists", "!", "gt", "lt"

_TOKEN = re.compile(r"\s*(!=|==|=|!|,|\(|\)|<|>|[^\s!=,()<>]+)")
_SYMBOLS = frozenset({"!", "=", "==", "!=", ",", "(", ")", "<", ">"})
_OPERATORS = {IN: IN, NOT_IN: NOT_IN, "=": EQUALS, "==": EQUALS, "!=": NOT_EQUALS, ">": GREATER, "<": LESS}


class SelectorError(ValueError):
    """A selector that cannot be understood; str() is upstream's message."""


@dataclass(frozen=True, slots=True)
class Requirement:
    key: str
    op: str
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        match self.op:
            case "=" | "in":
                return value is not None and value in self.values
            case "!=" | "notin":
                return value is None or value not in self.values
            case "exists":
                return value is not None
            case "!":
                return value is None
        try:
            have, want = int(value or ""), int(next(iter(self.values)))
        except ValueError:
            return False
        return have > want if self.op == GREATER else have < want

    def __str__(self) -> str:
        values = sorted(self.values)
        match self.op:
            case "exists":
                return self.key
            case "!":
                return f"!{self.key}"
            case "=" | "!=":
                return f"{self.key}{self.op}{values[0]}"
            case "gt" | "lt":
                return f"{self.key}{'>' if self.op == GREATER else '<'}{values[0]}"
        return f"{self.key} {self.op} ({','.join(values)})"


class Selector:
    """A conjunction of requirements; `nothing` selects no object at all."""

    __slots__ = ("_equal", "_rest", "nothing", "requirements")

    def __init__(self, requirements: Iterable[Requirement] = (), *, nothing: bool = False) -> None:
        self.requirements = tuple(sorted(requirements, key=lambda r: r.key))
        self.nothing = nothing
        self._equal = [(r.key, next(iter(r.values))) for r in self.requirements if r.op == EQUALS]
        self._rest = [r for r in self.requirements if r.op != EQUALS]

    @property
    def everything(self) -> bool:
        return not self.nothing and not self.requirements

    def matches(self, labels: Mapping[str, str] | None) -> bool:
        if self.nothing:
            return False
        labels = labels or {}
        for key, value in self._equal:
            if labels.get(key) != value:
                return False
        return all(r.matches(labels) for r in self._rest)

    def __str__(self) -> str:
        return ",".join(str(r) for r in self.requirements)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Selector) and self.nothing == other.nothing and self.requirements == other.requirements

    def __hash__(self) -> int:
        return hash((self.requirements, self.nothing))


EVERYTHING = Selector()
NOTHING = Selector(nothing=True)


def check_requirement(key: str, op: str, values: Iterable[str]) -> list[FieldError]:
    """Upstream's NewRequirement checks."""
    errors = [invalid("key", key, text) for text in names.qualified_name(key)]
    listed = list(values)
    if op in (IN, NOT_IN) and not listed:
        errors.append(invalid("values", listed, "for 'in', 'notin' operators, values set can't be empty"))
    if op in (GREATER, LESS):
        for index, value in enumerate(listed):
            if not re.fullmatch(r"[-+]?\d+", value):
                detail = "for 'Gt', 'Lt' operators, the value must be an integer"
                errors.append(invalid(f"values[{index}]", value, detail))
    for index, value in enumerate(listed):
        errors.extend(invalid(f"values[{index}][{key}]", value, text) for text in names.label_value(value))
    return errors


class _Parser:
    def __init__(self, text: str) -> None:
        self.tokens = _TOKEN.findall(text)
        self.at = 0

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self) -> str:
        token = self.peek()
        self.at += 1
        return token

    def parse(self) -> list[Requirement]:
        found: list[Requirement] = []
        while True:
            token = self.peek()
            if not token:
                return found
            if token != ABSENT and token in _SYMBOLS:
                raise SelectorError(f"found '{token}', expected: !, identifier, or 'end of string'")
            try:
                found.append(self.requirement())
            except SelectorError as error:
                raise SelectorError(f"unable to parse requirement: {error}") from None
            token = self.take()
            if not token:
                return found
            if token != ",":
                raise SelectorError(f"found '{token}', expected: ',' or 'end of string'")
            token = self.peek()
            if not token or (token != ABSENT and token in _SYMBOLS):
                raise SelectorError(f"found '{token}', expected: identifier after ','")

    def requirement(self) -> Requirement:
        token = self.take()
        absent = token == ABSENT
        if absent:
            token = self.take()
        if not token or token in _SYMBOLS:
            raise SelectorError(f"found '{token}', expected: identifier")
        key = token
        self.check(key, EXISTS, [])
        if absent:
            return Requirement(key, ABSENT)
        if self.peek() in ("", ","):
            return Requirement(key, EXISTS)
        token = self.take()
        op = _OPERATORS.get(token)
        if op is None:
            raise SelectorError(f"found '{token}', expected: in, notin, =, ==, !=, gt, lt")
        values = self.many() if op in (IN, NOT_IN) else [self.one()]
        self.check(key, op, values)
        return Requirement(key, op, frozenset(values))

    @staticmethod
    def check(key: str, op: str, values: list[str]) -> None:
        if errors := check_requirement(key, op, values):
            raise SelectorError(aggregate(errors))

    def one(self) -> str:
        if self.peek() in ("", ","):
            return ""
        token = self.take()
        if token in _SYMBOLS:
            raise SelectorError(f"found '{token}', expected: identifier")
        return token

    def many(self) -> list[str]:
        token = self.take()
        if token != "(":
            raise SelectorError(f"found '{token}' expected: '('")
        values: list[str] = []
        expect_value = True
        while True:
            token = self.take()
            if token == ")":
                if expect_value and values:
                    values.append("")
                return values
            if token == ",":
                if expect_value:
                    values.append("")
                expect_value = True
            elif token and token not in _SYMBOLS and expect_value:
                values.append(token)
                expect_value = False
            elif expect_value:
                raise SelectorError(f"found '{token}', expected: ',', ')' or identifier")
            else:
                raise SelectorError(f"found '{token}', expected: ',' or ')'")


@lru_cache(maxsize=512)
def parse_selector(text: str) -> Selector:
    """The selector of a `labelSelector` query parameter. Raises SelectorError with upstream's message."""
    if not text:
        return EVERYTHING
    return Selector(_Parser(text).parse())


_EXPRESSION_OPS = {"In": IN, "NotIn": NOT_IN, "Exists": EXISTS, "DoesNotExist": ABSENT}


def from_label_selector(selector: Mapping[str, Any] | None) -> Selector:
    """The selector of a spec. None selects nothing, {} everything. Raises SelectorError on an unknown operator."""
    if selector is None:
        return NOTHING
    found = [Requirement(k, EQUALS, frozenset((v,))) for k, v in (selector.get("matchLabels") or {}).items()]
    for expression in selector.get("matchExpressions") or ():
        op = _EXPRESSION_OPS.get(expression.get("operator", ""))
        if op is None:
            raise SelectorError(f'"{expression.get("operator", "")}" is not a valid label selector operator')
        found.append(Requirement(expression.get("key", ""), op, frozenset(expression.get("values") or ())))
    return Selector(found)


def from_labels(labels: Mapping[str, str] | None) -> Selector:
    """The selector of a plain map (Services, replication controllers). None and {} select everything."""
    return Selector(Requirement(k, EQUALS, frozenset((v,))) for k, v in (labels or {}).items())


_UNESCAPE = re.compile(r"\\([\\,=])")


def parse_field_selector(text: str) -> list[tuple[str, str, str]]:
    """A `fieldSelector` query parameter as (path, "=" or "!=", value) terms. Raises SelectorError."""
    terms: list[tuple[str, str, str]] = []
    for term in re.split(r"(?<!\\),", text):
        if not term:
            continue
        found = re.match(r"((?:\\.|[^=!\\])*?)(!=|==|=)(.*)", term, re.DOTALL)
        if found is None:
            raise SelectorError(f"invalid selector: '{text}'; can't understand '{term}'")
        path, op, value = found.groups()
        terms.append((path, NOT_EQUALS if op == "!=" else EQUALS, _UNESCAPE.sub(r"\1", value)))
    return terms


def field_value(obj: Mapping[str, Any], path: str) -> str:
    """The string a field selector compares: "" for what is absent, Go's spelling of booleans."""
    value: Any = obj
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def match_fields(
    terms: Iterable[tuple[str, str, str]],
    obj: Mapping[str, Any],
    value_of: Callable[[Mapping[str, Any], str], str] = field_value,
) -> bool:
    return all((value_of(obj, path) == value) == (op == EQUALS) for path, op, value in terms)
