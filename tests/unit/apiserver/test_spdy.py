"""The SPDY/3.1 codec and the client's connection, against a peer made of the same frames."""

from __future__ import annotations

import asyncio
import struct
import zlib

import pytest

from stablehand.aiokit import spdy


def test_dictionary_is_the_one_of_spdy_3() -> None:
    assert zlib.adler32(spdy.DICTIONARY) == 0xE3C6A7C2
    assert len(spdy.DICTIONARY) == 1423


def test_headers_survive_and_blocks_share_one_stream() -> None:
    ours, theirs = spdy.HeaderCodec(), spdy.HeaderCodec()
    first = ours.encode({"streamType": "stdin"})
    second = ours.encode({"streamType": "stdin"})
    assert theirs.decode(first) == {"streamtype": "stdin"}
    assert theirs.decode(second) == {"streamtype": "stdin"}
    assert len(second) < len(first)


def test_bad_header_block_is_an_error() -> None:
    with pytest.raises(spdy.SpdyError):
        spdy.HeaderCodec().decode(b"nonsense")


async def _read(data: bytes) -> spdy.Frame | None:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    return await spdy.read_frame(reader)


def test_frames() -> None:
    frame = asyncio.run(_read(spdy.data_frame(5, b"abc", True)))
    assert frame == spdy.Frame(0, 1, 5, b"abc") and frame.fin
    frame = asyncio.run(_read(spdy.control_frame(spdy.RST_STREAM, struct.pack(">II", 7, 1))))
    assert frame is not None and (frame.kind, frame.stream) == (spdy.RST_STREAM, 7)
    assert asyncio.run(_read(b"\x80")) is None
    with pytest.raises(spdy.SpdyError):
        asyncio.run(_read(b"\x80\x02\x00\x01\x00\x00\x00\x00"))


def test_connection_echoes_until_fin_and_keeps_to_the_window() -> None:
    async def scenario() -> None:
        opened: dict[int, dict[str, str]] = {}
        pending = 0
        most = 0
        pongs: list[bytes] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal pending, most
            codec = spdy.HeaderCodec()
            settings = struct.pack(">III", 1, 7, 1000)
            writer.write(spdy.control_frame(spdy.SETTINGS, settings))
            writer.write(spdy.control_frame(spdy.PING, struct.pack(">I", 2)))
            while (frame := await spdy.read_frame(reader)) is not None:
                if frame.kind == spdy.SYN_STREAM:
                    opened[frame.stream] = codec.decode(frame.payload[10:])
                    reply = struct.pack(">I", frame.stream) + codec.encode({})
                    writer.write(spdy.control_frame(spdy.SYN_REPLY, reply))
                elif frame.kind == spdy.PING:
                    pongs.append(frame.payload)
                elif frame.kind == 0:
                    pending += len(frame.payload)
                    most = max(most, len(frame.payload))
                    writer.write(spdy.data_frame(frame.stream, frame.payload, frame.fin))
                    for stream in (0, frame.stream):
                        if frame.payload:
                            update = struct.pack(">II", stream, len(frame.payload))
                            writer.write(spdy.control_frame(spdy.WINDOW_UPDATE, update))
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        received = bytearray()
        ended, answered = asyncio.Event(), asyncio.Event()

        async def on_data(stream: int, data: bytes, fin: bool) -> None:
            received.extend(data)
            answered.set()
            if fin:
                ended.set()

        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        connection = spdy.Connection(reader, writer, on_data)
        running = asyncio.ensure_future(connection.run())
        stream = connection.open({"streamType": "stdin"})
        body = b"x"
        await connection.send(stream, body)
        await answered.wait()  # the settings came before
        rest = bytes(range(256)) * 400
        await connection.send(stream, rest)
        await connection.send(stream, b"", fin=True)
        await asyncio.wait_for(ended.wait(), 5)
        assert bytes(received) == body + rest
        assert opened == {1: {"streamtype": "stdin"}}
        assert most <= 1000
        assert pongs == [struct.pack(">I", 2)]
        connection.close()
        await asyncio.wait_for(running, 5)
        with pytest.raises(ConnectionError):
            await connection.send(stream, b"late")
        server.close()

    asyncio.run(scenario())
