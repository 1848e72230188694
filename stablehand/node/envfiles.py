"""Files of environment variables (`fileKeyRef`): what a container writes into an emptyDir for others of its pod.

The format is the part of the shell's that needs no evaluation: VAR='value', comments, blank lines; a value may have
several lines. Anything else spoils the whole file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from stablehand.machinery.types import Obj
from stablehand.node.volumes.contract import VolumeError
from stablehand.node.volumes.subpath import open_inside

_LIMIT = 1 << 20  # bytes
_ENTRY = re.compile(r"[ \t]*([A-Za-z_.-][A-Za-z0-9_.-]*)[ \t]*=[ \t]*'([^']*)'[ \t]*(?:\n|\Z)")
_SKIPPED = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|\Z)")

FileRef = tuple[str, str]  # volume, path in it


def parse_env_file(text: str) -> dict[str, str]:
    """Raises ValueError where the text is not of the format."""
    found: dict[str, str] = {}
    at = 0
    while at < len(text):
        entry = _ENTRY.match(text, at)
        skipped = _SKIPPED.match(text, at) if entry is None else None
        if entry is not None:
            found[entry[1]] = entry[2]
            at = entry.end()
        elif skipped is not None:
            at = skipped.end()
        else:
            raise ValueError(f"line {text.count(chr(10), 0, at) + 1} is not of the form VAR='value'")
    return found


def file_references(container: Obj) -> set[FileRef]:
    """The files that a container's environment reads."""
    refs = ((e.get("valueFrom") or {}).get("fileKeyRef") for e in container.get("env") or ())
    return {(ref["volumeName"], ref["path"]) for ref in refs if ref}


def read_env_files(refs: Iterable[FileRef], folders: dict[str, Path]) -> dict[FileRef, dict[str, str] | None]:
    """Their variables; None for a file that is not there. `folders` are the pod's volumes on this machine.

    Raises ValueError for a bad file, VolumeError for a path that leads out of its volume.
    """
    found: dict[FileRef, dict[str, str] | None] = {}
    for volume, path in refs:
        if volume not in folders:
            raise VolumeError(f'cannot find the volume "{volume}" referenced by FileKeyRef')
        try:
            handle = open_inside(folders[volume], path, create=False)
        except FileNotFoundError:
            found[volume, path] = None
            continue
        try:
            with open(f"/proc/self/fd/{handle}", "rb") as f:
                data = f.read(_LIMIT + 1)
        finally:
            os.close(handle)
        if len(data) > _LIMIT:
            raise ValueError("the file is too large")
        found[volume, path] = parse_env_file(data.decode(errors="surrogateescape"))
    return found
