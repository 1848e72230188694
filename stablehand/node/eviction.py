"""Pods that use more of the disk than their limits allow: found every 10 s, as kubelet does, and ended as Evicted.

Looked at are emptyDir volumes with a sizeLimit (on disk: a tmpfs has its size from the kernel) and containers with a
limit of ephemeral-storage (their writable layer and logs; for the pod as a whole also its emptyDirs). Pods without such
limits cost nothing here. A machine that runs short as a whole is pressure's business.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from stablehand.machinery import quantity
from stablehand.machinery.types import Obj
from stablehand.node.cri.client import CriError
from stablehand.node.plan import is_sidecar
from stablehand.node.sandbox import CONTAINER_NAME, POD_UID, log_directory
from stablehand.node.volumes.emptydir import folder_below

if TYPE_CHECKING:
    from stablehand.node.agent import Agent
    from stablehand.node.worker import PodWorker

log = logging.getLogger("stablehand.node.eviction")

_PERIOD = 10.0
_STORAGE = "ephemeral-storage"


@dataclass(slots=True)
class Usage:
    """Bytes on disk: of emptyDir volumes and of containers (writable layer and logs), by name."""

    volumes: dict[str, int] = field(default_factory=dict)
    containers: dict[str, int] = field(default_factory=dict)


def limited_volumes(pod: Obj) -> dict[str, str]:
    """The sizeLimits of emptyDirs on disk, by volume."""
    return {
        volume["name"]: source["sizeLimit"]
        for volume in pod["spec"].get("volumes") or ()
        if (source := volume.get("emptyDir")) and source.get("sizeLimit") and not source.get("medium")
    }


def limited_containers(pod: Obj) -> dict[str, str]:
    """The limits of ephemeral-storage, by container."""
    found = {}
    for container in [*pod["spec"]["containers"], *(pod["spec"].get("initContainers") or ())]:
        if limit := ((container.get("resources") or {}).get("limits") or {}).get(_STORAGE):
            found[container["name"]] = limit
    return found


def excess(pod: Obj, usage: Usage) -> str | None:
    """Why the pod must go, in kubelet's words, or None."""
    for name, limit in limited_volumes(pod).items():
        if usage.volumes.get(name, 0) > quantity.whole(limit):
            return f'Usage of EmptyDir volume "{name}" exceeds the limit "{limit}". '
    limits = limited_containers(pod)
    running = [*pod["spec"]["containers"], *(c for c in pod["spec"].get("initContainers") or () if is_sidecar(c))]
    if limits and all(c["name"] in limits for c in running):
        total = sum(quantity.whole(limits[c["name"]]) for c in running)
        if sum(usage.volumes.values()) + sum(usage.containers.values()) > total:
            return f"Pod ephemeral local storage usage exceeds the total limit of containers {_binary(total)}. "
    for name, limit in limits.items():
        if usage.containers.get(name, 0) > quantity.whole(limit):
            return f'Container {name} exceeded its local ephemeral storage limit "{limit}". '
    return None


def _binary(size: int) -> str:
    """A number of bytes as Kubernetes prints it: 2Mi, 1536Ki, 1000."""
    units = ["", "Ki", "Mi", "Gi", "Ti"]
    while size and size % 1024 == 0 and len(units) > 1:
        size //= 1024
        units.pop(0)
    return f"{size}{units[0]}"


class Evictor:
    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    async def run(self) -> None:
        while True:
            await asyncio.sleep(_PERIOD)
            workers = [
                worker
                for worker in self._agent.workers.values()
                if worker.active and (limited_volumes(worker.pod) or limited_containers(worker.pod))
            ]
            if not workers:
                continue
            try:
                layers = await self._layers()
            except CriError as e:
                log.info("sizes of writable layers: %s", e.message)
                continue
            for worker in workers:
                usage = await asyncio.get_running_loop().run_in_executor(
                    None, self.measure, worker, layers.get(worker.uid, {})
                )
                if (message := excess(worker.pod, usage)) is not None:
                    worker.fail("Evicted", message)

    async def _layers(self) -> dict[str, dict[str, int]]:
        """Bytes of writable layers, by pod uid and container."""
        found: dict[str, dict[str, int]] = {}
        for stats in await self._agent.runtime.container_stats():
            labels = stats.attributes.labels
            sizes = found.setdefault(labels.get(POD_UID, ""), {})
            sizes[labels.get(CONTAINER_NAME, "")] = int(stats.writable_layer.used_bytes.value)
        return found

    def measure(self, worker: PodWorker, layers: Mapping[str, int]) -> Usage:
        usage = Usage()
        for volume in worker.pod["spec"].get("volumes") or ():
            if "emptyDir" in volume and not (volume["emptyDir"] or {}).get("medium"):
                usage.volumes[volume["name"]] = tree_size(folder_below(worker.volumes.folder, volume["name"]))
        logs = log_directory(self._agent.config, worker.pod)
        for name, size in layers.items():
            usage.containers[name] = size + tree_size(logs / name)
        return usage


def tree_count(folder: Path) -> int:
    """How many files and folders are below a folder."""
    return sum(len(folders) + len(names) for _, folders, names in os.walk(folder))


def tree_size(folder: Path) -> int:
    """Bytes that the files below a folder take on disk; what vanishes meanwhile counts as nothing."""
    total, seen = 0, set()
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                info = os.lstat(os.path.join(place, name))
            except OSError:
                continue
            if info.st_nlink > 1:
                if (info.st_dev, info.st_ino) in seen:
                    continue
                seen.add((info.st_dev, info.st_ino))
            total += info.st_blocks * 512
    return total
