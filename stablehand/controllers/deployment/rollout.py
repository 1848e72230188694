"""Order and policy of one look at one deployment: which ReplicaSet grows or shrinks next.

The writes are replicasets', the sums sizes'. Each step looks at what the last one left in the cache.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from stablehand.client import ApiError
from stablehand.controllers.deployment import sizes, status
from stablehand.controllers.deployment.replicasets import HashCollision, ReplicaSetControl, find_new
from stablehand.machinery import meta
from stablehand.machinery.conditions import get_condition
from stablehand.machinery.pods import is_over
from stablehand.machinery.types import Obj
from stablehand.runtime import Informer


@dataclass(slots=True)
class Sync:
    """One look at one deployment. `deployment["status"]` is a copy that may be changed; `notes` are conditions to
    set before the rollout is judged."""

    deployment: Obj
    owned: list[Obj]
    pods: dict[str, list[Obj]]  # by ReplicaSet uid
    now: float
    new: Obj | None = None
    revision: str | None = None
    notes: list[Obj] = field(default_factory=list)
    error: Exception | None = None

    @property
    def old(self) -> list[Obj]:
        new_uid = meta.uid(self.new) if self.new else None
        return [rs for rs in self.owned if meta.uid(rs) != new_uid]


class Rollout:
    def __init__(self, sets: ReplicaSetControl, cache: Informer) -> None:
        self._sets = sets
        self._cache = cache

    async def run(self, sync: Sync) -> Obj:
        """Takes the deployment a step further and returns its new status. `sync.error` is raised by the caller
        after the status has been written."""
        deployment = sync.deployment
        sync.new = find_new(deployment, sync.owned)
        paused = bool(deployment["spec"].get("paused"))
        self._note_pause(sync, paused)
        try:
            if not meta.deletion_timestamp(deployment):
                if paused or self._was_scaled(sync):
                    await self._find_new(sync, create=False)
                    await self._scale(sync)
                    if paused and not sizes.total(sync.old) and sync.new is not None:
                        await self._sets.forget_old(deployment, sync.old)
                    return self._status(sync, judge=False)
                if sizes.is_rolling(deployment):
                    await self._roll(sync)
                else:
                    await self._recreate(sync)
        except HashCollision:
            count = int(deployment["status"].get("collisionCount") or 0) + 1
            deployment["status"]["collisionCount"] = count
            sync.error = HashCollision("the new ReplicaSet's name is taken; trying another")
        except ApiError as e:
            sync.error = e
        return self._status(sync, judge=not meta.deletion_timestamp(deployment))

    # -- finding and making the new ReplicaSet

    def _fresh(self, sync: Sync) -> None:
        """Looks again at the cache, which knows our own writes."""
        namespace = meta.namespace(sync.deployment)
        again = ((rs, self._cache.cached(namespace, meta.name(rs))) for rs in sync.owned)
        sync.owned = [now for rs, now in again if now is not None and meta.uid(now) == meta.uid(rs)]
        if sync.new is not None:
            sync.new = next((rs for rs in sync.owned if meta.uid(rs) == meta.uid(sync.new)), None)

    async def _find_new(self, sync: Sync, *, create: bool) -> None:
        deployment = sync.deployment
        if sync.new is not None:
            rs = await self._sets.keep_current(deployment, sync.new, sync.old)
            if get_condition(deployment["status"], status.PROGRESSING) is None:
                self._note(sync, "True", "FoundNewReplicaSet", f'Found new replica set "{meta.name(rs)}"')
        elif create:
            try:
                rs = await self._sets.create_new(deployment, sync.owned, deployment["status"].get("collisionCount"))
            except ApiError as e:
                if status.deadline(deployment) is not None:
                    sync.notes.append(self._sets.failed_to_create(deployment, e))
                raise
            sync.owned = [*sync.owned, rs]
            self._note(sync, "True", "NewReplicaSetCreated", f'Created new replica set "{meta.name(rs)}"')
        else:
            return
        sync.new = rs
        sync.revision = meta.annotations(rs).get(sizes.REVISION)
        self._fresh(sync)

    def _note(self, sync: Sync, value: str, reason: str, text: str) -> None:
        if status.deadline(sync.deployment) is not None:
            sync.notes.append(status.condition(status.PROGRESSING, value, reason, text, sync.now))

    def _note_pause(self, sync: Sync, paused: bool) -> None:
        found = get_condition(sync.deployment["status"], status.PROGRESSING)
        reason = (found or {}).get("reason")
        if reason == "ProgressDeadlineExceeded":
            return
        if paused and reason != "DeploymentPaused":
            self._note(sync, "Unknown", "DeploymentPaused", "Deployment is paused")
        elif not paused and reason == "DeploymentPaused":
            self._note(sync, "Unknown", "DeploymentResumed", "Deployment is resumed")

    # -- rolling update

    async def _roll(self, sync: Sync) -> None:
        await self._find_new(sync, create=True)
        if await self._grow_new(sync):
            return
        assert sync.new is not None
        shrunk = False
        for rs, size in sizes.shrink_old(sync.deployment, sync.new, sync.old):
            shrunk = await self._sets.scale(sync.deployment, rs, size) or shrunk
        self._fresh(sync)
        if not shrunk:
            await self._tidy(sync)

    async def _grow_new(self, sync: Sync) -> bool:
        assert sync.new is not None
        has, wanted = sizes.replicas(sync.new), sizes.replicas(sync.deployment)
        if has == wanted:
            return False
        size = wanted if has > wanted else sizes.new_size(sync.deployment, sync.owned, has)
        changed = await self._sets.scale(sync.deployment, sync.new, size)
        self._fresh(sync)
        return changed

    async def _tidy(self, sync: Sync) -> None:
        if status.complete(sync.deployment, status.build(sync.deployment, sync.owned, sync.new, sync.now)):
            await self._sets.forget_old(sync.deployment, sync.old)
            self._fresh(sync)

    # -- recreate

    async def _recreate(self, sync: Sync) -> None:
        await self._find_new(sync, create=False)
        stopped = False
        for rs in sync.old:
            if sizes.replicas(rs) > 0:
                stopped = await self._sets.scale(sync.deployment, rs, 0) or stopped
        self._fresh(sync)
        if stopped or self._old_pods_run(sync):
            return
        if sync.new is None:
            await self._find_new(sync, create=True)
        if not await self._grow_new(sync):
            await self._tidy(sync)

    @staticmethod
    def _old_pods_run(sync: Sync) -> bool:
        new_uid = meta.uid(sync.new) if sync.new else None
        return any(not is_over(pod) for uid, pods in sync.pods.items() if uid != new_uid for pod in pods)

    # -- scaling, also in the middle of a rollout

    @staticmethod
    def _was_scaled(sync: Sync) -> bool:
        wanted = sizes.replicas(sync.deployment)
        for rs in sync.owned:
            if sizes.replicas(rs) > 0:
                noted = sizes.number(rs, sizes.DESIRED)
                if noted is not None and noted != wanted:
                    return True
        return False

    async def _scale(self, sync: Sync) -> None:
        deployment, wanted = sync.deployment, sizes.replicas(sync.deployment)
        active = [rs for rs in sync.owned if sizes.replicas(rs) > 0]
        if len(active) <= 1:
            newest = sorted(sync.old, key=lambda rs: rs["metadata"].get("creationTimestamp") or "")
            only = active[0] if active else sync.new or (newest[-1] if newest else None)
            if only is not None:
                if sizes.replicas(only) != wanted or sizes.number(only, sizes.DESIRED) != wanted:
                    await self._sets.scale(deployment, only, wanted)
        elif sizes.is_saturated(deployment, sync.new):
            for rs in sync.old:
                if sizes.replicas(rs) > 0:
                    await self._sets.scale(deployment, rs, 0)
        elif sizes.is_rolling(deployment):
            planned = sizes.proportional(deployment, active)
            for rs in active:
                await self._sets.scale(deployment, rs, planned[meta.uid(rs)])
        self._fresh(sync)

    # -- what came of it

    def _status(self, sync: Sync, *, judge: bool) -> Obj:
        # Conditions noted in this sync count as the deployment's own from here on.
        for note in sync.notes:
            status.put(sync.deployment["status"], note)
        result = status.build(sync.deployment, sync.owned, sync.new, sync.now)
        if judge:
            status.with_progress(sync.deployment, result, sync.new, sync.now)
            status.with_failures(result, sync.old, sync.new)
        return result
