"""Kinds with few rules: leases, disruption budgets, priority classes, runtime classes."""

from __future__ import annotations

import re

from stablehand.apiserver.strategies import checks
from stablehand.apiserver.strategies.base import Strategy
from stablehand.apiserver.strategies.metadata import immutable, validate_labels
from stablehand.apiserver.strategies.podspec import validate_tolerations
from stablehand.machinery import names
from stablehand.machinery.fielderrors import FieldError, duplicate, forbidden, invalid, required
from stablehand.machinery.types import Obj

_REASON = re.compile(r"[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?")
_REASON_TEXT = (
    "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric "
    "characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name',  or 'MY_NAME',  or "
    "'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation is "
    "'[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')"
)
HIGHEST_USER_PRIORITY = 1_000_000_000
SYSTEM_PRIORITIES = {"system-node-critical": 2_000_001_000, "system-cluster-critical": 2_000_000_000}


class LeaseStrategy(Strategy):
    def validate(self, obj: Obj) -> list[FieldError]:
        spec = obj.get("spec") or {}
        errors: list[FieldError] = []
        seconds, transitions = spec.get("leaseDurationSeconds"), spec.get("leaseTransitions")
        if seconds is not None and seconds <= 0:
            errors.append(invalid("spec.leaseDurationSeconds", seconds, "must be greater than 0"))
        if transitions is not None and transitions < 0:
            text = "must be greater than or equal to 0"
            errors.append(invalid("spec.leaseTransitions", transitions, text))
        strategy, preferred = spec.get("strategy"), spec.get("preferredHolder")
        if strategy is not None:
            errors.extend(checks.one_of(strategy, ("OldestEmulationVersion",), "spec.strategy"))
        if preferred and not strategy:
            errors.append(forbidden("spec.preferredHolder", "may only be specified if `strategy` is defined"))
        return errors


def conditions(found: list[Obj], path: str) -> list[FieldError]:
    """metav1.Conditions (apis/meta/v1/validation ValidateConditions)."""
    errors: list[FieldError] = []
    seen: set[str] = set()
    for index, one in enumerate(found):
        where = f"{path}[{index}]"
        kind, reason = one.get("type") or "", one.get("reason") or ""
        if kind in seen:
            errors.append(duplicate(f"{where}.type", kind))
        seen.add(kind)
        if not kind:
            errors.append(required(f"{where}.type"))
        else:
            errors.extend(checks.named(kind, names.qualified_name, f"{where}.type"))
        errors.extend(checks.one_of(one.get("status"), ("False", "True", "Unknown"), f"{where}.status"))
        if (generation := one.get("observedGeneration") or 0) < 0:
            errors.append(invalid(f"{where}.observedGeneration", generation, "must be greater than or equal to zero"))
        if not one.get("lastTransitionTime"):
            errors.append(required(f"{where}.lastTransitionTime"))
        if not reason:
            errors.append(required(f"{where}.reason"))
        elif not _REASON.fullmatch(reason):
            errors.append(invalid(f"{where}.reason", reason, _REASON_TEXT))
    return errors


class DisruptionBudgetStrategy(Strategy):
    def default(self, obj: Obj) -> None:
        obj.setdefault("spec", {})

    def initial_status(self, obj: Obj) -> None:
        obj["status"] = dict.fromkeys(("currentHealthy", "desiredHealthy", "disruptionsAllowed", "expectedPods"), 0)

    def validate(self, obj: Obj) -> list[FieldError]:
        spec = obj["spec"]
        errors: list[FieldError] = []
        if spec.get("minAvailable") is not None and spec.get("maxUnavailable") is not None:
            errors.append(invalid("spec", spec, "minAvailable and maxUnavailable cannot be both set"))
        for key in ("minAvailable", "maxUnavailable"):
            if spec.get(key) is not None:
                errors.extend(checks.int_or_percent(spec[key], f"spec.{key}"))
                errors.extend(checks.at_most_100_percent(spec[key], f"spec.{key}"))
        errors.extend(checks.label_selector(spec.get("selector"), "spec.selector"))
        policies = ("AlwaysAllow", "IfHealthyBudget")
        policy = spec.get("unhealthyPodEvictionPolicy")
        errors.extend(checks.optional_one_of(policy, policies, "spec.unhealthyPodEvictionPolicy"))
        return errors

    def validate_status(self, new: Obj, old: Obj) -> list[FieldError]:
        status = new.get("status") or {}
        errors = conditions(status.get("conditions") or [], "status.conditions")
        for key in ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"):
            errors.extend(checks.not_negative(status.get(key), f"status.{key}"))
        return errors


class PriorityClassStrategy(Strategy):
    def default(self, obj: Obj) -> None:
        if not obj.get("preemptionPolicy"):
            obj["preemptionPolicy"] = "PreemptLowerPriority"
        obj.setdefault("value", 0)

    def prepare_create(self, obj: Obj) -> None:
        obj["metadata"]["generation"] = 1

    def validate(self, obj: Obj) -> list[FieldError]:
        errors: list[FieldError] = []
        name, value = obj["metadata"].get("name") or "", obj.get("value") or 0
        if name.startswith("system-"):
            if SYSTEM_PRIORITIES.get(name) != value:
                text = "priority class names with 'system-' prefix are reserved for system use only. error: "
                errors.append(forbidden("metadata.name", text + f"{name} is not a known system priority class"))
        elif value > HIGHEST_USER_PRIORITY:
            text = f"maximum allowed value of a user defined priority is {HIGHEST_USER_PRIORITY}"
            errors.append(forbidden("value", text))
        allowed = ("Never", "PreemptLowerPriority")
        errors.extend(checks.optional_one_of(obj.get("preemptionPolicy"), allowed, "preemptionPolicy"))
        return errors

    def validate_change(self, new: Obj, old: Obj) -> list[FieldError]:
        errors: list[FieldError] = []
        if new.get("value") != old.get("value"):
            errors.append(forbidden("Value", "may not be changed in an update."))
        return errors + immutable(new.get("preemptionPolicy"), old.get("preemptionPolicy"), "preemptionPolicy")


class RuntimeClassStrategy(Strategy):
    def validate(self, obj: Obj) -> list[FieldError]:
        errors = checks.named(obj.get("handler") or "", names.dns1123_label, "handler")
        overhead = (obj.get("overhead") or {}).get("podFixed") or {}
        errors.extend(checks.quantity_map(overhead, "overhead.podFixed"))
        scheduling = obj.get("scheduling") or {}
        if selector := scheduling.get("nodeSelector"):
            errors.extend(validate_labels(selector, "scheduling.nodeSelector"))
        tolerations = scheduling.get("tolerations") or []
        errors.extend(validate_tolerations(tolerations, "scheduling.tolerations"))
        for index, toleration in enumerate(tolerations):
            if toleration in tolerations[:index]:
                errors.append(duplicate(f"scheduling.tolerations[{index}]", toleration))
        return errors

    def validate_change(self, new: Obj, old: Obj) -> list[FieldError]:
        return immutable(new.get("handler"), old.get("handler"), "handler")


STRATEGIES = {
    "leases.coordination.k8s.io": LeaseStrategy,
    "poddisruptionbudgets.policy": DisruptionBudgetStrategy,
    "priorityclasses.scheduling.k8s.io": PriorityClassStrategy,
    "runtimeclasses.node.k8s.io": RuntimeClassStrategy,
}
