"""Deletes finished jobs once their ttlSecondsAfterFinished is over."""

from __future__ import annotations

import time
from collections.abc import Callable

from stablehand.client import Client, NotFound
from stablehand.machinery import meta
from stablehand.machinery.conditions import get_condition
from stablehand.machinery.resources import resource
from stablehand.machinery.times import parse_time
from stablehand.machinery.types import Obj
from stablehand.runtime import Controller, Informers, Result


class TtlAfterFinishedController(Controller):
    name = "ttl-after-finished"

    def __init__(self, client: Client, informers: Informers, *, clock: Callable[[], float] = time.time) -> None:
        super().__init__(workers=1)
        self._client = client.with_manager("ttl-after-finished-controller")
        self._clock = clock
        self._jobs = informers.get(resource("jobs.batch"))
        self.wait_for = [self._jobs]
        self._jobs.on_change(self._job_changed)

    def _job_changed(self, event: str, old: Obj | None, new: Obj) -> None:
        if event != "DELETED" and new["spec"].get("ttlSecondsAfterFinished") is not None and finished_at(new):
            self.enqueue(meta.key(new))

    async def reconcile(self, key: tuple[str, str]) -> Result | None:
        job = self._jobs.cached(*key)
        if job is None or meta.deletion_timestamp(job):
            return None
        left = _left(job, self._clock())
        if left is None:
            return None
        if left > 0:
            return Result(after=left)
        try:
            live = await self._client.get(self._jobs.resource, key[1], key[0])
            left = _left(live, self._clock())
            if left is not None and left <= 0:
                await self._client.delete(
                    self._jobs.resource, key[1], key[0], propagation="Foreground", uid=meta.uid(live)
                )
        except NotFound:
            return None
        return None


def finished_at(job: Obj) -> float | None:
    for kind in ("Complete", "Failed"):
        condition = get_condition(job.get("status"), kind)
        if condition is not None and condition.get("status") == "True" and condition.get("lastTransitionTime"):
            return parse_time(condition["lastTransitionTime"])
    return None


def _left(job: Obj, now: float) -> float | None:
    ttl, finished = job["spec"].get("ttlSecondsAfterFinished"), finished_at(job)
    return None if ttl is None or finished is None else finished + float(ttl) - now
