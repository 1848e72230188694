"""Whether the x-kubernetes-validations of a CRD's schema are acceptable: they compile, and their parts make sense.

Words its complaints as apiextensions does. Evaluating rules is customrules.py's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from stablehand.machinery.cel.schemas import declare
from stablehand.machinery.customrules import RuleError, compile_message, compile_rule
from stablehand.machinery.fielderrors import (
    FieldError,
    Verbatim,
    internal,
    invalid,
    not_supported,
    quote,
    required,
)
from stablehand.machinery.types import Obj

_REASONS = ("FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired")
_STEP = re.compile(r"\.([^.\[\]]+)|\['((?:[^'\\]|\\.)*)'\]")


def check_rules(schema: Obj, path: str) -> list[FieldError]:
    """What is wrong with the rules of a version's schema; `path` is that of the schema."""
    return list(_node(schema, path, True, ""))


def _node(schema: Obj, path: str, resource: bool, uncorrelated: str) -> Iterator[FieldError]:
    """`uncorrelated`: the path of the list or map above whose parts cannot be told apart from one update to the next."""
    for index, rule in enumerate(schema.get("x-kubernetes-validations") or ()):
        yield from _rule(schema, rule, f"{path}.x-kubernetes-validations[{index}]", resource, uncorrelated)
    atomic_map = schema.get("x-kubernetes-map-type") == "atomic"
    below = uncorrelated or (path if atomic_map else "")
    for name, child in (schema.get("properties") or {}).items():
        yield from _node(child, f"{path}.properties[{name}]", False, below)
    if isinstance(rest := schema.get("additionalProperties"), dict):
        yield from _node(rest, f"{path}.additionalProperties", False, below)
    if isinstance(items := schema.get("items"), dict):
        listed = "" if schema.get("x-kubernetes-list-type") == "map" else path
        yield from _node(items, f"{path}.items", False, uncorrelated or listed)


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


def _rule(schema: Obj, rule: Obj, path: str, resource: bool, uncorrelated: str) -> Iterator[FieldError]:
    text, message = rule.get("rule") or "", rule.get("message") or ""
    if not text.strip():
        yield required(f"{path}.rule", "rule is not specified")
    if message and not message.strip():
        yield invalid(f"{path}.message", message, "message must be non-empty if specified")
    elif "\n" in message.strip():
        yield invalid(f"{path}.message", message, "message must not contain line breaks")
    elif "\n" in text.strip() and not message.strip():
        yield required(f"{path}.message", "message must be specified if rule contains line breaks")
    expression = rule.get("messageExpression") or ""
    if expression and not expression.strip():
        yield required(f"{path}.messageExpression", "messageExpression must be non-empty if specified")
    if rule.get("reason") is not None and rule["reason"] not in _REASONS:
        yield not_supported(f"{path}.reason", rule["reason"], _REASONS)
    yield from _field_path(schema, rule.get("fieldPath") or "", f"{path}.fieldPath")
    if not text.strip():
        return
    scope = declare(schema, resource)
    if scope is None:
        kept = "true" if schema.get("x-kubernetes-preserve-unknown-fields") else "false"
        why = "rule declared on schema that does not support validation rules type: "
        why += f"'{schema.get('type') or ''}' x-kubernetes-preserve-unknown-fields: '{kept}'"
        yield internal(path.rpartition("[")[0], why)
        return
    try:
        program = compile_rule(rule, scope)
        transition = program.mentions("oldSelf")
        if transition and uncorrelated:
            why = f"oldSelf cannot be used on the uncorrelatable portion of the schema within {uncorrelated}"
            yield invalid(f"{path}.rule", text, why)
        if rule.get("optionalOldSelf") is not None and not transition:
            why = "optionalOldSelf may not be set if oldSelf is not used in rule"
            yield invalid(f"{path}.optionalOldSelf", rule["optionalOldSelf"], why)
    except RuleError as e:
        yield invalid(f"{path}.rule", _shown(rule), str(e))
    if expression.strip():
        try:
            compile_message(rule, scope)
        except RuleError as e:
            yield invalid(f"{path}.messageExpression", _shown(rule), str(e))


def _field_path(schema: Obj, text: str, path: str) -> Iterator[FieldError]:
    if not text:
        return
    if not text.strip():
        yield invalid(path, text, "fieldPath must be non-empty if specified")
        return
    if "\n" in text:
        yield invalid(path, text, "fieldPath must not contain line breaks")
        return
    at, node = 0, schema
    trimmed = text.strip()
    while at < len(trimmed):
        found = _STEP.match(trimmed, at)
        if found is None:
            why = f"expected [ or . but got: {trimmed[at:]}"
            yield invalid(path, text, f"fieldPath must be a valid path: {why}")
            return
        name = found[1] or re.sub(r"\\(.)", r"\1", found[2] or "")
        properties, rest = node.get("properties"), node.get("additionalProperties")
        below = properties.get(name) if properties is not None else rest if isinstance(rest, dict) else None
        if below is None:
            yield invalid(path, text, "fieldPath must be a valid path: does not refer to a valid field")
            return
        at, node = found.end(), below
