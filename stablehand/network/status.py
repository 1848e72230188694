"""What kube-proxy tells of itself over HTTP, for those who ask every node: /healthz and /livez on port 10256,
/proxyMode and /healthz on port 10249 of the loopback address.

Where a port is taken (by another Stablehand, by a kube-proxy), the part does without.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable

from aiohttp import web

from stablehand.aiokit.sockets import open_socket

log = logging.getLogger("stablehand.network")
HEALTH_PORT, STATUS_PORT = 10256, 10249
_LATE = 60.0  # seconds that a change may wait for the kernel's rules in a healthy part


class Progress:
    """Since when changes wait for being written, and when the last were. Seconds since the epoch."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self.updated, self._waiting = clock(), 0.0

    def changed(self) -> None:
        self._waiting = self._waiting or self.clock()

    def written(self) -> None:
        self.updated, self._waiting = self.clock(), 0.0

    def is_healthy(self) -> bool:
        return not self._waiting or self.clock() - self._waiting < _LATE


def _date(seconds: float) -> str:
    """As Go prints a time."""
    return time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC", time.gmtime(seconds))


class StatusServer:
    """`open` listens, `close` ends."""

    def __init__(self, progress: Progress, addresses: tuple[str, ...]) -> None:
        self._progress = progress
        self._addresses = addresses or ("0.0.0.0",)
        self._runners: list[web.ServerRunner] = []

    async def open(self) -> None:
        await self._serve(self._health, [(a, HEALTH_PORT) for a in self._addresses])
        await self._serve(self._status, [("127.0.0.1", STATUS_PORT)])

    async def _serve(self, answer: Callable[[str], web.Response], where: list[tuple[str, int]]) -> None:
        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            return answer(request.path)

        runner = web.ServerRunner(web.Server(handle))
        await runner.setup()
        self._runners.append(runner)
        for address, port in where:
            try:
                sock = open_socket(socket.SOCK_STREAM, address, port, "the state of the network part")
                await web.SockSite(runner, sock).start()
            except OSError as e:
                log.info("%s", e)

    def _health(self, path: str) -> web.Response:
        if path not in ("/healthz", "/livez"):
            return web.Response(status=404)
        now = self._progress.clock()
        healthy = self._progress.is_healthy()
        body = {
            "lastUpdated": _date(now if healthy else self._progress.updated),
            "currentTime": _date(now),
            "nodeEligible": True,
        }
        return web.json_response(body, status=200 if healthy else 503, headers={"X-Content-Type-Options": "nosniff"})

    def _status(self, path: str) -> web.Response:
        texts = {"/proxyMode": "nftables", "/healthz": "ok"}
        return web.Response(text=texts[path]) if path in texts else web.Response(status=404)

    async def close(self) -> None:
        for runner in self._runners:
            await runner.cleanup()
