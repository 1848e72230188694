"""Carrying a connection through unread: the client's own upgrade, or bytes tunnelled in WebSocket messages.

`proxy_upgrade` takes the connection from aiohttp, which has only parsed the request.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from aiohttp import WSMsgType, web

from stablehand.apiserver import errors
from stablehand.apiserver.streams.kubelet import Upgraded, host

_HIGH = 1 << 18
_NAMING = ("x-remote-", "impersonate-")  # a client does not say who it is past us
_DROPPED = ("host", "authorization", "content-length", "transfer-encoding", "cookie", "accept-encoding")


class _Side(asyncio.Protocol):
    """One end of a pipe: what it receives is written to the other, held back while that cannot keep up."""

    def __init__(self, done: asyncio.Event) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: _Side | None = None
        self.above: asyncio.Protocol | None = None  # who had the connection before
        self._done = done

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=_HIGH)

    def _peer(self) -> asyncio.Transport | None:
        peer = self.other.transport if self.other is not None else None
        return None if peer is None or peer.is_closing() else peer

    def data_received(self, data: bytes) -> None:
        if (peer := self._peer()) is not None:
            peer.write(data)

    def eof_received(self) -> bool:
        peer = self._peer()
        if peer is not None and peer.can_write_eof() and self.transport and self.transport.can_write_eof():
            peer.write_eof()
            return True
        return False  # TLS cannot be closed by half

    def connection_lost(self, exc: Exception | None) -> None:
        if (peer := self._peer()) is not None:
            peer.close()
        if self.above is not None:
            self.above.connection_lost(exc)
        self._done.set()

    def pause_writing(self) -> None:
        if (peer := self._peer()) is not None:
            peer.pause_reading()

    def resume_writing(self) -> None:
        if (peer := self._peer()) is not None:
            peer.resume_reading()


@dataclass(frozen=True, slots=True)
class Identity:
    """The name a server is called by, and the headers that tell it who asks, in place of the client's own."""

    server: str
    headers: tuple[tuple[str, str], ...]


async def proxy_upgrade(
    http: Any, address: str, port: int, path: str, context: ssl.SSLContext | None, identity: Identity | None = None
) -> web.StreamResponse:
    """Sends the client's upgrade on as its own and then every byte both ways."""
    client_transport: asyncio.Transport | None = http.transport
    if client_transport is None:
        raise ConnectionResetError("connection lost")
    done = asyncio.Event()
    server, client = _Side(done), _Side(done)
    try:
        async with asyncio.timeout(10):
            called = identity.server if identity is not None and context is not None else None
            await asyncio.get_running_loop().create_connection(
                lambda: server, address, port, ssl=context, server_hostname=called
            )
    except (OSError, TimeoutError) as e:
        refused = errors.internal(f"error dialing backend: dial tcp {host(address, port)}: {e or 'i/o timeout'}")
        return web.json_response(refused.status(), status=refused.code)
    assert server.transport is not None
    above: Any = http.protocol
    tail = bytes(getattr(above, "_message_tail", b"") or b"")
    if tail:
        above._message_tail = b""
    client.above, client.transport = above, client_transport
    client.other, server.other = server, client
    client_transport.set_protocol(client)
    client_transport.set_write_buffer_limits(high=_HIGH)
    if client_transport.is_reading() is False:
        client_transport.resume_reading()
    called = identity.server if identity is not None else host(address, port)
    lines = [f"{http.method} {path} HTTP/1.1", f"Host: {called}"]
    dropped = _NAMING if identity is not None else ()
    lines += [
        f"{name}: {value}"
        for name, value in http.headers.items()
        if name.lower() not in _DROPPED and not name.lower().startswith(dropped)
    ]
    if identity is not None:
        lines += [f"{name}: {value}" for name, value in identity.headers]
    if http.method == "POST":
        lines.append("Content-Length: 0")
    server.transport.write(("\r\n".join(lines) + "\r\n\r\n").encode() + tail)
    try:
        await done.wait()
    finally:
        for side in (server, client):
            if side.transport is not None:
                side.transport.close()
    return web.Response()


async def tunnel(http: Any, upgraded: Upgraded, protocol: str) -> web.StreamResponse:
    """The SPDY connection's bytes in binary messages, both ways."""
    socket = web.WebSocketResponse(protocols=(protocol,), max_msg_size=1 << 24, compress=False, timeout=2.0)
    reader, writer = upgraded.reader, upgraded.writer

    async def down() -> None:
        while data := await reader.read(1 << 16):
            await socket.send_bytes(data)

    async def up() -> None:
        async for message in socket:
            if message.type == WSMsgType.BINARY:
                writer.write(message.data)
                await writer.drain()

    tasks: list[asyncio.Task[None]] = []
    try:
        await socket.prepare(http)
        tasks = [asyncio.ensure_future(down()), asyncio.ensure_future(up())]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        writer.close()
    if not socket.closed:
        with contextlib.suppress(ConnectionError, RuntimeError):
            await socket.close()
    return socket


class _Watched(asyncio.Protocol):
    """Stands before aiohttp's protocol and cancels a task when the connection ends."""

    def __init__(self, inner: Any, task: asyncio.Task[Any]) -> None:
        self._inner, self._task = inner, task
        self.gone = False

    def data_received(self, data: bytes) -> None:
        self._inner.data_received(data)

    def eof_received(self) -> Any:
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone = True
        self._inner.connection_lost(exc)
        self._task.cancel()


@contextlib.contextmanager
def ended_by_client(http: Any) -> Iterator[None]:
    """The current task is cancelled when the client goes; aiohttp tells it only at the next write."""
    transport, task = http.transport, asyncio.current_task()
    if transport is None or task is None:
        raise ConnectionResetError("connection lost")
    watched = _Watched(http.protocol, task)
    transport.set_protocol(watched)
    try:
        yield
    except asyncio.CancelledError:
        if not watched.gone:
            raise
        task.uncancel()
        raise ConnectionResetError("the client is gone") from None
    finally:
        if not watched.gone:
            transport.set_protocol(http.protocol)
