"""Whose credentials an image was pulled with: another pod may use it only with the same ones, else it has to pull it again.

Kept in a file, as hashes. Images of which nothing is known here were not pulled by this node (imported, say), or anybody
may pull them: everybody may use those.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import orjson

from stablehand.node.files import write_atomic

_LIMIT = 1000  # images


def mark(auth: Mapping[str, str]) -> str:
    """A hash of the credentials."""
    return hashlib.sha256(orjson.dumps([auth.get("username", ""), auth.get("password", "")])).hexdigest()


class PullRecords:
    """`file` None: remembered for this run only."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._known: dict[str, list[str]] = {}  # by image id; no marks: anybody
        if file is not None:
            with contextlib.suppress(OSError, ValueError):
                self._known = orjson.loads(file.read_bytes())

    def pulled(self, image: str, auth: Mapping[str, str] | None) -> None:
        """`auth` None: without any."""
        known = self._known.get(image)
        if auth is None:
            marks = []
        elif known is None:
            marks = [mark(auth)]
        else:
            marks = sorted({*known, mark(auth)}) if known else []
        if marks == known:
            return
        self._known[image] = marks
        while len(self._known) > _LIMIT:
            del self._known[next(iter(self._known))]
        if self._file is not None:
            write_atomic(self._file, orjson.dumps(self._known), 0o600)

    def open_to_all(self, image: str) -> bool:
        return not self._known.get(image)

    def may_use(self, image: str, auths: Iterable[Mapping[str, str]]) -> bool:
        marks = self._known.get(image)
        return not marks or any(mark(auth) in marks for auth in auths)
