"""Running one part alone: what the commands apiserver, controllers, scheduler, node and dns share."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Awaitable, Callable

from stablehand.client import Client, connect


def run_part(kubeconfig: str | None, manager: str, part: Callable[[Client], Awaitable[None]]) -> int:
    """Connects and runs `part` until SIGINT or SIGTERM. Raises ConfigError and what the part raises."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")

    async def serve() -> None:
        client = (await connect(kubeconfig, user_agent=manager)).with_manager(manager)
        stopping = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stopping.set)
        task = asyncio.ensure_future(part(client))
        stop = asyncio.ensure_future(stopping.wait())
        try:
            await asyncio.wait([task, stop], return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
        finally:
            stop.cancel()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task
            await client.close()

    asyncio.run(serve())
    return 0
