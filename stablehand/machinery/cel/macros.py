"""What the macros do at run time: all, exists, exists_one, map, filter, transform…, optMap, optFlatMap."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from stablehand.machinery.cel.ast import Macro
from stablehand.machinery.cel.errors import CelError, no_overload
from stablehand.machinery.cel.values import NONE, Opt

Scope = dict[str, Any]
Run = Callable[[Scope], Any]
# How many items the comprehensions of one evaluation may go through, nested ones counted out: some 0.1 s.
BUDGET = 100_000


def _spend(a: Scope, count: int) -> None:
    left = a[""]
    left[0] -= count
    if left[0] < 0:
        raise CelError("operation cancelled: actual cost limit exceeded")


def _pairs(target: Any, names: list[str], a: Scope) -> Iterable[tuple[Any, Any]]:
    """What each turn binds: (item, _) or (index or key, value)."""
    if isinstance(target, list):
        _spend(a, len(target))
        return enumerate(target) if len(names) == 2 else ((item, None) for item in target)
    if isinstance(target, dict):
        _spend(a, len(target))
        return target.items() if len(names) == 2 else ((key, None) for key in target)
    raise no_overload()


def _true(value: Any) -> bool:
    if type(value) is not bool:
        raise no_overload()
    return value


def compile_macro(node: Macro, target: Run, args: list[Run]) -> Run:
    """The closure of a macro whose target and arguments are compiled."""
    if node.kind in ("optMap", "optFlatMap"):
        return _optional(node.names[0], target, args[0], node.kind == "optFlatMap")
    names = node.names
    first, second = names[0], names[1] if len(names) == 2 else None
    last = args[-1]
    condition = args[0] if len(args) == 2 else None

    def turns(a: Scope) -> Iterable[tuple[Scope, Any, Any]]:
        local = dict(a)
        for key, value in _pairs(target(a), names, a):
            local[first] = key
            if second is not None:
                local[second] = value
            yield local, key, value

    def every(a: Scope) -> bool:
        return _quantified(turns(a), last, False)

    def some(a: Scope) -> bool:
        return _quantified(turns(a), last, True)

    def one(a: Scope) -> bool:
        return sum(1 for local, _, _ in turns(a) if _true(last(local))) == 1

    def chosen(a: Scope) -> list[Any]:
        return [key for local, key, _ in turns(a) if _true(last(local))]

    def mapped(a: Scope) -> list[Any]:
        return [last(local) for local, _, _ in turns(a) if condition is None or _true(condition(local))]

    def keyed(a: Scope) -> dict[Any, Any]:
        return {key: last(local) for local, key, _ in turns(a) if condition is None or _true(condition(local))}

    def entries(a: Scope) -> dict[Any, Any]:
        out: dict[Any, Any] = {}
        for local, _, _ in turns(a):
            if condition is None or _true(condition(local)):
                made = last(local)
                if not isinstance(made, dict):
                    raise no_overload()
                for key, value in made.items():
                    if key in out:
                        raise CelError(f"insert failed: key {key} already exists")
                    out[key] = value
        return out

    kinds: dict[str, Run] = {
        "all": every, "exists": some, "exists_one": one, "filter": chosen, "map": mapped, "transformList": mapped,
        "transformMap": keyed, "transformMapEntry": entries,
    }  # fmt: skip
    return kinds[node.kind]


def _quantified(turns: Iterable[tuple[Scope, Any, Any]], predicate: Run, decisive: bool) -> bool:
    """As && and || over all items: an item that decides makes up for errors of others."""
    failure: CelError | None = None
    for local, _, _ in turns:
        try:
            value = predicate(local)
        except CelError as e:
            failure = failure or e
            continue
        if value is decisive:
            return decisive
        if type(value) is not bool:
            failure = failure or no_overload()
    if failure is not None:
        raise failure
    return not decisive


def _optional(name: str, target: Run, body: Run, flat: bool) -> Run:
    def run(a: Scope) -> Opt:
        value = target(a)
        if type(value) is not Opt:
            raise no_overload()
        if not value.present:
            return NONE
        made = body({**a, name: value.value})
        if not flat:
            return Opt(made)
        if type(made) is not Opt:
            raise no_overload()
        return made

    return run
