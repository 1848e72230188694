"""Images of a running or stopped Stablehand's containerd, for the command line. Building them is `imagebuild`'s."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stablehand.launch.config import UpConfig
from stablehand.launch.errors import LaunchError

if TYPE_CHECKING:
    from stablehand.node.images import ImageInfo


def _node(up: UpConfig) -> Any:
    from stablehand.launch.nodeconfig import node_config

    config = node_config(up, None, None)
    if not config.socket.exists():
        raise LaunchError(f"no containerd at {config.socket}: start it with `stablehand up`")
    return config


async def load(up: UpConfig, path: Path, names: Sequence[str] = ()) -> list[str]:
    """Imports an archive; answers the names. Raises LaunchError, NodeError."""
    from stablehand.node.images import import_archive

    return await import_archive(_node(up), path, names)


async def list_images(up: UpConfig) -> list[ImageInfo]:
    """Every image there is. Raises LaunchError."""
    from stablehand.node import images
    from stablehand.node.cri.client import Runtime

    runtime = Runtime(_node(up).socket)
    try:
        return await images.list_images(runtime)
    finally:
        await runtime.close()
