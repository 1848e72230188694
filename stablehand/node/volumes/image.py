"""image volumes: the files of an image, read-only, from a view that containerd's snapshotter gives.

CRI of containerd 1.6 knows no image mounts: the view is mounted into the pod's folder, like any other volume. The
image is pulled when the first container that mounts it starts (by supplies), so that what fails is the container's.
"""

from __future__ import annotations

from pathlib import Path

from stablehand.machinery.types import Obj
from stablehand.node import mounts
from stablehand.node.config import NodeConfig
from stablehand.node.network import run_program
from stablehand.node.volumes.contract import Context, Mounted, VolumeError

FOLDER = "kubernetes.io~image"


async def setup(context: Context, source: Obj) -> Mounted:
    """The empty folder; `mount_image` fills it."""
    context.folder.mkdir(parents=True, exist_ok=True)
    return Mounted(context.folder, readonly=True)


async def mount_image(config: NodeConfig, image: str, folder: Path) -> None:
    """Shows an image of this machine (by its id) in `folder`. Raises VolumeError."""
    if mounts.is_mount_point(folder):
        return
    await release_view(config, folder)  # of a mount that a reboot took away
    code, out = await run_program(*_ctr(config), "images", "mount", image, str(folder))
    if code != 0:
        raise VolumeError(f"failed to mount image {image}: {out.splitlines()[-1] if out else 'ctr failed'}")


async def release_view(config: NodeConfig, folder: Path) -> None:
    """Gives back the snapshot behind an unmounted image volume, where there is one."""
    await run_program(*_ctr(config), "snapshots", "rm", str(folder))


def _ctr(config: NodeConfig) -> tuple[str, ...]:
    return ("ctr", "-a", str(config.socket), "-n", "k8s.io")
