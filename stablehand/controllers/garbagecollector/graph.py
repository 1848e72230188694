"""Who owns whom, by uid. Keeps references, never objects; pure."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from stablehand.machinery import meta
from stablehand.machinery.types import Obj

FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"


@dataclass(frozen=True, slots=True)
class Owner:
    uid: str
    blocks: bool  # blockOwnerDeletion


@dataclass(frozen=True, slots=True)
class Item:
    """An object that has owners, or is being deleted with its dependents in mind."""

    uid: str
    kind: str  # the resource's key
    namespace: str
    name: str
    owners: tuple[Owner, ...]
    deleting: bool
    waits_for_dependents: bool  # being deleted in the foreground
    orphans_dependents: bool


def item_of(kind: str, obj: Obj) -> Item:
    metadata = obj["metadata"]
    finalizers = metadata.get("finalizers") or ()
    deleting = bool(metadata.get("deletionTimestamp"))
    owners = tuple(
        Owner(ref.get("uid") or "", bool(ref.get("blockOwnerDeletion"))) for ref in meta.owner_references(obj)
    )
    return Item(
        metadata["uid"],
        kind,
        sys.intern(metadata.get("namespace") or ""),
        metadata["name"],
        owners,
        deleting,
        deleting and FOREGROUND in finalizers,
        deleting and ORPHAN in finalizers,
    )


class Graph:
    def __init__(self) -> None:
        self._alive: dict[str, str] = {}  # uid -> namespace of every object seen
        self.items: dict[str, Item] = {}  # only those with owners, or being deleted
        self._dependents: dict[str, set[str]] = {}

    def put(self, item: Item) -> Item | None:
        """Takes in an object as it is now; returns what was known of it."""
        self._alive[item.uid] = item.namespace
        old = self.items.get(item.uid)
        before = {o.uid for o in old.owners} if old else set()
        after = {o.uid for o in item.owners}
        for uid in before - after:
            self._detach(uid, item.uid)
        for uid in after - before:
            self._dependents.setdefault(uid, set()).add(item.uid)
        if item.owners or item.deleting:
            self.items[item.uid] = item
        else:
            self.items.pop(item.uid, None)
        return old

    def drop(self, uid: str) -> tuple[list[Item], list[Item]]:
        """The object is gone; returns its dependents, and its owners that wait for theirs."""
        self._alive.pop(uid, None)
        item = self.items.pop(uid, None)
        waiting: list[Item] = []
        for owner in item.owners if item else ():
            self._detach(owner.uid, uid)
            above = self.items.get(owner.uid)
            if above is not None and above.waits_for_dependents:
                waiting.append(above)
        return self.dependents(uid), waiting

    def _detach(self, owner: str, uid: str) -> None:
        dependents = self._dependents.get(owner)
        if dependents is not None:
            dependents.discard(uid)
            if not dependents:
                del self._dependents[owner]

    def dependents(self, uid: str) -> list[Item]:
        return [self.items[d] for d in self._dependents.get(uid, ()) if d in self.items]

    def is_alive(self, uid: str, namespace: str) -> bool:
        """Is there an object of this uid that one in `namespace` may name as its owner?"""
        return self._alive.get(uid) in ("", namespace) if uid in self._alive else False

    def is_elsewhere(self, uid: str, namespace: str) -> bool:
        """Does this uid belong to an object of another namespace?"""
        return self._alive.get(uid, namespace) not in ("", namespace)

    def waits_for_dependents(self, uid: str) -> bool:
        item = self.items.get(uid)
        return item is not None and item.waits_for_dependents
