"""What a pod needs before its containers can start: volumes, set up and kept fresh, and images, fetched ahead."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from stablehand.aiokit.backoff import Backoff
from stablehand.machinery.resources import resource
from stablehand.machinery.types import Obj
from stablehand.node.cri.pb import cri_pb2 as pb
from stablehand.node.pull import PullError
from stablehand.node.starter import container_path
from stablehand.node.state import Trouble
from stablehand.node.volumes.image import mount_image
from stablehand.node.volumes.manager import PodVolumes, SetupFailed

if TYPE_CHECKING:
    from stablehand.node.worker import PodWorker

_REPEAT = 5.0  # the same FailedMount is told again after this many seconds at the earliest
_AHEAD = 8  # images fetched ahead at most


class Supplies:
    def __init__(self, worker: PodWorker) -> None:
        self._worker = worker
        self._volumes_wake = asyncio.Event()
        self._images: dict[str, asyncio.Future[Any]] = {}
        self.volumes = PodVolumes(worker.node.volumes, worker.pod, self.volumes_changed)

    def volumes_changed(self) -> None:
        self._volumes_wake.set()

    async def keep_volumes(self) -> None:
        """Sets the volumes up, trying again as long as it takes; then keeps them fresh."""
        worker, memory = self._worker, self._worker.memory
        backoff = Backoff(0.5, 122.0)
        told: dict[str, float] = {}
        while True:
            self._volumes_wake.clear()
            try:
                await self.volumes.setup()
                break
            except SetupFailed as e:
                memory.sandbox_allowed = memory.sandbox_busy
                memory.volumes_failed = True
                for message in e.messages():
                    if time.monotonic() - told.get(message, -1e9) > _REPEAT:
                        told[message] = time.monotonic()
                        worker.node.event(worker.pod, "Warning", "FailedMount", message)
                worker.write_status()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._volumes_wake.wait(), backoff.next())
        memory.volumes_ready = memory.sandbox_allowed = True
        memory.volumes_failed = False
        worker.wake()
        while True:
            await self._volumes_wake.wait()
            await asyncio.sleep(0.05)  # several changes often come together
            self._volumes_wake.clear()
            for name, error in await self.volumes.refresh(worker.pod):
                text = f'MountVolume.SetUp failed for volume "{name}" : {error}'
                worker.node.event(worker.pod, "Warning", "FailedMount", text)

    # -- images

    def fetch_ahead(self) -> None:
        """Begins to see to the images that are needed first, while volumes and sandbox are made."""
        spec = self._worker.pod["spec"]
        kind, containers = (
            ("init", spec["initContainers"]) if spec.get("initContainers") else ("main", spec["containers"])
        )
        for container in containers[:_AHEAD]:
            if self._worker.observed.latest(container["name"]) is None:
                path = container_path("init" if kind == "init" else "main", container["name"])
                task = self._worker.spawn(f"image/{container['name']}", self._ensure(container, self._teller(path)))
                self._images[container["name"]] = task

    def _teller(self, path: str) -> Callable[[str, str, str], None]:
        def event(kind: str, reason: str, message: str) -> None:
            self._worker.node.container_event(self._worker.pod, path, kind, reason, message)

        return event

    async def _ensure(self, container: Obj, event: Callable[[str, str, str], None]) -> pb.Image | PullError:
        worker = self._worker
        await worker.node.runtime_ready.wait()
        secrets = self._pull_secrets if worker.pod["spec"].get("imagePullSecrets") else None
        try:
            return await worker.node.puller.ensure(worker.pod, container, secrets, event)
        except PullError as e:
            # Shown at once: the sandbox may still take its time.
            worker.memory.waiting[container["name"]] = Trouble(e.reason, str(e))
            worker.wake()
            return e

    async def _pull_secrets(self) -> list[Obj]:
        node, namespace = self._worker.node, self._worker.key[0]
        names = [ref.get("name", "") for ref in self._worker.pod["spec"].get("imagePullSecrets") or ()]
        found = await asyncio.gather(*(node.objects.get(resource("secrets"), namespace, name) for name in names))
        return [secret for secret in found if secret is not None]

    async def image_volumes(self, container: Obj, event: Callable[[str, str, str], None]) -> None:
        """Pulls and mounts the image volumes that a container is to see. Raises PullError, VolumeError."""
        mounted = {m["name"] for m in container.get("volumeMounts") or ()}
        for volume in self._worker.pod["spec"].get("volumes") or ():
            source = volume.get("image")
            folder = self.volumes.folders().get(volume["name"])
            if source is None or folder is None or volume["name"] not in mounted:
                continue
            asked = {"image": source.get("reference") or "", "imagePullPolicy": source.get("pullPolicy")}
            found = await self._ensure({**asked, "name": container["name"]}, event)
            if isinstance(found, PullError):
                raise found
            await mount_image(self._worker.node.config, found.id, folder)

    async def image(self, container: Obj, event: Callable[[str, str, str], None]) -> pb.Image:
        """The container's image, fetched ahead or now. Raises PullError."""
        waiting = self._images.pop(container["name"], None)
        result: Any = await waiting if waiting is not None else await self._ensure(container, event)
        if isinstance(result, PullError):
            raise result
        return result
