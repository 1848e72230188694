"""SPDY/3.1: the frames and a client's connection over asyncio streams, as Kubernetes' remote commands use it.

The HTTP upgrade that comes before, and what the streams mean, are the caller's.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import zlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

SYN_STREAM, SYN_REPLY, RST_STREAM, SETTINGS, PING, GOAWAY, HEADERS, WINDOW_UPDATE = 1, 2, 3, 4, 6, 7, 8, 9
FLAG_FIN = 1
INITIAL_WINDOW = 65536
_SETTING_INITIAL_WINDOW = 7
_CHUNK = 32 * 1024
_MAX_CONTROL = 1 << 20
_MASK = 0x7FFFFFFF

# draft-mbelshe-httpbis-spdy-00, 2.6.10.1: words with their lengths, then text without.
_WORDS = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow "
    "authorization cache-control connection content-base content-encoding content-language content-length "
    "content-location content-md5 content-range content-type date etag expect expires from host if-match "
    "if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma "
    "proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade "
    "user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie "
    "keep-alive origin"
)
_TEXT = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized"
    "403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,"
    "text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
DICTIONARY = (
    b"".join(struct.pack(">I", len(word)) + word.encode() for word in (w.replace("_", " ") for w in _WORDS.split(" ")))
    + _TEXT.encode()
)


class SpdyError(Exception):
    """The peer sent what is no SPDY/3.1."""


@dataclass(slots=True, frozen=True)
class Frame:
    """`kind` 0 is a data frame; `payload` of a control frame is all after its length."""

    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def fin(self) -> bool:
        return bool(self.flags & FLAG_FIN)


class HeaderCodec:
    """Header blocks of one connection: each direction is one zlib stream from the first block to the last."""

    def __init__(self) -> None:
        self._deflate = zlib.compressobj(zdict=DICTIONARY)
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)

    def encode(self, headers: Mapping[str, str]) -> bytes:
        out = [struct.pack(">I", len(headers))]
        for name, value in headers.items():
            for text in (name.lower().encode(), value.encode()):
                out.append(struct.pack(">I", len(text)) + text)
        return self._deflate.compress(b"".join(out)) + self._deflate.flush(zlib.Z_SYNC_FLUSH)

    def decode(self, block: bytes) -> dict[str, str]:
        try:
            data = self._inflate.decompress(block, _MAX_CONTROL)
            (count,) = struct.unpack_from(">I", data)
            at, texts = 4, []
            for _ in range(2 * count):
                (size,) = struct.unpack_from(">I", data, at)
                at += 4
                texts.append(data[at : at + size].decode("utf-8", "replace"))
                at += size
        except (zlib.error, struct.error) as e:
            raise SpdyError(f"bad header block: {e}") from e
        return dict(zip(texts[::2], texts[1::2], strict=True))


def data_frame(stream: int, data: bytes, fin: bool = False) -> bytes:
    return struct.pack(">II", stream, (FLAG_FIN if fin else 0) << 24 | len(data)) + data


def control_frame(kind: int, payload: bytes, flags: int = 0) -> bytes:
    return struct.pack(">HHI", 0x8003, kind, flags << 24 | len(payload)) + payload


async def read_frame(reader: asyncio.StreamReader) -> Frame | None:
    """The next frame; None at the end of the connection. Raises SpdyError."""
    try:
        first, second = struct.unpack(">II", await reader.readexactly(8))
        size = second & 0xFFFFFF
        flags = second >> 24
        if not first >> 31:
            return Frame(0, flags, first, await reader.readexactly(size))
        if first >> 16 != 0x8003:
            raise SpdyError(f"SPDY version {(first >> 16) & 0x7FFF} is not 3")
        if size > _MAX_CONTROL:
            raise SpdyError("control frame too large")
        payload = await reader.readexactly(size)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    kind = first & 0xFFFF
    stream = 0
    if kind not in (SETTINGS, PING, GOAWAY):
        if len(payload) < 4:
            raise SpdyError("control frame too short")
        stream = int.from_bytes(payload[:4], "big") & _MASK
    return Frame(kind, flags, stream, payload)


class Connection:
    """The client's side. `on_data(stream, data, ended)` is awaited frame by frame, which holds a fast peer back.

    Go's spdystream, the usual peer, has no flow control, so windows bind only once the peer has spoken of one.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        on_data: Callable[[int, bytes, bool], Awaitable[None]],
    ) -> None:
        self._reader, self._writer, self._on_data = reader, writer, on_data
        self._codec = HeaderCodec()
        self._next = 1
        self._flow = False
        self._initial = INITIAL_WINDOW
        self._windows: dict[int, int] = {0: INITIAL_WINDOW}
        self._received: dict[int, int] = {}
        self._opened = asyncio.Event()
        self.closed = False

    def open(self, headers: Mapping[str, str], fin: bool = False) -> int:
        """Opens a stream and answers its number."""
        stream, self._next = self._next, self._next + 2
        self._windows[stream] = self._initial
        payload = struct.pack(">IIH", stream, 0, 0) + self._codec.encode(headers)
        self._write(control_frame(SYN_STREAM, payload, FLAG_FIN if fin else 0))
        return stream

    async def send(self, stream: int, data: bytes, fin: bool = False) -> None:
        """Sends data, and with `fin` the end of this direction. Raises ConnectionError when the connection is gone."""
        at = 0
        while at < len(data):
            size = min(_CHUNK, len(data) - at)
            if self._flow:
                size = min(size, await self._room(stream))
            for key in (0, stream):
                self._windows[key] = self._windows.get(key, 0) - size
            last = at + size == len(data)
            self._write(data_frame(stream, data[at : at + size], fin and last))
            at += size
            await self._writer.drain()
        if fin and not data:
            self._write(data_frame(stream, b"", True))
            await self._writer.drain()

    async def _room(self, stream: int) -> int:
        while (room := min(self._windows[0], self._windows.get(stream, 0))) <= 0:
            if self.closed:
                raise ConnectionResetError("SPDY connection closed")
            self._opened.clear()
            await self._opened.wait()
        return room

    def _write(self, data: bytes) -> None:
        if self.closed:
            raise ConnectionResetError("SPDY connection closed")
        self._writer.write(data)

    async def run(self) -> None:
        """Reads until the connection ends. Raises SpdyError."""
        try:
            while not self.closed:
                frame = await read_frame(self._reader)
                if frame is None:
                    return
                await self._handle(frame)
        finally:
            self.close()

    async def _handle(self, frame: Frame) -> None:
        kind, payload = frame.kind, frame.payload
        if kind == 0:
            await self._on_data(frame.stream, payload, frame.fin)
            if self._flow and payload:
                self._credit(frame.stream, len(payload))
                self._credit(0, len(payload))
        elif kind in (SYN_REPLY, HEADERS):
            self._codec.decode(payload[4:])
            if frame.fin:
                await self._on_data(frame.stream, b"", True)
        elif kind == SYN_STREAM:  # nothing here expects streams of the server's
            self._codec.decode(payload[10:])
            self._write(control_frame(RST_STREAM, struct.pack(">II", frame.stream, 3)))
        elif kind == RST_STREAM:
            await self._on_data(frame.stream, b"", True)
        elif kind == PING:
            if payload[-1:] and not payload[-1] & 1:  # even numbers are the server's own
                self._write(control_frame(PING, payload))
        elif kind == SETTINGS:
            self._settings(payload)
        elif kind == WINDOW_UPDATE and len(payload) >= 8:
            self._flow = True
            delta = int.from_bytes(payload[4:8], "big") & _MASK
            self._windows[frame.stream] = self._windows.get(frame.stream, self._initial) + delta
            self._opened.set()
        # GOAWAY: nothing new is opened after the start; the streams there are go on to their end.

    def _settings(self, payload: bytes) -> None:
        for at in range(4, len(payload) - 7, 8):
            key, value = struct.unpack_from(">II", payload, at)
            if key & 0xFFFFFF == _SETTING_INITIAL_WINDOW:
                change, self._initial, self._flow = value - self._initial, value, True
                for stream in self._windows:
                    if stream:
                        self._windows[stream] += change
                self._opened.set()

    def _credit(self, stream: int, size: int) -> None:
        received = self._received.get(stream, 0) + size
        if received >= INITIAL_WINDOW // 2:
            self._write(control_frame(WINDOW_UPDATE, struct.pack(">II", stream, received)))
            received = 0
        self._received[stream] = received

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._opened.set()
        with contextlib.suppress(Exception):
            self._writer.write(control_frame(GOAWAY, struct.pack(">II", 0, 0)))
        self._writer.close()
