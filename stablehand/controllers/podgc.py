"""Removes pods that nobody else will: on nodes that are gone, terminating without a node, and too many that ended."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from stablehand.client import Client, Conflict, NotFound
from stablehand.machinery import meta
from stablehand.machinery.pods import is_over
from stablehand.machinery.resources import resource
from stablehand.machinery.times import format_time
from stablehand.machinery.types import Obj
from stablehand.runtime import Controller, Informers, Result

log = logging.getLogger("stablehand.podgc")

_PERIOD, _QUARANTINE, _KEEP = 20.0, 40.0, 12_500
_ROUND = "round"


class PodCollector(Controller):
    name = "pod-garbage-collector"

    def __init__(
        self,
        client: Client,
        informers: Informers,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(workers=1)
        self._client = client.with_manager("pod-garbage-collector")
        self._clock, self._monotonic = clock, monotonic
        self._pods = informers.get(resource("pods"))
        self._nodes = informers.get(resource("nodes"))
        self.wait_for = [self._pods, self._nodes]
        self._missing: dict[str, float] = {}
        self.enqueue(_ROUND)

    async def reconcile(self, key: str) -> Result | None:
        present = {meta.name(node) for node in self._nodes.items()}
        now = self._monotonic()
        pods = self._pods.items()
        absent = {p["spec"]["nodeName"] for p in pods if p["spec"].get("nodeName")} - present
        self._missing = {name: self._missing.get(name, now) for name in absent}
        gone = {
            name for name, since in self._missing.items() if now - since >= _QUARANTINE and await self._is_gone(name)
        }
        over = sorted((p for p in pods if is_over(p)), key=lambda p: p["metadata"].get("creationTimestamp") or "")
        surplus = {meta.uid(p) for p in over[: max(0, len(over) - _KEEP)]}
        for pod in pods:
            if pod["spec"].get("nodeName") in gone:
                await self._remove(pod, "PodGC: node no longer exists")
            elif (meta.deletion_timestamp(pod) and not pod["spec"].get("nodeName")) or (
                meta.uid(pod) in surplus and not meta.deletion_timestamp(pod)
            ):
                await self._remove(pod, None)
        return Result(after=_PERIOD)

    async def _is_gone(self, name: str) -> bool:
        try:
            await self._client.get(self._nodes.resource, name)
        except NotFound:
            return True
        return False

    async def _remove(self, pod: Obj, why: str | None) -> None:
        name, namespace = meta.name(pod), meta.namespace(pod)
        try:
            if not is_over(pod):
                status: Obj = {"phase": "Failed"}
                if why is not None:
                    condition = {
                        "type": "DisruptionTarget",
                        "status": "True",
                        "reason": "DeletionByPodGC",
                        "message": why,
                        "lastTransitionTime": format_time(self._clock()),
                    }
                    status["conditions"] = [condition]
                await self._client.patch(
                    self._pods.resource, name, {"status": status}, namespace, kind="strategic", subresource="status"
                )
            await self._client.delete(self._pods.resource, name, namespace, grace=0, uid=meta.uid(pod))
        except (NotFound, Conflict):
            return
