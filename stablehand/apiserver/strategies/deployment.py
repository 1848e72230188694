"""Deployments."""

from __future__ import annotations

from typing import Any

from stablehand.apiserver.strategies import checks
from stablehand.apiserver.strategies.base import bump_generation
from stablehand.apiserver.strategies.metadata import immutable
from stablehand.apiserver.strategies.workloads import WorkloadStrategy, bounded, counters
from stablehand.machinery.fielderrors import FieldError, forbidden, invalid, not_supported, required
from stablehand.machinery.types import Obj


class DeploymentStrategy(WorkloadStrategy):
    status_keeps_labels = False

    def default_spec(self, obj: Obj, spec: Obj) -> None:
        spec.setdefault("replicas", 1)
        strategy = spec.setdefault("strategy", {})
        if not strategy.get("type"):
            strategy["type"] = "RollingUpdate"
        if strategy["type"] == "RollingUpdate":
            rolling = strategy.setdefault("rollingUpdate", {})
            rolling.setdefault("maxUnavailable", "25%")
            rolling.setdefault("maxSurge", "25%")
        spec.setdefault("revisionHistoryLimit", 10)
        spec.setdefault("progressDeadlineSeconds", 600)
        if not spec.get("minReadySeconds"):
            spec.pop("minReadySeconds", None)
        if spec.get("paused") is False:
            del spec["paused"]

    def prepare_create(self, obj: Obj) -> None:
        super().prepare_create(obj)
        obj["status"] = {}

    def prepare_update(self, new: Obj, old: Obj) -> None:
        super().prepare_update(new, old)
        same = (new["metadata"].get("annotations") or {}) == (old["metadata"].get("annotations") or {})
        bump_generation(new, old, new.get("spec") != old.get("spec") or not same)

    def validate(self, obj: Obj) -> list[FieldError]:
        spec = obj["spec"]
        errors = checks.not_negative(spec.get("replicas"), "spec.replicas")
        errors.extend(self.selector_errors(spec))
        errors.extend(self.template_errors(spec, "ReplicaSet"))
        errors.extend(_strategy(spec["strategy"]))
        least = spec.get("minReadySeconds") or 0
        errors.extend(checks.not_negative(least, "spec.minReadySeconds"))
        errors.extend(checks.not_negative(spec.get("revisionHistoryLimit"), "spec.revisionHistoryLimit"))
        deadline = spec.get("progressDeadlineSeconds")
        if deadline is not None:
            errors.extend(checks.not_negative(deadline, "spec.progressDeadlineSeconds"))
            if deadline <= least:
                errors.append(invalid("spec.progressDeadlineSeconds", deadline, "must be greater than minReadySeconds"))
        return errors

    def validate_change(self, new: Obj, old: Obj) -> list[FieldError]:
        selector = new["spec"].get("selector")
        return self.validate(new) + immutable(selector, old["spec"].get("selector"), "spec.selector")

    def validate_status(self, new: Obj, old: Obj) -> list[FieldError]:
        status = new.get("status") or {}
        names = ("observedGeneration", "replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
        errors = counters(status, (*names, "unavailableReplicas"))
        pairs = (("updatedReplicas", "replicas"), ("readyReplicas", "replicas"), ("availableReplicas", "replicas"))
        errors.extend(bounded(status, (*pairs, ("availableReplicas", "readyReplicas"))))
        count, before = status.get("collisionCount"), (old.get("status") or {}).get("collisionCount")
        if count is not None and before is not None and count < before:
            errors.append(invalid("status.collisionCount", count, "cannot be decremented"))
        return errors


def _is_zero(value: Any) -> bool:
    return value in (0, "0%", "0") or (isinstance(value, str) and checks.percent_value(value) == 0)


def _strategy(strategy: Obj) -> list[FieldError]:
    path = "spec.strategy"
    kind, rolling = strategy.get("type"), strategy.get("rollingUpdate")
    if kind == "Recreate":
        if rolling is not None:
            text = "may not be specified when strategy `type` is 'Recreate'"
            return [forbidden(f"{path}.rollingUpdate", text)]
        return []
    if kind != "RollingUpdate":
        return [not_supported(f"{path}.type", kind, ("Recreate", "RollingUpdate"))]
    if rolling is None:
        return [required(f"{path}.rollingUpdate", "this should be defaulted and never be nil")]
    down, surge = rolling.get("maxUnavailable", 0), rolling.get("maxSurge", 0)
    errors = checks.int_or_percent(down, f"{path}.rollingUpdate.maxUnavailable")
    errors.extend(checks.int_or_percent(surge, f"{path}.rollingUpdate.maxSurge"))
    if _is_zero(down) and _is_zero(surge):
        text = "may not be 0 when `maxSurge` is 0"
        errors.append(invalid(f"{path}.rollingUpdate.maxUnavailable", down, text))
    return errors + checks.at_most_100_percent(down, f"{path}.rollingUpdate.maxUnavailable")


STRATEGIES = {"deployments.apps": DeploymentStrategy}
