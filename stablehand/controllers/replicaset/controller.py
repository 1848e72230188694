"""Keeps the number of pods of each ReplicaSet (or ReplicationController) at what its spec says."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable

from stablehand.client import ApiError, Client, Conflict, Forbidden, NotFound
from stablehand.controllers.replicaset import status as counting
from stablehand.machinery import meta
from stablehand.machinery.pods import change_matters, deletion_order, is_active, is_over
from stablehand.machinery.podtemplates import pod_from_template
from stablehand.machinery.resources import Resource, resource
from stablehand.machinery.selectors import Selector, SelectorError, from_label_selector
from stablehand.machinery.types import Obj
from stablehand.runtime import Controller, EventRecorder, Informers, Result, Terminal, writes
from stablehand.runtime.batches import slow_start
from stablehand.runtime.claims import CannotAdopt, claim, controlled_by, index_by_controller

log = logging.getLogger("stablehand.replicaset")

_BURST = 500
_GATHER_PER_POD = 50e-6


class ReplicaSetController(Controller):
    """Also serves ReplicationControllers: see the subclass."""

    name = "replicaset"
    res: Resource = resource("replicasets.apps")
    component = "replicaset-controller"
    counts_terminating = True

    def __init__(self, client: Client, informers: Informers, *, clock: Callable[[], float] = time.time) -> None:
        super().__init__(workers=5)
        self._client = client = client.with_manager(self.component)
        self._clock = clock
        self._sets = informers.get(self.res)
        self._pods = informers.get(resource("pods"))
        index_by_controller(self._sets)
        index_by_controller(self._pods)
        self.wait_for = [self._sets, self._pods]
        self.events = EventRecorder(client, self.component)
        self._sizes: dict[tuple[str, str], int] = {}
        self._told: dict[tuple[str, str], Obj] = {}  # the status written last
        self._sets.on_change(self._set_changed)
        self._pods.on_change(self._pod_changed)

    # -- what wakes a set

    def _set_changed(self, event: str, old: Obj | None, new: Obj) -> None:
        if event == "DELETED":
            self._sizes.pop(meta.key(new), None)
            self._told.pop(meta.key(new), None)
        elif old is not None and new.get("status") == self._told.get(meta.key(new)) and _same_but_status(old, new):
            return
        self.enqueue(meta.key(new))

    def _pod_changed(self, event: str, old: Obj | None, new: Obj) -> None:
        if event == "MODIFIED" and old is not None and not change_matters(old, new):
            return
        before, owner = meta.controller_of(old) if old is not None else None, meta.controller_of(new)
        if before is not None and (owner is None or before.get("uid") != owner.get("uid")):
            self._wake(before, meta.namespace(new))
        if owner is not None:
            self._wake(owner, meta.namespace(new))
        elif event != "DELETED":
            for rs in self._sets.items(meta.namespace(new)):
                if self._selector(rs).matches(meta.labels(new)):
                    self.enqueue(meta.key(rs))

    def _wake(self, owner: Obj, namespace: str) -> None:
        if owner.get("kind") != self.res.kind:
            return
        key = (namespace, owner.get("name") or "")
        self.enqueue_gathered(key, self._sizes.get(key, 0), _GATHER_PER_POD)

    def _selector(self, rs: Obj) -> Selector:
        try:
            return from_label_selector(rs["spec"].get("selector"))
        except SelectorError as e:
            raise Terminal(f"selector of {meta.name(rs)}: {e}") from e

    # -- one set

    async def reconcile(self, key: tuple[str, str]) -> Result | None:
        rs = self._sets.cached(*key)
        if rs is None:
            return None
        try:
            pods = await claim(
                self._client, self.res, rs, self._pods, self._selector(rs), match=lambda p: not is_over(p)
            )
        except CannotAdopt as e:
            log.info("%s/%s: %s", *key, e)
            return Result(after=1.0)
        active = [pod for pod in pods if is_active(pod)]
        self._sizes[key] = max(len(active), counting.desired(rs))
        surplus = len(active) - counting.desired(rs)
        error: Exception | None = None
        if not meta.deletion_timestamp(rs):
            error = await self._manage(rs, active, surplus)
            if surplus:
                active = [p for p in controlled_by(self._pods, rs) if is_active(p)]
        after = await self._write_status(rs, active, len(pods) - len([p for p in pods if is_active(p)]), error, surplus)
        if error is not None:
            raise error
        return Result(after=after) if after is not None else None

    async def _manage(self, rs: Obj, active: list[Obj], surplus: int) -> Exception | None:
        if surplus < 0:
            _, error = await slow_start(min(-surplus, _BURST), lambda i: self._create(rs))
            return error
        if surplus > 0:
            doomed = deletion_order(active, self._per_node(rs), self._clock())[: min(surplus, _BURST)]
            results = await asyncio.gather(*(self._delete(rs, pod) for pod in doomed), return_exceptions=True)
            for result in results:
                if isinstance(result, Exception):
                    return result
        return None

    async def _create(self, rs: Obj) -> None:
        try:
            pod = await writes.create(self._client, self._pods, pod_from_template(rs["spec"]["template"], rs))
        except ApiError as e:
            if isinstance(e, Forbidden) and any(
                c.get("reason") == "NamespaceTerminating" for c in e.details.get("causes") or ()
            ):
                return
            self.events.event(rs, "Warning", "FailedCreate", f"Error creating: {e}")
            raise
        self.events.event(rs, "Normal", "SuccessfulCreate", f"Created pod: {meta.name(pod)}")

    async def _delete(self, rs: Obj, pod: Obj) -> None:
        try:
            await writes.delete(self._client, self._pods, pod)
        except ApiError as e:
            self.events.event(rs, "Warning", "FailedDelete", f"Error deleting: {e}")
            raise
        self.events.event(rs, "Normal", "SuccessfulDelete", f"Deleted pod: {meta.name(pod)}")

    def _per_node(self, rs: Obj) -> Counter[str]:
        """How many active pods of this set and its siblings (of one Deployment, say) each node has."""
        owner = meta.controller_of(rs)
        siblings = [rs] if owner is None else list(self._sets.by_index("controller", owner["uid"])) or [rs]
        return Counter(
            pod["spec"].get("nodeName") or ""
            for sibling in siblings
            for pod in controlled_by(self._pods, sibling)
            if is_active(pod)
        )

    async def _write_status(
        self, rs: Obj, active: list[Obj], terminating: int, error: Exception | None, surplus: int
    ) -> float | None:
        current: Obj | None = self._sets.cached(*meta.key(rs))
        for attempt in range(3):
            if current is None or meta.uid(current) != meta.uid(rs):
                return None
            new, after = counting.build(
                {**current, "spec": rs["spec"], "metadata": {**current["metadata"], "generation": _generation(rs)}},
                active,
                terminating if self.counts_terminating else None,
                error,
                surplus,
                self._clock(),
            )
            old = current.get("status") or {}
            if all((new.get(f) or 0) == (old.get(f) or 0) for f in set(new) | set(old)):
                return after
            self._told[meta.key(rs)] = new
            try:
                await writes.update(self._client, self._sets, {**current, "status": new}, subresource="status")
                return after
            except NotFound:
                return None
            except Conflict:
                if attempt == 2:
                    raise
                try:
                    current = await self._client.get(self.res, meta.name(rs), meta.namespace(rs))
                except NotFound:
                    return None
        return None


class ReplicationControllerController(ReplicaSetController):
    """The older kind: a plain map as selector, core group."""

    name = "replicationcontroller"
    res = resource("replicationcontrollers")
    component = "replication-controller"
    counts_terminating = False

    def _selector(self, rs: Obj) -> Selector:
        labels = rs["spec"].get("selector") or ((rs["spec"].get("template") or {}).get("metadata") or {}).get("labels")
        return from_label_selector({"matchLabels": labels} if labels else None)


def _generation(rs: Obj) -> int:
    return int(rs["metadata"].get("generation") or 0)


def _same_but_status(old: Obj, new: Obj) -> bool:
    """Did only the status change?"""
    before, after = old["metadata"], new["metadata"]
    fields = ("generation", "labels", "annotations", "deletionTimestamp", "ownerReferences", "uid")
    return bool(_generation(new)) and all(before.get(f) == after.get(f) for f in fields)
