"""A checked tree to a Python closure: (activation) -> value. An activation is a dict of variables.

The activation's "" is a counter: what comprehensions may still go through before the evaluation is cut off.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, TypeAlias

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
from stablehand.machinery.cel.errors import CelError, no_overload
from stablehand.machinery.cel.functions import dispatcher
from stablehand.machinery.cel.macros import compile_macro
from stablehand.machinery.cel.values import NONE, Built, Opt, UInt, map_find

Activation: TypeAlias = dict[str, Any]
Code: TypeAlias = Callable[[Activation], Any]


def compile_node(node: Node) -> Code:
    """The closure of a node that the checker has seen."""
    return _KINDS[type(node)](node)


def _literal(node: Literal) -> Code:
    value = node.value
    return lambda a: value


def _ident(node: Ident) -> Code:
    if node.constant is not None:
        constant = node.constant
        return lambda a: constant
    return operator.itemgetter(node.name)


# --- selection


def select_field(value: Any, key: str) -> Any:
    """value.key where the value is no plain dict that has it."""
    if isinstance(value, dict):
        raise CelError(f"no such key: {key}")
    if type(value) is Opt:
        return optional_field(value, key)
    raise no_overload()


def optional_field(value: Any, key: Any) -> Opt:
    """value.?key and value[?key]: nothing where there is nothing."""
    if type(value) is Opt:
        if not value.present:
            return NONE
        value = value.value
    if isinstance(value, dict):
        if type(key) is str:
            return Opt(value[key]) if key in value else NONE
        return map_find(value, key)
    if isinstance(value, list):
        at = _list_index(key)
        return Opt(value[at]) if 0 <= at < len(value) else NONE
    raise no_overload()


def _select(node: Select) -> Code:
    if node.resolved is not None:
        return compile_node(node.resolved)
    operand, key = compile_node(node.operand), node.key
    if node.test:

        def test(a: Activation) -> bool:
            value = operand(a)
            if isinstance(value, dict):
                return key in value
            if type(value) is Opt:
                return optional_field(value, key).present
            raise no_overload()

        return test
    if node.optional:
        return lambda a: optional_field(operand(a), key)

    def select(a: Activation) -> Any:
        value = operand(a)
        try:
            return value[key]
        except (KeyError, TypeError):
            return select_field(value, key)

    return select


def _list_index(index: Any) -> int:
    if type(index) is int or type(index) is UInt:
        return int(index)
    if type(index) is float and index.is_integer():
        return int(index)
    raise no_overload()


def index_value(value: Any, index: Any) -> Any:
    """value[index]. Raises CelError."""
    if isinstance(value, dict):
        if type(index) is str:
            try:
                return value[index]
            except KeyError:
                raise CelError(f"no such key: {index}") from None
        found = map_find(value, index)
        if not found.present:
            raise CelError(f"no such key: {index}")
        return found.value
    if isinstance(value, list):
        at = _list_index(index)
        if not 0 <= at < len(value):
            raise CelError(f"index out of bounds: {at}")
        return value[at]
    if type(value) is Opt:
        return optional_field(value, index)
    raise no_overload()


def _index(node: Index) -> Code:
    operand, index = compile_node(node.operand), compile_node(node.index)
    if node.optional:
        return lambda a: optional_field(operand(a), index(a))
    return lambda a: index_value(operand(a), index(a))


# --- calls and logic


def _call(node: Call) -> Code:
    impl = node.impl or dispatcher(node.name, node.target is not None)
    args = [compile_node(arg) for arg in node.operands()]
    if len(args) == 1:
        (one,) = args
        return lambda a: impl(one(a))
    if len(args) == 2:
        left, right = args
        return lambda a: impl(left(a), right(a))
    return lambda a: impl(*[arg(a) for arg in args])


def _logic(node: Logic) -> Code:
    """Either side decides alone: an error or a value that is no boolean counts only when no term decides."""
    decisive = not node.conjunction
    terms = tuple(compile_node(term) for _, term in node.terms)

    def run(a: Activation) -> bool:
        failure: CelError | None = None
        for term in terms:
            try:
                value = term(a)
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

    return run


def _ternary(node: Ternary) -> Code:
    condition, yes, no = compile_node(node.condition), compile_node(node.yes), compile_node(node.no)

    def run(a: Activation) -> Any:
        value = condition(a)
        if value is True:
            return yes(a)
        if value is False:
            return no(a)
        raise no_overload()

    return run


# --- literals


def _unwrap(value: Any) -> Opt:
    if type(value) is not Opt:
        raise no_overload()
    return value


def _list(node: ListLiteral) -> Code:
    parts = [(compile_node(item), optional) for item, optional in node.items]
    if not any(optional for _, optional in parts):
        codes = [code for code, _ in parts]
        if all(isinstance(item, Literal) for item, _ in node.items):
            constant = [code({}) for code in codes]
            return lambda a: constant
        return lambda a: [code(a) for code in codes]

    def run(a: Activation) -> list[Any]:
        out = []
        for code, optional in parts:
            value = code(a)
            if not optional:
                out.append(value)
            elif _unwrap(value).present:
                out.append(value.value)
        return out

    return run


def _map(node: MapLiteral) -> Code:
    entries = [(compile_node(key), compile_node(value), optional) for key, value, optional in node.entries]

    def run(a: Activation) -> dict[Any, Any]:
        out: dict[Any, Any] = {}
        for key_code, value_code, optional in entries:
            key, value = key_code(a), value_code(a)
            if type(key) not in (str, int, bool, UInt, float):
                raise CelError(f"unsupported key type: {key!r}")
            if optional:
                if not _unwrap(value).present:
                    continue
                value = value.value
            if key in out:
                raise CelError(f"Failed with repeated key: {key}")
            out[key] = value
        return out

    return run


def _struct(node: Struct) -> Code:
    name = node.name
    fields = [(field, compile_node(value), optional) for _, field, value, optional in node.fields]

    def run(a: Activation) -> Built:
        out: dict[str, Any] = {}
        for field, code, optional in fields:
            value = code(a)
            if not optional:
                out[field] = value
            elif _unwrap(value).present:
                out[field] = value.value
        return Built(name, out)

    return run


def _macro(node: Macro) -> Code:
    return compile_macro(node, compile_node(node.target), [compile_node(arg) for arg in node.args])


_KINDS: dict[type[Node], Callable[[Any], Code]] = {
    Literal: _literal, Ident: _ident, Select: _select, Index: _index, Call: _call, Logic: _logic, Ternary: _ternary,
    ListLiteral: _list, MapLiteral: _map, Struct: _struct, Macro: _macro,
}  # fmt: skip
