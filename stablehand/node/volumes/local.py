"""local PersistentVolumes: a folder of this machine that must exist, fsGroup is applied to it (by manager); or a device."""

from __future__ import annotations

from pathlib import Path

from stablehand.machinery.types import Obj
from stablehand.node.volumes.contract import Context, Mounted, VolumeError


async def setup(context: Context, source: Obj) -> Mounted:
    path = Path(source["path"])
    if not path.is_dir():
        raise VolumeError(f'path "{path}" does not exist')
    return Mounted(path)


async def setup_block(context: Context, source: Obj) -> Mounted:
    """volumeMode Block: the device itself."""
    path = Path(source["path"])
    if not path.is_block_device():
        raise VolumeError(f'path "{path}" is not a block device')
    return Mounted(path, block=True)
