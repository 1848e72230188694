"""Removing images that no container uses when their file system fills, as kubelet does: least recently used first.

Images that were imported from archives stay: there is nothing to pull them from again.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from stablehand.node.config import PAUSE_IMAGE
from stablehand.node.cri.client import CriError, Runtime
from stablehand.node.cri.pb import cri_pb2 as pb

log = logging.getLogger("stablehand.node.imagegc")

HIGH, LOW = 95, 90  # percent of the file system; kubelet's 85 and 80 are for disks that are the node's alone
MIN_AGE = 120.0  # seconds


class CannotFree(Exception):
    """Less could be freed than is needed; the text goes into an event."""


@dataclass(slots=True)
class ImageGC:
    """`used()` answers the ids and names of the images that pods here refer to."""

    runtime: Callable[[], Runtime]
    folder: Path
    used: Callable[[], Iterable[str]]
    first_seen: dict[str, float] = field(default_factory=dict)
    last_used: dict[str, float] = field(default_factory=dict)

    async def look(self) -> list[pb.Image]:
        """The images that may be removed, the one not used for longest first. Remembers what is in use now."""
        now = time.time()
        images = await self.runtime().images()
        wanted = set(self.used()) | {c.image.image for c in await self.runtime().containers()}
        wanted |= {c.image_ref for c in await self.runtime().containers()} | {PAUSE_IMAGE}
        idle = []
        for image in images:
            self.first_seen.setdefault(image.id, now)
            if {image.id, *image.repo_tags, *image.repo_digests} & wanted:
                self.last_used[image.id] = now
            elif image.repo_digests and not getattr(image, "pinned", False):
                idle.append(image)
        here = {image.id for image in images}
        self.first_seen = {k: v for k, v in self.first_seen.items() if k in here}
        self.last_used = {k: v for k, v in self.last_used.items() if k in here}
        return sorted(idle, key=lambda i: (self.last_used.get(i.id, 0.0), self.first_seen[i.id]))

    async def collect(self) -> None:
        """Frees down to LOW percent once HIGH is reached. Raises CannotFree, CriError."""
        disk = os.statvfs(self.folder)
        capacity, available = disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize
        if not capacity or 100 - available * 100 // capacity < HIGH:
            await self.look()
            return
        need = capacity * (100 - LOW) // 100 - available
        log.info("the images' file system is %s %% full: freeing %s bytes", 100 - available * 100 // capacity, need)
        freed = await self.free(need)
        if freed < need:
            raise CannotFree(f"Failed to garbage collect required amount of images. Attempted to free {need} bytes, "
                             f"but only found {freed} bytes eligible to free.")  # fmt: skip

    async def free(self, need: int | None) -> int:
        """Removes idle images until `need` bytes are freed (None: all of them); the bytes freed. Raises CriError."""
        now, freed = time.time(), 0
        for image in await self.look():
            if need is not None and freed >= need:
                break
            if need is not None and now - self.first_seen[image.id] < MIN_AGE:
                continue
            try:
                await self.runtime().remove_image(image.id)
            except CriError as e:
                log.info("removing image %s: %s", image.id, e.message)
                continue
            freed += int(image.size)
            log.info("removed image %s", ", ".join([*image.repo_tags, *image.repo_digests][:2]) or image.id)
        return freed
