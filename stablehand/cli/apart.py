"""Running one part alone: what the commands controllers, scheduler, node, dns and provisioner share."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Awaitable, Callable

from stablehand.client import Client, connect

_STOP_SECONDS = 10


def log_to_stderr() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")


def run_part(
    kubeconfig: str | None,
    manager: str,
    part: Callable[[Client], Awaitable[None]],
    *,
    stop_seconds: float = _STOP_SECONDS,
) -> int:
    """Connects and runs `part` until SIGINT or SIGTERM; a second signal ends the process at once.

    A server that does not answer yet is no error: informers and elections try again. Raises ConfigError and what the
    part raises.
    """
    import uvloop

    log_to_stderr()

    async def serve() -> None:
        client = (await connect(kubeconfig, user_agent=manager)).with_manager(manager)
        task = asyncio.ensure_future(part(client))
        loop = asyncio.get_running_loop()

        def stop(number: int) -> None:
            task.cancel()
            loop.remove_signal_handler(number)

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop, number)
        try:
            await asyncio.wait([task])
            if not task.cancelled():
                task.result()
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                async with asyncio.timeout(stop_seconds):
                    await task
            await client.close()

    uvloop.run(serve())
    return 0
