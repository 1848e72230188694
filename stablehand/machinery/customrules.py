"""x-kubernetes-validations: the CEL rules in a CRD's schema, compiled, and evaluated on custom resources.

What makes a rule acceptable in a CustomResourceDefinition is rulechecks.py's; the schema's other validation is
structural.py's. Follows apiextensions-apiserver pkg/apiserver/schema/cel/validation.go: transition rules need a value
to compare with, and what an update did not touch is tolerated (a warning, not an error).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from stablehand.machinery.cel import CelError, CompileError, Environment, Program, compile_expression
from stablehand.machinery.cel.schemas import Convert, converter, declare
from stablehand.machinery.cel.types import BOOL, STRING, Type, optional_of
from stablehand.machinery.cel.values import NONE, Opt
from stablehand.machinery.fielderrors import OMIT, FieldError, duplicate, forbidden, invalid, required
from stablehand.machinery.types import Obj

log = logging.getLogger("stablehand.machinery")
MAX_MESSAGE = 5 * 1024
_DETAIL_NO_OVERLOAD = "call arguments did not match a supported operator, function or macro signature for rule"


class RuleError(Exception):
    """A rule that cannot be used; str() is the detail of the field error."""


def compile_rule(rule: Obj, scope: Type) -> Program:
    """The program of a rule whose `self` has type `scope`. Raises RuleError."""
    try:
        program = compile_expression(rule.get("rule") or "", _environment(rule, scope))
    except CompileError as e:
        raise RuleError(f"compilation failed: {e}") from None
    if program.type != BOOL:
        raise RuleError("cel expression must evaluate to a bool")
    return program


def compile_message(rule: Obj, scope: Type) -> Program:
    """The program of a rule's messageExpression. Raises RuleError."""
    try:
        program = compile_expression(rule.get("messageExpression") or "", _environment(rule, scope))
    except CompileError as e:
        raise RuleError(f"messageExpression compilation failed: {e}") from None
    if program.type != STRING:
        raise RuleError("messageExpression must evaluate to a string")
    return program


def _environment(rule: Obj, scope: Type) -> Environment:
    return Environment({"self": scope, "oldSelf": optional_of(scope) if rule.get("optionalOldSelf") else scope})


@dataclass(slots=True)
class Rule:
    """`shown` is what error messages call the rule: its message, else its text."""

    program: Program
    message: Program | None
    transition: bool
    optional_old: bool
    shown: str
    default: str
    reason: str
    field_path: str

    @staticmethod
    def of(rule: Obj, scope: Type) -> Rule | None:
        """None for a rule that does not compile; CRD validation refused it, so it came another way."""
        try:
            program = compile_rule(rule, scope)
            message = compile_message(rule, scope) if rule.get("messageExpression") else None
        except RuleError as e:
            log.error("a stored validation rule is left out: %s", e)
            return None
        text = (rule.get("message") or "").strip()
        shown = text or (rule.get("rule") or "").strip()
        uses_old = program.mentions("oldSelf") or (message is not None and message.mentions("oldSelf"))
        return Rule(
            program,
            message,
            uses_old,
            bool(rule.get("optionalOldSelf")),
            shown,
            text or f"failed rule: {shown}",
            rule.get("reason") or "",
            (rule.get("fieldPath") or "").strip().removeprefix("."),
        )


@dataclass(slots=True)
class RuleNode:
    """The rules of one schema node and of what is below it."""

    rules: list[Rule]
    kind: str
    convert: Convert | None
    properties: dict[str, RuleNode]
    additional: RuleNode | None
    items: RuleNode | None
    all_of: list[RuleNode]
    map_keys: tuple[str, ...] | None  # of a list of type map: its items have counterparts in the old list
    atomic: bool  # a map whose entries have none
    defaults: dict[str, Any] = field(default_factory=dict)


def compile_rules(schema: Obj | None) -> RuleNode | None:
    """The rules of a CRD version's openAPIV3Schema; None when it has none."""
    return _node(schema, schema, True) if schema else None


def _node(raw: Obj, shape: Obj, resource: bool) -> RuleNode | None:
    """`shape` is the schema that says what type the value has: for allOf, the one that the allOf is part of."""
    scope = declare(shape, resource)
    given = raw.get("x-kubernetes-validations") or ()
    rules = [made for rule in given if scope is not None and (made := Rule.of(rule, scope)) is not None]
    properties: dict[str, RuleNode] = {}
    for name, child in (raw.get("properties") or {}).items():
        below = (shape.get("properties") or {}).get(name)
        if below is not None and (made_node := _node(child, below, False)) is not None:
            properties[name] = made_node
    additional = _below(raw, shape, "additionalProperties")
    items = _below(raw, shape, "items")
    all_of = [made_node for part in raw.get("allOf") or () if (made_node := _node(part, shape, resource)) is not None]
    if not (rules or properties or additional or items or all_of):
        return None
    keys = tuple(shape.get("x-kubernetes-list-map-keys") or ())
    return RuleNode(
        rules,
        shape.get("type") or "",
        converter(shape) if rules else None,
        properties,
        additional,
        items,
        all_of,
        keys if shape.get("x-kubernetes-list-type") == "map" else None,
        shape.get("x-kubernetes-map-type") == "atomic",
        {key: child["default"] for key in keys if "default" in (child := _property(shape, key))},
    )


def _property(shape: Obj, key: str) -> Obj:
    found: Obj = ((shape.get("items") or {}).get("properties") or {}).get(key) or {}
    return found


def _below(raw: Obj, shape: Obj, key: str) -> RuleNode | None:
    child, below = raw.get(key), shape.get(key)
    return _node(child, below, False) if isinstance(child, dict) and isinstance(below, dict) else None


# --- evaluation

_ABSENT = object()


@dataclass(frozen=True, slots=True)
class _Ratchet:
    """What a value is compared with to see whether an update touched it (ratchetingOptions upstream): its own old
    value, or where it has no counterpart the nearest ancestor's that has."""

    current: tuple[Any, Any] | None = None
    parent: tuple[Any, Any] | None = None

    def untouched(self) -> bool:
        pair = self.current or self.parent
        return pair is not None and bool(pair[0] == pair[1])

    def child(self, value: Any, old: Any) -> _Ratchet:
        if self.current is None:
            return self
        return _Ratchet((value, old) if old is not _ABSENT else None, self.current)


def evaluate_rules(node: RuleNode, obj: Obj, old: Obj | None) -> tuple[list[FieldError], list[FieldError]]:
    """What the rules say of a custom resource: errors, and those that an update may keep (they become warnings)."""
    run = _Run()
    run.node(node, obj, _ABSENT if old is None else old, "", _Ratchet((obj, old) if old is not None else None))
    return run.errors, run.tolerated


class _Run:
    def __init__(self) -> None:
        self.errors: list[FieldError] = []
        self.tolerated: list[FieldError] = []

    def node(self, node: RuleNode, value: Any, old: Any, path: str, ratchet: _Ratchet) -> None:
        if value is None:
            return
        if node.rules:
            self.rules(node, value, None if old is _ABSENT else old, path, ratchet)
        for part in node.all_of:
            self.node(part, value, old, path, _Ratchet(None, ratchet.parent))
        if isinstance(value, list) and node.items is not None:
            for index, (item, before) in enumerate(_paired(node, value, old)):
                self.node(node.items, item, before, f"{path}[{index}]", ratchet.child(item, before))
        elif isinstance(value, dict):
            known = old if isinstance(old, dict) and not node.atomic else {}
            for name, child in value.items():
                below = node.properties.get(name)
                where = f"{path}.{name}" if path else name
                if below is None:
                    below, where = node.additional, f"{path}[{name}]"
                if below is None:
                    continue
                before = known.get(name, _ABSENT)
                self.node(below, child, before, where, ratchet.child(child, before))

    def rules(self, node: RuleNode, value: Any, old: Any, path: str, ratchet: _Ratchet) -> None:
        convert = node.convert
        own = value if convert is None else convert(value)
        before = old if convert is None or old is None else convert(old)
        for rule in node.rules:
            if rule.transition and old is None and not rule.optional_old:
                continue
            variables = {"self": own, "oldSelf": before}
            if rule.optional_old:
                variables["oldSelf"] = NONE if before is None else Opt(before)
            try:
                if rule.program.evaluate(variables) is True:
                    continue
            except CelError as e:
                detail = f"{e} evaluating rule: {rule.shown}"
                if str(e).startswith("no such overload"):
                    detail = f"'{e}': {_DETAIL_NO_OVERLOAD}: {rule.shown}"
                elif str(e).startswith("operation cancelled"):
                    detail = f"'{e}': no further validation rules will be run due to call cost exceeds limit for rule: "
                    detail += rule.shown
                self.errors.append(invalid(path or "<nil>", node.kind, detail))
                continue
            where = ".".join(p for p in (path, rule.field_path) if p) or "<nil>"
            error = _error(rule, where, OMIT if node.kind in ("object", "array") else value, _message(rule, variables))
            keep = not rule.transition and ratchet.untouched()
            (self.tolerated if keep else self.errors).append(error)


def _paired(node: RuleNode, items: list[Any], old: Any) -> Iterator[tuple[Any, Any]]:
    """Each item with its old one: by key in lists of type map, none in others."""
    known: dict[Any, Any] = {}
    if node.map_keys is not None and isinstance(old, list):
        known = {_identity(node, item): item for item in old if isinstance(item, dict)}
    for item in items:
        yield item, known.get(_identity(node, item), _ABSENT) if known and isinstance(item, dict) else _ABSENT


def _identity(node: RuleNode, item: Obj) -> tuple[Any, ...]:
    return tuple(item.get(key, node.defaults.get(key)) for key in node.map_keys or ())


def _message(rule: Rule, variables: Obj) -> str:
    if rule.message is not None:
        try:
            text = rule.message.evaluate(variables)
        except CelError as e:
            log.debug("messageExpression evaluation failed: %s", e)
            return rule.default
        if isinstance(text, str):
            text = text.strip()
            if text and "\n" not in text and len(text.encode()) <= MAX_MESSAGE:
                return text
    return rule.default


def _error(rule: Rule, path: str, value: Any, detail: str) -> FieldError:
    if rule.reason == "FieldValueForbidden":
        return forbidden(path, detail)
    if rule.reason == "FieldValueRequired":
        return required(path, detail)
    if rule.reason == "FieldValueDuplicate":
        return duplicate(path, value)
    return invalid(path, value, detail)
