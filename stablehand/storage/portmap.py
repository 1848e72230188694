"""What a port mapper is asked and told (RFC 1833, version 2 of the protocol). Running one is `rpcbind`'s."""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import dataclass

PORT = 111
TCP = 6  # the protocol's number in a mapping
_PROGRAM, _VERSION = 100000, 2
_SET, _UNSET, _DUMP = 1, 2, 4
_LAST_FRAGMENT = 0x80000000
_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Mapping:
    """A program's version and where it listens; `protocol` as in /etc/protocols."""

    program: int
    version: int
    protocol: int
    port: int


async def mappings() -> list[Mapping]:
    """All that this machine's port mapper knows. Raises OSError."""
    answer = await _call(_DUMP, b"")
    return [Mapping(*struct.unpack_from(">4I", answer, at + 4)) for at in range(0, len(answer) - 20, 20)]


async def set_everywhere(mapping: Mapping) -> bool:
    """Tells the port mapper that the program is reached on every address; whether it took it.

    What registers itself on one address only is not told to who asks on another, loopback included. Raises OSError.
    """
    fields = struct.pack(">4I", mapping.program, mapping.version, mapping.protocol, mapping.port)
    await _call(_UNSET, fields)
    return struct.unpack(">I", await _call(_SET, fields))[0] == 1


async def _call(procedure: int, arguments: bytes) -> bytes:
    """The results of one call. From a reserved port, which root alone has: others may not change what root has set."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(_SECONDS):
        sock = _reserved()
        try:
            await loop.sock_connect(sock, ("127.0.0.1", PORT))
        except BaseException:
            sock.close()
            raise
        reader, writer = await asyncio.open_connection(sock=sock)
        try:
            # xid, CALL, RPC version 2, program, version, procedure, no credentials, no verifier
            call = struct.pack(">10I", 1, 0, 2, _PROGRAM, _VERSION, procedure, 0, 0, 0, 0) + arguments
            writer.write(struct.pack(">I", _LAST_FRAGMENT | len(call)) + call)
            reply, last = b"", False
            while not last:
                (header,) = struct.unpack(">I", await reader.readexactly(4))
                last = bool(header & _LAST_FRAGMENT)
                reply += await reader.readexactly(header & ~_LAST_FRAGMENT)
        except asyncio.IncompleteReadError as e:
            raise OSError("the port mapper broke off its answer") from e
        finally:
            writer.close()
    # xid, REPLY, accepted, verifier (flavour, length), success
    if len(reply) < 24 or struct.unpack_from(">6I", reply)[1:] != (1, 0, 0, 0, 0):
        raise OSError("the port mapper refused the call")
    return reply[24:]


def _reserved() -> socket.socket:
    """A TCP socket bound to a port below 1024. Raises OSError when none is free."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setblocking(False)
    for port in range(1023, 599, -1):
        try:
            sock.bind(("127.0.0.1", port))
            return sock
        except OSError as e:
            error = e
    sock.close()
    raise error
