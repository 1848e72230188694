"""Watches sets, pods and revisions; takes the name of a changed set, gathers what belongs to it, hands it on."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from stablehand.client import Client
from stablehand.controllers.statefulset import identity
from stablehand.controllers.statefulset.pod_control import StatefulPodControl
from stablehand.controllers.statefulset.replica import Replicas
from stablehand.controllers.statefulset.set_control import StatefulSetControl
from stablehand.controllers.statefulset.status import StatusWriter
from stablehand.machinery import meta, revisions
from stablehand.machinery.pods import change_matters
from stablehand.machinery.resources import resource
from stablehand.machinery.selectors import Selector, SelectorError, from_label_selector
from stablehand.machinery.types import Obj
from stablehand.runtime import Controller, EventRecorder, Informers, Result, Terminal
from stablehand.runtime.claims import CannotAdopt, claim, index_by_controller
from stablehand.runtime.revisions import REVISIONS, History, Resolved

log = logging.getLogger("stablehand.statefulset")

STATEFULSETS = resource("statefulsets.apps")
_GATHER_PER_POD = 50e-6


class StatefulSetController(Controller):
    name = "statefulset"

    def __init__(self, client: Client, informers: Informers, *, clock: Callable[[], float] = time.time) -> None:
        super().__init__(workers=5)
        self._client = client = client.with_manager("statefulset-controller")
        self._clock = clock
        self.sets = informers.get(STATEFULSETS)
        self.pods = informers.get(resource("pods"))
        self._revisions = informers.get(REVISIONS)
        self._claims = informers.get(resource("persistentvolumeclaims"))
        index_by_controller(self.pods)
        index_by_controller(self._revisions)
        self.wait_for = [self.sets, self.pods, self._revisions, self._claims]
        self.events = EventRecorder(client, "statefulset-controller")
        self._replicas = Replicas()
        self._history = History(client, self._revisions, STATEFULSETS)
        self._control = StatefulSetControl(StatefulPodControl(client, self.pods, self._claims, self.events))
        self.statuses = StatusWriter(client, self.sets, self.queue.retry)
        self._sizes: dict[tuple[str, str], int] = {}
        self._resolved: dict[str, tuple[int, list[str], Resolved]] = {}
        self._selectors: dict[str, tuple[int, Selector]] = {}
        self.sets.on_change(self._set_changed)
        self.pods.on_change(self._pod_changed)

    # -- what wakes a set

    def _set_changed(self, event: str, old: Obj | None, new: Obj) -> None:
        if event == "DELETED":
            for table in (self._resolved, self._selectors):
                table.pop(meta.uid(new), None)
            self._sizes.pop(meta.key(new), None)
            self.statuses.forget(meta.uid(new))
        elif self.statuses.observing:
            return
        self.enqueue(meta.key(new))

    def _pod_changed(self, event: str, old: Obj | None, new: Obj) -> None:
        if event == "DELETED":
            self._replicas.forget(meta.uid(new))
        elif event == "MODIFIED" and old is not None and not change_matters(old, new):
            return
        before, owner = meta.controller_of(old) if old is not None else None, meta.controller_of(new)
        if before is not None and (owner is None or before.get("uid") != owner.get("uid")):
            self._wake(before, meta.namespace(new))
        if owner is not None:
            self._wake(owner, meta.namespace(new))
        elif event != "DELETED":
            for set_ in self.sets.items(meta.namespace(new)):
                if self._could_own(set_, new):
                    self.enqueue(meta.key(set_))

    def _wake(self, owner: Obj, namespace: str) -> None:
        if owner.get("kind") != STATEFULSETS.kind:
            return
        key = (namespace, owner.get("name") or "")
        self.enqueue_gathered(key, self._sizes.get(key, 0), _GATHER_PER_POD)

    def _could_own(self, set_: Obj, pod: Obj) -> bool:
        return identity.parent_and_ordinal(meta.name(pod))[0] == meta.name(set_) and self._selector(set_).matches(
            meta.labels(pod)
        )

    def _selector(self, set_: Obj) -> Selector:
        uid, generation = meta.uid(set_), int(set_["metadata"].get("generation") or 0)
        known = self._selectors.get(uid)
        if known is None or known[0] != generation:
            try:
                selector = from_label_selector(set_["spec"].get("selector"))
            except SelectorError as e:
                raise Terminal(f"selector of {meta.name(set_)}: {e}") from e
            known = self._selectors[uid] = (generation, selector)
        return known[1]

    # -- one set

    async def reconcile(self, key: tuple[str, str]) -> Result | None:
        set_ = self.sets.cached(*key)
        if set_ is None:
            return None
        set_ = {**set_, "status": self.statuses.effective(set_)}
        selector = self._selector(set_)
        name = meta.name(set_)
        try:
            history = await self._history.of(set_, selector)
            pods = await claim(
                self._client,
                STATEFULSETS,
                set_,
                self.pods,
                selector,
                match=lambda pod: self._replicas.of(pod).parent == name,
            )
        except CannotAdopt as e:
            log.info("%s/%s: %s", *key, e)
            return Result(after=1.0)
        resolved = await self._resolve(set_, history)
        named = set_["status"].get("currentRevision")
        current = next((r for r in resolved.history if meta.name(r) == named), resolved.update)
        replicas = [self._replicas.of(pod) for pod in pods]
        self._sizes[key] = max(len(replicas), identity.desired(set_)) if not identity.is_ordered(set_) else 0
        outcome = await self._control.update(
            set_, current, resolved.update, resolved.collision_count, replicas, self._clock()
        )
        self.statuses.submit(set_, outcome.status)
        limit = set_["spec"].get("revisionHistoryLimit")
        if limit is None or len(resolved.history) > limit >= 0:
            live = {meta.name(current), meta.name(resolved.update), *(r.revision for r in replicas)}
            await self._history.truncate(resolved.history, live, limit)
        if outcome.error is not None:
            raise outcome.error
        return Result(after=outcome.after) if outcome.after is not None else None

    async def _resolve(self, set_: Obj, history: list[Obj]) -> Resolved:
        """The set's revisions; worked out anew only when its generation or its history changed."""
        uid, generation = meta.uid(set_), int(set_["metadata"].get("generation") or 0)
        versions = [f"{meta.uid(r)}/{r['metadata'].get('resourceVersion')}" for r in history]
        known = self._resolved.get(uid)
        if known is not None and known[0] == generation and generation and known[1] == versions:
            return known[2]
        template, collisions = set_["spec"]["template"], int(set_["status"].get("collisionCount") or 0)
        if meta.deletion_timestamp(set_) and history:
            return Resolved(history[-1], collisions, history)
        resolved = await self._history.resolve(
            set_, history, lambda number, count: revisions.new_revision(set_, template, number, count), collisions
        )
        versions = [f"{meta.uid(r)}/{r['metadata'].get('resourceVersion')}" for r in resolved.history]
        self._resolved[uid] = (generation, versions, resolved)
        return resolved

    async def run(self) -> None:
        try:
            await super().run()
        finally:
            await asyncio.shield(self.statuses.flush())
