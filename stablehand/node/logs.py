"""Container logs in CRI format: parsing lines, reading with kubectl's options, following by inotify, rotation.

A line is `<time> <stdout|stderr> <P|F>[:tags] <content>`; P is a part of a longer line. Who may read is server's.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

from stablehand.machinery.times import parse_time

_IN_MODIFY, _IN_CREATE, _IN_MOVED_TO, _IN_CLOSE_WRITE, _IN_DELETE = 2, 0x100, 0x80, 8, 0x200
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class LogOptions:
    """Of `kubectl logs`. `tail_lines` < 0: all."""

    follow: bool = False
    tail_lines: int = -1
    since: float = 0.0
    timestamps: bool = False
    limit_bytes: int = -1
    stream: str = "All"


def parse_line(line: bytes) -> tuple[bytes, bytes, bool, bytes] | None:
    """(time, stream, whole, content with its newline when whole); None for what is no CRI log line."""
    parts = line.rstrip(b"\n").split(b" ", 3)
    if len(parts) < 3 or parts[1] not in (b"stdout", b"stderr"):
        return None
    content = parts[3] if len(parts) == 4 else b""
    whole = parts[2].split(b":")[0] != b"P"
    return parts[0], parts[1], whole, content + (b"\n" if whole else b"")


class LineFilter:
    """Applies the options to log lines, one after another."""

    def __init__(self, options: LogOptions) -> None:
        self._options = options
        self._left = options.limit_bytes
        self._since = options.since > 0

    @property
    def full(self) -> bool:
        return self._options.limit_bytes >= 0 and self._left <= 0

    def feed(self, line: bytes) -> bytes:
        """What of it is shown."""
        parsed = parse_line(line)
        if parsed is None:
            return b""
        stamp, stream, _, content = parsed
        if self._options.stream != "All" and stream.decode() != self._options.stream.lower():
            return b""
        if self._since:
            try:
                if parse_time(_micro(stamp.decode())) < self._options.since:
                    return b""
            except ValueError:
                return b""
            self._since = False
        out = stamp + b" " + content if self._options.timestamps else content
        if self._options.limit_bytes >= 0:
            out = out[: self._left]
            self._left -= len(out)
        return out


def _micro(stamp: str) -> str:
    """RFC 3339 with nanoseconds, cut to the microseconds that Python reads."""
    head, dot, rest = stamp.partition(".")
    if not dot:
        return stamp
    digits = rest.rstrip("Z")
    zone = "Z" if rest.endswith("Z") else ""
    for sign in "+-":
        if sign in digits:
            digits, _, offset = digits.partition(sign)
            zone = sign + offset
    return f"{head}.{digits[:6].ljust(6, '0')}{zone}"


def tail_offset(path: Path, lines: int) -> int:
    """Where the last `lines` whole lines of a file begin."""
    if lines < 0:
        return 0
    with open(path, "rb") as f:
        end = position = f.seek(0, os.SEEK_END)
        if lines == 0:
            return end
        count = 0
        while position > 0:
            size = min(_CHUNK, position)
            position -= size
            f.seek(position)
            block = f.read(size)
            at = len(block)
            while (at := block.rfind(b"\n", 0, at)) != -1:
                if position + at + 1 == end:
                    continue  # the newline that ends the file
                count += 1
                if count == lines:
                    return position + at + 1
    return 0


def log_tail(path: Path, lines: int, limit: int) -> str:
    """The end of a log as plain text."""
    try:
        with open(path, "rb") as f:
            f.seek(tail_offset(path, lines))
            text = b"".join(parsed[3] for line in f if (parsed := parse_line(line)) is not None)
    except OSError:
        return ""
    return text[-limit:].decode(errors="replace")


def rotated(path: Path) -> list[Path]:
    """Older pieces of a log that rotation left behind, oldest first."""
    return sorted(p for p in path.parent.glob(path.name + ".*") if not p.name.endswith(".tmp"))


def read_log(path: Path, options: LogOptions) -> Iterator[bytes]:
    """The log as it is now, in chunks."""
    keep = LineFilter(options)
    pieces = [path] if options.tail_lines >= 0 else [*rotated(path), path]
    for piece in pieces:
        out = bytearray()
        with open(piece, "rb") as f:
            if piece == path:
                f.seek(tail_offset(path, options.tail_lines))
            for line in f:
                out += keep.feed(line)
                if keep.full:
                    break
                if len(out) >= _CHUNK:
                    yield bytes(out)
                    out.clear()
        if out:
            yield bytes(out)
        if keep.full:
            return


class FolderWatch:
    """Wakes when a file grows or its folder gets, changes or loses one."""

    def __init__(self, path: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        mask = _IN_MODIFY | _IN_CREATE | _IN_MOVED_TO | _IN_DELETE | _IN_CLOSE_WRITE
        libc.inotify_add_watch(self._fd, os.fsencode(path.parent), ctypes.c_uint32(mask))
        self.event = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._fd, self._ready)

    def _ready(self) -> None:
        try:
            data = os.read(self._fd, 65536)
        except BlockingIOError:
            return
        if len(data) >= struct.calcsize("iIII"):
            self.event.set()

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)


async def follow_log(path: Path, options: LogOptions, ended: asyncio.Event) -> AsyncIterator[bytes]:
    """The log and all that is added to it, until `ended` is set and everything was read. Survives rotation."""
    keep = LineFilter(options)
    notify = FolderWatch(path)
    stopper = asyncio.ensure_future(ended.wait())
    stopper.add_done_callback(lambda _: notify.event.set())
    f = open(path, "rb")  # noqa: ASYNC230, SIM115
    try:
        f.seek(tail_offset(path, options.tail_lines))
        rest = b""
        while True:
            notify.event.clear()
            last = ended.is_set()
            while block := f.read(_CHUNK):
                *lines, rest = (rest + block).split(b"\n")
                out = b"".join(keep.feed(line + b"\n") for line in lines)
                if out:
                    yield out
                if keep.full:
                    return
            if _replaced(f.fileno(), path):
                f.close()
                f, rest = open(path, "rb"), b""  # noqa: ASYNC230, SIM115
                continue
            if last:
                return
            await notify.event.wait()
    finally:
        stopper.cancel()
        notify.close()
        f.close()


def _replaced(fd: int, path: Path) -> bool:
    try:
        return os.stat(path).st_ino != os.fstat(fd).st_ino
    except OSError:
        return False


# -- rotation

MAX_SIZE, MAX_FILES = 10 << 20, 5


def needs_rotation(path: Path) -> bool:
    try:
        return path.stat().st_size > MAX_SIZE
    except OSError:
        return False


def rotate(path: Path, stamp: str) -> Path:
    """Moves the log aside (the caller has the runtime open a new one) and drops the oldest pieces."""
    target = path.with_name(f"{path.name}.{stamp}")
    os.replace(path, target)
    for old in rotated(path)[: -(MAX_FILES - 1)]:
        old.unlink(missing_ok=True)
    return target
