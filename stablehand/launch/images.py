"""Images of a running or stopped Stablehand's containerd, for the command line. Building them is `imagebuild`'s."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stablehand.launch.config import Paths, UpConfig
from stablehand.launch.errors import LaunchError

if TYPE_CHECKING:
    from stablehand.node.images import ImageInfo


def _node(data_dir: Path, bridge: str) -> Any:
    from stablehand.launch.parts import node_config

    config = node_config(UpConfig(paths=Paths(data_dir.absolute()), bridge=bridge), None, None)
    if not config.socket.exists():
        raise LaunchError(f"no containerd at {config.socket}: start it with `stablehand up`")
    return config


async def load(data_dir: Path, bridge: str, path: Path, names: Sequence[str] = ()) -> list[str]:
    """Imports an archive; answers the names. Raises LaunchError, NodeError."""
    from stablehand.node.images import import_archive

    return await import_archive(_node(data_dir, bridge), path, names)


async def list_images(data_dir: Path, bridge: str) -> list[ImageInfo]:
    """Every image there is. Raises LaunchError."""
    from stablehand.node import images
    from stablehand.node.cri.client import Runtime

    runtime = Runtime(_node(data_dir, bridge).socket)
    try:
        return await images.list_images(runtime)
    finally:
        await runtime.close()
