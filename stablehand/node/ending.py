"""Ending a pod or a container: Killing events, preStop hooks, grace, then volumes, the API object and the sandbox.

What people wait for comes first: once no process of the pod runs and its volumes are unmounted, its status is final
and its object is deleted; taking the sandbox apart (network, cgroup, files) goes on in the background.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from stablehand.aiokit.backoff import Backoff
from stablehand.client import ApiError, Conflict, NotFound, Unavailable
from stablehand.machinery.resources import resource
from stablehand.machinery.types import Obj
from stablehand.node import cgroups
from stablehand.node.cri.client import CriError
from stablehand.node.hooks import run_hook
from stablehand.node.plan import find_container, is_sidecar
from stablehand.node.sandbox import log_directory
from stablehand.node.starter import container_path, find_sandboxes
from stablehand.node.state import Kind, Record

if TYPE_CHECKING:
    from stablehand.node.worker import PodWorker

log = logging.getLogger("stablehand.node.ending")

_PODS = resource("pods")
_MINIMUM_GRACE = 2
_RETIRE_SECONDS = 5.0


def grace_seconds(worker: PodWorker) -> int:
    """The grace period that counts now: the deletion's, else the pod's own."""
    meta, spec = worker.pod["metadata"], worker.pod["spec"]
    if worker.memory.grace is not None:
        return worker.memory.grace
    value = meta.get("deletionGracePeriodSeconds")
    if value is None:
        value = spec.get("terminationGracePeriodSeconds")
    return 30 if value is None else int(value)


async def kill_container(worker: PodWorker, record: Record, message: str, grace: int) -> None:
    """preStop, stop signal, and SIGKILL after the grace period. Returns when it has ended."""
    node = worker.node
    found = find_container(worker.pod, record.name)
    kind: Kind = found[0] if found is not None else "main"
    container: Obj = found[1] if found is not None else {"name": record.name}
    node.container_event(worker.pod, container_path(kind, record.name), "Normal", "Killing", message)
    worker.probing.terminating(record.id)
    handler = (container.get("lifecycle") or {}).get("preStop")
    if handler and grace > 0 and record.running:
        began = time.monotonic()
        error = await _while_running(
            worker, record, run_hook(node.runtime, container, record.id, worker.address(), handler, grace)
        )
        if error is not None and record.running:
            path = container_path(kind, record.name)
            node.container_event(worker.pod, path, "Warning", "FailedPreStopHook", f"PreStopHook failed: {error}")
        grace = max(_MINIMUM_GRACE, grace - int(time.monotonic() - began))
    if not record.running:
        return
    await stop(worker, record, grace)


async def _while_running(worker: PodWorker, record: Record, hook: Coroutine[Any, Any, str | None]) -> str | None:
    """The hook's answer; None as soon as the container ends by itself."""
    running = asyncio.ensure_future(hook)
    ended = asyncio.ensure_future(worker.exit_of(record))
    try:
        await asyncio.wait({running, ended}, return_when=asyncio.FIRST_COMPLETED)
        return running.result() if running.done() else None
    finally:
        running.cancel()
        ended.cancel()


async def stop(worker: PodWorker, record: Record, grace: int) -> None:
    """Returns at the container's exit: on containerd's event, which comes before its CRI has tidied up."""
    backoff = Backoff(0.2, 5.0)
    while record.running:
        call = asyncio.ensure_future(worker.node.runtime.stop_container(record.id, grace))
        ended = asyncio.ensure_future(worker.exit_of(record))
        try:
            await asyncio.wait({call, ended}, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                tidying = worker.node.background.spawn(_swallow(call), "stop")
                worker.tidying.add(tidying)
                tidying.add_done_callback(worker.tidying.discard)
                return
            error = call.exception()
            if error is None:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(asyncio.shield(ended), 1)
            if record.running:
                try:
                    await worker.refresh(record)
                except CriError as e:
                    if e.code == "NOT_FOUND":
                        worker.mark_lost(record)
            if record.running and error is not None:
                log.warning("stopping %s of %s/%s: %s", record.name, *worker.key, error)
                await asyncio.sleep(backoff.next())
        finally:
            ended.cancel()


async def _swallow(call: asyncio.Future[None]) -> None:
    with contextlib.suppress(CriError):
        await call


async def stop_containers(worker: PodWorker) -> None:
    """Main containers together, then sidecars in reverse order, each with what is left of the grace period."""
    began = time.monotonic()
    for records in worker.observed.containers.values():
        if records[0].state == "unknown":  # the runtime lost sight of it: it may run yet
            with contextlib.suppress(CriError):
                await worker.node.runtime.stop_container(records[0].id, 0)
    full = grace_seconds(worker) if not worker.gone else 1

    def left() -> int:
        return max(0 if full == 0 else 1, full - int(time.monotonic() - began))

    running = worker.observed.running()
    sidecars = [c["name"] for c in worker.pod["spec"].get("initContainers") or () if is_sidecar(c)]
    first = [r for r in running if r.name not in sidecars]
    await asyncio.gather(*(kill_container(worker, r, f"Stopping container {r.name}", left()) for r in first))
    for name in reversed(sidecars):
        for record in [r for r in running if r.name == name and r.running]:
            await kill_container(worker, record, f"Stopping container {name}", left())


async def unmount(worker: PodWorker) -> None:
    backoff = Backoff(0.05, 10.0)
    while not await worker.volumes.teardown():
        log.warning("volumes of %s/%s are still in use", *worker.key)
        await asyncio.sleep(backoff.next())


async def delete_object(worker: PodWorker) -> None:
    """The final DELETE, with the uid as precondition: a successor of the same name is never hit."""
    namespace, name = worker.key
    backoff = Backoff(0.1, 10.0)
    while not worker.gone:
        try:
            answer = await worker.node.client.delete(_PODS, name, namespace, grace=0, uid=worker.uid)
            if not (answer.get("metadata") or {}).get("finalizers"):
                worker.node.pods.observe_delete(worker.pod)
            return
        except (NotFound, Conflict):
            return
        except (ApiError, Unavailable) as e:
            log.info("deleting %s/%s: %s", namespace, name, e)
            await asyncio.sleep(backoff.next())


async def remove_sandboxes(worker: PodWorker, *, everything: bool) -> None:
    """Stops the pod's sandboxes; with `everything` removes them, their containers, logs and folders too."""
    node = worker.node
    # containerd's CRI is still tidying up after the last exits: it takes two stops at once badly.
    await asyncio.gather(*worker.tidying, return_exceptions=True)
    await node.network.close_ports(worker.uid)
    backoff = Backoff(0.5, 30.0)
    while worker.sandbox_failures:
        try:
            await find_sandboxes(worker)
            break
        except CriError as e:
            log.info("sandboxes of %s/%s: %s", *worker.key, e.message)
            await asyncio.sleep(backoff.next())
    for sandbox in worker.observed.sandboxes:
        await take_down(worker, sandbox.id, remove=everything)
        sandbox.ready = False
    if everything:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, worker.volumes.remove)
        cgroups.remove(node.config, worker.uid)
        folder = log_directory(node.config, worker.pod)
        await loop.run_in_executor(None, lambda: shutil.rmtree(folder, ignore_errors=True))
        node.puller.forget(worker.uid)


async def retire(worker: PodWorker) -> None:
    """Ends the containers of a sandbox that is to be replaced, with the grace they have, to start again in the next; what
    does not end in time goes with the sandbox. So do those that never start again: one that ends well when it is asked
    to would pass for having done its work."""
    if worker.pod["spec"].get("restartPolicy") == "Never":
        return
    for record in worker.observed.running():
        record.replaced = True
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(grace_seconds(worker) + _RETIRE_SECONDS):
            await stop_containers(worker)


def drop_old_sandboxes(worker: PodWorker) -> None:
    """Removes the sandboxes before the pod's own that hold no container which is still told of."""
    boxes = worker.observed.sandboxes
    used = {record.sandbox for records in worker.observed.containers.values() for record in records}
    for box in [b for b in boxes[1:] if not b.ready and b.id not in used]:
        boxes.remove(box)
        worker.agent.unregister(box.id)
        worker.node.background.spawn(take_down(worker, box.id, remove=True), "old")


async def take_down(worker: PodWorker, sandbox: str, *, remove: bool) -> None:
    backoff = Backoff(0.5, 30.0)
    while True:
        try:
            # Removing stops it first, in any case: asked for both, containerd takes the network down twice.
            if remove:
                await worker.node.runtime.remove_sandbox(sandbox)
            else:
                await worker.node.runtime.stop_sandbox(sandbox)
            return
        except CriError as e:
            if e.code == "NOT_FOUND":
                return
            log.info("taking down sandbox %s: %s", sandbox[:12], e.message)
            if e.code != "UNAVAILABLE":
                worker.node.event(worker.pod, "Warning", "FailedKillPod", f"error killing pod: {e.rpc_text}")
            await asyncio.sleep(backoff.next())
