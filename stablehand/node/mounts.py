"""mount(2) and umount2(2) without a fork, and the kernel's list of mounts. What is mounted why is the volumes' part."""

from __future__ import annotations

import ctypes
import os
import re
from pathlib import Path

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_BIND, MS_REC, MS_PRIVATE, MS_SHARED = 4096, 16384, 1 << 18, 1 << 20
MNT_DETACH, UMOUNT_NOFOLLOW = 2, 8

_libc = ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: Path | str, kind: str | None, flags: int = 0, data: str = "") -> None:
    """Raises OSError."""
    result = _libc.mount(
        os.fsencode(source), os.fsencode(target), kind.encode() if kind else None, ctypes.c_ulong(flags), data.encode()
    )
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(target))


def unmount(target: Path | str) -> None:
    """Unmounts now, or, where it is in use, as soon as it no longer is. Raises OSError."""
    for flags in (UMOUNT_NOFOLLOW, UMOUNT_NOFOLLOW | MNT_DETACH):
        if _libc.umount2(os.fsencode(target), flags) == 0:
            return
    code = ctypes.get_errno()
    raise OSError(code, os.strerror(code), str(target))


def bind(source: str, target: Path | str, *, readonly: bool = False) -> None:
    mount(source, target, None, MS_BIND | MS_REC)
    if readonly:
        mount("none", target, None, MS_BIND | MS_REMOUNT | MS_RDONLY)


def mount_points(below: Path | str) -> list[str]:
    """Mount points at or below a folder, deepest (and latest) first."""
    prefix = str(below).rstrip("/")
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        for line in table:
            if prefix not in line:
                continue
            point = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), line.split()[4])
            if point == prefix or point.startswith(prefix + "/"):
                found.append(point)
    found.reverse()
    return sorted(found, key=len, reverse=True)


def is_mount_point(path: Path | str) -> bool:
    return str(path) in mount_points(path)


def unmount_below(folder: Path | str) -> bool:
    """Unmounts everything at or below a folder. False when something stayed."""
    for point in mount_points(folder):
        try:
            unmount(point)
        except OSError:
            continue
    return not mount_points(folder)
