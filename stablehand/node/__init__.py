"""The node agent: runs the pods that the API binds to this machine, in its own containerd. A client of the API only.

`run(NodeConfig(...))` is the part; `teardown` undoes what it left running. Everything else is inside.
"""

from __future__ import annotations

import asyncio

from stablehand.node.config import NodeConfig, NodeError
from stablehand.node.containerd import Containerd

__all__ = ["Containerd", "NodeConfig", "NodeError", "run", "start_containerd", "teardown"]


async def start_containerd(config: NodeConfig) -> Containerd:
    """Starts containerd, or takes up the one that runs, ahead of `run`: it gets ready while the rest is loaded.

    Raises NodeError for a machine that cannot run a node.
    """
    config.check()
    containerd = Containerd(config)
    await containerd.start()
    return containerd


async def run(config: NodeConfig, *, ready: asyncio.Event | None = None, containerd: Containerd | None = None) -> None:
    """Runs the node until cancelled; `ready` is set when its Node object is registered. Raises NodeError.

    `containerd` is what `start_containerd` gave for the same configuration; without it, it is started here.
    """
    from stablehand.node.main import run as run_node

    await run_node(config, ready=ready, containerd=containerd)


async def teardown(config: NodeConfig, *, pods: bool) -> None:
    """Stops all pods, containerd and the pod network, and unmounts (with `pods`; else does nothing)."""
    from stablehand.node.main import teardown as tear_down

    await tear_down(config, pods=pods)
