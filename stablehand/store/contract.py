"""The store's contract: keys, bytes and revisions; never kinds.

A backend keeps one rising sequence of revisions for all keys. It calls back with every durable change, in
revision order, exactly once; reads are served by whoever keeps the copy (apiserver.storage), never by the store.

    StoreError
    ├── RevisionMismatch   the key is not at the expected revision
    ├── WriteFailed        nothing was written (disk full, backend gone); what was acknowledged before still holds
    ├── StoreCorrupt       the stored data cannot be read; it is left as it is
    └── StoreTooNew        written by a newer version of Stablehand
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol


class StoreError(Exception): ...


class RevisionMismatch(StoreError):
    """`actual` is the key's revision; 0 when it does not exist."""

    def __init__(self, key: str, actual: int) -> None:
        super().__init__(f"{key} is at revision {actual}")
        self.key, self.actual = key, actual


class WriteFailed(StoreError): ...


class StoreCorrupt(StoreError): ...


class StoreTooNew(StoreError): ...


@dataclass(slots=True, frozen=True)
class Change:
    """A durable write; `value` is None for a deletion."""

    revision: int
    key: str
    value: bytes | None


@dataclass(slots=True, frozen=True)
class Snapshot:
    """All that is stored: the newest revision, and (key, value, revision) of every key."""

    revision: int
    items: list[tuple[str, bytes, int]]


Encode = Callable[[int], bytes]
OnChange = Callable[[list[Change]], None]


class Backend(Protocol):
    async def open(self, on_change: OnChange) -> Snapshot:
        """Opens and reads everything. Raises StoreCorrupt, StoreTooNew, WriteFailed."""

    def put(self, key: str, encode: Encode, expect: int) -> Awaitable[int]:
        """Writes encode(revision) if the key is at revision `expect` (0: absent).

        The awaitable gives the new revision once the write is durable and `on_change` has been called with it.
        `encode` is called with the write's revision, or with 0 where the backend learns it only afterwards.
        Raises RevisionMismatch (at once, or from the awaitable) or WriteFailed.
        """

    def delete(self, key: str, expect: int) -> Awaitable[int]:
        """Deletes the key if it is at revision `expect`. As `put`."""

    async def close(self) -> None: ...
