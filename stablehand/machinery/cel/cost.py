"""How much an expression may cost at most, estimated before it is ever evaluated, as cel-go's checker/cost.go does.

Works on checked trees: macros are costed as the comprehensions that cel-go expands them to. What the functions of
Kubernetes' libraries cost is callcosts.py's; how long strings and lists may get is the caller's to say (`SizeOf`;
declsizes.py has it for CRDs' schemas).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from stablehand.machinery.cel.ast import (
    Call,
    Ident,
    Index,
    ListLiteral,
    Literal,
    Logic,
    Macro,
    MapLiteral,
    Node,
    Select,
    Struct,
    Ternary,
)
from stablehand.machinery.cel.callcosts import CallCost, Operand, call_cost
from stablehand.machinery.cel.ranges import FREE, ONE, UNKNOWN, Range, exactly
from stablehand.machinery.cel.types import ObjectType, Type, is_dyn

# What bounds the size of the value at a path: ("self", "spec", "@items"). None: nothing is known.
SizeOf = Callable[[tuple[str, ...]], Range | None]
_LIST, _MAP, _MESSAGE = exactly(10), exactly(30), exactly(40)  # what making an empty one costs
_SCALARS = frozenset({"bool", "double", "duration", "int", "timestamp", "uint"})
_APPENDED = Range(12, 12)  # accu + [x], without x


def estimate_cost(root: Node, sizes: SizeOf) -> Range:
    """The least and the most that evaluating a checked tree may cost, in cel-go's units."""
    return _Coster(sizes).cost(root)


@dataclass(slots=True)
class _Local:
    """A variable of a comprehension."""

    path: tuple[str, ...]
    size: Range | None = None
    entry: _Entry | None = None


@dataclass(frozen=True, slots=True)
class _Entry:
    """The sizes of the keys (or indices) and the values of a list or map made in the expression."""

    is_list: bool
    key: Range
    value: Range

    def union(self, other: _Entry | None) -> _Entry | None:
        if other is None:
            return None
        return _Entry(self.is_list, self.key.union(other.key), self.value.union(other.value))


class _Coster:
    def __init__(self, sizes: SizeOf) -> None:
        self.estimate = sizes
        self.paths: dict[int, tuple[str, ...]] = {}
        self.sizes: dict[int, Range] = {}
        self.entries: dict[int, _Entry] = {}
        self.locals: dict[str, list[_Local]] = {}

    def cost(self, node: Node) -> Range:
        cost: Range = getattr(self, "_" + type(node).__name__.lower())(node)
        return cost

    # --- what is known of a value

    def local(self, node: Node) -> _Local | None:
        stack = self.locals.get(node.name) if isinstance(node, Ident) else None
        return stack[-1] if stack else None

    def path(self, node: Node) -> tuple[str, ...]:
        known = self.local(node)
        return known.path if known is not None else self.paths.get(id(node), ())

    def size(self, node: Node) -> Range | None:
        found = self.sizes.get(id(node)) or _literal_size(node)
        if found is None and (path := self.path(node)) and (found := self.estimate(path)) is not None:
            self.sizes[id(node)] = found
        if found is None and _scalar(node.type):
            return ONE
        if found is None and (known := self.local(node)) is not None:
            return known.size
        return found

    def some_size(self, node: Node) -> Range:
        return self.size(node) or UNKNOWN

    def entry(self, node: Node) -> _Entry | None:
        found = self.entries.get(id(node))
        if found is None and (known := self.local(node)) is not None:
            return known.entry
        return found

    def operand(self, node: Node) -> Operand:
        literal = node.value if isinstance(node, Literal) else None
        return Operand(node.type, self.path(node), self.size(node), literal, self.estimate)

    # --- names and parts

    def _literal(self, node: Literal) -> Range:
        return FREE

    def _ident(self, node: Ident) -> Range:
        known = self.local(node)
        self.paths[id(node)] = known.path if known is not None else (node.name,)
        return ONE

    def _select(self, node: Select) -> Range:
        if node.resolved is not None:
            return self.cost(node.resolved)
        cost = self.cost(node.operand)
        if node.test:  # has() is free (PresenceTestHasCost(false))
            return cost
        inner = node.operand.type
        if node.optional or inner.name == "optional_type":
            return cost + ONE
        self.paths[id(node)] = (*self.path(node.operand), node.field)
        return cost + ONE if isinstance(inner, ObjectType) or inner.name == "map" else cost

    def _index(self, node: Index) -> Range:
        cost = self.cost(node.operand) + self.cost(node.index) + ONE
        inner = node.operand.type
        if not node.optional and inner.name in ("list", "map"):
            self.paths[id(node)] = (*self.path(node.operand), "@items" if inner.name == "list" else "@values")
            entry = self.entry(node.operand)
            found = entry.value if entry is not None else self.size(node)
            if found is not None:
                self.sizes[id(node)] = found
        return cost

    # --- calls and logic

    def _call(self, node: Call) -> Range:
        if node.name == "dyn":
            (arg,) = node.args
            cost = ONE + self.cost(arg)
            self.copy_sizes(node, arg)
            return cost
        args = [self.cost(arg) for arg in node.args]
        operands = [self.operand(arg) for arg in node.args]
        total, target = FREE, None
        if node.target is not None:
            total, target = self.cost(node.target), self.operand(node.target)
        for cost in args:
            total = total + cost
        found: CallCost = call_cost(node.name, target, operands)
        if node.name == "_+_" and len(node.args) == 2:
            left, right = (self.entry(arg) for arg in node.args)
            if left is not None and (joined := left.union(right)) is not None:
                self.entries[id(node)] = joined
        if found.size is not None:
            self.sizes[id(node)] = found.size
        return total + found.cost

    def copy_sizes(self, node: Node, source: Node) -> None:
        if (size := self.size(source)) is not None:
            self.sizes[id(node)] = size
        if (entry := self.entry(source)) is not None:
            self.entries[id(node)] = entry

    def _logic(self, node: Logic) -> Range:
        """The first term is always evaluated, the others perhaps."""
        costs = [self.cost(term) for _, term in node.terms]
        return Range(costs[0].least, sum((cost for cost in costs), FREE).most)

    def _ternary(self, node: Ternary) -> Range:
        cost = self.cost(node.condition)
        yes, no = self.cost(node.yes), self.cost(node.no)
        self.sizes[id(node)] = self.some_size(node.yes).union(self.some_size(node.no))
        left, right = self.entry(node.yes), self.entry(node.no)
        if left is not None and (either := left.union(right)) is not None:
            self.entries[id(node)] = either
        return cost + yes.union(no)

    # --- literals of several values

    def _listliteral(self, node: ListLiteral) -> Range:
        cost, size = _LIST, None
        for item, _ in node.items:
            cost = cost + self.cost(item)
            found = self.some_size(item)
            size = found if size is None else size.union(found)
        self.entries[id(node)] = _Entry(True, ONE, size or FREE)
        return cost

    def _mapliteral(self, node: MapLiteral) -> Range:
        cost, keys, values = _MAP, None, None
        for key, value, _ in node.entries:
            cost = cost + self.cost(key) + self.cost(value)
            key_size, value_size = self.some_size(key), self.some_size(value)
            keys = key_size if keys is None else keys.union(key_size)
            values = value_size if values is None else values.union(value_size)
        self.entries[id(node)] = _Entry(False, keys or FREE, values or FREE)
        return cost

    def _struct(self, node: Struct) -> Range:
        cost = _MESSAGE
        for _, _, value, _ in node.fields:
            cost = cost + self.cost(value)
        return cost

    # --- macros

    def _macro(self, node: Macro) -> Range:
        if node.kind in ("optMap", "optFlatMap"):
            return self.optional_macro(node)
        cost = self.cost(node.target)
        turns = self.some_size(node.target)
        self.push_names(node)
        args = [self.cost(arg) for arg in node.args]
        last = node.args[-1]
        made = self.some_size(last)
        for name in node.names:
            self.locals[name].pop()
        body = args[-1]
        if node.kind in ("all", "exists"):
            # accu && p, as long as accu is (not) true
            again = exactly(2 if node.kind == "all" else 3)
            step = Range(1, (body + ONE).most)
            return cost + turns * (step + again) + ONE
        if node.kind == "exists_one":
            return cost + turns * (body + Range(1, 2)) + exactly(2)
        self.sizes[id(node)] = turns
        if node.kind == "filter":
            self.entries[id(node)] = _Entry(True, ONE, self.element_size(node))
            return cost + _LIST + turns * (body + Range(1, 13)) + ONE
        if node.kind in ("transformMap", "transformMapEntry"):
            empty, step = _MAP, body + exactly(3 if node.kind == "transformMap" else 2)
        else:
            self.entries[id(node)] = _Entry(True, ONE, made)
            empty, step = _LIST, body + _APPENDED
        if len(args) == 2:  # a condition chooses between the step and the accumulator as it is
            step = args[0] + step.union(ONE)
        return cost + empty + turns * step + ONE

    def element_size(self, node: Macro) -> Range:
        entry = self.entry(node.target)
        if entry is not None:
            return entry.value if entry.is_list else entry.key
        part = "@items" if node.target.type.name == "list" else "@keys"
        path = self.path(node.target)
        return (self.estimate((*path, part)) if path else None) or UNKNOWN

    def push_names(self, node: Macro) -> None:
        entry, path = self.entry(node.target), self.path(node.target)
        is_list = entry.is_list if entry is not None else node.target.type.name == "list"
        key = _Local((*path, "@indices" if is_list else "@keys"), entry.key if entry is not None else None)
        value = _Local((*path, "@items" if is_list else "@values"), entry.value if entry is not None else None)
        pushed = (key, value) if len(node.names) == 2 else (value if is_list else key,)
        for name, local in zip(node.names, pushed, strict=False):
            self.locals.setdefault(name, []).append(local if path else _Local((), local.size))

    def optional_macro(self, node: Macro) -> Range:
        """target.hasValue() ? optional.of(body, with the variable bound to target.value()) : optional.none()"""
        target = self.cost(node.target)
        self.locals.setdefault(node.names[0], []).append(_Local(self.path(node.target)))
        body = self.cost(node.args[0])
        self.locals[node.names[0]].pop()
        bound = _LIST + target + ONE + body
        return target + ONE + (bound + ONE if node.kind == "optMap" else bound).union(ONE)


def _literal_size(node: Node) -> Range | None:
    if isinstance(node, Literal):
        value = node.value
        return exactly(len(value)) if isinstance(value, str | bytes) else ONE
    if isinstance(node, ListLiteral):
        return exactly(len(node.items))
    if isinstance(node, MapLiteral):
        return exactly(len(node.entries))
    return None


def _scalar(t: Type) -> bool:
    if is_dyn(t):
        return False
    if t.name == "optional_type":
        return _scalar(t.params[0])
    return t.name in _SCALARS
