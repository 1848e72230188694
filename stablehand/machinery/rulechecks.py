"""Whether the x-kubernetes-validations of a CRD's schema are acceptable: they compile, and do not cost too much.

Words its complaints as apiextensions does (validation.go, cel_validation.go). Evaluating rules is customrules.py's;
the rest of the schema is checked before by structuralrules.py, openapirules.py and structuraldefaults.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from stablehand.machinery.cel.declsizes import declared
from stablehand.machinery.cel.program import Program
from stablehand.machinery.cel.ranges import MAX
from stablehand.machinery.cel.schemas import declare
from stablehand.machinery.customrules import RuleError, compile_message, compile_rule
from stablehand.machinery.fielderrors import (
    FieldError,
    Verbatim,
    forbidden,
    internal,
    invalid,
    not_supported,
    quote,
    required,
)
from stablehand.machinery.structuralpaths import resolve_path
from stablehand.machinery.types import Obj

_REASONS = ("FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired")
_RULE_LIMIT, _SCHEMA_LIMIT = 10_000_000, 100_000_000
_NO_TYPE = (
    "internal error: failed to construct type information for x-kubernetes-validations rules: unable to convert "
    "structural schema to CEL declarations"
)
_ADVICE = (
    "(try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are "
    "declared)"
)


@dataclass(slots=True)
class _Costs:
    """What all rules of a schema cost together. `lenient`: single rules may exceed their limit (an unchanged schema)."""

    lenient: bool
    total: int = 0
    dearest: list[tuple[int, str]] = field(default_factory=list)  # the four that cost most, with their paths

    def observe(self, path: str, cost: int) -> None:
        self.total = min(self.total + cost, MAX)
        if cost >= _SCHEMA_LIMIT // 100:
            self.dearest = sorted([*self.dearest, (cost, path)], key=lambda pair: -pair[0])[:4]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a schema node is. `uncorrelated`: the path of the list or map above whose parts cannot be told apart from
    one update to the next; `count`: how many such values an object may have at most, None: no limit is given."""

    path: str
    resource: bool
    uncorrelated: str
    count: int | None

    def below(self, path: str, schema: Obj, *, correlated: bool) -> _Place:
        count = None if self.count is None else _times(self.count, _most_elements(schema))
        return _Place(path, False, self.uncorrelated or ("" if correlated else self.path), count)


def _times(count: int, factor: int | None) -> int | None:
    return None if factor is None else min(count * factor, MAX)


def _most_elements(schema: Obj) -> int | None:
    """By how much a schema multiplies what is below it."""
    kind = schema.get("type")
    if kind == "array":
        limit = schema.get("maxItems")
    elif kind == "object" and schema.get("additionalProperties") is not None:
        limit = schema.get("maxProperties")
    else:
        return 1
    return None if limit is None else max(limit, 0)


def check_rules(schema: Obj, path: str, *, lenient: bool = False) -> list[FieldError]:
    """What is wrong with the rules of a version's schema; `path` is that of the schema. `lenient`: the schema is stored
    as it is, so that a rule's own cost is no reason to refuse it."""
    costs = _Costs(lenient)
    errors = list(_node(schema, _Place(path, True, "", 1), costs))
    if costs.total > _SCHEMA_LIMIT:
        text = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"
        errors.extend(forbidden(where, text) for _, where in costs.dearest)
        what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema"
        errors.append(forbidden(path, _too_dear(what, costs.total, _SCHEMA_LIMIT)))
    return errors


def _too_dear(what: str, cost: int, limit: int) -> str:
    times = cost / limit
    factor = "more than 100x" if times > 100 else f"{times:f}x" if times < 1.5 else f"{times:.1f}x"
    return f"{what} exceeds budget by factor of {factor} {_ADVICE}"


def _node(schema: Obj, place: _Place, costs: _Costs) -> Iterator[FieldError]:
    if schema.get("x-kubernetes-validations"):
        yield from _rules(schema, place, costs)
    path = place.path
    granular = schema.get("x-kubernetes-map-type") != "atomic"
    for name, child in (schema.get("properties") or {}).items():
        yield from _node(child, place.below(f"{path}.properties[{name}]", schema, correlated=granular), costs)
    if isinstance(rest := schema.get("additionalProperties"), dict):
        yield from _node(rest, place.below(f"{path}.additionalProperties", schema, correlated=True), costs)
    if isinstance(items := schema.get("items"), dict):
        by_key = schema.get("x-kubernetes-list-type") == "map"
        yield from _node(items, place.below(f"{path}.items", schema, correlated=by_key), costs)


def _rules(schema: Obj, place: _Place, costs: _Costs) -> Iterator[FieldError]:
    path = f"{place.path}.x-kubernetes-validations"
    wrong = False
    for index, rule in enumerate(schema["x-kubernetes-validations"]):
        for error in _form(schema, rule, f"{path}[{index}]"):
            wrong = True
            yield error
    if wrong:
        return
    if declare(schema, place.resource) is None:
        yield internal(path, _NO_TYPE)
        return
    for index, rule in enumerate(schema["x-kubernetes-validations"]):
        yield from _compiled(schema, rule, f"{path}[{index}]", place, costs)


def _shown(rule: Obj) -> Verbatim:
    """A rule as Go's %#v prints the struct."""

    def pointer(kind: str, given: bool) -> str:
        return f"(*{kind})({'0xc000000000' if given else 'nil'})"

    texts = ", ".join(
        f"{name}:{quote(rule.get(key) or '')}"
        for name, key in (("Rule", "rule"), ("Message", "message"), ("MessageExpression", "messageExpression"))
    )
    reason = pointer("apiextensions.FieldValueErrorReason", "reason" in rule)
    old = pointer("bool", "optionalOldSelf" in rule)
    tail = f"Reason:{reason}, FieldPath:{quote(rule.get('fieldPath') or '')}, OptionalOldSelf:{old}"
    return Verbatim(f"apiextensions.ValidationRule{{{texts}, {tail}}}")


def _form(schema: Obj, rule: Obj, path: str) -> Iterator[FieldError]:
    """What is wrong with a rule without looking at its CEL."""
    text, message = rule.get("rule") or "", rule.get("message") or ""
    if not text.strip():
        yield required(f"{path}.rule", "rule is not specified")
    elif message and not message.strip():
        yield invalid(f"{path}.message", message, "message must be non-empty if specified")
    elif _broken(message.strip()):
        yield invalid(f"{path}.message", message, "message must not contain line breaks")
    elif _broken(text.strip()) and not message.strip():
        yield required(f"{path}.message", "message must be specified if rule contains line breaks")
    expression = rule.get("messageExpression") or ""
    if expression and not expression.strip():
        yield required(f"{path}.messageExpression", "messageExpression must be non-empty if specified")
    if rule.get("reason") is not None and rule["reason"] not in _REASONS:
        yield not_supported(f"{path}.reason", rule["reason"], _REASONS)
    yield from _field_path(schema, rule.get("fieldPath") or "", f"{path}.fieldPath")


def _broken(text: str) -> bool:
    return "\n" in text or "\r" in text


def _compiled(schema: Obj, rule: Obj, path: str, place: _Place, costs: _Costs) -> Iterator[FieldError]:
    scope = declare(schema, place.resource)
    assert scope is not None
    uses_old = False
    try:
        program = compile_rule(rule, scope)
    except RuleError as e:
        costs.observe(f"{path}.rule", 0)
        yield invalid(f"{path}.rule", _shown(rule), str(e))
    else:
        uses_old = program.mentions("oldSelf")
        cost = _cost(program, schema, place, every=True)
        costs.observe(f"{path}.rule", cost)
        if cost > _RULE_LIMIT and not costs.lenient:
            yield forbidden(f"{path}.rule", _too_dear("estimated rule cost", cost, _RULE_LIMIT))
    if (rule.get("messageExpression") or "").strip():
        try:
            message = compile_message(rule, scope)
        except RuleError as e:
            yield invalid(f"{path}.messageExpression", _shown(rule), str(e))
        else:
            cost = _cost(message, schema, place, every=False)
            costs.observe(f"{path}.messageExpression", cost)
            if cost > _RULE_LIMIT and not costs.lenient:
                text = _too_dear("estimated messageExpression cost", cost, _RULE_LIMIT)
                yield forbidden(f"{path}.messageExpression", text)
    if uses_old and place.uncorrelated:
        why = f"oldSelf cannot be used on the uncorrelatable portion of the schema within {place.uncorrelated}"
        yield invalid(f"{path}.rule", rule["rule"], why)
    elif not uses_old and rule.get("optionalOldSelf") is not None:
        why = "may not be set if oldSelf is not used in rule"
        yield invalid(f"{path}.optionalOldSelf", rule["optionalOldSelf"], why)


def _cost(program: Program, schema: Obj, place: _Place, *, every: bool) -> int:
    """The most that an expression costs; `every`: over all values of the schema that one object may have."""
    sizes = declared(schema, place.resource)
    if sizes is None:
        return 0
    cost = program.cost(sizes.size_at).most
    if not every:
        return cost
    return min(cost * (place.count if place.count is not None else sizes.cardinality()), MAX)


def _field_path(schema: Obj, text: str, path: str) -> Iterator[FieldError]:
    if text and not text.strip():
        yield invalid(path, text, "fieldPath must be non-empty if specified")
    elif _broken(text):
        yield invalid(path, text, "fieldPath must not contain line breaks")
    if text:
        try:
            resolve_path(schema, text)
        except ValueError:
            yield invalid(path, text, "fieldPath must be a valid path")
