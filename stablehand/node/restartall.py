"""Restarting a pod in place: a container ended as one of its rules of action RestartAllContainers says, so all of the
pod's containers are ended (at once, without hooks) and begin again from the first init container. Sandbox and volumes stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stablehand.machinery.conditions import get_condition
from stablehand.machinery.types import Obj
from stablehand.node import ending
from stablehand.node.plan import ALL_RESTARTING, all_containers, matching_rule, may_restart_all
from stablehand.node.state import Observed, Record

if TYPE_CHECKING:
    from stablehand.node.worker import PodWorker


def due(pod: Obj, observed: Observed) -> bool:
    """Whether a container's end asks for it now."""
    for kind, container in all_containers(pod):
        record = observed.latest(container["name"])
        if kind != "ephemeral" and record is not None and record.state == "exited" and not record.reset:
            if matching_rule(container, record.exit_code) == "RestartAllContainers":
                return True
    return False


def take_up(worker: PodWorker) -> None:
    """Goes on with what the agent before us began."""
    condition = get_condition(worker.pod.get("status"), ALL_RESTARTING)
    worker.memory.restarting_all = condition is not None and condition.get("status") == "True"


def follow(worker: PodWorker) -> None:
    """Begins a restart that is due, and lets the containers start again once the last has ended."""
    memory = worker.memory
    if memory.terminating or not may_restart_all(worker.pod):
        return
    memory.restarting_all = memory.restarting_all or due(worker.pod, worker.observed)
    if not memory.restarting_all:
        return
    for record in worker.observed.running():
        if record.name not in memory.busy:
            memory.busy.add(record.name)
            worker.spawn(f"restart/{record.name}", _stop(worker, record))
    if memory.busy:
        return
    for kind, container in all_containers(worker.pod):
        last = worker.observed.latest(container["name"])
        if kind != "ephemeral" and last is not None and last.state != "created":
            last.reset = True
    memory.restarting_all = False


async def _stop(worker: PodWorker, record: Record) -> None:
    worker.probing.end(record.id)
    try:
        await ending.stop(worker, record, 0)
    finally:
        worker.memory.busy.discard(record.name)
