"""The kernel's own notices of changes in network and nftables, so that nobody has to look again and again.

What happened is told roughly (something of the wanted kinds, or notices were lost): who is told looks for himself.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import struct
from collections.abc import Callable, Iterator

log = logging.getLogger("stablehand.netlink")

# linux/netlink.h, rtnetlink.h, nfnetlink.h, nf_tables.h
ROUTE, NETFILTER = 0, 12
LINKS, ADDRESSES, ROUTES, SETTINGS = 1 << 0, 1 << 4, 1 << 6, 1 << 23  # groups of ROUTE, the last three IPv4's
TABLES = 1 << 6  # group of NETFILTER
NEW_LINK, DEL_LINK, DEL_ADDRESS, DEL_ROUTE, NEW_SETTING = 16, 17, 21, 25, 80
DEL_TABLE = 10 << 8 | 2
_HEADER = struct.Struct("=IHHII")
_READ = 1 << 18


def message_types(datagram: bytes) -> Iterator[int]:
    """The types of the messages in one datagram."""
    at = 0
    while at + _HEADER.size <= len(datagram):
        length, kind, *_ = _HEADER.unpack_from(datagram, at)
        if length < _HEADER.size:
            return
        yield kind
        at += (length + 3) & ~3


class Notices:
    """Calls `tell` after every notice of one of the wanted types, between `open` and `close` (or as a context)."""

    def __init__(self, family: int, groups: int, wanted: tuple[int, ...], tell: Callable[[], None]) -> None:
        self._family, self._groups, self._wanted, self._tell = family, groups, frozenset(wanted), tell
        self._socket: socket.socket | None = None

    def open(self) -> None:
        """Where the kernel does not offer these notices, nothing is ever told."""
        try:
            sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, self._family)
        except OSError as e:
            log.warning("no notices from the kernel: %s", e)
            return
        try:
            sock.bind((0, self._groups))
        except OSError as e:
            log.warning("no notices from the kernel: %s", e)
            sock.close()
            return
        self._socket = sock
        asyncio.get_running_loop().add_reader(sock.fileno(), self._read)

    def close(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def __enter__(self) -> Notices:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> None:
        told = False
        while self._socket is not None:
            try:
                datagram = self._socket.recv(_READ)
            except BlockingIOError:
                break
            except OSError as e:
                if e.errno != errno.ENOBUFS:  # some were lost
                    raise
                told = True
                continue
            told = told or not self._wanted.isdisjoint(message_types(datagram))
        if told:
            self._tell()
