"""What running containers are given when their pod changes: another image, more or less cpu and memory (resize).

A resize is first allocated (the pod's demand has to fit beside the other pods; what does not is pending), then carried
out: on the running container, or by a new one where its resizePolicy says so. What was allocated is kept in a file of
the pod's folder once it differs from the pod that was started, so that a restart of the agent does not forget it.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import orjson

from stablehand.machinery import quantity
from stablehand.machinery.podresources import pod_requests
from stablehand.machinery.types import Obj
from stablehand.node import cgroups
from stablehand.node.admit import shortage
from stablehand.node.cri.client import CriError
from stablehand.node.files import write_atomic
from stablehand.node.plan import is_sidecar
from stablehand.node.resources import amount, container_resources
from stablehand.node.state import Record

if TYPE_CHECKING:
    from stablehand.node.worker import PodWorker

log = logging.getLogger("stablehand.node.changes")

WHOLE = ""  # in place of a container's name: the resources of the pod as a whole
_RESIZABLE = ("cpu", "memory")
_RETRY = 5.0


def resizable(pod: Obj) -> list[Obj]:
    """The containers whose image and resources may change while they run."""
    sidecars = [c for c in pod["spec"].get("initContainers") or () if is_sidecar(c)]
    return [*sidecars, *pod["spec"]["containers"]]


def wanted(pod: Obj) -> dict[str, Obj]:
    """The resources that the spec asks for, by container, and as a WHOLE where it says so."""
    found = {c["name"]: c.get("resources") or {} for c in resizable(pod)}
    if pod["spec"].get("resources"):
        found[WHOLE] = pod["spec"]["resources"]
    return found


def granted_pod(pod: Obj, allocated: Mapping[str, Obj]) -> Obj:
    """The pod with the resources it was given in place of those it asks for now."""
    if not allocated:
        return pod
    spec = dict(pod["spec"])
    if WHOLE in allocated:
        spec["resources"] = allocated[WHOLE]
    for field in ("containers", "initContainers"):
        if field in spec:
            spec[field] = [
                {**c, "resources": allocated[c["name"]]} if c["name"] in allocated else c for c in spec[field]
            ]
    return {**pod, "spec": spec}


def changed_resources(old: Obj, new: Obj) -> set[str]:
    """Of cpu and memory those whose request or limit differ."""
    found: set[str] = set()
    if old == new:
        return found
    for kind in ("requests", "limits"):
        before, after = old.get(kind) or {}, new.get(kind) or {}
        for name in _RESIZABLE:
            if (name in before) != (name in after) or (
                name in before and quantity.compare(before[name], after[name]) != 0
            ):
                found.add(name)
    return found


def needs_restart(container: Obj, changed: Iterable[str]) -> bool:
    policies = {p["resourceName"]: p["restartPolicy"] for p in container.get("resizePolicy") or ()}
    return any(policies.get(name) == "RestartContainer" for name in changed)


# -- for the worker


def load(worker: PodWorker) -> None:
    """Remembers what was allocated before this agent was started."""
    with contextlib.suppress(OSError, ValueError):
        worker.memory.allocated = orjson.loads((worker.volumes.folder / "allocated.json").read_bytes())


def follow(worker: PodWorker) -> None:
    """Looks at every running container: marks for a new start what cannot be changed, begins to change the rest."""
    memory, observed = worker.memory, worker.observed
    if memory.terminating:
        return
    for container in resizable(worker.pod):
        record = observed.latest(container["name"])
        if record is not None and record.running and record.asked_image not in ("", container.get("image", "")):
            replace(worker, record, f"Container {record.name} definition changed, will be restarted")
    _allocate(worker)
    _actuate(worker)


def replace(worker: PodWorker, record: Record, message: str) -> None:
    if not record.replaced:
        record.replaced = True
        worker.memory.to_kill[record.id] = ("Killing", message)


def _allocate(worker: PodWorker) -> None:
    memory, pod = worker.memory, worker.pod
    asked = wanted(pod)
    if not memory.allocated:
        memory.allocated = asked
    old = memory.allocated
    if not any(changed_resources(old.get(name) or {}, new) for name, new in asked.items()):
        memory.resize_pending = None
        return
    others, allocatable = worker.agent.neighbours(worker), worker.node.allocatable()
    pending: tuple[str, str] | None = None
    demand = pod_requests(pod["spec"])
    if short := shortage(demand, (), allocatable):
        name, need, _, capacity = short
        text = f"Node didn't have enough capacity: {name}, requested: {need}, capacity: {capacity}"
        pending = ("Infeasible", text)
    elif short := shortage(demand, others, allocatable):
        pending = (
            "Deferred",
            "Node didn't have enough resource: {}, requested: {}, used: {}, capacity: {}".format(*short),
        )
    if pending is not None:
        if pending != memory.resize_pending:
            memory.resize_pending = pending
            worker.node.event(pod, "Warning", f"Resize{pending[0]}", f"Pod resize {pending[0]}: {pending[1]}")
        return
    memory.resize_pending = None
    memory.allocated = asked
    with contextlib.suppress(OSError):
        worker.volumes.folder.mkdir(parents=True, exist_ok=True)
        write_atomic(worker.volumes.folder / "allocated.json", orjson.dumps(asked), 0o600)
    if any(r.running for c in resizable(pod) if (r := worker.observed.latest(c["name"])) is not None):
        memory.resizing = True
        worker.node.event(pod, "Normal", "ResizeStarted", f"Pod resize started: {_account(pod)}")
    worker.agent.room_changed()


def _account(pod: Obj) -> str:
    containers = [{"name": c["name"], "resources": c.get("resources") or {}} for c in resizable(pod)]
    whole = {"pod": {"resources": pod["spec"]["resources"]}} if pod["spec"].get("resources") else {}
    generation = pod["metadata"].get("generation") or 1
    return orjson.dumps({"containers": containers, "generation": generation, **whole}).decode()


def _actuate(worker: PodWorker) -> None:
    memory = worker.memory
    open_work = _actuate_whole(worker)
    for container in resizable(worker.pod):
        record = worker.observed.latest(container["name"])
        if record is None or not record.running or record.resources is None or record.name in memory.busy:
            open_work = open_work or (record is not None and (record.replaced or record.name in memory.busy))
            continue
        target = memory.allocated.get(record.name) or {}
        changed = changed_resources(record.resources, target)
        if not changed:
            continue
        open_work = True
        if needs_restart(container, changed):
            replace(worker, record, f"Container {record.name} resize requires restart")
        else:
            memory.busy.add(record.name)
            worker.spawn(f"resize/{record.name}", _update(worker, container, record, target))
    if memory.resizing and not open_work:
        memory.resizing, memory.resize_error = False, ""
        worker.node.event(worker.pod, "Normal", "ResizeCompleted", f"Pod resize completed: {_account(worker.pod)}")


def _actuate_whole(worker: PodWorker) -> bool:
    """Begins to change what the pod as a whole has; whether there is anything to change."""
    memory = worker.memory
    target = memory.allocated.get(WHOLE)
    if target is None or memory.whole is None:
        memory.whole = target
        return False
    if not changed_resources(memory.whole, target):
        return False
    if WHOLE not in memory.busy:
        memory.busy.add(WHOLE)
        worker.spawn("resize/", _update_whole(worker, target))
    return True


async def _update_whole(worker: PodWorker, target: Obj) -> None:
    """The pod's cgroup, and those of containers that are limited by the pod's limits alone."""
    memory, node = worker.memory, worker.node
    pod = granted_pod(worker.pod, memory.allocated)
    try:
        cgroups.apply(node.config, pod, raising=True)
        for container in resizable(pod):
            record = worker.observed.latest(container["name"])
            own = (container.get("resources") or {}).get("limits") or {}
            if record is not None and record.running and not all(name in own for name in _RESIZABLE):
                linux = container_resources(pod, container, node.memory_capacity)
                await node.runtime.update_resources(record.id, linux)
        cgroups.apply(node.config, pod)
        memory.whole, memory.resize_error = target, ""
    except CriError as e:
        _tell(worker, WHOLE, e)
    finally:
        memory.busy.discard(WHOLE)


def _others_change(worker: PodWorker, but: Record) -> bool:
    """Whether another container is still to be given what was allocated: until then the pod's limits only rise."""
    records = (worker.observed.latest(c["name"]) for c in resizable(worker.pod) if c["name"] != but.name)
    return any(
        r is not None and r.running and changed_resources(r.resources or {}, worker.memory.allocated.get(r.name) or {})
        for r in records
    )


async def _update(worker: PodWorker, container: Obj, record: Record, target: Obj) -> None:
    memory = worker.memory
    pod = granted_pod(worker.pod, memory.allocated)
    linux = container_resources(pod, {**container, "resources": target}, worker.node.memory_capacity)
    config = worker.node.config
    try:
        await _check_memory(worker, record, linux.memory_limit_in_bytes)
        cgroups.apply(config, pod, raising=True)
        await worker.node.runtime.update_resources(record.id, linux)
        cgroups.apply(config, granted_pod(worker.pod, memory.allocated), raising=_others_change(worker, record))
        record.resources, memory.resize_error = target, ""
    except (CriError, _TooLittle) as e:
        if record.running:
            _tell(worker, record.name, e)
    finally:
        memory.busy.discard(record.name)


class _TooLittle(Exception):
    """A container uses more memory than it would be allowed to."""


async def _check_memory(worker: PodWorker, record: Record, limit: int) -> None:
    """The kernel may kill a container whose limit falls below what it uses: better it keeps the old limit for now.
    Raises _TooLittle, CriError."""
    before = amount({"resources": record.resources or {}}, "limits", "memory")
    if not limit or (before and limit >= before):
        return
    for stats in await worker.node.runtime.container_stats():
        used = int(stats.memory.working_set_bytes.value)
        if stats.attributes.id == record.id and used > limit:
            text = f'attempting to set container "{record.name}" memory limit ({limit}) below current usage ({used})'
            raise _TooLittle(f"cannot decrease memory limits: {text}")


def _tell(worker: PodWorker, what: str, error: CriError | _TooLittle) -> None:
    """A resize that failed: in the pod's condition and an event; it is tried again."""
    text = error.rpc_text if isinstance(error, CriError) else str(error)
    log.info("resizing %s of %s/%s: %s", what or "the whole", *worker.key, error)
    if worker.memory.resize_error != text:
        worker.node.event(worker.pod, "Warning", "ResizeError", f"Pod resize error: {text}")
    worker.memory.resize_error = text
    worker.write_status()
    worker.later(_RETRY)
