"""The NFS export on 127.0.0.1 too, where `showmount -e` and `mount localhost:...` look for it.

ganesha listens on one address, that of the pod network. Here its ports are passed on, and the port mapper is told.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from stablehand.storage import portmap

log = logging.getLogger("stablehand.nfs")

_NFS, _MOUNT = 100003, 100005  # the programs' numbers
_CHUNK = 1 << 18


class Loopback:
    """Passes on connections to `address`, until `stop`."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._servers: list[asyncio.Server] = []
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Where ports are taken, or the port mapper wants nothing of it, a line in the log says so: pods do not care."""
        if self._address.startswith("127."):
            return
        try:
            ours = [m for m in await portmap.mappings() if m.program in (_NFS, _MOUNT) and m.protocol == portmap.TCP]
            for port in sorted({m.port for m in ours}):
                self._servers.append(await asyncio.start_server(self._serve(port), "127.0.0.1", port))
            for mapping in ours:
                if not await portmap.set_everywhere(mapping):
                    log.info("the port mapper keeps program %s to %s", mapping.program, self._address)
        except (OSError, TimeoutError) as e:
            log.info("the NFS export is not to be had on 127.0.0.1: %s", e)

    def _serve(self, port: int) -> _Client:
        return _Client(self._address, port, self._connections)

    async def stop(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)


class _Client:
    """What is done with each connection to one port."""

    def __init__(self, address: str, port: int, running: set[asyncio.Task[None]]) -> None:
        self._address, self._port, self._running = address, port, running

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            far_reader, far_writer = await asyncio.open_connection(self._address, self._port)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(_pass(reader, far_writer))
                    group.create_task(_pass(far_reader, writer))
            finally:
                far_writer.close()
        except* OSError as e:
            log.debug("a connection to port %s broke: %s", self._port, e.exceptions[0])
        finally:
            writer.close()
            self._running.discard(task)


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_CHUNK):
        writer.write(data)
        await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()
