"""Runs the probes of one container for as long as it runs: startup first, then readiness and liveness.

Until the first success a readiness or startup probe is asked more often than its period (a server that is up 50 ms
after its start is not left waiting for seconds); those early questions count for nothing when they fail.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Literal, Protocol

from stablehand.machinery.types import Obj
from stablehand.node.probes.checks import Unknown

Which = Literal["startup", "readiness", "liveness"]
Check = Callable[[Obj, float], Awaitable[tuple[bool, str]]]


class Listener(Protocol):
    """What the worker does about it."""

    def probe_started(self, container_id: str) -> None:
        """The startup probe has succeeded (or there is none)."""

    def probe_ready(self, container_id: str, ready: bool) -> None: ...

    def probe_failed(self, container_id: str, which: Which, output: str) -> None:
        """One failure at its regular time: worth an Unhealthy event."""

    def probe_errored(self, container_id: str, which: Which, output: str) -> None:
        """The check could not be made (the runtime is away, say): it counts for nothing, but is worth an event."""

    def probe_dead(self, container_id: str, which: Which) -> None:
        """Startup or liveness failed for good: the container must be killed."""


class Prober:
    """Probes of one running container. `start` once it runs and postStart is through; `stop` when it ended.

    `started` and `ready` are what is known of a container that ran before we did. `settle` is the time in seconds since
    its start before a container without startup and readiness probes counts as started: one whose command ends at once
    must never look ready, or the next pod of an ordered set is made.
    """

    def __init__(
        self,
        container: Obj,
        container_id: str,
        check: Check,
        listener: Listener,
        started_at: float,
        *,
        started: bool = False,
        ready: bool = False,
        settle: float = 0.0,
    ) -> None:
        self._container = container
        self._id = container_id
        self._check = check
        self._listener = listener
        self._started_at = started_at
        self._started = started
        self._ready = ready
        self._settle = settle
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(self) -> None:
        if self._container.get("startupProbe") and not self._started:
            self._spawn(self._startup(self._container["startupProbe"]), "startup")
        elif not self._started and not self._container.get("readinessProbe") and self._settle > 0:
            self._spawn(self._settled(), "settled")
        else:
            self._listener.probe_started(self._id)
            self._after_startup()

    async def _settled(self) -> None:
        await asyncio.sleep(max(0.0, min(self._settle, self._started_at + self._settle - time.time())))
        self._listener.probe_started(self._id)
        self._after_startup()

    def _after_startup(self) -> None:
        if probe := self._container.get("readinessProbe"):
            self._spawn(self._readiness(probe), "readiness")
        if probe := self._container.get("livenessProbe"):
            self._spawn(self._liveness(probe), "liveness")

    def _spawn(self, coroutine: Awaitable[None], name: str) -> None:
        task = asyncio.ensure_future(coroutine)
        task.set_name(f"probe/{name}/{self._container['name']}")
        self._tasks[name] = task

    def stop(self, *, but: str = "") -> None:
        """Ends all probes but the one named."""
        for name in [name for name in self._tasks if name != but]:
            self._tasks.pop(name).cancel()

    async def _ask(self, probe: Obj) -> tuple[bool, str]:
        timeout = probe.get("timeoutSeconds") or 1
        try:
            return await self._check(probe, timeout)
        except Exception as e:
            return False, str(e)

    async def _initial_delay(self, probe: Obj) -> None:
        initial = probe.get("initialDelaySeconds") or 0
        delay = min(initial, self._started_at + initial - time.time())  # the clock may have been put back
        if delay > 0:
            await asyncio.sleep(delay)

    def _is_void(self, which: Which, output: str) -> bool:
        if isinstance(output, Unknown):
            self._listener.probe_errored(self._id, which, output)
            return True
        return False

    async def _early(self, probe: Obj) -> bool:
        """Asks with growing pauses for one period at most; True as soon as it succeeds."""
        if (probe.get("successThreshold") or 1) > 1:
            return False
        loop = asyncio.get_running_loop()
        end = loop.time() + (probe.get("periodSeconds") or 10)
        pause = 0.2 if probe.get("exec") else 0.02
        while True:
            ok, _ = await self._ask(probe)
            if ok:
                return True
            if loop.time() + pause >= end:
                await asyncio.sleep(max(0.0, end - loop.time()))
                return False
            await asyncio.sleep(pause)
            pause = min(pause * 1.6, 2.0)

    async def _startup(self, probe: Obj) -> None:
        await self._initial_delay(probe)
        if not await self._early(probe):
            failures = 0
            while True:
                ok, output = await self._ask(probe)
                if ok:
                    break
                if not self._is_void("startup", output):
                    failures += 1
                    self._listener.probe_failed(self._id, "startup", output)
                    if failures >= (probe.get("failureThreshold") or 3):
                        self._listener.probe_dead(self._id, "startup")
                        return
                await asyncio.sleep(probe.get("periodSeconds") or 10)
        self._listener.probe_started(self._id)
        self._after_startup()

    async def _readiness(self, probe: Obj) -> None:
        await self._initial_delay(probe)
        period = probe.get("periodSeconds") or 10
        ready = self._ready
        if not ready and await self._early(probe):
            ready = True
            self._listener.probe_ready(self._id, True)
            await asyncio.sleep(period)
        run = 0
        while True:
            ok, output = await self._ask(probe)
            if self._is_void("readiness", output):
                await asyncio.sleep(period)
                continue
            run = run + 1 if ok != ready else 0
            if not ok:
                self._listener.probe_failed(self._id, "readiness", output)
            threshold = (probe.get("successThreshold") or 1) if ok else (probe.get("failureThreshold") or 3)
            if ok != ready and run >= threshold:
                ready, run = ok, 0
                self._listener.probe_ready(self._id, ready)
            await asyncio.sleep(period)

    async def _liveness(self, probe: Obj) -> None:
        await self._initial_delay(probe)
        period = probe.get("periodSeconds") or 10
        failures = 0
        while True:
            ok, output = await self._ask(probe)
            if ok:
                failures = 0
            elif not self._is_void("liveness", output):
                failures += 1
                self._listener.probe_failed(self._id, "liveness", output)
                if failures >= (probe.get("failureThreshold") or 3):
                    self._listener.probe_dead(self._id, "liveness")
                    return
            await asyncio.sleep(period)
