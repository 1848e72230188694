"""The ControllerRevision history of a workload: adopting, listing, creating, renumbering, forgetting.

What a revision holds and how it is named is machinery.revisions'.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from stablehand.client import AlreadyExists, Client, Conflict, NotFound
from stablehand.machinery import meta, revisions
from stablehand.machinery.resources import Resource, resource
from stablehand.machinery.selectors import Selector
from stablehand.machinery.types import Obj, copy_object
from stablehand.runtime.claims import claim
from stablehand.runtime.informer import Informer

REVISIONS = resource("controllerrevisions.apps")
Make = Callable[[int, int], Obj]  # (revision number, collision count) -> a new ControllerRevision


@dataclass(frozen=True, slots=True)
class Resolved:
    """The revision of the owner's template as it is now, and the collision count that its name needed."""

    update: Obj
    collision_count: int
    history: list[Obj]  # oldest first, `update` included


class History:
    """Revisions of the workloads of one kind. The informer must be indexed by controller (runtime.claims)."""

    def __init__(self, client: Client, informer: Informer, owner_resource: Resource) -> None:
        self._client = client
        self._informer = informer
        self._owner_resource = owner_resource
        self._data: dict[str, bytes] = {}  # data of a revision never changes: its canonical bytes, by uid

    async def of(self, owner: Obj, selector: Selector) -> list[Obj]:
        """The owner's revisions, matching orphans adopted; oldest first."""
        return revisions.ordered(await claim(self._client, self._owner_resource, owner, self._informer, selector))

    def data(self, revision: Obj) -> bytes:
        uid = meta.uid(revision)
        data = self._data.get(uid)
        if data is None:
            if len(self._data) > 10_000:
                self._data.clear()
            data = self._data[uid] = revisions.data_bytes(revision)
        return data

    async def resolve(self, owner: Obj, history: list[Obj], make: Make, collision_count: int) -> Resolved:
        """Finds or writes the revision of the owner's current template."""
        template = owner["spec"]["template"]
        number = (history[-1].get("revision") or 0) + 1 if history else 1
        fresh = make(number, collision_count)
        data = revisions.data_bytes(fresh)
        equal = [r for r in history if self.data(r) == data]
        if equal and equal[-1] is history[-1]:
            return Resolved(history[-1], collision_count, history)
        if equal:
            raised = await self._renumber(equal[-1], number)
            return Resolved(raised, collision_count, [r for r in history if r is not equal[-1]] + [raised])
        if history and revisions.same_meaning(history[-1], template):
            return Resolved(history[-1], collision_count, history)
        created, collision_count = await self._create(fresh, make, number, collision_count)
        return Resolved(created, collision_count, [*history, created])

    async def _create(self, fresh: Obj, make: Make, number: int, collision_count: int) -> tuple[Obj, int]:
        while True:
            try:
                created = await self._client.create(REVISIONS, fresh)
            except AlreadyExists:
                existing = await self._client.get(REVISIONS, meta.name(fresh), meta.namespace(fresh))
                if revisions.data_bytes(existing) == revisions.data_bytes(fresh):
                    self._informer.observe(existing)
                    return existing, collision_count
                collision_count += 1
                fresh = make(number, collision_count)
                continue
            self._informer.observe(created)
            return created, collision_count

    async def _renumber(self, revision: Obj, number: int) -> Obj:
        while True:
            changed = copy_object(revision)
            changed["revision"] = number
            try:
                changed = await self._client.update(REVISIONS, changed)
            except Conflict:
                revision = await self._client.get(REVISIONS, meta.name(revision), meta.namespace(revision))
                if revision.get("revision") == number:
                    return revision
                continue
            self._informer.observe(changed)
            return changed

    async def truncate(self, history: list[Obj], live: set[str], limit: int | None) -> None:
        """Deletes the oldest revisions that are not live, beyond the limit."""
        for revision in revisions.expired(history, live, limit):
            try:
                await self._client.delete(REVISIONS, meta.name(revision), meta.namespace(revision))
            except NotFound:
                pass
            self._informer.observe_delete(revision)
            self._data.pop(meta.uid(revision), None)
