"""The table of functions: what a signature declares is what the checker allows and what evaluation dispatches on.

A signature reads "size(string) -> int" or, for a member, "string::size() -> int"; operators are named "_+_". Libraries
fill the table with `@overload` when they are imported (library/__init__ imports them all). `T` stands for any type.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

from stablehand.machinery.cel.errors import no_overload
from stablehand.machinery.cel.types import Parameter, Type, parse_type, split_types
from stablehand.machinery.cel.values import Duration, Opt, Timestamp, TypeValue, UInt

F = TypeVar("F", bound=Callable[..., Any])
_SIGNATURE = re.compile(r"(?:(.+?)::)?([^(]+)\((.*)\)\s*->\s*(.+)")
# The classes of values that a type has; libraries add theirs with `opaque`.
_CLASSES: dict[str, tuple[type, ...]] = {
    "bool": (bool,), "int": (int,), "uint": (UInt,), "double": (float,), "string": (str,), "bytes": (bytes,),
    "null": (type(None),), "timestamp": (Timestamp,), "duration": (Duration,), "type": (TypeValue,),
    "optional_type": (Opt,),
}  # fmt: skip


class Overload:
    __slots__ = ("impl", "member", "params", "result")

    def __init__(self, member: bool, params: tuple[Type, ...], result: Type, impl: Callable[..., Any]) -> None:
        self.member, self.params, self.result, self.impl = member, params, result, impl

    def takes(self, classes: tuple[type, ...]) -> bool:
        return len(classes) == len(self.params) and all(map(_is, self.params, classes))


def _is(t: Type, cls: type) -> bool:
    if isinstance(t, Parameter) or t.name == "dyn":
        return True
    if t.name == "list":
        return issubclass(cls, list)
    if t.name == "map":
        return issubclass(cls, dict)
    return cls in _CLASSES.get(t.name, ())


# (name, member?) -> overloads in order of declaration
TABLE: dict[tuple[str, bool], list[Overload]] = {}


def opaque(name: str, cls: type) -> None:
    """Declares a type of values of its own."""
    _CLASSES[name] = (cls,)
    cls.cel_type = name  # type: ignore[attr-defined]


def overload(*signatures: str) -> Callable[[F], F]:
    """Declares a Python function as the implementation of these signatures; it may raise CelError."""

    def declare(impl: F) -> F:
        for signature in signatures:
            found = _SIGNATURE.fullmatch(signature)
            assert found is not None, signature
            receiver, name, params, result = found.groups()
            types = [parse_type(p) for p in split_types(params)]
            if receiver:
                types.insert(0, parse_type(receiver))
            made = Overload(bool(receiver), tuple(types), parse_type(result.strip()), impl)
            TABLE.setdefault((name, bool(receiver)), []).append(made)
        return impl

    return declare


class Dispatcher:
    """Finds the overload for the arguments' classes at run time, where the checker could not."""

    __slots__ = ("_known", "_overloads")

    def __init__(self, overloads: list[Overload]) -> None:
        self._overloads = overloads
        self._known: dict[tuple[type, ...], Callable[..., Any]] = {}

    def __call__(self, *args: Any) -> Any:
        classes = tuple(map(type, args))
        impl = self._known.get(classes)
        if impl is None:
            for candidate in self._overloads:
                if candidate.takes(classes):
                    impl = self._known[classes] = candidate.impl
                    break
            else:
                raise no_overload()
        return impl(*args)


_dispatchers: dict[tuple[str, bool], Dispatcher] = {}


def dispatcher(name: str, member: bool) -> Dispatcher:
    key = (name, member)
    found = _dispatchers.get(key)
    if found is None:
        found = _dispatchers[key] = Dispatcher(TABLE[key])
    return found
