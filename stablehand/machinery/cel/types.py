"""Static types, and when a value of one may stand where another is wanted. Printed as cel-go prints them.

`DYN` is known only at run time and fits everywhere; type parameters ("T") are bound by `assignable`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Type:
    name: str
    params: tuple[Type, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}({', '.join(map(str, self.params))})" if self.params else self.name


@dataclass(frozen=True, slots=True)
class Field:
    """A field of an object type: `key` is its name in the data."""

    type: Type
    key: str


@dataclass(frozen=True, slots=True)
class ObjectType(Type):
    """An object with known fields; None: any field, of any type. Compared by name."""

    fields: dict[str, Field] | None = field(default=None, compare=False, hash=False, repr=False)  # may be recursive


@dataclass(frozen=True, slots=True)
class Parameter(Type):
    """A type parameter of a function's signature."""


OPEN = Parameter("dyn")  # printed as cel-go prints what stays undetermined
Bindings: TypeAlias = dict[str, Type]

DYN = Type("dyn")
ERROR = Type("!error!")
BOOL, INT, UINT, DOUBLE, STRING, BYTES = (Type(n) for n in ("bool", "int", "uint", "double", "string", "bytes"))
NULL = Type("null")
TIMESTAMP, DURATION = Type("timestamp"), Type("duration")
TYPE = Type("type")
_PRIMITIVE = frozenset({BOOL, INT, UINT, DOUBLE, STRING, BYTES})


def list_of(item: Type) -> Type:
    return Type("list", (item,))


def map_of(key: Type, value: Type) -> Type:
    return Type("map", (key, value))


def optional_of(value: Type) -> Type:
    return Type("optional_type", (value,))


def is_dyn(t: Type) -> bool:
    """Known only at run time: dyn, what an error left behind, the items of an empty list."""
    return t is DYN or t is ERROR or isinstance(t, Parameter)


def _open(t: Type) -> bool:
    """Has a part that nothing has determined yet: [], optional.none()."""
    return isinstance(t, Parameter) or any(map(_open, t.params))


def assignable(wanted: Type, given: Type, bound: Bindings) -> bool:
    """Whether `given` fits `wanted`, binding its parameters on the way."""
    if isinstance(wanted, Parameter):
        known = bound.get(wanted.name)
        if known is None:
            bound[wanted.name] = given
            return True
        if assignable(known, given, bound):
            if (is_dyn(given) and not _open(given)) or _open(known) or (known == NULL and given != NULL):
                bound[wanted.name] = given
            return True
        if not isinstance(given, Parameter) and assignable(given, known, bound):
            bound[wanted.name] = given
            return True
        return False
    if is_dyn(wanted) or is_dyn(given):
        return True
    if given == NULL:
        return wanted == NULL or isinstance(wanted, ObjectType) or wanted in (TIMESTAMP, DURATION)
    if wanted.name != given.name or len(wanted.params) != len(given.params):
        return False
    return all(assignable(w, g, bound) for w, g in zip(wanted.params, given.params, strict=True))


def substitute(t: Type, bound: Bindings) -> Type:
    """A result type with its parameters replaced; what stayed unbound stays open."""
    if isinstance(t, Parameter):
        return bound.get(t.name, OPEN)
    if t.params:
        return Type(t.name, tuple(substitute(p, bound) for p in t.params))
    return t


def join(types: Iterable[Type]) -> Type:
    """One type for several values: theirs when it is one, else dyn."""
    result: Type | None = None
    for t in types:
        if result is None:
            result = t
        elif result != t:
            if _open(result) and assignable(result, t, {}):
                result = t
            elif is_dyn(t) and not _open(t):
                return DYN
            elif assignable(result, t, {}):
                continue
            elif assignable(t, result, {}):
                result = t
            else:
                return DYN
    return DYN if result is None else result


@lru_cache(maxsize=1024)
def parse_type(text: str) -> Type:
    """A type as signatures write it: "map(string, list(T))"; capital single letters are parameters."""
    name, _, rest = text.partition("(")
    name = name.strip()
    if not rest:
        if len(name) == 1 and name.isupper():
            return Parameter(name)
        return DYN if name == "dyn" else Type(name)
    return Type(name, tuple(parse_type(part) for part in split_types(rest.rstrip()[:-1])))


def split_types(text: str) -> list[str]:
    """The parts between top-level commas."""
    parts: list[str] = []
    depth = start = 0
    for at, char in enumerate(text):
        if char == "(":
            depth += 1
        elif char == ")":
            depth -= 1
        elif char == "," and not depth:
            parts.append(text[start:at].strip())
            start = at + 1
    last = text[start:].strip()
    return [*parts, last] if last else parts
