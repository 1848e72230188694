"""Writes one pod's status: as early as it matters, as seldom as it can be. What it says is status's."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING

from stablehand.aiokit.backoff import Backoff
from stablehand.client import ApiError, Conflict, NotFound, Unavailable
from stablehand.machinery.conditions import get_condition
from stablehand.machinery.resources import resource
from stablehand.machinery.types import Obj
from stablehand.node.status import build, difference

if TYPE_CHECKING:
    from stablehand.node.worker import PodWorker

log = logging.getLogger("stablehand.node.status")

_PODS = resource("pods")
_PATIENCE = 0.1  # steps on the way are written only when the next one takes longer


class StatusWriter:
    """`soon` starts a write in the background; what changes until it goes out goes with it."""

    def __init__(self, worker: PodWorker) -> None:
        self._worker = worker
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()

    def soon(self) -> None:
        self._changed.set()
        if self._task is None or self._task.done():
            name = "status/{}/{}".format(*self._worker.key)
            self._task = asyncio.get_running_loop().create_task(self._run(), name=name)

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        backoff = Backoff(0.2, 10.0)
        while not self._worker.gone:
            self._changed.clear()
            try:
                patch = self.difference()
            except Exception as e:
                # A fault of ours must not silence the pod for good.
                log.exception("status of %s/%s cannot be made: %r", *self._worker.key, e)
                await asyncio.sleep(backoff.next())
                continue
            if patch is None:
                return
            remaining = began + _PATIENCE - loop.time()
            if remaining > 0 and not self._urgent(patch):
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), remaining)
                continue
            if not await self.write():
                await asyncio.sleep(backoff.next())
            began = loop.time()

    def _urgent(self, patch: Obj) -> bool:
        """The pod is over, or its readiness changes."""
        if patch.get("phase") in ("Succeeded", "Failed"):
            return True
        fresh = get_condition(patch, "Ready")
        if fresh is None:
            return False
        stored = get_condition(self._worker.pod.get("status"), "Ready") or {}
        return (fresh.get("status") == "True") != (stored.get("status") == "True")

    def difference(self) -> Obj | None:
        worker = self._worker
        status = build(worker.pod, worker.observed, worker.memory, worker.node.config.address, time.time())
        return difference(worker.pod.get("status") or {}, status)

    async def write(self) -> bool:
        """Writes now. True when the stored status is ours, or never can be."""
        patch = self.difference()
        if patch is None:
            return True
        worker = self._worker
        namespace, name = worker.key
        body = {"metadata": {"uid": worker.uid}, "status": patch}
        try:
            answer = await worker.node.client.patch(
                _PODS, name, body, namespace, kind="strategic", subresource="status"
            )
        except (NotFound, Conflict) as e:
            log.debug("status of %s/%s: %s", namespace, name, e)
            return True
        except (ApiError, Unavailable) as e:
            level = logging.INFO if isinstance(e, Unavailable) else logging.WARNING
            log.log(level, "status of %s/%s: %s", namespace, name, e)
            return False
        if answer["metadata"].get("uid") == worker.uid:
            answer = {"apiVersion": "v1", "kind": "Pod", **answer}
            worker.node.pods.observe(answer)
            if int(answer["metadata"]["resourceVersion"]) > int(worker.pod["metadata"].get("resourceVersion") or 0):
                worker.pod = answer
        return True
