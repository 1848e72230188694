"""Leader election on an Endpoints object, as provisioners of sig-storage-lib v6 do it: they exclude one another."""

from __future__ import annotations

import json
import logging
import time

from stablehand.client import AlreadyExists, ApiError, Conflict, Forbidden, NotFound, Unavailable
from stablehand.machinery import meta
from stablehand.machinery.resources import resource
from stablehand.machinery.times import format_time
from stablehand.machinery.types import Obj
from stablehand.runtime.leases import LeaderElection

log = logging.getLogger("stablehand.provisioner")

ENDPOINTS = resource("endpoints")
LEADER = "control-plane.alpha.kubernetes.io/leader"


class EndpointsElection(LeaderElection):
    """LeaderElection whose record is an annotation of an Endpoints object."""

    _said = ""

    async def _acquire(self) -> bool:
        try:
            return await self._take()
        except Forbidden as e:
            if self._said != e.message:
                self._said = e.message
                log.error("cannot become leader, rights on endpoints are missing; will try again: %s", e.message)
            return False

    async def _take(self) -> bool:
        now = format_time(time.time())
        record: Obj = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": int(self._duration),
            "acquireTime": now,
            "renewTime": now,
            "leaderTransitions": 0,
        }
        try:
            lock = await self._client.get(ENDPOINTS, self._name, self._namespace)
        except NotFound:
            new: Obj = {
                "apiVersion": "v1",
                "kind": "Endpoints",
                "metadata": {
                    "name": self._name,
                    "namespace": self._namespace,
                    "annotations": {LEADER: json.dumps(record)},
                },
            }
            try:
                await self._client.create(ENDPOINTS, new)
            except AlreadyExists:
                return False
            return True
        version = lock["metadata"]["resourceVersion"]
        if self._seen[0] != version:
            self._seen = (version, time.monotonic())
        held = _record(lock)
        holder = held.get("holderIdentity") or ""
        if holder and holder != self._identity:
            if time.monotonic() - self._seen[1] < float(held.get("leaseDurationSeconds") or self._duration):
                return False
        record["leaderTransitions"] = int(held.get("leaderTransitions") or 0)
        if holder == self._identity:
            record["acquireTime"] = held.get("acquireTime") or now
        else:
            record["leaderTransitions"] += 1
        return await self._write(lock, record)

    async def _write(self, lock: Obj, record: Obj) -> bool:
        annotations = {**meta.annotations(lock), LEADER: json.dumps(record)}
        changed = {**lock, "metadata": {**lock["metadata"], "annotations": annotations}}
        try:
            await self._client.update(ENDPOINTS, changed)
        except Conflict:
            return False
        return True

    async def _give_up(self) -> None:
        """Empties the record that we hold, as client-go's ReleaseOnCancel does: the next one need not wait 15 s."""
        try:
            lock = await self._client.get(ENDPOINTS, self._name, self._namespace)
            held = _record(lock)
            if held.get("holderIdentity") == self._identity:
                await self._write(lock, {**held, "holderIdentity": "", "leaseDurationSeconds": 1})
        except (ApiError, Unavailable) as e:
            log.debug("giving up %s: %s", self._name, e)


def _record(lock: Obj) -> Obj:
    try:
        held = json.loads(meta.annotations(lock).get(LEADER) or "{}")
    except ValueError:
        return {}
    return held if isinstance(held, dict) else {}
