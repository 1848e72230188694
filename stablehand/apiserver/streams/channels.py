"""Remote commands over WebSocket: the channels of *.channel.k8s.io carried as SPDY streams to the kubelet."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import WSMsgType, web

from stablehand.aiokit.spdy import Connection, SpdyError
from stablehand.apiserver.streams.kubelet import Upgraded

PROTOCOLS = (
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "base64.channel.k8s.io",
)
STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
_NAMES = {ERROR: "error", STDIN: "stdin", STDOUT: "stdout", STDERR: "stderr", RESIZE: "resize"}
_MAX_MESSAGE = 1 << 24


@dataclass(slots=True)
class Wanted:
    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool


class _Translation:
    def __init__(self, socket: web.WebSocketResponse, upgraded: Upgraded, wanted: Wanted) -> None:
        self._socket = socket
        protocol = socket.ws_protocol or ""
        self._base64 = "base64" in protocol
        self._half_close = protocol.startswith("v5.")
        self._plain_errors = not protocol.startswith(("v4.", "v5."))
        self._spdy = Connection(upgraded.reader, upgraded.writer, self._from_kubelet)
        present = {
            ERROR: True,
            STDIN: wanted.stdin,
            STDOUT: wanted.stdout,
            STDERR: wanted.stderr,
            RESIZE: wanted.tty,
        }
        self._streams: dict[int, int] = {}  # channel -> stream
        for channel, name in _NAMES.items():
            if present[channel]:
                self._streams[channel] = self._spdy.open({"streamtype": name})
        self._channels = {stream: channel for channel, stream in self._streams.items()}
        self._awaited = {c for c in (STDOUT, STDERR, ERROR) if c in self._streams}
        self._error = bytearray()
        self._told = False  # whether the command's status has come

    async def run(self) -> None:
        """Until the command has ended and all it wrote is told, or the client goes."""
        outputs = [c for c in (STDOUT, STDERR, ERROR) if c in self._streams]
        await self._to_client(outputs[0], b"")  # tells the client that the streams are there
        async with asyncio.TaskGroup() as group:
            down = group.create_task(self._down())
            up = group.create_task(self._up())
            done, _ = await asyncio.wait((down, up), return_when=asyncio.FIRST_COMPLETED)
            if down in done and not self._socket.closed:
                with contextlib.suppress(ConnectionError, RuntimeError):
                    # Reads the client's own close, which up() is not to steal.
                    up.cancel()
                    await asyncio.wait((up,))
                    await self._socket.close(code=1000 if self._told else 1011)
            up.cancel()
            down.cancel()

    def close(self) -> None:
        self._spdy.close()

    async def _down(self) -> None:
        with contextlib.suppress(ConnectionError, SpdyError):
            await self._spdy.run()

    async def _from_kubelet(self, stream: int, data: bytes, ended: bool) -> None:
        channel = self._channels.get(stream)
        if channel is None:
            return
        if channel == ERROR and self._plain_errors:
            self._error += data
            if ended and self._error:
                await self._to_client(ERROR, _message(bytes(self._error)))
        elif data and channel in (STDOUT, STDERR, ERROR):
            await self._to_client(channel, data)
        self._told = self._told or channel == ERROR
        if ended:
            self._awaited.discard(channel)
            if not self._awaited:
                self._spdy.close()

    async def _to_client(self, channel: int, data: bytes) -> None:
        if self._base64:
            await self._socket.send_str(f"{channel}{base64.b64encode(data).decode()}")
        else:
            await self._socket.send_bytes(bytes((channel,)) + data)

    async def _up(self) -> None:
        with contextlib.suppress(ConnectionError):
            async for message in self._socket:
                if message.type == WSMsgType.BINARY or message.type == WSMsgType.TEXT:
                    await self._from_client(message.data)

    async def _from_client(self, message: bytes | str) -> None:
        if isinstance(message, str):
            message = message.encode()
        if not message:
            return
        channel, data = message[0], message[1:]
        if self._base64:
            channel -= ord("0")
            try:
                data = base64.b64decode(data)
            except ValueError:
                return
        if channel == CLOSE and self._half_close:
            stream = self._streams.pop(data[0], None) if data and data[0] in (STDIN, RESIZE) else None
            if stream is not None:
                await self._spdy.send(stream, b"", fin=True)
        elif channel in (STDIN, RESIZE) and data and channel in self._streams:
            await self._spdy.send(self._streams[channel], data)


def _message(status: bytes) -> bytes:
    """Before v4 the error channel carried text, and nothing for success."""
    try:
        parsed = orjson.loads(status)
    except ValueError:
        return status
    return b"" if parsed.get("status") == "Success" else str(parsed.get("message", "")).encode()


async def translate(http: Any, upgraded: Upgraded, wanted: Wanted) -> web.StreamResponse:
    """Serves the client until the command ends."""
    socket = web.WebSocketResponse(protocols=PROTOCOLS, max_msg_size=_MAX_MESSAGE, compress=False, timeout=2.0)
    translation = None
    try:
        await socket.prepare(http)
        translation = _Translation(socket, upgraded, wanted)
        await translation.run()
    except ConnectionError:
        pass
    finally:
        if translation is not None:
            translation.close()
        upgraded.writer.close()
    if not socket.closed and socket.prepared:
        with contextlib.suppress(ConnectionError, RuntimeError):
            await socket.close()
    return socket
