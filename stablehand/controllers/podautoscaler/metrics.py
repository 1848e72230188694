"""What each metric of an autoscaler's spec says: a replica count, its current value, or why neither is known."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from stablehand.controllers.podautoscaler import replicas
from stablehand.controllers.podautoscaler.replicas import Count, Tolerances, Uncountable
from stablehand.controllers.podautoscaler.sources import Sources, selector_text
from stablehand.machinery import quantity
from stablehand.machinery.resources import Resource
from stablehand.machinery.types import Obj
from stablehand.runtime.discovery import Catalog

_KEYS = {
    "Resource": "resource",
    "ContainerResource": "containerResource",
    "Pods": "pods",
    "Object": "object",
    "External": "external",
}


class MetricFailed(Exception):
    """`reason` is the condition's and the event's."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Target:
    """What is scaled: its namespace, selector and pods; `specified` and `observed` replicas of its Scale."""

    namespace: str
    selector: str
    pods: list[Obj]
    specified: int
    observed: int


@dataclass(frozen=True, slots=True)
class Proposal:
    """`status` is a MetricStatus; `name` tells the metric in events."""

    replicas: int
    name: str
    status: Obj


class Evaluator:
    def __init__(self, sources: Sources, catalog: Catalog) -> None:
        self._sources, self._catalog = sources, catalog

    async def evaluate(self, spec: Obj, target: Target, tolerances: Tolerances, now: float) -> Proposal:
        """One MetricSpec. Raises MetricFailed."""
        kind = spec.get("type") or ""
        key = _KEYS.get(kind)
        if key is None:
            raise MetricFailed("InvalidMetricSourceType", f'unknown metric source type "{kind}"')
        source: Obj = spec.get(key) or {}
        try:
            if kind in ("Resource", "ContainerResource"):
                count, name, current = await self._resource(source, target, tolerances, now)
            elif kind == "Pods":
                count, name, current = await self._pods(source, target, tolerances, now)
            elif kind == "Object":
                count, name, current = await self._object(source, target, tolerances)
            else:
                count, name, current = await self._external(source, target, tolerances)
        except Uncountable as e:
            raise MetricFailed(f"FailedGet{kind}Metric", str(e)) from e
        identity = {k: source[k] for k in ("name", "container", "metric", "describedObject") if k in source}
        return Proposal(count.replicas, name, {"type": kind, key: {**identity, "current": current}})

    async def _resource(
        self, source: Obj, target: Target, tolerances: Tolerances, now: float
    ) -> tuple[Count, str, Obj]:
        name, container, wanted = source["name"], source.get("container") or "", source.get("target") or {}
        average, percent = wanted.get("averageValue"), wanted.get("averageUtilization")
        what = "usage" if average is not None else "utilization"
        if average is None and percent is None:
            raise Uncountable(
                "invalid resource metric source: neither an average utilization target nor an average value (usage) "
                "target was set"
            )
        try:
            try:
                measures = await self._sources.resource(name, target.namespace, target.selector, container)
            except Uncountable as e:
                raise Uncountable(f"unable to get metrics for resource {name}: {e}") from e
            is_cpu = name == "cpu"
            if average is not None:
                count = replicas.by_value(
                    target.specified, quantity.milli(average), measures, target.pods, tolerances,
                    is_cpu=is_cpu, now=now,
                )  # fmt: skip
                return count, f"{name} resource", {"averageValue": milli_text(count.value)}
            asked = replicas.requests(target.pods, name, container)
            count = replicas.by_utilization(
                target.specified, int(percent or 0), measures, target.pods, asked, tolerances, is_cpu=is_cpu, now=now
            )
        except Uncountable as e:
            raise Uncountable(f"failed to get {name} {what}: {e}") from e
        current = {"averageUtilization": count.utilization, "averageValue": milli_text(count.value)}
        return count, f"{name} resource utilization (percentage of request)", current

    async def _pods(self, source: Obj, target: Target, tolerances: Tolerances, now: float) -> tuple[Count, str, Obj]:
        metric, wanted = source["metric"], source.get("target") or {}
        try:
            measures = await self._sources.pods(metric, target.namespace, target.selector)
        except Uncountable as e:
            raise Uncountable(f"failed to get pods metric value: unable to get metric {metric['name']}: {e}") from e
        try:
            average = quantity.milli(wanted.get("averageValue") or 0)
            count = replicas.by_value(target.specified, average, measures, target.pods, tolerances, now=now)
        except Uncountable as e:
            raise Uncountable(f"failed to get pods metric value: {e}") from e
        return count, f"pods metric {metric['name']}", {"averageValue": milli_text(count.value)}

    async def _object(self, source: Obj, target: Target, tolerances: Tolerances) -> tuple[Count, str, Obj]:
        metric, of = source["metric"], source["describedObject"]
        try:
            total = await self._sources.object(metric, self._described(of), of["name"], target.namespace)
        except Uncountable as e:
            text = f"unable to get metric {metric['name']}: {of.get('kind')} on {target.namespace} {of['name']}/{e}"
            raise Uncountable(f"failed to get object metric value: {text}") from e
        count, current = _whole(source.get("target") or {}, total, target, tolerances)
        return count, f"{of.get('kind')} metric {metric['name']}", current

    def _described(self, reference: Obj) -> Resource:
        found = self._catalog.by_kind(reference.get("apiVersion") or "v1", reference.get("kind") or "")
        if found is None:
            raise Uncountable(f'no matches for kind "{reference.get("kind")}"')
        return found

    async def _external(self, source: Obj, target: Target, tolerances: Tolerances) -> tuple[Count, str, Obj]:
        metric = source["metric"]
        try:
            total = await self._sources.external(metric, target.namespace)
        except Uncountable as e:
            shown = f"{target.namespace}/{metric['name']}/{selector_text(metric) or 'nil'}"
            text = f"unable to get external metric {shown}: {e}"
            raise Uncountable(f"failed to get {metric['name']} external metric value: {text}") from e
        count, current = _whole(source.get("target") or {}, total, target, tolerances)
        return count, f"external metric {metric['name']}({selector_text(metric) or 'nil'})", current


def _whole(wanted: Obj, total: int, target: Target, tolerances: Tolerances) -> tuple[Count, Obj]:
    """One value of everything, against a target for everything or for each replica. Raises Uncountable."""
    if wanted.get("type") == "AverageValue" or (wanted.get("averageValue") is not None and not wanted.get("value")):
        average = quantity.milli(wanted.get("averageValue") or 0)
        if average <= 0:
            raise Uncountable("invalid metric source: the average value target must be positive")
        count = replicas.by_share(target.observed, average, total, tolerances)
        return count, {"averageValue": milli_text(count.value)}
    value = quantity.milli(wanted.get("value") or 0)
    if value <= 0:
        raise Uncountable("invalid metric source: neither a value target nor an average value target was set")
    count = replicas.by_total(target.specified, value, total, target.pods, tolerances)
    return count, {"value": milli_text(count.value)}


def milli_text(value: int) -> str:
    """Thousandths as a canonical quantity."""
    return quantity.format_decimal(Decimal(value) / 1000)
