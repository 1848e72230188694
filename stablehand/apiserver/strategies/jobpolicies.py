"""The rules of a job's policies: podFailurePolicy, successPolicy, limits per index, another controller's name."""

from __future__ import annotations

import re

from stablehand.apiserver.strategies import checks
from stablehand.machinery import names
from stablehand.machinery.fielderrors import FieldError, duplicate, invalid, not_supported, required, too_long, too_many
from stablehand.machinery.types import Obj

_ACTIONS = ("Count", "FailIndex", "FailJob", "Ignore")
_MANY_INDEXES = 100_000
_INDEXED = "requires indexed completion mode"
_RULES, _CODES, _PATTERNS, _MANAGER = 20, 255, 20, 63
_RANGES = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*")


def validate_policies(spec: Obj, path: str) -> list[FieldError]:
    """All of them, of a JobSpec that has its defaults."""
    errors: list[FieldError] = []
    indexed = spec.get("completionMode") == "Indexed"
    per_index, most_failed = spec.get("backoffLimitPerIndex"), spec.get("maxFailedIndexes")
    if most_failed is not None and per_index is None:
        errors.append(required(f"{path}.backoffLimitPerIndex", "when maxFailedIndexes is specified"))
    if not indexed:
        for key in ("backoffLimitPerIndex", "maxFailedIndexes"):
            if spec.get(key) is not None:
                errors.append(invalid(f"{path}.{key}", spec[key], _INDEXED))
    else:
        completions = spec.get("completions") or 0
        if completions and (spec.get("parallelism") or 0) > _MANY_INDEXES:
            text = f"must be less than or equal to {_MANY_INDEXES} when completion mode is Indexed"
            errors.append(invalid(f"{path}.parallelism", spec["parallelism"], text))
        if completions > _MANY_INDEXES and per_index is not None and most_failed is None:
            text = f"must be specified when completions is above {_MANY_INDEXES}"
            errors.append(required(f"{path}.maxFailedIndexes", text))
        if most_failed is not None and completions and most_failed > completions:
            text = f"must be less than or equal to {completions}"
            errors.append(invalid(f"{path}.maxFailedIndexes", most_failed, text))
    errors.extend(_manager(spec.get("managedBy"), f"{path}.managedBy"))
    if spec.get("podFailurePolicy") is not None:
        errors.extend(_failure_policy(spec, path))
    if spec.get("successPolicy") is not None:
        if indexed:
            errors.extend(_success_policy(spec, f"{path}.successPolicy"))
        else:
            errors.append(invalid(f"{path}.successPolicy", spec["successPolicy"], _INDEXED))
    return errors


def _manager(name: str | None, path: str) -> list[FieldError]:
    if name is None:
        return []
    errors: list[FieldError] = []
    domain, slash, rest = name.partition("/")
    if not name:
        errors.append(required(path))
    elif not slash or not domain or not rest:
        text = 'must be a domain-prefixed path (such as "acme.io/foo")'
        errors.append(invalid(path, name, text))
    else:
        errors.extend(invalid(path, name, text) for text in names.dns1123_subdomain(domain))
    if len(name) > _MANAGER:
        errors.append(too_long(path, name, _MANAGER))
    return errors


def _failure_policy(spec: Obj, path: str) -> list[FieldError]:
    pod = (spec.get("template") or {}).get("spec") or {}
    errors: list[FieldError] = []
    if pod.get("restartPolicy") not in (None, "Never"):
        text = 'only "Never" is supported when podFailurePolicy is specified'
        errors.append(invalid(f"{path}.template.spec.restartPolicy", pod["restartPolicy"], text))
    if spec.get("podReplacementPolicy") not in (None, "Failed"):
        errors.append(not_supported(f"{path}.podReplacementPolicy", spec["podReplacementPolicy"], ("Failed",)))
    rules = spec["podFailurePolicy"].get("rules") or ()
    if len(rules) > _RULES:
        errors.append(too_many(f"{path}.podFailurePolicy.rules", len(rules), _RULES))
    containers = {c.get("name") for c in [*(pod.get("containers") or ()), *(pod.get("initContainers") or ())]}
    for index, rule in enumerate(rules):
        where = f"{path}.podFailurePolicy.rules[{index}]"
        errors.extend(_failure_rule(rule, where, containers, spec.get("backoffLimitPerIndex") is not None))
    return errors


def _failure_rule(rule: Obj, path: str, containers: set[str | None], per_index: bool) -> list[FieldError]:
    errors = checks.one_of(rule.get("action"), _ACTIONS, f"{path}.action")
    if rule.get("action") == "FailIndex" and not per_index:
        errors.append(invalid(f"{path}.action", "FailIndex", "requires the backoffLimitPerIndex to be set"))
    codes, patterns = rule.get("onExitCodes"), rule.get("onPodConditions") or ()
    if codes is not None and patterns:
        text = "specifying both OnExitCodes and OnPodConditions is not supported"
        return [*errors, invalid(path, rule, text)]
    if codes is None and not patterns:
        text = "specifying one of OnExitCodes and OnPodConditions is required"
        return [*errors, invalid(path, rule, text)]
    if codes is not None:
        errors.extend(_exit_codes(codes, f"{path}.onExitCodes", containers))
    if len(patterns) > _PATTERNS:
        errors.append(too_many(f"{path}.onPodConditions", len(patterns), _PATTERNS))
    for index, pattern in enumerate(patterns):
        where = f"{path}.onPodConditions[{index}]"
        errors.extend(checks.named(pattern.get("type") or "", names.qualified_name, f"{where}.type"))
        status = pattern.get("status") or "True"
        errors.extend(checks.one_of(status, ("False", "True", "Unknown"), f"{where}.status"))
    return errors


def _exit_codes(codes: Obj, path: str, containers: set[str | None]) -> list[FieldError]:
    operator, values = codes.get("operator"), codes.get("values") or []
    errors = checks.one_of(operator, ("In", "NotIn"), f"{path}.operator")
    name = codes.get("containerName")
    if name is not None and name not in containers:
        text = "must be one of the container or initContainer names in the pod template"
        errors.append(invalid(f"{path}.containerName", name, text))
    if not values:
        errors.append(invalid(f"{path}.values", values, "at least one value is required"))
    elif len(values) > _CODES:
        errors.append(too_many(f"{path}.values", len(values), _CODES))
    for index in sorted(checks.duplicates(values)):
        errors.append(duplicate(f"{path}.values[{index}]", values[index]))
    if operator == "In" and 0 in values:
        errors.append(invalid(f"{path}.values[{values.index(0)}]", 0, "must not be 0 for the In operator"))
    if values != sorted(values):
        errors.append(invalid(f"{path}.values", values, "must be ordered"))
    return errors


def _success_policy(spec: Obj, path: str) -> list[FieldError]:
    rules, completions = spec["successPolicy"].get("rules") or (), spec.get("completions") or 0
    if not rules:
        return [required(f"{path}.rules", "at least one rules must be specified when the successPolicy is specified")]
    errors = [too_many(f"{path}.rules", len(rules), _RULES)] if len(rules) > _RULES else []
    for index, rule in enumerate(rules):
        where = f"{path}.rules[{index}]"
        listed, count = rule.get("succeededIndexes"), rule.get("succeededCount")
        if listed is None and count is None:
            text = "at least one of succeededCount or succeededIndexes must be specified"
            errors.append(required(where, text))
        errors.extend(checks.not_negative(count, f"{where}.succeededCount"))
        most, what = completions, "completions"
        if listed is not None:
            total, why = _total(listed, completions)
            if why:
                errors.append(invalid(f"{where}.succeededIndexes", listed, f"error parsing succeededIndexes: {why}"))
                continue
            most, what = total, "succeededIndexes"
        if count is not None and count > most:
            text = f"must be less than or equal to {most} (the number of {what})"
            errors.append(invalid(f"{where}.succeededCount", count, text))
    return errors


def _total(listed: str, completions: int) -> tuple[int, str]:
    """(how many indexes "0-2,5" names, why it is no such text)."""
    if not _RANGES.fullmatch(listed):
        return 0, "cannot convert string to integer for index"
    last, total = -1, 0
    for part in listed.split(","):
        low, _, high = part.partition("-")
        start, end = int(low), int(high or low)
        if end < start or (high and end == start):
            return 0, f"non-increasing order, previous: {start}, current: {end}"
        if start <= last:
            return 0, f"non-increasing order, previous: {last}, current: {start}"
        if end >= completions:
            return 0, f"too large index: {end}"
        last, total = end, total + end - start + 1
    return total, ""
