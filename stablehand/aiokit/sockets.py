"""Listening sockets on addresses that may not be this machine's yet (the pod network's gateway appears later)."""

from __future__ import annotations

import socket

_IP_FREEBIND = 15


def open_socket(kind: socket.SocketKind, host: str, port: int, what: str, *, free: bool = True) -> socket.socket:
    """A bound, non-blocking socket; `free`: also on an IPv4 address that no interface has.

    Raises OSError, whose text says `what` cannot listen where.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, kind)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if free and family == socket.AF_INET:
            sock.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        sock.bind((host, port))
    except OSError as e:
        sock.close()
        raise OSError(e.errno, f"cannot listen for {what} on {host} port {port}: {e.strerror}") from e
    return sock
