"""subPath mounts: a file or folder inside a volume, opened without ever following a link out of it."""

from __future__ import annotations

import os
from pathlib import Path

from stablehand.node import mounts
from stablehand.node.volumes.contract import VolumeError


def open_inside(base: Path, path: str, *, create: bool) -> int:
    """An O_PATH descriptor of `path` below `base`; the missing part is made as folders when asked. Caller closes it."""
    if os.path.isabs(path) or ".." in Path(path).parts:
        raise VolumeError(f"subPath {path!r} must be relative and must not contain '..'")
    top = os.path.realpath(base)
    real = os.path.realpath(os.path.join(top, path))
    if real != top and not real.startswith(top.rstrip("/") + "/"):
        raise VolumeError(f"subPath {path!r} leads out of its volume")
    fd = os.open(top, os.O_PATH | os.O_DIRECTORY)
    try:
        for part in Path(os.path.relpath(real, top)).parts:
            if part == ".":
                continue
            try:
                following = os.open(part, os.O_PATH | os.O_NOFOLLOW, dir_fd=fd)
            except FileNotFoundError:
                if not create:
                    raise
                os.mkdir(part, 0o750, dir_fd=fd)
                inner = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY, dir_fd=fd)
                os.fchmod(inner, os.fstat(fd).st_mode & 0o777)
                os.close(inner)
                following = os.open(part, os.O_PATH | os.O_NOFOLLOW, dir_fd=fd)
            os.close(fd)
            fd = following
        return fd
    except BaseException:
        os.close(fd)
        raise


def bind_inside(base: Path, path: str, target: Path, *, create: bool = True) -> None:
    """Bind-mounts the subPath at `target` (made as file or folder). Raises VolumeError."""
    try:
        fd = open_inside(base, path, create=create)
    except OSError as e:
        raise VolumeError(f"failed to prepare subPath {path!r}: {e.strerror}") from None
    try:
        if target.exists() and mounts.is_mount_point(target):
            mounts.unmount(target)
        source = f"/proc/{os.getpid()}/fd/{fd}"
        if os.path.isdir(source):
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
        mounts.bind(source, target)
    except OSError as e:
        raise VolumeError(f"failed to mount subPath {path!r}: {e.strerror}") from None
    finally:
        os.close(fd)
