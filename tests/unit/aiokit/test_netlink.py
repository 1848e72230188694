"""Notices of the kernel: told apart by type, and none of them after the end."""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
import subprocess
from collections.abc import Iterator

import pytest

from stablehand.aiokit.netlink import DEL_LINK, LINKS, ROUTE, Notices, message_types

_NEW_NETWORK = 0x40000000


def message(kind: int, length: int) -> bytes:
    padded = (length + 3) & ~3
    return struct.pack("=IHHII", length, kind, 0, 0, 0).ljust(padded, b"\0")


def test_a_datagram_holds_messages_of_any_length() -> None:
    datagram = message(17, 16) + message(2562, 21) + message(16, 40)
    assert list(message_types(datagram)) == [17, 2562, 16]
    assert list(message_types(datagram[:-25])) == [17, 2562]
    assert list(message_types(b"\0" * 64)) == []


@pytest.fixture
def own_network() -> Iterator[None]:
    """This thread in a network of its own."""
    if os.geteuid() != 0:
        pytest.skip("a network of its own needs root")
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    if libc.unshare(_NEW_NETWORK) != 0:
        os.close(before)
        pytest.skip("network namespaces cannot be made here")
    try:
        yield
    finally:
        libc.setns(before, _NEW_NETWORK)
        os.close(before)


@pytest.mark.usefixtures("own_network")
async def test_a_deleted_interface_is_told_of() -> None:
    told = asyncio.Event()
    with Notices(ROUTE, LINKS, (DEL_LINK,), told.set):
        subprocess.run(["ip", "link", "add", "one", "type", "bridge"], check=True)
        await asyncio.sleep(0)
        assert not told.is_set()
        subprocess.run(["ip", "link", "del", "one"], check=True)
        async with asyncio.timeout(5):
            await told.wait()
