"""Order and policy: given a set, its revisions and its pods, what is done next, and what status follows.

The writes themselves are pod_control's. `now` is an argument: nothing here looks at a clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from stablehand.client import NotFound
from stablehand.controllers.statefulset import identity, status
from stablehand.controllers.statefulset.pod_control import StatefulPodControl
from stablehand.controllers.statefulset.replica import Replica
from stablehand.machinery import meta, revisions
from stablehand.machinery.types import Obj
from stablehand.runtime.batches import slow_start

HEAL_ANNOTATION = "stablehand.dev/heal-rollout"


class Step(Enum):
    """What handling one pod came to."""

    GO_ON = "go on"  # nothing left to wait for here
    STOP = "stop"  # an ordered set does no more in this sync


@dataclass(slots=True)
class Outcome:
    """The status that follows from the sync, the error it ended with, and when a pod next becomes available."""

    status: Obj
    error: Exception | None = None
    after: float | None = None


@dataclass(slots=True)
class Sync:
    """One look at one set."""

    set: Obj
    current: Obj
    update: Obj
    collision_count: int
    now: float
    replicas: list[Replica] = field(default_factory=list)
    condemned: list[Replica] = field(default_factory=list)
    others: list[Replica] = field(default_factory=list)
    first_unhealthy: Replica | None = None

    @property
    def min_ready(self) -> int:
        return identity.min_ready_seconds(self.set)

    def unavailable(self, replica: Replica) -> bool:
        return replica.unavailable(self.min_ready, self.now)


class StatefulSetControl:
    def __init__(self, pods: StatefulPodControl) -> None:
        self._pods = pods

    async def update(
        self,
        set_: Obj,
        current: Obj,
        update: Obj,
        collision_count: int,
        pods: Sequence[Replica],
        now: float,
    ) -> Outcome:
        """Takes the set as far towards its spec as its policy allows now."""
        sync = Sync(set_, current, update, collision_count, now)
        self._place(sync, pods)
        error: Exception | None = None
        if not meta.deletion_timestamp(set_):
            try:
                await self._work(sync)
            except asyncio.CancelledError:
                raise
            except Exception as e:
                error = e
        return self._outcome(sync, error)

    # -- what there is

    def _place(self, sync: Sync, pods: Sequence[Replica]) -> None:
        """Puts pods into their slots; what is out of range is condemned; empty slots get pods to be made."""
        set_, start, size = sync.set, identity.start_ordinal(sync.set), identity.desired(sync.set)
        slots: list[Replica | None] = [None] * size
        for replica in pods:
            if replica.ordinal < 0:
                sync.others.append(replica)  # not ours to order
            elif start <= replica.ordinal < start + size:
                slots[replica.ordinal - start] = replica
            else:
                sync.condemned.append(replica)
        sync.condemned.sort(key=lambda r: r.ordinal, reverse=True)
        templates: dict[str, Obj] = {}
        for index, slot in enumerate(slots):
            if slot is None:
                revision = self._revision_for(sync, start + index)
                name = meta.name(revision)
                if name not in templates:
                    templates[name] = (
                        set_["spec"]["template"] if revision is sync.update else revisions.template_of(revision)
                    )
                pod = identity.new_pod(set_, templates[name], name, start + index)
                slot = Replica(pod, created=False)
                slots[index] = slot
                if identity.is_ordered(set_):
                    # Nothing after the first absent pod is looked at before it exists.
                    if not meta.deletion_timestamp(set_):
                        del slots[index + 1 :]
                        sync.others.extend(r for r in pods if start + index < r.ordinal < start + size)
                        sync.replicas = [s for s in slots if s is not None]
                        self._find_unhealthy(sync)
                        return
        sync.replicas = [s for s in slots if s is not None]
        self._find_unhealthy(sync)

    @staticmethod
    def _find_unhealthy(sync: Sync) -> None:
        for replica in [*sync.replicas, *reversed(sync.condemned)]:
            if sync.unavailable(replica):
                sync.first_unhealthy = replica
                return

    @staticmethod
    def _revision_for(sync: Sync, ordinal: int) -> Obj:
        """The revision that a pod with this ordinal is made at."""
        set_ = sync.set
        if identity.update_type(set_) != "RollingUpdate":
            return sync.update
        partition = identity.partition(set_)
        if partition is None:
            partition = int((set_.get("status") or {}).get("currentReplicas") or 0)
        return sync.current if ordinal < identity.start_ordinal(set_) + partition else sync.update

    # -- what is done

    async def _work(self, sync: Sync) -> None:
        ordered = identity.is_ordered(sync.set)
        replicas = sync.replicas if ordered else [r for r in sync.replicas if not self._settled(sync, r)]
        if await self._each(replicas, lambda r: self._keep(sync, r, ordered), ordered) is Step.STOP:
            return
        await self._each(sync.condemned, lambda r: self._fix_claims(sync, r), ordered)
        if await self._each(sync.condemned, lambda r: self._remove(sync, r, ordered), ordered) is Step.STOP:
            return
        if identity.update_type(sync.set) != "OnDelete":
            await self._replace_outdated(sync)

    @staticmethod
    async def _each(replicas: Sequence[Replica], handle: Callable[[Replica], Awaitable[Step]], ordered: bool) -> Step:
        """One after the other until one says stop; or, in a Parallel set, all in growing batches."""
        if ordered:
            for replica in replicas:
                if await handle(replica) is Step.STOP:
                    return Step.STOP
            return Step.GO_ON
        _, error = await slow_start(len(replicas), lambda i: handle(replicas[i]))
        if error is not None:
            raise error
        return Step.GO_ON

    async def _keep(self, sync: Sync, replica: Replica, ordered: bool) -> Step:
        """Brings one pod of the range a step nearer to running as it should."""
        set_ = sync.set
        if replica.over:
            if not replica.terminating:
                await self._delete(sync, replica)
            return Step.STOP  # its successor is made once it is gone
        if not replica.created:
            if self._pods.is_stale(set_, replica.pod):
                return Step.STOP
            created = await self._pods.create(set_, replica.pod)
            sync.replicas[sync.replicas.index(replica)] = Replica(created)
            if ordered:
                return Step.STOP
            replica = Replica(created)
        if replica.pending and identity.claim_templates(set_):
            await self._pods.create_missing_claims(set_, replica.pod)
        if ordered and (replica.terminating or not replica.available(sync.min_ready, sync.now)):
            if self._heals(sync, replica):
                await self._delete(sync, replica)
            return Step.STOP
        if not self._as_it_should_be(sync, replica):
            await self._pods.repair(set_, replica.pod)
        return Step.GO_ON

    def _settled(self, sync: Sync, replica: Replica) -> bool:
        """In a Parallel set: has `_keep` nothing to do for this pod?"""
        if replica.over or not replica.created or (replica.pending and identity.claim_templates(sync.set)):
            return False
        return self._as_it_should_be(sync, replica)

    def _as_it_should_be(self, sync: Sync, replica: Replica) -> bool:
        """Identity, volumes and claim owners are right. What depends on pod and spec alone is looked at once."""
        seen = (meta.uid(sync.set), int(sync.set["metadata"].get("generation") or 0))
        if replica.checked != seen:
            if not (
                identity.identity_matches(sync.set, replica.pod) and identity.storage_matches(sync.set, replica.pod)
            ):
                return False
            replica.checked = seen
        return self._pods.claims_match(sync.set, replica.pod, condemned=False)

    def _heals(self, sync: Sync, replica: Replica) -> bool:
        """Beyond upstream, where the set asks for it: a pod stuck at a revision that is no longer wanted gives way."""
        return (
            meta.annotations(sync.set).get(HEAL_ANNOTATION) == "true"
            and identity.update_type(sync.set) == "RollingUpdate"
            and not replica.terminating
            and not replica.ready
            and replica.revision != meta.name(self._revision_for(sync, replica.ordinal))
            and replica.revision != meta.name(sync.update)
        )

    async def _fix_claims(self, sync: Sync, replica: Replica) -> Step:
        if not self._pods.claims_match(sync.set, replica.pod, condemned=True):
            await self._pods.fix_claims(sync.set, replica.pod, condemned=True)
        return Step.GO_ON

    async def _remove(self, sync: Sync, replica: Replica, ordered: bool) -> Step:
        if replica.terminating:
            return Step.STOP
        if ordered and sync.unavailable(replica) and replica is not sync.first_unhealthy:
            return Step.STOP
        await self._delete(sync, replica)
        return Step.STOP

    async def _replace_outdated(self, sync: Sync) -> None:
        """The rolling update: from the highest ordinal down, pods of another revision go, one at a time."""
        lowest = identity.partition(sync.set) or 0
        update = meta.name(sync.update)
        limit = _max_unavailable(sync.set)
        if limit is not None:
            await self._replace_several(sync, lowest, update, limit)
            return
        for replica in reversed(sync.replicas[lowest:]):
            if replica.revision != update and not replica.terminating:
                try:
                    await self._delete(sync, replica)
                except NotFound:
                    pass
                return
            if sync.unavailable(replica):
                return

    async def _replace_several(self, sync: Sync, lowest: int, update: str, limit: int) -> None:
        """With maxUnavailable (where the API server lets it through): as many at once as may be unavailable."""
        unavailable = sum(1 for replica in sync.replicas if sync.unavailable(replica))
        if unavailable >= limit:
            return
        room = limit - unavailable
        for replica in reversed(sync.replicas[lowest:]):
            if room <= 0:
                return
            if replica.revision != update and not replica.terminating:
                await self._delete(sync, replica)
                room -= 1

    async def _delete(self, sync: Sync, replica: Replica) -> None:
        await self._pods.delete(sync.set, replica.pod)
        replica_now_terminating(sync, replica)

    # -- what came of it

    def _outcome(self, sync: Sync, error: Exception | None) -> Outcome:
        current, update = meta.name(sync.current), meta.name(sync.update)
        everyone = [*sync.replicas, *sync.condemned, *sync.others]
        counts = status.count(everyone, current, update, sync.min_ready, sync.now)
        after = None
        if sync.min_ready > 0 and counts.ready != counts.available:
            waits = [r.since + sync.min_ready - sync.now for r in everyone if r.ready and r.since]
            after = min((w for w in waits if w > 0), default=None)
        return Outcome(status.build(sync.set, counts, current, update, sync.collision_count), error, after)


def replica_now_terminating(sync: Sync, replica: Replica) -> None:
    """Puts a terminating copy in the place of a replica whose deletion has been accepted."""
    gone = Replica(replica.pod)
    gone.terminating = True
    for listed in (sync.replicas, sync.condemned):
        for index, known in enumerate(listed):
            if known is replica:
                listed[index] = gone


def _max_unavailable(set_: Obj) -> int | None:
    rolling = (set_["spec"].get("updateStrategy") or {}).get("rollingUpdate") or {}
    value = rolling.get("maxUnavailable")
    if value is None:
        return None
    if isinstance(value, str) and value.endswith("%"):
        return max(1, int(value[:-1]) * identity.desired(set_) // 100)
    return max(1, int(value))
