"""Gives every pod a node.

scheduler    the loop: decide, assume, bind, explain
queue        pods that want a node, and those that must wait
decide       filters and scores; pure
affinity     affinity between pods, spreading; pure
volumes      claims that wait for their first consumer
preemption   making room for important pods
state        nodes and what their pods use
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from stablehand.client import Client
from stablehand.runtime import Informers
from stablehand.runtime.leases import LeaderElection, identity
from stablehand.scheduler.scheduler import Scheduler

__all__ = ["Scheduler", "SchedulerConfig", "run"]


@dataclass(frozen=True)
class SchedulerConfig:
    """`informers`: a factory shared with other parts of the process, run by its owner; None makes one.

    `leader_elect`: work only while holding the Lease kube-system/kube-scheduler.
    """

    client: Client
    informers: Informers | None = None
    name: str = "default-scheduler"
    leader_elect: bool = False


async def run(config: SchedulerConfig) -> None:
    """Schedules pods until cancelled. Raises LeadershipLost."""
    if not config.leader_elect:
        await _schedule(config)
        return
    await LeaderElection(config.client, "kube-system", "kube-scheduler", identity()).lead(lambda: _schedule(config))


async def _schedule(config: SchedulerConfig) -> None:
    client = config.client.with_manager("kube-scheduler")
    informers = config.informers or Informers(client)
    scheduler = Scheduler(client, informers, config.name)
    async with asyncio.TaskGroup() as group:
        if config.informers is None:
            group.create_task(informers.run())
        group.create_task(scheduler.run())
