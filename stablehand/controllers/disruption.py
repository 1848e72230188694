"""PodDisruptionBudgets: how many of their pods are healthy, and how many may be evicted now."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from stablehand.client import Client, NotFound
from stablehand.machinery import meta
from stablehand.machinery.conditions import is_pod_ready, set_condition
from stablehand.machinery.pods import change_matters, is_over
from stablehand.machinery.resources import resource
from stablehand.machinery.selectors import SelectorError, from_label_selector
from stablehand.machinery.times import parse_time
from stablehand.machinery.types import Obj, copy_object
from stablehand.runtime import Controller, EventRecorder, Informer, Informers, Result, writes

_EVICTION_TIMEOUT = 120.0


class DisruptionController(Controller):
    name = "disruption"

    def __init__(self, client: Client, informers: Informers, *, clock: Callable[[], float] = time.time) -> None:
        super().__init__(workers=1)
        self._client = client = client.with_manager("disruption-controller")
        self._clock = clock
        self._budgets = informers.get(resource("poddisruptionbudgets.policy"))
        self._pods = informers.get(resource("pods"))
        self._owners: dict[str, Informer] = {
            kind: informers.get(resource(key))
            for kind, key in (
                ("ReplicaSet", "replicasets.apps"),
                ("Deployment", "deployments.apps"),
                ("StatefulSet", "statefulsets.apps"),
                ("ReplicationController", "replicationcontrollers"),
            )
        }
        self.wait_for = [self._budgets, self._pods, *self._owners.values()]
        self.events = EventRecorder(client, "controllermanager")
        self._budgets.on_change(lambda event, old, new: self.enqueue(meta.key(new)))
        self._pods.on_change(self._pod_changed)
        for informer in self._owners.values():
            informer.on_change(self._owner_changed)

    def _pod_changed(self, event: str, old: Obj | None, new: Obj) -> None:
        if event == "MODIFIED" and old is not None and not change_matters(old, new):
            return
        for budget in self._budgets.items(meta.namespace(new)):
            self.enqueue_after(meta.key(budget), 0.05)

    def _owner_changed(self, event: str, old: Obj | None, new: Obj) -> None:
        if old is not None and old["spec"].get("replicas") == new["spec"].get("replicas"):
            return
        for budget in self._budgets.items(meta.namespace(new)):
            self.enqueue_after(meta.key(budget), 0.05)

    async def reconcile(self, key: tuple[str, str]) -> Result | None:
        budget = self._budgets.cached(*key)
        if budget is None:
            return None
        try:
            selector = from_label_selector(budget["spec"].get("selector"))
        except SelectorError:
            return None
        pods = [p for p in self._pods.items(key[0]) if selector.matches(meta.labels(p)) and not is_over(p)]
        if not pods:
            self.events.event(budget, "Normal", "NoPods", "No matching pods found")
        now = self._clock()
        status = copy_object(budget.get("status") or {})
        disrupted = self._disrupted(status, pods, now)
        expected, desired = self._expected(budget, pods)
        healthy = sum(
            1 for p in pods if is_pod_ready(p) and not meta.deletion_timestamp(p) and meta.name(p) not in disrupted
        )
        allowed = max(0, healthy - desired) if expected > 0 else 0
        status.update(
            currentHealthy=healthy,
            desiredHealthy=desired,
            expectedPods=expected,
            disruptionsAllowed=allowed,
            observedGeneration=budget["metadata"].get("generation") or 0,
        )
        if disrupted:
            status["disruptedPods"] = disrupted
        else:
            status.pop("disruptedPods", None)
        if allowed > 0:
            set_condition(status, "DisruptionAllowed", "True", "SufficientPods", "", now)
        else:
            set_condition(status, "DisruptionAllowed", "False", "InsufficientPods", "", now)
        for condition in status["conditions"]:
            condition["observedGeneration"] = status["observedGeneration"]
            condition.setdefault("message", "")
        if status != (budget.get("status") or {}):
            try:
                await writes.update(self._client, self._budgets, {**budget, "status": status}, subresource="status")
            except NotFound:
                return None
        return Result(after=_EVICTION_TIMEOUT) if disrupted else None

    @staticmethod
    def _disrupted(status: Obj, pods: list[Obj], now: float) -> dict[str, str]:
        """Evictions that were let through and are not visible yet."""
        by_name = {meta.name(p): p for p in pods}
        return {
            name: stamp
            for name, stamp in (status.get("disruptedPods") or {}).items()
            if name in by_name
            and not meta.deletion_timestamp(by_name[name])
            and parse_time(stamp) + _EVICTION_TIMEOUT > now
        }

    def _expected(self, budget: Obj, pods: list[Obj]) -> tuple[int, int]:
        """(pods that there should be, how many of them must be healthy)."""
        spec = budget["spec"]
        minimum, unavailable = spec.get("minAvailable"), spec.get("maxUnavailable")
        if unavailable is not None:
            expected = self._scale(pods)
            return expected, max(0, expected - _share(unavailable, expected))
        if isinstance(minimum, str):
            expected = self._scale(pods)
            return expected, _share(minimum, expected)
        return len(pods), int(minimum or 0)

    def _scale(self, pods: list[Obj]) -> int:
        """The replicas that the pods' workloads ask for; a pod without a scalable owner counts for itself."""
        total, seen = 0, set()
        for pod in pods:
            ref, namespace = meta.controller_of(pod), meta.namespace(pod)
            owner = self._owner(ref, namespace)
            if owner is None:
                total += 1
                continue
            above = meta.controller_of(owner)
            if above is not None and above.get("kind") == "Deployment":
                owner = self._owner(above, namespace) or owner
            if meta.uid(owner) not in seen:
                seen.add(meta.uid(owner))
                replicas = owner["spec"].get("replicas")
                total += 1 if replicas is None else int(replicas)
        return total

    def _owner(self, ref: Obj | None, namespace: str) -> Obj | None:
        informer = self._owners.get(ref.get("kind") or "") if ref else None
        found = informer.cached(namespace, (ref or {}).get("name") or "") if informer else None
        return found if found is not None and meta.uid(found) == (ref or {}).get("uid") else None


def _share(value: int | str, of: int) -> int:
    if isinstance(value, str) and value.endswith("%"):
        return math.ceil(int(value[:-1]) * of / 100)
    return int(value)
