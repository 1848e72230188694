"""hostPath volumes: a path of the machine itself, checked for its type. Nothing here is ever deleted."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from stablehand.machinery.types import Obj
from stablehand.node.volumes.contract import Context, Mounted, VolumeError

_CHECKS = {
    "Directory": (stat.S_ISDIR, "directory"),
    "File": (stat.S_ISREG, "file"),
    "Socket": (stat.S_ISSOCK, "socket file"),
    "CharDevice": (stat.S_ISCHR, "character device"),
    "BlockDevice": (stat.S_ISBLK, "block device"),
}


async def setup(context: Context, source: Obj) -> Mounted:
    path, kind = Path(source["path"]), source.get("type") or ""
    try:
        if kind == "DirectoryOrCreate" and not path.exists():
            path.mkdir(parents=True, mode=0o755)
        elif kind == "FileOrCreate" and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o644)
        elif kind == "" and not path.exists():
            path.mkdir(parents=True, mode=0o755)  # what container runtimes do with a missing bind source
        elif kind in _CHECKS:
            check, words = _CHECKS[kind]
            if not check(os.stat(path).st_mode):
                raise VolumeError(f"hostPath type check failed: {path} is not a {words}")
        if kind == "DirectoryOrCreate" and not path.is_dir():
            raise VolumeError(f"hostPath type check failed: {path} is not a directory")
        if kind == "FileOrCreate" and not path.is_file():
            raise VolumeError(f"hostPath type check failed: {path} is not a file")
    except FileNotFoundError:
        words = _CHECKS[kind][1] if kind in _CHECKS else "path"
        raise VolumeError(f"hostPath type check failed: {path} is not a {words}") from None
    except OSError as e:
        raise VolumeError(f"{path}: {e.strerror}") from None
    return Mounted(path)
