"""Leader election on a coordination/v1 Lease, with client-go's timings: 15 s lease, 10 s to renew, 2 s a try."""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import time
import uuid
from collections.abc import Awaitable, Callable

from stablehand.client import AlreadyExists, ApiError, Client, Conflict, NotFound, Unavailable
from stablehand.machinery.resources import resource
from stablehand.machinery.times import format_micro_time
from stablehand.machinery.types import Obj

log = logging.getLogger("stablehand.leases")

LEASES = resource("leases.coordination.k8s.io")


class LeadershipLost(Exception):
    """The lease could not be renewed in time; someone else may lead now."""


def identity() -> str:
    """A candidate's name, of its own for each run: the host's name and a UUID, as upstream's."""
    return f"{socket.gethostname()}_{uuid.uuid4()}"


class LeaderElection:
    def __init__(
        self,
        client: Client,
        namespace: str,
        name: str,
        identity: str,
        *,
        duration: float = 15.0,
        deadline: float = 10.0,
        period: float = 2.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._namespace, self._name, self._identity = namespace, name, identity
        self._duration, self._deadline, self._period = duration, deadline, period
        self._clock = clock
        self._seen: tuple[str, float] = ("", 0.0)  # the lease's version, and when (monotonic) we first saw it

    async def lead(self, work: Callable[[], Awaitable[None]]) -> None:
        """Waits for the lease, then runs `work` while renewing it. Raises LeadershipLost; gives the lease up on
        cancellation."""
        while not await self._try():
            await asyncio.sleep(self._period * random.uniform(1.0, 1.2))
        log.info("%s leads %s", self._identity, self._name)
        task = asyncio.ensure_future(work())
        try:
            renewed = time.monotonic()
            while True:
                done, _ = await asyncio.wait({task}, timeout=self._period)
                if done:
                    await task
                    return
                if await self._try():
                    renewed = time.monotonic()
                elif time.monotonic() - renewed > self._deadline:
                    raise LeadershipLost(f"{self._identity} no longer leads {self._name}")
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await asyncio.shield(self._give_up())

    async def _try(self) -> bool:
        """Takes or renews the lease; False where someone else holds it or the server does not answer."""
        try:
            return await asyncio.wait_for(self._acquire(), self._deadline)
        except (ApiError, Unavailable, TimeoutError) as e:
            log.debug("lease %s: %s", self._name, e)
            return False

    async def _acquire(self) -> bool:
        now = format_micro_time(self._clock())
        try:
            lease = await self._client.get(LEASES, self._name, self._namespace)
        except NotFound:
            new: Obj = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": self._name, "namespace": self._namespace},
                "spec": {
                    "holderIdentity": self._identity,
                    "leaseDurationSeconds": int(self._duration),
                    "acquireTime": now,
                    "renewTime": now,
                    "leaseTransitions": 0,
                },
            }
            try:
                await self._client.create(LEASES, new)
            except AlreadyExists:
                return False
            return True
        spec = dict(lease.get("spec") or {})
        version = lease["metadata"]["resourceVersion"]
        if self._seen[0] != version:
            self._seen = (version, time.monotonic())
        holder = spec.get("holderIdentity") or ""
        if holder and holder != self._identity:
            if time.monotonic() - self._seen[1] < float(spec.get("leaseDurationSeconds") or self._duration):
                return False
        if holder != self._identity:
            spec.update(acquireTime=now, leaseTransitions=int(spec.get("leaseTransitions") or 0) + 1)
        spec.update(holderIdentity=self._identity, leaseDurationSeconds=int(self._duration), renewTime=now)
        try:
            await self._client.update(LEASES, {**lease, "spec": spec})
        except Conflict:
            return False
        return True

    async def _give_up(self) -> None:
        """Empties the lease that we hold, so that the next leader need not wait."""
        try:
            lease = await self._client.get(LEASES, self._name, self._namespace)
            if (lease.get("spec") or {}).get("holderIdentity") == self._identity:
                spec = {**lease["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}
                await self._client.update(LEASES, {**lease, "spec": spec})
        except (ApiError, Unavailable):
            return
