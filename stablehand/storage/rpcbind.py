"""The port mapper that `showmount -e` asks: Debian's rpcbind, on the addresses that we choose and no others.

Its own option for that (-h) leaves TCP on every address, and crashes for 127.0.0.1. But it takes sockets that are bound
already, as from systemd. Where a port mapper runs on the machine, that one is used and this one is not started.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import logging
import os
import shutil
import signal
import socket
from pathlib import Path

log = logging.getLogger("stablehand.nfs")

PORT = 111
_LOCAL = Path("/run/rpcbind.sock")
_LOCK = Path("/run/rpcbind.lock")  # made by rpcbind, and left behind
_LISTEN_FDS_START = 3  # sd_listen_fds(3)
_MARK = "STABLEHAND_RPCBIND"


class Rpcbind:
    """`start` answers whether a port mapper serves `address`, ours or the machine's; `stop` ends ours."""

    def __init__(self, state_dir: Path, address: str) -> None:
        self._pid_file = state_dir / "rpcbind.pid"
        self._address = address
        self._pid: int | None = None

    async def start(self) -> bool:
        if self._pid is not None:
            if await connects(self._address, PORT):
                return True
            await self.stop()
        await self.end_left_behind()
        if await connects("127.0.0.1", PORT):
            return True
        program = shutil.which("rpcbind", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
        if program is None:
            log.info("no rpcbind is installed: NFS 4 only, showmount will not list the export")
            return False
        try:
            sockets = self._sockets()
        except OSError as e:
            log.info("no port mapper, NFS 4 only: %s", e)
            return False
        try:
            self._pid = self._spawn(program, sockets)
        finally:
            for sock in sockets:
                sock.close()
        self._pid_file.write_text(str(self._pid))
        return True

    def _sockets(self) -> list[socket.socket]:
        """Bound: the local one, TCP and UDP on our address and on both loopbacks. Raises OSError."""
        sockets: list[socket.socket] = []
        try:
            _LOCAL.unlink(missing_ok=True)
            local = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sockets.append(local)
            local.bind(str(_LOCAL))
            _LOCAL.chmod(0o666)
            local.listen(16)
            for address in dict.fromkeys((self._address, "127.0.0.1", "::1")):
                for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                    try:
                        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
                        sockets.append(sock)
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                        if sock.family == socket.AF_INET6:
                            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                        sock.bind((address, PORT))
                    except OSError as e:
                        if address == "::1" and e.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                            continue  # a machine without IPv6
                        raise
                    if kind == socket.SOCK_STREAM:
                        sock.listen(16)
        except BaseException:
            for sock in sockets:
                sock.close()
            raise
        return sockets

    def _spawn(self, program: str, sockets: list[socket.socket]) -> int:
        # Out of the way of the numbers that they are to get.
        high = [fcntl.fcntl(sock.fileno(), fcntl.F_DUPFD_CLOEXEC, 100) for sock in sockets if _bound(sock)]
        try:
            return os.posix_spawn(
                "/bin/sh",
                ["sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh", program, "-f"],
                {**os.environ, "LISTEN_FDS": str(len(high)), _MARK: str(self._pid_file)},
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
                    *((os.POSIX_SPAWN_DUP2, fd, _LISTEN_FDS_START + i) for i, fd in enumerate(high)),
                ],
                setsid=True,
            )
        finally:
            for fd in high:
                os.close(fd)

    async def stop(self) -> None:
        pid, self._pid = self._pid, None
        if pid is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        with contextlib.suppress(ChildProcessError):
            await asyncio.to_thread(os.waitpid, pid, 0)
        self._forget()

    async def end_left_behind(self) -> None:
        """Ends the one that a killed Stablehand left."""
        try:
            pid = int(self._pid_file.read_text())
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            if f"{_MARK}={self._pid_file}".encode() not in environment:
                return
            handle = os.pidfd_open(pid)
        except (OSError, ValueError):
            return
        try:
            signal.pidfd_send_signal(handle, signal.SIGTERM)
            ended = asyncio.Event()
            asyncio.get_running_loop().add_reader(handle, ended.set)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), 10)
            asyncio.get_running_loop().remove_reader(handle)
        except ProcessLookupError:
            pass
        finally:
            os.close(handle)
        self._forget()

    def _forget(self) -> None:
        for path in (self._pid_file, _LOCAL, _LOCK):
            path.unlink(missing_ok=True)


async def connects(host: str, port: int) -> bool:
    """Whether something takes TCP connections there."""
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), 2)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


def _bound(sock: socket.socket) -> bool:
    return sock.family == socket.AF_UNIX or sock.getsockname()[1] == PORT
