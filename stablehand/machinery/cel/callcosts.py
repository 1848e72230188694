"""What calls of functions cost, by the sizes of what they are given: cel-go's own and Kubernetes' libraries.

Follows functionCost of cel-go's checker/cost.go and apiserver's pkg/cel/library/cost.go. cost.py adds what the
arguments themselves cost.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

from stablehand.machinery.cel.functions import TABLE
from stablehand.machinery.cel.ranges import FREE, MAX, ONE, UNKNOWN, Range, exactly
from stablehand.machinery.cel.types import BYTES, STRING, Bindings, Type, assignable, is_dyn

_TRAVERSAL = 0.1  # per character or byte that is looked at
_REGEX = 0.25  # per character of a regular expression
_CHECK = exactly(350_000)  # one authorization check
_LONGEST_FORMAT_REGEX = 128
_ADDRESS = Range(4, 16)  # bytes


@dataclass(frozen=True, slots=True)
class Operand:
    """An argument: its static type, where it comes from, how large it may be, its value when it is written out."""

    type: Type
    path: tuple[str, ...]
    size: Range | None
    literal: Any
    estimate: Callable[[tuple[str, ...]], Range | None]

    def known(self) -> Range:
        return self.size or UNKNOWN

    def element(self) -> Operand | None:
        """An item of this list."""
        if self.type.name != "list":
            return None
        path = (*self.path, "@items") if self.path else ()
        size = self.estimate(path) if path else None
        return Operand(self.type.params[0], path, size, None, self.estimate)


@dataclass(frozen=True, slots=True)
class CallCost:
    """`size`: that of the result, where it is known."""

    cost: Range
    size: Range | None = None


_Estimate = Callable[[Operand | None, Sequence[Operand]], CallCost | None]


def call_cost(name: str, target: Operand | None, args: Sequence[Operand]) -> CallCost:
    """The cost of a call without that of its arguments; where several overloads fit, what covers them all."""
    library = _LIBRARY.get(name)
    if library is not None and (found := library(target, args)) is not None:
        return found
    cost: Range | None = None
    size: Range | None = None
    for params in _fitting(name, target, args):
        one = _builtin(name, params, target, args)
        cost = one.cost if cost is None else cost.union(one.cost)
        if one.size is not None:
            size = one.size if size is None else size.union(one.size)
    return CallCost(ONE if cost is None else cost, size)


def _fitting(name: str, target: Operand | None, args: Sequence[Operand]) -> list[tuple[Type, ...]]:
    given = [*([target] if target is not None else ()), *args]
    found: list[tuple[Type, ...]] = []
    for overload in TABLE.get((name, target is not None), ()):
        bound: Bindings = {}
        if len(overload.params) == len(given) and all(
            map(assignable, overload.params, (g.type for g in given), repeat(bound))
        ):
            found.append(overload.params)
    return found


# --- cel-go's own functions


def _builtin(name: str, params: tuple[Type, ...], target: Operand | None, args: Sequence[Operand]) -> CallCost:
    if name == "format" and target is not None:
        return CallCost(target.known().scaled(_TRAVERSAL))
    if name == "bytes" and params == (STRING,):
        size = args[0].known()
        return CallCost(size.scaled(_TRAVERSAL), Range(size.least, min(size.most * 4, MAX)))
    if name == "string" and params == (BYTES,):
        size = args[0].known()
        return CallCost(size.scaled(_TRAVERSAL), Range(size.least // 4, size.most))
    if name == "strings.quote":
        size = args[0].known()
        return CallCost(size.scaled(_TRAVERSAL), size + Range(2, size.most + 2))
    if name in ("startsWith", "endsWith"):
        return CallCost(args[0].known().scaled(_TRAVERSAL))
    if name == "@in" and params[1].name == "list":
        return CallCost(args[1].known())
    if name == "matches":
        text, pattern = (target, args[0]) if target is not None else (args[0], args[1])
        return CallCost(_regex_cost(text, pattern))
    if name == "contains" and target is not None:
        return CallCost(target.known().scaled(_TRAVERSAL) * args[0].known().scaled(_TRAVERSAL))
    if name == "_+_" and params[0].name in ("string", "bytes", "list"):
        size = args[0].known() + args[1].known()
        return CallCost(ONE if params[0].name == "list" else size.scaled(_TRAVERSAL), size)
    text_order = name in ("_<_", "_<=_", "_>_", "_>=_") and params[0].name in ("string", "bytes")
    if text_order or name in ("_==_", "_!=_"):
        most = min(args[0].known().most, args[1].known().most)
        return CallCost(Range(min(most, 1), most).scaled(_TRAVERSAL))
    return CallCost(ONE)


def _regex_cost(text: Operand, pattern: Operand) -> Range:
    return (text.known() + ONE).scaled(_TRAVERSAL) * pattern.known().scaled(_REGEX)


# --- Kubernetes' libraries


def _fixed(cost: Range) -> _Estimate:
    return lambda target, args: CallCost(cost)


def _selector(target: Operand | None, args: Sequence[Operand]) -> CallCost | None:
    if len(args) != 1:
        return None
    size = args[0].known()
    return CallCost(exactly(10) + size.scaled(_TRAVERSAL) + size.scaled(0.5).scaled(50))


def _over_items(target: Operand | None, args: Sequence[Operand]) -> CallCost | None:
    if target is None:
        return None
    each, item = ONE, target.element()
    if item is None:
        return CallCost(target.known().scaled(_TRAVERSAL))
    if item.type in (STRING, BYTES):
        each = ONE + item.known().scaled(_TRAVERSAL)
    return CallCost(target.known() * each)


def _over_argument(target: Operand | None, args: Sequence[Operand]) -> CallCost | None:
    if len(args) != 1:
        return None
    return CallCost(args[0].known().scaled(_TRAVERSAL), args[0].known())


def _over_target(target: Operand | None, args: Sequence[Operand]) -> CallCost | None:
    if target is None:
        return None
    return CallCost(target.known().scaled(_TRAVERSAL), target.known())


def _replaced(text: Range, old: Range, new: Range) -> Range:
    """How long a text is with all of `old` replaced."""
    if old.least == 0:
        most = (min(text.most + 1, MAX), text.most)
    elif new.most <= old.least:
        most = (0, text.most)
    else:
        most = (math.ceil(float(text.most) / float(old.least)), 0)
    if old.most == 0:
        least = (min(text.least + 1, MAX), text.least)
    elif old.most <= new.least:
        least = (0, text.least)
    else:
        least = (math.ceil(float(text.least) / float(old.most)), 0)
    return Range(least[0], most[0]) * new + Range(least[1], most[1])


def _replace(target: Operand | None, args: Sequence[Operand]) -> CallCost | None:
    if target is None or len(args) < 2:
        return None
    text = target.known()
    return CallCost(text.scaled(2 * _TRAVERSAL), _replaced(text, args[0].known(), args[1].known()))


def _split(target: Operand | None, args: Sequence[Operand]) -> CallCost | None:
    if target is None:
        return None
    most = target.known().most
    if len(args) > 1 and type(args[1].literal) is int:
        most = args[1].literal & MAX
    return CallCost(target.known().scaled(2 * _TRAVERSAL), Range(0, most))


def _join(target: Operand | None, args: Sequence[Operand]) -> CallCost | None:
    if target is None:
        return None
    count, item = target.known(), target.element()
    size = count * item.known() if item is not None else FREE
    if args:
        size = size + args[0].known() * Range(max(count.least - 1, 0), max(count.most - 1, 0))
    return CallCost(size.scaled(_TRAVERSAL), size)


def _find(target: Operand | None, args: Sequence[Operand]) -> CallCost | None:
    if target is None or not args:
        return None
    return CallCost(_regex_cost(target, args[0]), Range(0, target.known().most))


def _contains_address(target: Operand | None, args: Sequence[Operand]) -> CallCost | None:
    if target is None or not args:
        return None
    cost = (_ADDRESS + _ADDRESS).scaled(_TRAVERSAL)
    return CallCost(cost + args[0].known().scaled(_TRAVERSAL) if args[0].type == STRING else cost)


def _contains_cidr(target: Operand | None, args: Sequence[Operand]) -> CallCost | None:
    found = _contains_address(target, args)
    return None if found is None else CallCost(found.cost + _ADDRESS.scaled(_TRAVERSAL) + ONE)


def _validate(target: Operand | None, args: Sequence[Operand]) -> CallCost | None:
    if target is None:
        return None
    return CallCost(args[0].known().scaled(_TRAVERSAL).scaled(_LONGEST_FORMAT_REGEX * _REGEX))


def _sets(factor: int) -> _Estimate:
    def estimate(target: Operand | None, args: Sequence[Operand]) -> CallCost | None:
        return CallCost((args[0].known() * args[1].known()).scaled(factor) + ONE) if len(args) == 2 else None

    return estimate


def _equals(target: Operand | None, args: Sequence[Operand]) -> CallCost | None:
    """Values that are compared at once, however they are written."""
    if len(args) != 2 or args[0].type != args[1].type or is_dyn(args[0].type):
        return None
    return CallCost(ONE) if args[0].type.name in _COMPARED_AT_ONCE else None


_COMPARED_AT_ONCE = frozenset({"net.IP", "net.CIDR", "kubernetes.Quantity", "kubernetes.Semver", "kubernetes.URL"})
_LIBRARY: dict[str, _Estimate] = {
    "check": _fixed(_CHECK),
    "fieldSelector": _selector,
    "labelSelector": _selector,
    "url": _over_argument,
    "jsonpatch.escapeKey": _over_argument,
    "replace": _replace,
    "split": _split,
    "join": _join,
    "find": _find,
    "findAll": _find,
    "containsIP": _contains_address,
    "containsCIDR": _contains_cidr,
    "validate": _validate,
    "sets.contains": _sets(1),
    "sets.intersects": _sets(1),
    "sets.equivalent": _sets(2),  # either may have to be looked for in the other
    "_==_": _equals,
    **dict.fromkeys(("isSorted", "sum", "max", "min", "indexOf", "lastIndexOf"), _over_items),
    **dict.fromkeys(("lowerAscii", "upperAscii", "substring", "trim"), _over_target),
    **dict.fromkeys(
        (
            "serviceAccount", "path", "group", "resource", "subresource", "namespace", "name", "allowed", "reason",
            "error", "errored", "masked", "prefixLength", "family", "isUnspecified", "isLoopback",
            "isLinkLocalMulticast", "isLinkLocalUnicast", "isGlobalUnicast", "format.named", "sign", "asInteger",
            "isInteger", "asApproximateFloat", "isGreaterThan", "isLessThan", "compareTo", "add", "sub", "major",
            "minor", "patch", "getScheme", "getHostname", "getHost", "getPort", "getEscapedPath", "getQuery",
        ),
        _fixed(ONE),
    ),
}  # fmt: skip
