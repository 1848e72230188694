"""Writing a payload so that readers see all of the old files or all of the new: kubelet's ..data symlink."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

Files = Mapping[str, tuple[bytes, int]]


def write_payload(
    folder: Path, files: Files, group: int | None = None, owners: Mapping[str, int] | None = None
) -> bool:
    """Makes `folder` show exactly these files; False when it does already. Paths are relative, without "..".

    With `group` (fsGroup) files belong to it and it may read them; `owners` are user ids by path.
    """
    for path in files:
        parts = Path(path).parts
        if not parts or os.path.isabs(path) or ".." in parts or parts[0].startswith(".."):
            raise ValueError(f"invalid path in volume: {path!r}")
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / "..data"
    try:
        old: str | None = os.readlink(link)
    except OSError:
        old = None
    if old is not None and _same(folder / old, files, group):
        return False
    stamp = datetime.now(UTC).strftime("..%Y_%m_%d_%H_%M_%S.")
    fresh = Path(tempfile.mkdtemp(prefix=stamp, dir=folder))
    os.chmod(fresh, 0o755)
    for path, (data, mode) in files.items():
        target = fresh / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(target, "wb") as f:
            f.write(data)
            if owners and path in owners:
                os.fchown(f.fileno(), owners[path], -1)
            if group is not None:
                os.fchown(f.fileno(), -1, group)
                mode |= 0o440
            os.fchmod(f.fileno(), mode)
    if group is not None:
        for place, _, _ in os.walk(fresh):
            os.chown(place, -1, group)
    temporary = folder / "..data_tmp"
    temporary.unlink(missing_ok=True)
    os.symlink(fresh.name, temporary)
    os.replace(temporary, link)
    wanted = {Path(path).parts[0] for path in files}
    for top in wanted:
        shown = folder / top
        if not shown.is_symlink():
            os.symlink(f"..data/{top}", shown)
    for entry in os.listdir(folder):
        if not entry.startswith("..") and entry not in wanted:
            (folder / entry).unlink()
    if old is not None:
        shutil.rmtree(folder / old, ignore_errors=True)
    return True


def _same(place: Path, files: Files, group: int | None) -> bool:
    found: set[str] = set()
    for root, _, names in os.walk(place):
        for name in names:
            full = Path(root) / name
            relative = str(full.relative_to(place))
            entry = files.get(relative)
            try:
                if entry is None or full.read_bytes() != entry[0]:
                    return False
                if full.stat().st_mode & 0o7777 != entry[1] | (0o440 if group is not None else 0):
                    return False
            except OSError:
                return False
            found.add(relative)
    return found == set(files)
