"""Horizontal pod autoscalers, stored as autoscaling/v2."""

from __future__ import annotations

from stablehand.apiserver.strategies import checks
from stablehand.apiserver.strategies.base import Strategy
from stablehand.machinery import quantity
from stablehand.machinery.fielderrors import FieldError, forbidden, invalid, required
from stablehand.machinery.types import Obj

_UP = [
    {"type": "Pods", "value": 4, "periodSeconds": 15},
    {"type": "Percent", "value": 100, "periodSeconds": 15},
]
_DOWN = [{"type": "Percent", "value": 100, "periodSeconds": 15}]
_SOURCES = {
    "Object": "object",
    "Pods": "pods",
    "Resource": "resource",
    "ContainerResource": "containerResource",
    "External": "external",
}


class AutoscalerStrategy(Strategy):
    def default(self, obj: Obj) -> None:
        spec = obj.setdefault("spec", {})
        spec.setdefault("minReplicas", 1)
        if not spec.get("metrics"):
            target = {"type": "Utilization", "averageUtilization": 80}
            spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
        behavior = spec.get("behavior")
        if behavior is not None:
            up = behavior.setdefault("scaleUp", {})
            up.setdefault("stabilizationWindowSeconds", 0)
            up.setdefault("selectPolicy", "Max")
            up.setdefault("policies", [dict(p) for p in _UP])
            down = behavior.setdefault("scaleDown", {})
            down.setdefault("selectPolicy", "Max")
            down.setdefault("policies", [dict(p) for p in _DOWN])

    def initial_status(self, obj: Obj) -> None:
        obj["status"] = {"desiredReplicas": 0, "currentReplicas": 0}

    def validate(self, obj: Obj) -> list[FieldError]:
        spec = obj["spec"]
        errors: list[FieldError] = []
        least, most = spec.get("minReplicas"), spec.get("maxReplicas") or 0
        if least is not None and least < 1:
            errors.append(invalid("spec.minReplicas", least, "must be greater than or equal to 1"))
        if most < 1:
            errors.append(invalid("spec.maxReplicas", most, "must be greater than 0"))
        if least is not None and most < least:
            errors.append(invalid("spec.maxReplicas", most, "must be greater than or equal to `minReplicas`"))
        target = spec.get("scaleTargetRef") or {}
        for key in ("kind", "name"):
            errors.extend(checks.must_have(target.get(key), f"spec.scaleTargetRef.{key}"))
        for index, metric in enumerate(spec.get("metrics") or ()):
            errors.extend(_metric(metric, f"spec.metrics[{index}]"))
        for key in ("scaleUp", "scaleDown"):
            rules = (spec.get("behavior") or {}).get(key)
            if rules is not None:
                errors.extend(_rules(rules, f"spec.behavior.{key}"))
        return errors


def _metric(metric: Obj, path: str) -> list[FieldError]:
    kind = metric.get("type") or ""
    if not kind:
        return [required(f"{path}.type", "must specify a metric source type")]
    errors = checks.one_of(kind, tuple(_SOURCES), f"{path}.type")
    key = _SOURCES.get(kind)
    if key is None:
        return errors
    source = metric.get(key)
    if source is None:
        text = f"must populate information for the given metric source type '{kind}'"
        return [required(f"{path}.{key}", text)]
    if kind in ("Resource", "ContainerResource"):
        errors.extend(checks.must_have(source.get("name"), f"{path}.{key}.name", "must specify a resource name"))
        target = source.get("target") or {}
        used, value = target.get("averageUtilization"), target.get("averageValue")
        if used is None and value is None:
            text = "must set either a target raw value or a target utilization"
            errors.append(required(f"{path}.{key}.target.averageUtilization", text))
        if used is not None and used < 1:
            errors.append(invalid(f"{path}.{key}.target.averageUtilization", used, "must be greater than 0"))
        if used is not None and value is not None:
            text = "may not set both a target raw value and a target utilization"
            errors.append(forbidden(f"{path}.{key}.target.averageValue", text))
        if kind == "ContainerResource":
            named = source.get("container")
            errors.extend(checks.must_have(named, f"{path}.{key}.container", "must specify a container"))
        return errors
    return errors + _measured(kind, source, f"{path}.{key}")


def _measured(kind: str, source: Obj, path: str) -> list[FieldError]:
    """A metric of the custom or external metrics APIs."""
    target = source.get("target") or {}
    name = (source.get("metric") or {}).get("name")
    errors = checks.must_have(name, f"{path}.metric.name", "must specify a metric name")
    if kind == "Object":
        for field in ("kind", "name"):
            errors.extend(
                checks.must_have((source.get("describedObject") or {}).get(field), f"{path}.describedObject.{field}")
            )
    value, average = target.get("value"), target.get("averageValue")
    if kind == "Pods":
        if average is None or not _positive(average):
            text = "must specify a positive target averageValue"
            errors.append(required(f"{path}.target.averageValue", text))
        return errors
    if value is None and average is None:
        text = "must set either a target value for metric or a per-pod target"
        errors.append(required(f"{path}.target.averageValue", text))
    if value is not None and average is not None and kind == "External":
        text = "may not set both a target value for metric and a per-pod target"
        errors.append(forbidden(f"{path}.target.value", text))
    for field, given in (("value", value), ("averageValue", average)):
        if given is not None and not _positive(given):
            errors.append(invalid(f"{path}.target.{field}", given, "must be positive"))
    return errors


def _positive(text: str) -> bool:
    try:
        return quantity.parse(text) > 0
    except quantity.QuantityError:
        return True  # what is no quantity is refused for that


def _rules(rules: Obj, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    window = rules.get("stabilizationWindowSeconds")
    if window is not None:
        if window < 0:
            errors.append(
                invalid(f"{path}.stabilizationWindowSeconds", window, "must be greater than or equal to zero")
            )
        elif window > 3600:
            text = "must be less than or equal to 3600"
            errors.append(invalid(f"{path}.stabilizationWindowSeconds", window, text))
    allowed = ("Max", "Min", "Disabled")
    errors.extend(checks.optional_one_of(rules.get("selectPolicy"), allowed, f"{path}.selectPolicy"))
    if not rules.get("policies"):
        errors.append(required(f"{path}.policies", "must specify at least one Policy"))
    for index, policy in enumerate(rules.get("policies") or ()):
        where = f"{path}.policies[{index}]"
        errors.extend(checks.one_of(policy.get("type"), ("Percent", "Pods"), f"{where}.type"))
        for key in ("value", "periodSeconds"):
            if (policy.get(key) or 0) <= 0:
                errors.append(invalid(f"{where}.{key}", policy.get(key) or 0, "must be greater than zero"))
        if (policy.get("periodSeconds") or 0) > 1800:
            text = "must be less than or equal to 1800"
            errors.append(invalid(f"{where}.periodSeconds", policy["periodSeconds"], text))
    return errors


STRATEGIES = {"horizontalpodautoscalers.autoscaling": AutoscalerStrategy}
