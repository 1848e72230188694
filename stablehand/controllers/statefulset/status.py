"""A set's status: counting it from the replicas, and writing it without holding up the next pod."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from stablehand.client import ApiError, Client, Conflict, NotFound, Unavailable
from stablehand.controllers.statefulset import identity
from stablehand.controllers.statefulset.replica import Replica
from stablehand.machinery import meta
from stablehand.machinery.types import Obj
from stablehand.runtime import Informer

log = logging.getLogger("stablehand.statefulset")

# While a rollout runs, a set's status is written at most this often (in seconds): the last state always is.
WRITE_GAP = 0.02
_COUNTERS = ("replicas", "readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas")


@dataclass(slots=True)
class Counts:
    replicas: int = 0
    ready: int = 0
    available: int = 0
    current: int = 0
    updated: int = 0


def count(replicas: Iterable[Replica], current: str, update: str, min_ready: int, now: float) -> Counts:
    """Created pods, condemned and terminating ones included; the revision counters leave out the terminating."""
    out = Counts()
    for replica in replicas:
        if not replica.created:
            continue
        out.replicas += 1
        if replica.ready:
            out.ready += 1
            if replica.available(min_ready, now):
                out.available += 1
        if not replica.terminating:
            if replica.revision == current:
                out.current += 1
            if replica.revision == update:
                out.updated += 1
    return out


def build(set_: Obj, counts: Counts, current: str, update: str, collision_count: int) -> Obj:
    """The whole status. A finished rollout makes the update revision the current one."""
    if identity.update_type(set_) == "RollingUpdate" and (
        counts.updated == counts.ready == counts.replicas == identity.desired(set_)
    ):
        counts.current, current = counts.updated, update
    status: Obj = {"observedGeneration": set_["metadata"].get("generation") or 0, "replicas": counts.replicas}
    for field, value in (
        ("readyReplicas", counts.ready),
        ("currentReplicas", counts.current),
        ("updatedReplicas", counts.updated),
    ):
        if value:
            status[field] = value
    status.update(
        currentRevision=current,
        updateRevision=update,
        collisionCount=collision_count,
        availableReplicas=counts.available,
    )
    return status


def differs(new: Obj, old: Obj) -> bool:
    """Is the new status worth a write? Conditions, which the controller never sets, do not count."""
    return (
        new["observedGeneration"] > (old.get("observedGeneration") or 0)
        or any((new.get(f) or 0) != (old.get(f) or 0) for f in _COUNTERS)
        or new["currentRevision"] != old.get("currentRevision")
        or new["updateRevision"] != old.get("updateRevision")
    )


class StatusWriter:
    """Writes statuses in the background: one write per set at a time, the newest wins.

    Until a write is through, `effective` answers what will be written, so that the next sync builds on it.
    """

    def __init__(self, client: Client, sets: Informer, failed: Callable[[tuple[str, str]], object]) -> None:
        self._client = client
        self._sets = sets
        self._failed = failed
        self._wanted: dict[str, tuple[tuple[str, str], Obj]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._last: dict[str, float] = {}
        self.observing = False  # while our own write is taken into the cache

    def effective(self, set_: Obj) -> Obj:
        wanted = self._wanted.get(meta.uid(set_))
        return wanted[1] if wanted else set_.get("status") or {}

    def submit(self, set_: Obj, status: Obj) -> None:
        """Arranges for the status to be written if it differs."""
        if not differs(status, self.effective(set_)):
            return
        uid = meta.uid(set_)
        self._wanted[uid] = (meta.key(set_), status)
        if uid not in self._tasks:
            task = asyncio.get_running_loop().create_task(self._write(uid), name=f"statefulset-status/{uid}")
            self._tasks[uid] = task

    async def flush(self) -> None:
        """Waits until everything submitted so far has been written or has failed."""
        while self._tasks:
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def forget(self, uid: str) -> None:
        self._wanted.pop(uid, None)
        self._last.pop(uid, None)

    async def _write(self, uid: str) -> None:
        loop = asyncio.get_running_loop()
        try:
            while uid in self._wanted:
                pause = self._last.get(uid, 0.0) + WRITE_GAP - loop.time()
                if pause > 0:
                    await asyncio.sleep(pause)
                entry = self._wanted.get(uid)
                if entry is None:
                    return
                self._last[uid] = loop.time()
                key, status = entry
                await self._send(uid, key, status)
                if self._wanted.get(uid) is entry:
                    del self._wanted[uid]
        except (ApiError, Unavailable) as e:
            entry = self._wanted.pop(uid, None)
            log.info("status of %s not written: %s", entry[0] if entry else uid, e)
            if entry:
                self._failed(entry[0])
        finally:
            self._tasks.pop(uid, None)

    async def _send(self, uid: str, key: tuple[str, str], status: Obj) -> None:
        set_ = self._sets.cached(*key)
        while True:
            if set_ is None or meta.uid(set_) != uid:
                return
            try:
                written = await self._client.update(
                    self._sets.resource, {**set_, "status": status}, subresource="status"
                )
            except NotFound:
                return
            except Conflict:
                try:
                    set_ = await self._client.get(self._sets.resource, key[1], key[0])
                except NotFound:
                    return
                continue
            self.observing = True
            try:
                self._sets.observe(written)
            finally:
                self.observing = False
            return
