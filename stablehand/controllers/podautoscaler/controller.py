"""Looks at each autoscaler every 15 seconds, and when its spec changes: scale, metrics, decision, status."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from stablehand.client import ApiError, Client, Conflict, NotFound, Unavailable
from stablehand.controllers.podautoscaler import behavior
from stablehand.controllers.podautoscaler.behavior import History
from stablehand.controllers.podautoscaler.metrics import Evaluator, MetricFailed, Proposal, Target
from stablehand.controllers.podautoscaler.sources import Sources
from stablehand.machinery import meta
from stablehand.machinery.conditions import set_condition
from stablehand.machinery.resources import Resource, resource
from stablehand.machinery.selectors import Selector, SelectorError, parse_selector
from stablehand.machinery.times import format_time
from stablehand.machinery.types import Obj, copy_object
from stablehand.runtime import Controller, EventRecorder, Informers, Result, writes
from stablehand.runtime.discovery import Catalog

log = logging.getLogger("stablehand.autoscaler")

AUTOSCALERS = resource("horizontalpodautoscalers.autoscaling")
PERIOD = 15.0  # --horizontal-pod-autoscaler-sync-period

Key = tuple[str, str]


class _Failed(Exception):
    """This round ends here; the status says why."""


@dataclass(slots=True)
class _Round:
    """One look at one autoscaler. `status` is what will be written."""

    hpa: Obj
    status: Obj
    now: float
    error: str = ""
    metrics: list[Obj] = field(default_factory=list)

    def condition(self, kind: str, value: bool, reason: str, message: str) -> None:
        set_condition(self.status, kind, "True" if value else "False", reason, message, self.now)


class PodAutoscalerController(Controller):
    name = "horizontal-pod-autoscaler"

    def __init__(
        self,
        client: Client,
        informers: Informers,
        catalog: Catalog,
        *,
        clock: Callable[[], float] = time.time,
        period: float = PERIOD,
    ) -> None:
        super().__init__(workers=5)
        self._client = client = client.with_manager("horizontal-pod-autoscaler")
        self._clock, self._period, self._catalog = clock, period, catalog
        self._evaluator = Evaluator(Sources(client), catalog)
        self._autoscalers = informers.get(AUTOSCALERS)
        self._pods = informers.get(resource("pods"))
        self.wait_for = [self._autoscalers, self._pods]
        self.events = EventRecorder(client, "horizontal-pod-autoscaler")
        self._histories: dict[Key, History] = {}
        self._selectors: dict[Key, Selector] = {}
        self._autoscalers.on_change(self._changed)

    def _changed(self, event: str, old: Obj | None, new: Obj) -> None:
        key = meta.key(new)
        if event == "DELETED":
            self._histories.pop(key, None)
            self._selectors.pop(key, None)
        elif old is None or old.get("spec") != new.get("spec"):
            self.enqueue(key)

    async def reconcile(self, key: Key) -> Result | None:
        hpa = self._autoscalers.cached(*key)
        if hpa is None:
            return None
        await self._catalog.loaded.wait()
        this = _Round(hpa, copy_object(hpa.get("status") or {}), self._clock())
        try:
            await self._look(key, this)
        except _Failed as e:
            log.info("%s/%s: %s", *key, e)
        await self._write(this)
        return Result(after=self._period)

    async def _look(self, key: Key, this: _Round) -> None:
        """Raises _Failed where the round ends early."""
        hpa, now = this.hpa, this.now
        spec, namespace = hpa["spec"], key[0]
        res, scale = await self._scale(this, namespace)
        this.condition(
            "AbleToScale", True, "SucceededGetScale",
            "the HPA controller was able to get the target's current scale",
        )  # fmt: skip
        current = int((scale.get("spec") or {}).get("replicas") or 0)
        history = self._histories.get(key)
        if history is None:
            history = self._histories[key] = History(recommended=[(now, current)])
        least = 1 if spec.get("minReplicas") is None else int(spec["minReplicas"])
        most, rules = int(spec["maxReplicas"]), spec.get("behavior")
        this.status["currentReplicas"] = current
        if current == 0 and least != 0:
            text = "scaling is disabled since the replica count of the target is zero"
            this.condition("ScalingActive", False, "ScalingDisabled", text)
            self._settled(this, 0)
            return
        if current > most:
            desired, why = most, "Current number of replicas above Spec.MaxReplicas"
        elif current < least:
            desired, why = least, "Current number of replicas below Spec.MinReplicas"
        else:
            best = await self._recommend(key, this, scale, rules)
            why = f"{best.name} above target" if best.replicas > current else "All metrics below target"
            decision = behavior.decide(current, best.replicas, least, most, rules, history, now)
            this.condition("AbleToScale", True, *decision.stable)
            this.condition("ScalingLimited", decision.limited, *decision.bound)
            desired = decision.replicas
        if desired == current:
            self._settled(this, current)
            return
        await self._rescale(this, res, scale, desired, why)
        behavior.record(history, rules, current, desired, now)
        self._settled(this, desired)
        this.status["lastScaleTime"] = format_time(now)

    def _settled(self, this: _Round, desired: int) -> None:
        this.status["desiredReplicas"] = desired
        if this.metrics:
            this.status["currentMetrics"] = this.metrics
        else:
            this.status.pop("currentMetrics", None)

    async def _scale(self, this: _Round, namespace: str) -> tuple[Resource, Obj]:
        """The target's kind and its Scale. Raises _Failed."""
        reference = this.hpa["spec"]["scaleTargetRef"]
        version, kind, name = reference.get("apiVersion") or "v1", reference.get("kind") or "", reference["name"]
        res = self._catalog.by_kind(version, kind)
        if res is None:
            group = version.rpartition("/")[0]
            error = f'no matches for kind "{kind}" in group "{group}"'
            self._unscalable(this, f"unable to determine resource for scale target reference: {error}", error)
            raise _Failed(error)
        try:
            return res, await self._client.get(res, name, namespace, subresource="scale")
        except (ApiError, Unavailable) as e:
            self._unscalable(this, str(e), str(e))
            raise _Failed(f"failed to query scale subresource for {kind}/{namespace}/{name}: {e}") from e

    def _unscalable(self, this: _Round, event: str, error: str) -> None:
        self.events.event(this.hpa, "Warning", "FailedGetScale", event)
        text = f"the HPA controller was unable to get the target's current scale: {error}"
        this.condition("AbleToScale", False, "FailedGetScale", text)

    async def _recommend(self, key: Key, this: _Round, scale: Obj, rules: Obj | None) -> Proposal:
        """The highest count that a metric calls for. Raises _Failed when there is none to follow."""
        target = self._target(key, this, scale)
        specs = this.hpa["spec"].get("metrics") or []
        best: Proposal | None = None
        failures: list[MetricFailed] = []
        statuses: list[Obj] = []
        for spec in specs:
            try:
                found = await self._evaluator.evaluate(spec, target, behavior.tolerances(rules), this.now)
            except MetricFailed as e:
                failures.append(e)
                self.events.event(this.hpa, "Warning", e.reason, str(e))
                statuses.append({"type": ""})  # a status has its metric's place in the spec
                continue
            statuses.append(found.status)
            if best is None or best.replicas == 0 or found.replicas > best.replicas:
                best = found
        this.metrics = statuses
        if best is None or (failures and best.replicas < target.specified):
            # Without every metric nothing is taken away: the missing one might want more.
            first = failures[0]
            text = f"the HPA was unable to compute the replica count: {first}"
            this.condition("ScalingActive", False, first.reason, text)
            this.status["currentMetrics"] = statuses
            error = f"invalid metrics ({len(failures)} invalid out of {len(specs)}), first error is: {first}"
            self.events.event(this.hpa, "Warning", "FailedComputeMetricsReplicas", error)
            raise _Failed(error)
        text = f"the HPA was able to successfully calculate a replica count from {best.name}"
        this.condition("ScalingActive", True, "ValidMetricFound", text)
        return best

    def _target(self, key: Key, this: _Round, scale: Obj) -> Target:
        """Raises _Failed for a selector that is none, or another autoscaler's too."""
        status = scale.get("status") or {}
        text = status.get("selector") or ""
        if not text:
            self._bad_selector(
                this, "SelectorRequired", "selector is required",
                "InvalidSelector", "the HPA target's scale is missing a selector",
            )  # fmt: skip
        try:
            selector = parse_selector(text)
        except SelectorError as e:
            error = f"couldn't convert selector into a corresponding internal selector object: {e}"
            self._bad_selector(this, "InvalidSelector", error, "InvalidSelector", error)
        pods = [p for p in self._pods.items(key[0]) if selector.matches(meta.labels(p))]
        self._selectors[key] = selector
        others = [
            name
            for (namespace, name), other in self._selectors.items()
            if namespace == key[0] and (namespace, name) != key and any(other.matches(meta.labels(p)) for p in pods)
        ]
        if others:
            shown = " ".join(f"{key[0]}/{name}" for name in sorted([key[1], *others]))
            error = f"pods by selector {text} are controlled by multiple HPAs: [{shown}]"
            self._bad_selector(this, "AmbiguousSelector", error, "AmbiguousSelector", error)
        specified, observed = (scale.get("spec") or {}).get("replicas") or 0, status.get("replicas") or 0
        return Target(key[0], text, pods, int(specified), int(observed))

    def _bad_selector(self, this: _Round, event: str, told: str, reason: str, message: str) -> None:
        self.events.event(this.hpa, "Warning", event, told)
        this.condition("ScalingActive", False, reason, message)
        raise _Failed(told)

    async def _rescale(self, this: _Round, res: Resource, scale: Obj, desired: int, why: str) -> None:
        """Raises _Failed."""
        wanted = {**scale, "spec": {**(scale.get("spec") or {}), "replicas": desired}}
        try:
            await self._client.update(res, wanted, subresource="scale")
        except (ApiError, Unavailable) as e:
            text = f"New size: {desired}; reason: {why}; error: {e}"
            self.events.event(this.hpa, "Warning", "FailedRescale", text)
            this.condition(
                "AbleToScale", False, "FailedUpdateScale",
                f"the HPA controller was unable to update the target scale: {e}",
            )  # fmt: skip
            raise _Failed(f"failed to rescale {scale['metadata'].get('name')}: {e}") from e
        this.condition(
            "AbleToScale", True, "SucceededRescale",
            f"the HPA controller was able to update the target scale to {desired}",
        )  # fmt: skip
        self.events.event(this.hpa, "Normal", "SuccessfulRescale", f"New size: {desired}; reason: {why}")

    async def _write(self, this: _Round) -> None:
        if this.status == (this.hpa.get("status") or {}):
            return
        this.status.setdefault("desiredReplicas", 0)
        try:
            await writes.update(
                self._client, self._autoscalers, {**this.hpa, "status": this.status}, subresource="status"
            )
        except NotFound:
            return
        except Conflict:
            # Changed meanwhile: the next round begins from what it is now.
            self.enqueue_after(meta.key(this.hpa), 1.0)
