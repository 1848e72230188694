"""emptyDir volumes: a folder that lives and dies with its pod, on disk or (medium Memory) on a tmpfs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from stablehand.machinery import quantity
from stablehand.machinery.types import Obj
from stablehand.node import mounts
from stablehand.node.volumes.contract import Context, Mounted, VolumeError

FOLDER = "kubernetes.io~empty-dir"


def folder_below(pod_folder: Path, name: str) -> Path:
    """Where the volume of that name lies in the folder of its pod."""
    return pod_folder / "volumes" / FOLDER / name


def memory_size(pod: Obj, source: Obj, allocatable: Mapping[str, str]) -> int:
    """Bytes of a tmpfs: no more than the node has, the pod may use, and the volume may hold."""
    sizes = [quantity.whole(allocatable["memory"])] if allocatable.get("memory") else []
    memory = [
        quantity.whole(limit)
        for owner in ([pod["spec"]] if pod["spec"].get("resources") else pod["spec"]["containers"])
        if (limit := ((owner.get("resources") or {}).get("limits") or {}).get("memory"))
    ]
    if memory:
        sizes.append(sum(memory))
    if source.get("sizeLimit"):
        sizes.append(quantity.whole(source["sizeLimit"]))
    return min((size for size in sizes if size > 0), default=0)


async def setup(context: Context, source: Obj) -> Mounted:
    folder = context.folder
    medium = source.get("medium") or ""
    fresh = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    if medium == "Memory":
        if not mounts.is_mount_point(folder):
            fresh = True
            limit = memory_size(context.pod, source, context.host.allocatable())
            mounts.mount("tmpfs", folder, "tmpfs", mounts.MS_NOSUID | mounts.MS_NODEV, f"size={limit}" if limit else "")
    elif medium:
        raise VolumeError(f'storage medium "{medium}" is not supported by this node')
    if fresh:
        os.chmod(folder, 0o777)
    return Mounted(folder)
