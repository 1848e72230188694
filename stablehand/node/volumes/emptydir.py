"""emptyDir volumes: a folder that lives and dies with its pod, on disk or (medium Memory) on a tmpfs."""

from __future__ import annotations

import os

from stablehand.machinery import quantity
from stablehand.machinery.types import Obj
from stablehand.node import mounts
from stablehand.node.volumes.contract import Context, Mounted, VolumeError


async def setup(context: Context, source: Obj) -> Mounted:
    folder = context.folder
    medium = source.get("medium") or ""
    fresh = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    if medium == "Memory":
        if not mounts.is_mount_point(folder):
            fresh = True
            limit = quantity.whole(source["sizeLimit"]) if source.get("sizeLimit") else 0
            mounts.mount("tmpfs", folder, "tmpfs", mounts.MS_NOSUID | mounts.MS_NODEV, f"size={limit}" if limit else "")
    elif medium:
        raise VolumeError(f'storage medium "{medium}" is not supported by this node')
    if fresh:
        os.chmod(folder, 0o777)
    return Mounted(folder)
