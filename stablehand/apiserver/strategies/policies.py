"""Admission policies and their bindings: defaults, and whether their expressions compile.

Words its complaints as pkg/apis/admissionregistration/validation does. How they are applied is admission.policies'.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from stablehand.apiserver.strategies import checks
from stablehand.apiserver.strategies.base import Strategy
from stablehand.machinery import names
from stablehand.machinery.cel import ConditionError, compile_condition
from stablehand.machinery.cel.composition import APPLY_CONFIGURATION, JSON_PATCHES, Composition
from stablehand.machinery.cel.schemas import RESERVED
from stablehand.machinery.cel.types import BOOL, DYN, NULL, STRING, Type
from stablehand.machinery.fielderrors import (
    FieldError,
    duplicate,
    forbidden,
    invalid,
    not_supported,
    required,
    too_many,
)
from stablehand.machinery.types import Obj

_OPERATIONS = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")
_REASONS = ("Forbidden", "Invalid", "RequestEntityTooLarge")
_ACTIONS = ("Audit", "Deny", "Warn")
_IDENTIFIER = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*")
_MAX_CONDITIONS, _MAX_ANNOTATIONS, _MAX_VALUE_EXPRESSION = 64, 20, 5 * 1024


def _default_match(match: Obj | None) -> None:
    if match is None:
        return
    match.setdefault("matchPolicy", "Equivalent")
    match.setdefault("namespaceSelector", {})
    match.setdefault("objectSelector", {})
    for key in ("resourceRules", "excludeResourceRules"):
        for rule in match.get(key) or ():
            rule.setdefault("scope", "*")


class PolicyStrategy(Strategy):
    """What both kinds of policy have."""

    def default(self, obj: Obj) -> None:
        spec = obj.setdefault("spec", {})
        spec.setdefault("failurePolicy", "Fail")
        _default_match(spec.get("matchConstraints"))

    def initial_status(self, obj: Obj) -> None:
        obj["status"] = {}

    def validate(self, obj: Obj) -> list[FieldError]:
        return list(self._spec(obj))

    def _spec(self, obj: Obj) -> Iterator[FieldError]:
        spec = obj["spec"]
        yield from checks.one_of(spec.get("failurePolicy"), ("Fail", "Ignore"), "spec.failurePolicy")
        if (kind := spec.get("paramKind")) is not None:
            yield from _param_kind(kind, "spec.paramKind")
        match = spec.get("matchConstraints")
        if match is None:
            yield required("spec.matchConstraints")
        else:
            yield from _match(match, "spec.matchConstraints")
            if not match.get("resourceRules"):
                yield required("spec.matchConstraints.resourceRules")
        yield from conditions(spec.get("matchConditions") or (), "spec.matchConditions", kind is not None)

    def _variables(self, spec: Obj, objects: bool) -> tuple[Composition, list[FieldError]]:
        composition = Composition(params=spec.get("paramKind") is not None, objects=objects)
        errors: list[FieldError] = []
        for index, variable in enumerate(spec.get("variables") or ()):
            path = f"spec.variables[{index}]"
            name, text = variable.get("name") or "", variable.get("expression") or ""
            if not name.strip():
                errors.append(required(f"{path}.name", "name is not specified"))
            elif not _IDENTIFIER.fullmatch(name) or name in RESERVED:
                errors.append(invalid(f"{path}.name", name, "name is not a valid CEL identifier"))
            if not text.strip():
                errors.append(required(f"{path}.expression", "expression is not specified"))
                continue
            try:
                composition.add_variable(name, text)
            except ConditionError as e:
                errors.append(invalid(f"{path}.expression", text, str(e)))
        return composition, errors


class ValidatingPolicyStrategy(PolicyStrategy):
    def _spec(self, obj: Obj) -> Iterator[FieldError]:
        yield from super()._spec(obj)
        spec = obj["spec"]
        composition, errors = self._variables(spec, False)
        yield from errors
        validations, annotations = spec.get("validations") or (), spec.get("auditAnnotations") or ()
        if not validations and not annotations:
            text = "validations or auditAnnotations must contain at least one item"
            yield required("spec.validations", text)
            yield required("spec.auditAnnotations", text)
        for index, validation in enumerate(validations):
            yield from _validation(composition, validation, f"spec.validations[{index}]")
        if len(annotations) > _MAX_ANNOTATIONS:
            text = f"must not have more than {_MAX_ANNOTATIONS} auditAnnotations"
            yield invalid("spec.auditAnnotations", annotations, text)
        keys = [annotation.get("key") for annotation in annotations]
        for index, annotation in enumerate(annotations):
            path = f"spec.auditAnnotations[{index}]"
            yield from _annotation(composition, annotation, obj["metadata"].get("name") or "", path)
            if index in checks.duplicates(keys):
                yield duplicate(f"{path}.key", annotation.get("key"))


class MutatingPolicyStrategy(PolicyStrategy):
    def _spec(self, obj: Obj) -> Iterator[FieldError]:
        yield from super()._spec(obj)
        spec = obj["spec"]
        composition, errors = self._variables(spec, True)
        yield from errors
        if not spec.get("mutations"):
            yield required("spec.mutations", "mutations must contain at least one item")
        for index, mutation in enumerate(spec.get("mutations") or ()):
            yield from _mutation(composition, mutation, f"spec.mutations[{index}]")
        yield from checks.one_of(spec.get("reinvocationPolicy"), ("Never", "IfNeeded"), "spec.reinvocationPolicy")


class PolicyBindingStrategy(Strategy):
    def default(self, obj: Obj) -> None:
        _default_match(obj.setdefault("spec", {}).get("matchResources"))

    def validate(self, obj: Obj) -> list[FieldError]:
        spec = obj["spec"]
        errors: list[FieldError] = []
        if not spec.get("policyName"):
            errors.append(required("spec.policyName"))
        else:
            errors.extend(checks.named(spec["policyName"], names.dns1123_subdomain, "spec.policyName"))
        if (ref := spec.get("paramRef")) is not None:
            errors.extend(_param_ref(ref, "spec.paramRef"))
        if (match := spec.get("matchResources")) is not None:
            errors.extend(_match(match, "spec.matchResouces"))  # upstream's spelling
        if self.res.kind.startswith("Validating"):
            errors.extend(_actions(spec.get("validationActions") or (), "spec.validationActions"))
        return errors


def _param_kind(kind: Obj, path: str) -> Iterator[FieldError]:
    api_version = kind.get("apiVersion") or ""
    group, _, version = api_version.rpartition("/")
    if not api_version:
        yield required(f"{path}.apiVersion")
    elif group.count("/"):
        yield invalid(f"{path}.apiVersion", api_version, f"unexpected GroupVersion string: {api_version}")
    else:
        if group:
            yield from checks.named(group, names.dns1123_subdomain, f"{path}.apiVersion")
        yield from checks.named(version, names.dns1035_label, f"{path}.apiVersion")
    if not kind.get("kind"):
        yield required(f"{path}.kind")
    elif wrong := names.dns1035_label(kind["kind"].lower()):
        text = "may have mixed case, but should otherwise match: " + ",".join(wrong)
        yield invalid(f"{path}.kind", kind["kind"], text)


def _match(match: Obj, path: str) -> Iterator[FieldError]:
    yield from checks.one_of(match.get("matchPolicy"), ("Equivalent", "Exact"), f"{path}.matchPolicy")
    yield from checks.label_selector(match.get("namespaceSelector"), f"{path}.namespaceSelector")
    yield from checks.label_selector(match.get("objectSelector"), f"{path}.objectSelector")
    for key in ("resourceRules", "excludeResourceRules"):
        for index, rule in enumerate(match.get(key) or ()):
            yield from _rule(rule, f"{path}.{key}[{index}]")


def _rule(rule: Obj, path: str) -> Iterator[FieldError]:
    given = rule.get("resourceNames") or []
    for index, name in enumerate(given):
        yield from checks.named(name, names.path_segment, f"{path}.resourceNames[{index}]")
        if index in checks.duplicates(given):
            yield duplicate(f"{path}.resourceNames[{index}]", name)
    operations = rule.get("operations") or []
    if not operations:
        yield required(f"{path}.operations")
    if len(operations) > 1 and "*" in operations:
        yield invalid(f"{path}.operations", operations, "if '*' is present, must not specify other operations")
    for index, operation in enumerate(operations):
        if operation not in _OPERATIONS:
            yield not_supported(f"{path}.operations[{index}]", operation, _OPERATIONS)
    for key in ("apiGroups", "apiVersions", "resources"):
        values = rule.get(key) or []
        if not values:
            yield required(f"{path}.{key}")
        if key != "resources" and len(values) > 1 and "*" in values:
            what = "other API groups" if key == "apiGroups" else "other API versions"
            yield invalid(f"{path}.{key}", values, f"if '*' is present, must not specify {what}")
        for index, value in enumerate(values):
            if not value and key != "apiGroups":
                yield required(f"{path}.{key}[{index}]")
    yield from checks.one_of(rule.get("scope"), ("*", "Cluster", "Namespaced"), f"{path}.scope")


def conditions(given: Sequence[Obj], path: str, params: bool = False) -> Iterator[FieldError]:
    """What is wrong with matchConditions, a policy's or a webhook's."""
    if len(given) > _MAX_CONDITIONS:
        yield too_many(path, len(given), _MAX_CONDITIONS)
    seen = [condition.get("name") for condition in given]
    for index, condition in enumerate(given):
        where, text, name = f"{path}[{index}]", condition.get("expression") or "", condition.get("name") or ""
        if not text.strip():
            yield required(f"{where}.expression")
        else:
            try:
                compile_condition(text, params)
            except ConditionError as e:
                yield invalid(f"{where}.expression", text.strip(), str(e))
        if not name:
            yield required(f"{where}.name")
        else:
            yield from checks.named(name, names.qualified_name, f"{where}.name")
            if index in checks.duplicates(seen):
                yield duplicate(f"{where}.name", name)


def _compiled(
    composition: Composition, source: str, wanted: tuple[Type, ...], path: str, *, authorizer: bool = True
) -> Iterator[FieldError]:
    try:
        composition.compile(source, wanted, authorizer=authorizer)
    except ConditionError as e:
        yield invalid(path, source, str(e))


def _validation(composition: Composition, validation: Obj, path: str) -> Iterator[FieldError]:
    expression, message = validation.get("expression") or "", validation.get("message") or ""
    if not expression.strip():
        yield required(f"{path}.expression", "expression is not specified")
    else:
        yield from _compiled(composition, expression, (BOOL,), f"{path}.expression")
    text = validation.get("messageExpression") or ""
    if text and not text.strip():
        yield invalid(f"{path}.messageExpression", text, "must be non-empty if specified")
    elif text:
        yield from _compiled(composition, text, (STRING,), f"{path}.messageExpression", authorizer=False)
    if message and not message.strip():
        yield invalid(f"{path}.message", message, "message must be non-empty if specified")
    elif re.search(r"[\n\r]", message.strip()):
        yield invalid(f"{path}.message", message, "message must not contain line breaks")
    if validation.get("reason") is not None and validation["reason"] not in _REASONS:
        yield not_supported(f"{path}.reason", validation["reason"], _REASONS)


def _annotation(composition: Composition, annotation: Obj, policy: str, path: str) -> Iterator[FieldError]:
    if policy:
        yield from checks.named(f"{policy}/{annotation.get('key') or ''}", names.qualified_name, f"{path}.key")
    text = (annotation.get("valueExpression") or "").strip()
    if not text:
        yield required(f"{path}.valueExpression", "valueExpression is not specified")
    elif len(text) > _MAX_VALUE_EXPRESSION:
        yield required(f"{path}.valueExpression", f"must not exceed {_MAX_VALUE_EXPRESSION} bytes in length")
    else:
        yield from _compiled(composition, text, (STRING, NULL, DYN), f"{path}.valueExpression")


def _mutation(composition: Composition, mutation: Obj, path: str) -> Iterator[FieldError]:
    kind = mutation.get("patchType")
    yield from checks.one_of(kind, ("ApplyConfiguration", "JSONPatch"), f"{path}.patchType")
    for patch, key, wanted in (
        ("ApplyConfiguration", "applyConfiguration", APPLY_CONFIGURATION),
        ("JSONPatch", "jsonPatch", JSON_PATCHES),
    ):
        given = mutation.get(key)
        if kind != patch:
            if given is not None and kind:
                yield forbidden(f"{path}.{key}", f"must be unset when patchType is {kind}")
        elif given is None:
            yield required(f"{path}.{key}", f"must be specified when patchType is {patch}")
        elif not (given.get("expression") or "").strip():
            yield required(f"{path}.{key}.expression", "expression is not specified")
        else:
            yield from _compiled(composition, given["expression"], (wanted,), f"{path}.{key}.expression")


def _param_ref(ref: Obj, path: str) -> Iterator[FieldError]:
    name, selector = ref.get("name"), ref.get("selector")
    if name:
        yield from checks.named(name, names.path_segment, f"{path}.name")
        if selector is not None:
            yield forbidden(f"{path}.name", "name and selector are mutually exclusive")
    if selector is not None:
        yield from checks.label_selector(selector, f"{path}.selector")
        if name:
            yield forbidden(f"{path}.selector", "name and selector are mutually exclusive")
    if not name and selector is None:
        yield required(path, "one of name or selector must be specified")
    yield from checks.one_of(ref.get("parameterNotFoundAction"), ("Deny", "Allow"), f"{path}.parameterNotFoundAction")


def _actions(actions: Sequence[str], path: str) -> Iterator[FieldError]:
    for index, action in enumerate(actions):
        if action not in _ACTIONS:
            yield not_supported(f"{path}[{index}]", action, _ACTIONS)
        if index in checks.duplicates(list(actions)):
            yield duplicate(f"{path}[{index}]", action)
    if "Deny" in actions and "Warn" in actions:
        why = "(repeating the same validation failure information in the API response and headers serves no purpose)"
        yield invalid(path, list(actions), f"must not contain both Deny and Warn {why}")
    if not actions:
        yield required(path, "at least one validation action is required")


_GROUP = "admissionregistration.k8s.io"
STRATEGIES = {
    f"validatingadmissionpolicies.{_GROUP}": ValidatingPolicyStrategy,
    f"mutatingadmissionpolicies.{_GROUP}": MutatingPolicyStrategy,
    f"validatingadmissionpolicybindings.{_GROUP}": PolicyBindingStrategy,
    f"mutatingadmissionpolicybindings.{_GROUP}": PolicyBindingStrategy,
}
