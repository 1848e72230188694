"""Each part of `stablehand up` with its identity and settings, in the order of their start."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any

from stablehand.apiserver.app import ApiServer
from stablehand.launch.config import UpConfig
from stablehand.launch.inprocess import in_process_client
from stablehand.launch.pki import Pki

Part = tuple[str, Coroutine[Any, Any, None]]


def all_parts(config: UpConfig, server: ApiServer, pki: Pki, node_ready: asyncio.Event) -> Iterator[Part]:
    """(name, coroutine that runs it) of every part but the API server."""
    from stablehand import controllers, scheduler

    def client(user: str, groups: tuple[str, ...] = (), *, manager: str) -> Any:
        return in_process_client(server, user, groups, manager=manager)

    manager = client("system:kube-controller-manager", manager="kube-controller-manager")
    yield "controllers", controllers.run(controllers.ControllersConfig(manager, ca_pem=pki.ca_pem))
    yield (
        "scheduler",
        scheduler.run(scheduler.SchedulerConfig(client("system:kube-scheduler", manager="kube-scheduler"))),
    )
