"""Daemon sets."""

from __future__ import annotations

from typing import Any

from stablehand.apiserver.strategies import checks
from stablehand.apiserver.strategies.metadata import immutable
from stablehand.apiserver.strategies.workloads import WorkloadStrategy, counters
from stablehand.machinery.fielderrors import FieldError, invalid, not_supported, required
from stablehand.machinery.types import Obj

GENERATION = "deprecated.daemonset.template.generation"
_COUNTERS = ("currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady")


class DaemonSetStrategy(WorkloadStrategy):
    empty_selector = "daemonset"

    def default_spec(self, obj: Obj, spec: Obj) -> None:
        strategy = spec.setdefault("updateStrategy", {})
        if not strategy.get("type"):
            strategy["type"] = "RollingUpdate"
        if strategy["type"] == "RollingUpdate":
            rolling = strategy.setdefault("rollingUpdate", {})
            rolling.setdefault("maxUnavailable", 1)
            rolling.setdefault("maxSurge", 0)
        spec.setdefault("revisionHistoryLimit", 10)

    def initial_status(self, obj: Obj) -> None:
        obj["status"] = dict.fromkeys(_COUNTERS, 0)

    def prepare_create(self, obj: Obj) -> None:
        super().prepare_create(obj)
        obj["metadata"].setdefault("annotations", {}).setdefault(GENERATION, "1")

    def prepare_update(self, new: Obj, old: Obj) -> None:
        super().prepare_update(new, old)
        before = (old["metadata"].get("annotations") or {}).get(GENERATION, "1")
        generation = int(before) if before.isdigit() else 1
        if new["spec"].get("template") != old["spec"].get("template"):
            generation += 1
        new["metadata"].setdefault("annotations", {})[GENERATION] = str(generation)

    def validate(self, obj: Obj) -> list[FieldError]:
        spec = obj["spec"]
        errors = self.selector_errors(spec)
        errors.extend(self.template_errors(spec, "DaemonSet"))
        errors.extend(checks.not_negative(spec.get("minReadySeconds"), "spec.minReadySeconds"))
        errors.extend(_strategy(spec["updateStrategy"]))
        errors.extend(checks.not_negative(spec.get("revisionHistoryLimit"), "spec.revisionHistoryLimit"))
        return errors

    def validate_change(self, new: Obj, old: Obj) -> list[FieldError]:
        selector = new["spec"].get("selector")
        return self.validate(new) + immutable(selector, old["spec"].get("selector"), "spec.selector")

    def validate_status(self, new: Obj, old: Obj) -> list[FieldError]:
        names = (*_COUNTERS, "updatedNumberScheduled", "numberAvailable", "numberUnavailable", "observedGeneration")
        return counters(new.get("status") or {}, names)


def _strategy(strategy: Obj) -> list[FieldError]:
    path = "spec.updateStrategy"
    kind, rolling = strategy.get("type"), strategy.get("rollingUpdate")
    if kind == "OnDelete":
        return []
    if kind != "RollingUpdate":
        return [not_supported(f"{path}.type", kind, ("RollingUpdate", "OnDelete"))]
    if rolling is None:
        return [required(f"{path}.rollingUpdate")]

    def zero(value: Any) -> bool:
        return value == 0 or checks.percent_value(value) == 0

    down, surge = rolling.get("maxUnavailable", 0), rolling.get("maxSurge", 0)
    where = f"{path}.rollingUpdate"
    errors = checks.int_or_percent(down, f"{where}.maxUnavailable") + checks.int_or_percent(surge, f"{where}.maxSurge")
    if not zero(down) and not zero(surge):
        errors.append(invalid(f"{where}.maxSurge", surge, "may not be set when maxUnavailable is non-zero"))
    elif zero(down) and zero(surge):
        errors.append(required(f"{where}.maxUnavailable", "cannot be 0 when maxSurge is 0"))
    errors.extend(checks.at_most_100_percent(down, f"{where}.maxUnavailable"))
    return errors + checks.at_most_100_percent(surge, f"{where}.maxSurge")


STRATEGIES = {"daemonsets.apps": DaemonSetStrategy}
