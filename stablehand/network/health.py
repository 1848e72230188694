"""healthCheckNodePort: load balancers ask each node whether it has endpoints of a Service (kube-proxy's answers)."""

from __future__ import annotations

import logging
import socket
from dataclasses import dataclass

from aiohttp import web

from stablehand.aiokit.sockets import open_socket
from stablehand.network.table import Key

log = logging.getLogger("stablehand.network.health")


@dataclass(slots=True)
class _Port:
    service: Key
    endpoints: int
    runner: web.ServerRunner | None = None


class HealthPorts:
    """One small HTTP server per Service that has such a port. `set` opens, changes and closes; `close` closes all."""

    def __init__(self, addresses: tuple[str, ...] = ()) -> None:
        self._addresses = addresses or ("0.0.0.0",)
        self._ports: dict[int, _Port] = {}

    async def set(self, service: Key, port: int, endpoints: int) -> None:
        """The Service's port (0: none) and the number of its ready endpoints on this node."""
        for other, old in list(self._ports.items()):
            if old.service == service and other != port:
                await self._stop(self._ports.pop(other))
        if not port:
            return
        have = self._ports.get(port)
        if have is not None:
            have.service, have.endpoints = service, endpoints
            return
        entry = self._ports[port] = _Port(service, endpoints)
        runner = web.ServerRunner(web.Server(lambda _request: self._answer(entry)))
        entry.runner = runner
        await runner.setup()
        try:
            for address in self._addresses:
                sock = open_socket(socket.SOCK_STREAM, address, port, f"the health check of service {service}")
                await web.SockSite(runner, sock).start()
        except OSError as e:
            log.warning("%s", e)
            del self._ports[port]
            await runner.cleanup()

    async def _answer(self, entry: _Port) -> web.StreamResponse:
        headers = {"X-Content-Type-Options": "nosniff", "X-Load-Balancing-Endpoint-Weight": str(entry.endpoints)}
        body = {
            "service": {"namespace": entry.service[0], "name": entry.service[1]},
            "localEndpoints": entry.endpoints,
            "serviceProxyHealthy": True,
        }
        return web.json_response(body, status=200 if entry.endpoints else 503, headers=headers)

    async def _stop(self, entry: _Port) -> None:
        if entry.runner is not None:
            await entry.runner.cleanup()

    async def close(self) -> None:
        for entry in self._ports.values():
            await self._stop(entry)
        self._ports.clear()
