"""fsGroup: giving a volume's files to a group."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def apply_group(folder: Path, group: int, *, only_on_mismatch: bool) -> None:
    """Every file to `group`, readable and writable by it; new files inherit the group. Links are not followed."""
    if only_on_mismatch:
        top = os.stat(folder)
        if top.st_gid == group and top.st_mode & 0o2060 == 0o2060:
            return
    for place, _folders, names in os.walk(folder):
        os.chown(place, -1, group)
        os.chmod(place, os.stat(place).st_mode & 0o7777 | 0o2070)
        for name in names:
            path = os.path.join(place, name)
            info = os.lstat(path)
            if stat.S_ISLNK(info.st_mode):
                os.lchown(path, -1, group)
                continue
            os.chown(path, -1, group)
            os.chmod(path, info.st_mode & 0o7777 | 0o060)
