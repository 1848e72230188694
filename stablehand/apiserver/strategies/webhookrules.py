"""The rules and policies of admission webhooks (pkg/apis/admissionregistration/validation)."""

from __future__ import annotations

from stablehand.apiserver.strategies import checks
from stablehand.machinery.fielderrors import FieldError, invalid, not_supported, required
from stablehand.machinery.types import Obj

_OPERATIONS = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")
_SCOPES = ("*", "Cluster", "Namespaced")


def validate_hook(hook: Obj, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for index, rule in enumerate(hook.get("rules") or ()):
        errors.extend(_rule(rule, f"{path}.rules[{index}]"))
    for key, allowed in (
        ("failurePolicy", ("Fail", "Ignore")),
        ("matchPolicy", ("Equivalent", "Exact")),
        ("reinvocationPolicy", ("IfNeeded", "Never")),
    ):
        errors.extend(checks.optional_one_of(hook.get(key), allowed, f"{path}.{key}"))
    return errors


def _rule(rule: Obj, path: str) -> list[FieldError]:
    operations = rule.get("operations") or []
    errors = _list(operations, f"{path}.operations", "operations")
    for index, operation in enumerate(operations):
        if operation not in _OPERATIONS:
            errors.append(not_supported(f"{path}.operations[{index}]", operation, _OPERATIONS))
    for key, what in (("apiGroups", "API groups"), ("apiVersions", "API versions")):
        errors.extend(_list(rule.get(key) or [], f"{path}.{key}", what))
    for index, version in enumerate(rule.get("apiVersions") or ()):
        if not version:
            errors.append(required(f"{path}.apiVersions[{index}]"))
    errors.extend(_resources(rule.get("resources") or [], f"{path}.resources"))
    errors.extend(checks.optional_one_of(rule.get("scope"), _SCOPES, f"{path}.scope"))
    return errors


def _list(values: list[str], path: str, what: str) -> list[FieldError]:
    if not values:
        return [required(path)]
    if len(values) > 1 and "*" in values:
        return [invalid(path, values, f"if '*' is present, must not specify other {what}")]
    return []


def _resources(values: list[str], path: str) -> list[FieldError]:
    """`pods`, `pods/*`, `*/scale`, `*`, `*/*`: none that another one covers."""
    if not values:
        return [required(path)]
    errors: list[FieldError] = []
    if "*/*" in values and len(values) > 1:
        errors.append(invalid(path, values, "if '*/*' is present, must not specify other resources"))
    seen: set[str] = set()
    for index, value in enumerate(values):
        where = f"{path}[{index}]"
        if not value:
            errors.append(required(where))
        plural, slash, sub = value.partition("/")
        if slash and sub and sub != "*" and f"*/{sub}" in seen:
            text = f"if '*/{sub}' is present, must not specify {value}"
            errors.append(invalid(where, value, text))
        if slash and f"{plural}/*" in seen and sub != "*":
            errors.append(invalid(where, value, f"if '{plural}/*' is present, must not specify {value}"))
        seen.add(value)
    if "*" in seen and any("/" not in value and value != "*" for value in values):
        text = "if '*' is present, must not specify other resources without subresources"
        errors.append(invalid(path, values, text))
    return errors
