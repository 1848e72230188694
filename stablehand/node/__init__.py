"""The node agent: runs the pods that the API binds to this machine, in its own containerd. A client of the API only.

`run(NodeConfig(...))` is the part; `teardown` undoes what it left running. Everything else is inside.
"""

from __future__ import annotations

import asyncio

from stablehand.node.config import NodeConfig, NodeError

__all__ = ["NodeConfig", "NodeError", "run", "teardown"]


async def run(config: NodeConfig, *, ready: asyncio.Event | None = None) -> None:
    """Runs the node until cancelled; `ready` is set when its Node object is registered. Raises NodeError."""
    from stablehand.node.main import run as run_node

    await run_node(config, ready=ready)


async def teardown(config: NodeConfig, *, pods: bool) -> None:
    """Stops all pods, containerd and the pod network, and unmounts (with `pods`; else does nothing)."""
    from stablehand.node.main import teardown as tear_down

    await tear_down(config, pods=pods)
