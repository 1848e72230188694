"""Static checks of a tree: names, fields, overloads. Fills in each node's type, and what the compiler can bind early.

Goes on after an error, as cel-go does, so that one compilation tells all.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stablehand.machinery.cel import library
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
from stablehand.machinery.cel.errors import CelError, CompileError, Issue
from stablehand.machinery.cel.functions import TABLE
from stablehand.machinery.cel.types import (
    BOOL,
    BYTES,
    DOUBLE,
    DYN,
    ERROR,
    INT,
    NULL,
    OPEN,
    STRING,
    TYPE,
    UINT,
    Bindings,
    ObjectType,
    Type,
    assignable,
    is_dyn,
    join,
    list_of,
    map_of,
    optional_of,
    substitute,
)
from stablehand.machinery.cel.values import TypeValue, UInt

assert library  # its import fills the table of functions
_TYPE_NAMES = {
    "bool": "bool", "int": "int", "uint": "uint", "double": "double", "string": "string", "bytes": "bytes",
    "list": "list", "map": "map", "null_type": "null_type", "type": "type", "optional_type": "optional_type",
    "google.protobuf.Timestamp": "google.protobuf.Timestamp", "google.protobuf.Duration": "google.protobuf.Duration",
    "kubernetes.Quantity": "kubernetes.Quantity", "kubernetes.URL": "kubernetes.URL", "net.IP": "net.IP",
    "net.CIDR": "net.CIDR", "kubernetes.Semver": "kubernetes.Semver",
}  # fmt: skip
_LITERALS: dict[type, Type] = {
    bool: BOOL, int: INT, UInt: UINT, float: DOUBLE, str: STRING, bytes: BYTES, type(None): NULL,
}  # fmt: skip
_BY_IDENTITY = frozenset({BOOL, INT, STRING, BYTES})
JSON_PATCH = "JSONPatch"


@dataclass(frozen=True)
class Environment:
    """What expressions may name: variables (a dotted name is one variable) and, with `objects`, the constructors
    Object{…}, Object.a.b{…} and JSONPatch{…} of mutations."""

    variables: Mapping[str, Type] = field(default_factory=dict)
    objects: bool = False


def check(root: Node, source: str, env: Environment) -> Type:
    """The type of the expression. Raises CompileError."""
    checker = _Checker(env)
    result = checker.visit(root)
    if checker.issues:
        raise CompileError(source, checker.issues)
    return result


def dotted(node: Node) -> str:
    """The name that plain selections of an identifier spell; "" for anything else."""
    if isinstance(node, Ident):
        return node.name
    if isinstance(node, Select) and not node.optional and not node.test:
        prefix = dotted(node.operand)
        return f"{prefix}.{node.field}" if prefix else ""
    return ""


class _Checker:
    def __init__(self, env: Environment) -> None:
        self.env = env
        self.scopes: list[dict[str, Type]] = []
        self.issues: list[Issue] = []
        self.mixed = False  # the arguments of format() may be of several types

    def error(self, pos: int, text: str) -> Type:
        self.issues.append(Issue(pos, text))
        return ERROR

    def visit(self, node: Node) -> Type:
        node.type = getattr(self, "_" + type(node).__name__.lower())(node)
        return node.type

    def lookup(self, name: str) -> Type | None:
        for scope in reversed(self.scopes):
            if name in scope:
                return scope[name]
        return self.env.variables.get(name)

    # --- names and parts

    def _literal(self, node: Literal) -> Type:
        return _LITERALS[type(node.value)]

    def _ident(self, node: Ident) -> Type:
        found = self.lookup(node.name)
        if found is not None:
            return found
        if node.name in _TYPE_NAMES:
            node.constant = TypeValue(_TYPE_NAMES[node.name])
            return TYPE
        return self.error(node.pos, f"undeclared reference to '{node.name}' (in container '')")

    def _select(self, node: Select) -> Type:
        name = "" if node.test else dotted(node)
        if name and not any(name.partition(".")[0] in scope for scope in self.scopes):
            if name in self.env.variables or name in _TYPE_NAMES:
                node.resolved = Ident(node.pos, name)
                return self.visit(node.resolved)
        operand = self.visit(node.operand)
        inner = operand.params[0] if operand.name == "optional_type" else operand
        found = self.field_type(node, inner)
        if node.test:
            return BOOL
        if node.optional or inner is not operand:
            return found if found.name == "optional_type" else optional_of(found)
        return found

    def field_type(self, node: Select, operand: Type) -> Type:
        if is_dyn(operand):
            return DYN
        if isinstance(operand, ObjectType):
            if operand.fields is None:
                return DYN
            known = operand.fields.get(node.field)
            if known is None:
                return self.error(node.pos, f"undefined field '{node.field}'")
            node.key = known.key
            return known.type
        if operand.name == "map":
            return operand.params[1]
        return self.error(node.pos, f"type '{operand}' does not support field selection")

    def _index(self, node: Index) -> Type:
        operand, index = self.visit(node.operand), self.visit(node.index)
        inner = operand.params[0] if operand.name == "optional_type" else operand
        if is_dyn(inner):
            found = DYN
        elif inner.name == "list" and assignable(INT, index, {}):
            found = inner.params[0]
        elif inner.name == "map" and assignable(inner.params[0], index, {}):
            found = inner.params[1]
        else:
            name = "_[?_]" if node.optional else "_[_]"
            return self.no_overload(node.pos, name, [operand, index], False)
        return optional_of(found) if node.optional or inner is not operand else found

    # --- calls

    def no_overload(self, pos: int, name: str, args: list[Type], member: bool) -> Type:
        if any(a is ERROR for a in args):
            return ERROR
        shown = [str(a) for a in args]
        text = f"{shown[0]}.({', '.join(shown[1:])})" if member else f"({', '.join(shown)})"
        return self.error(pos, f"found no matching overload for '{name}' applied to '{text}'")

    def _call(self, node: Call) -> Type:
        if node.target is not None:
            prefix = dotted(node.target)
            if prefix and self.lookup(prefix.partition(".")[0]) is None and (f"{prefix}.{node.name}", False) in TABLE:
                node.name, node.target = f"{prefix}.{node.name}", None
        member = node.target is not None
        self.mixed = member and node.name == "format"
        args = [self.visit(arg) for arg in node.operands()]
        overloads = TABLE.get((node.name, member))
        if overloads is None:
            return self.error(node.pos, f"undeclared reference to '{node.name}' (in container '')")
        fitting: list[tuple[Any, Type]] = []
        for candidate in overloads:
            bound: Bindings = {}
            if len(candidate.params) == len(args) and all(
                assignable(p, a, bound) for p, a in zip(candidate.params, args, strict=True)
            ):
                fitting.append((candidate.impl, substitute(candidate.result, bound)))
        if not fitting:
            return self.no_overload(node.pos, node.name, args, member)
        self.check_literal(node)
        if not any(is_dyn(a) for a in args):
            node.impl, result = fitting[0]
            if node.name in ("_==_", "_!=_") and all(a in _BY_IDENTITY for a in args):
                node.impl = operator.eq if node.name == "_==_" else operator.ne
            return result
        first = fitting[0][1]
        return first if all(result == first for _, result in fitting) else DYN

    def check_literal(self, node: Call) -> None:
        """Durations, times and patterns that are written out must be good ones."""
        if node.name in ("matches", "duration", "timestamp") and isinstance(node.args[-1], Literal):
            value = node.args[-1].value
            if not isinstance(value, str):
                return
            try:
                if node.name == "matches":
                    library.strings.regex(value)
                else:
                    TABLE[(node.name, False)][0].impl(value)
            except CelError:
                self.error(node.args[-1].pos, f"invalid {node.name} argument")

    def _logic(self, node: Logic) -> Type:
        types = [self.visit(term) for _, term in node.terms]
        name = "_&&_" if node.conjunction else "_||_"
        for at, found in enumerate(types):
            if found != BOOL and not is_dyn(found):
                pair = [found, types[1]] if at == 0 else [types[0] if at == 1 else BOOL, found]
                self.no_overload(node.terms[max(at, 1)][0], name, pair, False)
                break
        return BOOL

    def _ternary(self, node: Ternary) -> Type:
        condition, yes, no = self.visit(node.condition), self.visit(node.yes), self.visit(node.no)
        if condition != BOOL and not is_dyn(condition):
            return self.no_overload(node.pos, "_?_:_", [condition, yes, no], False)
        if not assignable(yes, no, {}) and not assignable(no, yes, {}):
            return self.no_overload(node.pos, "_?_:_", [condition, yes, no], False)
        return join([yes, no])

    # --- literals of several values

    def uniform(self, parts: list[tuple[Node, Type]]) -> Type:
        """The one type of a list's items, a map's keys or values."""
        result: Type | None = None
        for node, found in parts:
            if result is None or result is OPEN:
                result = found
            elif is_dyn(result) or is_dyn(found):
                result = result if found is OPEN else DYN
            elif not assignable(result, found, {}) and not assignable(found, result, {}):
                self.error(node.pos, f"expected type '{result}' but found '{found}'")
            else:
                result = join([result, found])
        return OPEN if result is None else result

    def unwrapped(self, node: Node, optional: bool) -> Type:
        found = self.visit(node)
        if not optional:
            return found
        if is_dyn(found):
            return DYN
        if found.name == "optional_type":
            return found.params[0]
        return self.error(node.pos, f"expected type 'optional_type({found})' but found '{found}'")

    def _listliteral(self, node: ListLiteral) -> Type:
        if self.mixed:
            self.mixed = False
            return list_of(join([self.unwrapped(item, optional) for item, optional in node.items]))
        return list_of(self.uniform([(item, self.unwrapped(item, optional)) for item, optional in node.items]))

    def _mapliteral(self, node: MapLiteral) -> Type:
        keys = self.uniform([(key, self.visit(key)) for key, _, _ in node.entries])
        values = self.uniform([(value, self.unwrapped(value, opt)) for _, value, opt in node.entries])
        return map_of(keys, values)

    def _struct(self, node: Struct) -> Type:
        is_patch = node.name == JSON_PATCH
        if not self.env.objects or not (is_patch or node.name == "Object" or node.name.startswith("Object.")):
            return self.error(node.pos, f"undeclared reference to '{node.name}' (in container '')")
        for pos, name, value, optional in node.fields:
            found = self.unwrapped(value, optional)
            if is_patch and name not in ("op", "from", "path", "value"):
                self.error(pos, f"undefined field '{name}'")
            elif is_patch and name != "value" and not assignable(STRING, found, {}):
                self.error(pos, f"expected type of field '{name}' is 'string' but provided type is '{found}'")
        return ObjectType(node.name)

    # --- macros

    def _macro(self, node: Macro) -> Type:
        target = self.visit(node.target)
        if node.kind in ("optMap", "optFlatMap"):
            return self.optional_macro(node, target)
        if is_dyn(target):
            key = value = DYN
        elif target.name == "list":
            key, value = (INT if len(node.names) == 2 else target.params[0]), target.params[0]
        elif target.name == "map":
            key, value = target.params
        else:
            what = "must be list, map, or dynamic"
            return self.error(
                node.target.pos, f"expression of type '{target}' cannot be range of a comprehension ({what})"
            )
        self.scopes.append(dict(zip(node.names, (key, value), strict=False)))
        found = [self.visit(arg) for arg in node.args]
        self.scopes.pop()
        if node.kind in ("all", "exists", "exists_one", "filter"):
            self.predicate(node.args[0], found[0])
            if node.kind != "filter":
                return BOOL
            return target if target.name == "list" else list_of(key)
        if len(found) == 2:
            self.predicate(node.args[0], found[0])
        if node.kind in ("map", "transformList"):
            return list_of(found[-1])
        if node.kind == "transformMap":
            return map_of(key, found[-1])
        return found[-1] if found[-1].name == "map" else map_of(DYN, DYN)

    def predicate(self, node: Node, found: Type) -> None:
        if found != BOOL and not is_dyn(found):
            self.error(node.pos, f"expected type 'bool' but found '{found}'")

    def optional_macro(self, node: Macro, target: Type) -> Type:
        if not is_dyn(target) and target.name != "optional_type":
            return self.no_overload(node.pos, node.kind, [target], True)
        self.scopes.append({node.names[0]: DYN if is_dyn(target) else target.params[0]})
        found = self.visit(node.args[0])
        self.scopes.pop()
        if node.kind == "optMap":
            return optional_of(found)
        if not is_dyn(found) and found.name != "optional_type":
            return self.error(node.args[0].pos, f"expected type 'optional_type' but found '{found}'")
        return found
