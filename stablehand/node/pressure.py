"""A machine that runs short: looks every 10 s, tells it in the Node's conditions, frees images, and ends one pod at a time
until there is enough again. When and whom is signals' and ranking's.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from stablehand.machinery.types import Obj
from stablehand.node import cgroups
from stablehand.node.cri.client import CriError
from stablehand.node.eviction import Evictor, tree_count
from stablehand.node.imagegc import CannotFree, ImageGC
from stablehand.node.images import normalize
from stablehand.node.ranking import PodUsage, message, rank
from stablehand.node.sandbox import CONTAINER_NAME, POD_UID
from stablehand.node.signals import CONDITIONS, RESOURCES, Observation, Threshold, Watch, observe

if TYPE_CHECKING:
    from stablehand.node.agent import Agent
    from stablehand.node.worker import PodWorker

log = logging.getLogger("stablehand.node.pressure")

_PERIOD, _IMAGES_PERIOD, _PATIENCE = 10.0, 300.0, 30.0


class Pressure:
    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._watch = Watch(list(agent.config.thresholds), agent.config.eviction_transition)
        self._folders = (agent.config.data_dir, agent.config.data_dir)  # containerd's images lie beside the pods
        self._images = ImageGC(lambda: agent.runtime, agent.config.data_dir, self._used_images)
        self._images_due = 0.0
        self._watch.look(observe(*self._folders), time.time())

    def conditions(self) -> dict[str, bool]:
        """MemoryPressure, DiskPressure and PIDPressure, as the Node tells them and pods are admitted by."""
        return self._watch.conditions(time.time())

    async def run(self) -> None:
        while True:
            await asyncio.sleep(_PERIOD)
            try:
                await self._step()
            except CriError as e:
                log.info("looking after the node's resources: %s", e.message)

    async def _step(self) -> None:
        before = self.conditions()
        seen, now = observe(*self._folders), time.time()
        due = self._watch.look(seen, now)
        if self.conditions() != before:
            self._agent.poke_node()
        if due:
            await self._reclaim(due[0], seen)
        elif now >= self._images_due:
            self._images_due = now + _IMAGES_PERIOD
            try:
                await self._images.collect()
            except CannotFree as e:
                self._agent.node_event("Warning", "FreeDiskSpaceFailed", str(e))

    async def _reclaim(self, threshold: Threshold, seen: dict[str, Observation]) -> None:
        resource = RESOURCES[threshold.signal]
        self._agent.node_event("Warning", "EvictionThresholdMet", f"Attempting to reclaim {resource}")
        if CONDITIONS[threshold.signal] == "DiskPressure" and await self._images.free(None):
            seen = observe(*self._folders)
            if threshold not in self._watch.look(seen, time.time()):
                return
        workers = {worker.uid: worker for worker in self._agent.workers.values() if worker.active}
        usages = await self._usages(workers.values(), disk=resource in ("ephemeral-storage", "inodes"))
        ranked = rank(threshold.signal, [(w.granted(), usages[w.uid]) for w in workers.values()])
        if not ranked:
            log.warning("%s is short, and there is no pod to evict for it", resource)
            return
        pod = ranked[0]
        worker = workers[pod["metadata"]["uid"]]
        log.warning("evicting %s/%s: %s", *worker.key, resource)
        worker.fail("Evicted", message(threshold, seen[threshold.signal], pod, usages[worker.uid]))
        await self._ended(worker)

    async def _ended(self, worker: PodWorker) -> None:
        """Waits until what it used is free, for a while."""
        try:
            async with asyncio.timeout(_PATIENCE):
                await asyncio.gather(*(worker.exit_of(record) for record in worker.observed.running()))
        except TimeoutError:
            log.info("%s/%s takes its time to end", *worker.key)

    async def _usages(self, workers: Iterable[PodWorker], *, disk: bool) -> dict[str, PodUsage]:
        found = {worker.uid: PodUsage() for worker in workers}
        layers: dict[str, dict[str, int]] = {}
        for stats in await self._agent.runtime.container_stats():
            uid = stats.attributes.labels.get(POD_UID, "")
            name = stats.attributes.labels.get(CONTAINER_NAME, "")
            if uid in found:
                found[uid].memory[name] = int(stats.memory.working_set_bytes.value)
                layers.setdefault(uid, {})[name] = int(stats.writable_layer.used_bytes.value)
        loop = asyncio.get_running_loop()
        measure = Evictor(self._agent).measure
        for worker in workers:
            usage = found[worker.uid]
            usage.processes = cgroups.processes(self._agent.config, worker.uid)
            if disk:
                used = await loop.run_in_executor(None, measure, worker, layers.get(worker.uid, {}))
                usage.disk, usage.volumes = used.containers, sum(used.volumes.values())
                usage.inodes = await loop.run_in_executor(None, tree_count, worker.volumes.folder)
        return found

    def _used_images(self) -> list[str]:
        """What pods here name, containers or image volumes, running or not."""
        names = []
        for worker in self._agent.workers.values():
            spec: Obj = worker.pod["spec"]
            for field in ("initContainers", "containers", "ephemeralContainers"):
                names += [c.get("image", "") for c in spec.get(field) or ()]
            names += [v["image"].get("reference", "") for v in spec.get("volumes") or () if v.get("image")]
        return [form for name in names for form in (name, normalize(name))]
