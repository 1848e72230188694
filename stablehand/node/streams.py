"""Carrying an upgraded connection (SPDY/3.1 or WebSocket) between a client and the runtime's streaming server: bytes
both ways, nothing read into them, one side's end told to the other.

aiohttp parses the request; from then on the connection is taken from it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any, cast
from urllib.parse import urlsplit

from aiohttp import web

log = logging.getLogger("stablehand.node.streams")

_HIGH = 1 << 18


class _Side(asyncio.Protocol):
    """One end of a pipe. What it receives goes to `other`, held back while `other` cannot keep up."""

    def __init__(self, done: asyncio.Event) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: _Side | None = None
        self.done = done
        self.closed = False
        self.early = bytearray()
        self.on_lost: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=_HIGH)

    def data_received(self, data: bytes) -> None:
        other = self.other
        if other is None or other.transport is None:
            self.early += data
        elif not other.transport.is_closing():
            other.transport.write(data)

    def flush_early(self) -> None:
        if self.early and self.other is not None and self.other.transport is not None:
            self.other.transport.write(bytes(self.early))
            self.early.clear()

    def eof_received(self) -> bool:
        other = self.other
        if other is None or other.transport is None or other.transport.is_closing():
            return False
        if other.transport.can_write_eof():
            with contextlib.suppress(OSError, RuntimeError):
                other.transport.write_eof()
            # A TLS side cannot stay half open; asking for it only earns a warning.
            return self.transport is not None and self.transport.can_write_eof()
        other.transport.close()  # TLS cannot be closed by half
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()
        if self.on_lost is not None:
            self.on_lost(exc)
        self.done.set()

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            with contextlib.suppress(RuntimeError):
                self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            with contextlib.suppress(RuntimeError):
                self.other.transport.resume_reading()


def require_upgrade(request: web.Request) -> None:
    if "upgrade" not in request.headers.get("Connection", "").lower() and "Upgrade" not in request.headers:
        raise web.HTTPBadRequest(text="Upgrade request required")


async def proxy_upgrade(request: web.Request, url: str) -> web.StreamResponse:
    """Answers the request with whatever the server at `url` says, upgrade included."""
    target = urlsplit(url)
    transport = request.transport
    if transport is None:
        raise web.HTTPBadRequest(text="connection lost")
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    server, client = _Side(done), _Side(done)
    try:
        await loop.create_connection(lambda: server, target.hostname or "127.0.0.1", target.port or 80)
    except OSError as e:
        raise web.HTTPBadGateway(text=f"the runtime's streaming server does not answer: {e}") from None
    assert server.transport is not None
    protocol: Any = request.protocol
    tail = bytes(getattr(protocol, "_message_tail", b"") or b"")
    client.on_lost = protocol.connection_lost
    client.transport = transport
    client.other, server.other = server, client
    transport.set_protocol(client)
    transport.set_write_buffer_limits(high=_HIGH)
    if transport.is_reading() is False:
        transport.resume_reading()
    path = target.path + (f"?{target.query}" if target.query else "")
    lines = [f"{request.method} {path} HTTP/1.1", f"Host: {target.netloc}"]
    for name, value in request.headers.items():
        if name.lower() not in ("host", "authorization", "content-length", "transfer-encoding"):
            lines.append(f"{name}: {value}")
    if request.method == "POST":
        lines.append("Content-Length: 0")
    server.transport.write(("\r\n".join(lines) + "\r\n\r\n").encode() + tail)
    server.flush_early()
    client.flush_early()
    try:
        await done.wait()
    finally:
        for side in (server, client):
            if side.transport is not None and not side.closed:
                side.transport.close()
    return web.Response()
