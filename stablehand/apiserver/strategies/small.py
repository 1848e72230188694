"""Kinds with few rules: leases, disruption budgets, priority classes, runtime classes."""

from __future__ import annotations

from stablehand.apiserver.strategies import checks
from stablehand.apiserver.strategies.base import Strategy
from stablehand.apiserver.strategies.metadata import immutable
from stablehand.machinery import names
from stablehand.machinery.fielderrors import FieldError, forbidden, invalid, required
from stablehand.machinery.types import Obj

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
        handler = obj.get("handler") or ""
        if not handler:
            return [required("handler")]
        return checks.named(handler, names.dns1123_label, "handler")

    def validate_change(self, new: Obj, old: Obj) -> list[FieldError]:
        return immutable(new.get("handler"), old.get("handler"), "handler")


STRATEGIES = {
    "leases.coordination.k8s.io": LeaseStrategy,
    "poddisruptionbudgets.policy": DisruptionBudgetStrategy,
    "priorityclasses.scheduling.k8s.io": PriorityClassStrategy,
    "runtimeclasses.node.k8s.io": RuntimeClassStrategy,
}
