"""The syntax tree. `pos` is where cel-go reports errors of a node: the operator, dot or parenthesis, not the start.

The checker fills in `type` (always) and `impl`, `key` (where it knows them); the compiler reads them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stablehand.machinery.cel.types import DYN, Type


class Node:
    __slots__ = ("pos", "type")

    def __init__(self, pos: int) -> None:
        self.pos = pos
        self.type: Type = DYN


class Literal(Node):
    __slots__ = ("value",)

    def __init__(self, pos: int, value: Any) -> None:
        super().__init__(pos)
        self.value = value


class Ident(Node):
    """`constant` is set when the name is a type's ("int"), or when a longer name was declared ("a.b")."""

    __slots__ = ("constant", "name")

    def __init__(self, pos: int, name: str) -> None:
        super().__init__(pos)
        self.name = name
        self.constant: Any = None


class Select(Node):
    """operand.field, operand.?field (`optional`), has(operand.field) (`test`)."""

    __slots__ = ("field", "key", "operand", "optional", "resolved", "test")

    def __init__(self, pos: int, operand: Node, field: str, optional: bool = False, test: bool = False) -> None:
        super().__init__(pos)
        self.operand, self.field, self.optional, self.test = operand, field, optional, test
        self.key = field  # the name in the data: an escaped field has another one
        self.resolved: Node | None = None  # a declared dotted variable, when this is its name


class Index(Node):
    __slots__ = ("index", "operand", "optional")

    def __init__(self, pos: int, operand: Node, index: Node, optional: bool) -> None:
        super().__init__(pos)
        self.operand, self.index, self.optional = operand, index, optional


class Call(Node):
    """name(args) or target.name(args); operators are calls of "_+_", "-_", "!_", "@in" and so on."""

    __slots__ = ("args", "impl", "name", "target")

    def __init__(self, pos: int, name: str, target: Node | None, args: list[Node]) -> None:
        super().__init__(pos)
        self.name, self.target, self.args = name, target, args
        self.impl: Callable[..., Any] | None = None

    def operands(self) -> list[Node]:
        return self.args if self.target is None else [self.target, *self.args]


class Logic(Node):
    """All of (&&) or any of (||) the terms; longer chains are one node."""

    __slots__ = ("conjunction", "terms")

    def __init__(self, pos: int, conjunction: bool, terms: list[tuple[int, Node]]) -> None:
        super().__init__(pos)
        self.conjunction, self.terms = conjunction, terms  # each with the position of the operator before it


class Ternary(Node):
    __slots__ = ("condition", "no", "yes")

    def __init__(self, pos: int, condition: Node, yes: Node, no: Node) -> None:
        super().__init__(pos)
        self.condition, self.yes, self.no = condition, yes, no


class ListLiteral(Node):
    __slots__ = ("items",)

    def __init__(self, pos: int, items: list[tuple[Node, bool]]) -> None:
        super().__init__(pos)
        self.items = items  # (value, optional)


class MapLiteral(Node):
    __slots__ = ("entries",)

    def __init__(self, pos: int, entries: list[tuple[Node, Node, bool]]) -> None:
        super().__init__(pos)
        self.entries = entries  # (key, value, optional)


class Struct(Node):
    __slots__ = ("fields", "name")

    def __init__(self, pos: int, name: str, fields: list[tuple[int, str, Node, bool]]) -> None:
        super().__init__(pos)
        self.name, self.fields = name, fields  # (position, field, value, optional)


class Macro(Node):
    """A comprehension: `kind` over `target`, with variables `names` and expressions `args`."""

    __slots__ = ("args", "kind", "names", "target")

    def __init__(self, pos: int, kind: str, target: Node, names: list[str], args: list[Node]) -> None:
        super().__init__(pos)
        self.kind, self.target, self.names, self.args = kind, target, names, args


def children(node: Node) -> list[Node]:
    """The direct parts of a node."""
    if isinstance(node, Select):
        return [node.operand]
    if isinstance(node, Index):
        return [node.operand, node.index]
    if isinstance(node, Call):
        return node.operands()
    if isinstance(node, Logic):
        return [term for _, term in node.terms]
    if isinstance(node, Ternary):
        return [node.condition, node.yes, node.no]
    if isinstance(node, ListLiteral):
        return [item for item, _ in node.items]
    if isinstance(node, MapLiteral):
        return [part for key, value, _ in node.entries for part in (key, value)]
    if isinstance(node, Struct):
        return [value for _, _, value, _ in node.fields]
    if isinstance(node, Macro):
        return [node.target, *node.args]
    return []


def mentions(node: Node, name: str) -> bool:
    """Whether an identifier occurs anywhere in a tree."""
    if isinstance(node, Ident):
        return node.name == name
    return any(mentions(child, name) for child in children(node))
