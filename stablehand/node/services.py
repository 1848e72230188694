"""What all workers of a node share: connections, caches, the recorder of events. Made by agent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from stablehand.aiokit.tasks import TaskSet
from stablehand.client import Client
from stablehand.machinery.meta import object_reference
from stablehand.machinery.types import Obj
from stablehand.node.config import NodeConfig
from stablehand.node.cri.client import Runtime
from stablehand.node.network import Network
from stablehand.node.objects import Objects
from stablehand.node.pull import Puller
from stablehand.node.volumes.contract import Host
from stablehand.runtime import EventRecorder, Informer


@dataclass(slots=True)
class Services:
    config: NodeConfig
    client: Client
    pods: Informer
    services: Informer
    objects: Objects
    events: EventRecorder
    network: Network
    puller: Puller
    volumes: Host
    background: TaskSet  # work that outlives a worker: taking down sandboxes
    allocatable: Callable[[], dict[str, str]]
    memory_capacity: int
    runtime_ready: asyncio.Event
    runtime_getter: Callable[[], Runtime]

    @property
    def runtime(self) -> Runtime:
        """The current connection (another one after containerd was restarted)."""
        return self.runtime_getter()

    def event(self, pod: Obj, kind: str, reason: str, message: str) -> None:
        self.events.event(pod, kind, reason, message)

    def container_event(self, pod: Obj, path: str, kind: str, reason: str, message: str) -> None:
        """An event about one container: `path` is like spec.containers{web}."""
        self.events.event({**object_reference(pod), "fieldPath": path}, kind, reason, message)
