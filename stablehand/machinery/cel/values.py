"""Values at run time.

Most are Python's own: int (CEL's int, 64 bits), float (double), bool, str, bytes, None, list, dict. What Python does
not tell apart has a class here: unsigned integers, timestamps and durations (in whole nanoseconds), types, optionals,
objects built by an expression. Network addresses, quantities and the like are in library/.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from stablehand.machinery.cel.errors import CelError


class UInt(int):
    """CEL's uint."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"{int(self)}u"


class Timestamp:
    __slots__ = ("nanos",)

    def __init__(self, nanos: int) -> None:
        self.nanos = nanos  # since 1970 UTC

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Timestamp) and other.nanos == self.nanos

    def __lt__(self, other: Timestamp) -> bool:
        return self.nanos < other.nanos

    def __hash__(self) -> int:
        return hash(("timestamp", self.nanos))

    def __repr__(self) -> str:
        return f"Timestamp({self.nanos})"


class Duration:
    __slots__ = ("nanos",)

    def __init__(self, nanos: int) -> None:
        self.nanos = nanos

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Duration) and other.nanos == self.nanos

    def __lt__(self, other: Duration) -> bool:
        return self.nanos < other.nanos

    def __hash__(self) -> int:
        return hash(("duration", self.nanos))

    def __repr__(self) -> str:
        return f"Duration({self.nanos})"


class TypeValue:
    """A type as a value: what `type(x)` gives and `int` names."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TypeValue) and other.name == self.name

    def __hash__(self) -> int:
        return hash(("type", self.name))

    def __repr__(self) -> str:
        return self.name


class Opt:
    """optional.of(value) or, where `present` is false, optional.none()."""

    __slots__ = ("present", "value")

    def __init__(self, value: Any = None, present: bool = True) -> None:
        self.value, self.present = value, present

    def get(self) -> Any:
        if not self.present:
            raise CelError("optional.none() dereference")
        return self.value

    def __repr__(self) -> str:
        return f"optional({self.value!r})" if self.present else "optional.none()"


NONE = Opt(present=False)


class Built(dict[str, Any]):
    """An object that an expression built: Object{...}, Object.spec{...}, JSONPatch{...}."""

    __slots__ = ("type_name",)

    def __init__(self, type_name: str, fields: dict[str, Any]) -> None:
        super().__init__(fields)
        self.type_name = type_name


class SetList(list[Any]):
    """A list with x-kubernetes-list-type set: equal in any order, + is a union."""

    __slots__ = ()


class MapList(list[Any]):
    """A list with x-kubernetes-list-type map: equal in any order, + merges items by their keys."""

    __slots__ = ("keys",)

    def __init__(self, items: list[Any], keys: tuple[str, ...]) -> None:
        super().__init__(items)
        self.keys = keys

    def identity(self, item: Any) -> tuple[Any, ...]:
        return tuple(item.get(key) for key in self.keys) if isinstance(item, dict) else (item,)


class Lazy(dict[str, Any]):
    """The `variables` of a policy: each evaluated when it is first asked for; an error stays."""

    __slots__ = ("_failed", "_makers")

    def __init__(self, makers: dict[str, Callable[[], Any]]) -> None:
        super().__init__()
        self._makers = makers
        self._failed: dict[str, CelError] = {}

    def __missing__(self, name: str) -> Any:
        if name in self._failed:
            raise self._failed[name]
        maker = self._makers.get(name)
        if maker is None:
            raise KeyError(name)
        try:
            value = self[name] = maker()
        except CelError as e:
            self._failed[name] = CelError(f'composited variable "{name}" fails to evaluate: {e}')
            raise self._failed[name] from None
        return value

    def __contains__(self, name: object) -> bool:
        return name in self._makers

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)


_NAMES: dict[type, str] = {
    bool: "bool", int: "int", UInt: "uint", float: "double", str: "string", bytes: "bytes", type(None): "null_type",
    list: "list", dict: "map", Timestamp: "google.protobuf.Timestamp", Duration: "google.protobuf.Duration",
    TypeValue: "type", Opt: "optional_type", SetList: "list", MapList: "list", Lazy: "map",
}  # fmt: skip


def type_name(value: Any) -> str:
    """The name of a value's type at run time."""
    if type(value) is Built:
        return str(value.type_name)
    name = _NAMES.get(type(value))
    return name if name is not None else str(getattr(type(value), "cel_type", type(value).__name__))


def is_number(value: Any) -> bool:
    return type(value) is int or type(value) is float or type(value) is UInt


def equals(a: Any, b: Any) -> bool:
    """CEL's ==: numbers by value whatever their type, lists and maps by their parts, unlike types unequal."""
    ta, tb = type(a), type(b)
    if ta is tb and (ta is str or ta is int or ta is bool or ta is float or ta is bytes):
        return bool(a == b)
    if isinstance(a, list) and isinstance(b, list):
        return _lists_equal(a, b)
    if isinstance(a, dict) and isinstance(b, dict):
        if ta is not tb and (ta is Built or tb is Built):
            return False
        if len(a) != len(b):
            return False
        return all(key in b and equals(value, b[key]) for key, value in a.items())
    if is_number(a) and is_number(b):
        return bool(a == b)
    if ta is Opt and tb is Opt:
        return bool(a.present == b.present and (not a.present or equals(a.value, b.value)))
    return ta is tb and bool(a == b)


def _lists_equal(a: list[Any], b: list[Any]) -> bool:
    if len(a) != len(b):
        return False
    if isinstance(a, SetList | MapList) or isinstance(b, SetList | MapList):
        return all(any(equals(x, y) for y in b) for x in a)
    return all(map(equals, a, b))


def contains(container: list[Any], item: Any) -> bool:
    """CEL's `in` for lists."""
    if type(item) is str:
        return item in container
    return any(equals(item, one) for one in container)


def map_find(container: dict[Any, Any], key: Any) -> Opt:
    """The value of a key, numbers being equal whatever their type (and never equal to booleans, as in Python)."""
    if type(key) is str:
        return Opt(container[key]) if key in container else NONE
    for candidate, value in container.items():
        if equals(candidate, key):
            return Opt(value)
    return NONE


def is_zero(value: Any) -> bool:
    """What optional.ofNonZeroValue takes for nothing."""
    if value is None or value is False:
        return True
    if isinstance(value, int | float | str | bytes | list | dict):
        return not value
    return isinstance(value, Duration) and value.nanos == 0


def to_json(value: Any) -> Any:
    """A result as JSON data: what patches and messages are made of. Raises CelError for what JSON has no form for."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, list):
        return [to_json(item) for item in value]
    if isinstance(value, dict):
        if any(type(key) is not str for key in value):
            raise CelError("map keys must be strings")
        return {key: to_json(item) for key, item in value.items()}
    if isinstance(value, UInt):
        return int(value)
    if isinstance(value, Timestamp | Duration):
        from stablehand.machinery.cel.library.times import text

        return text(value)
    if isinstance(value, Opt):
        return to_json(value.get())
    raise CelError(f"type conversion error from '{type_name(value)}' to JSON")
