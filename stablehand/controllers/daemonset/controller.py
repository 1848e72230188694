"""Keeps one pod of each DaemonSet on every node that suits it, and replaces the outdated."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from stablehand.client import ApiError, Client, Conflict, NotFound
from stablehand.controllers.daemonset import placing, updating
from stablehand.machinery import meta, revisions
from stablehand.machinery.conditions import is_pod_available, is_pod_ready
from stablehand.machinery.pods import change_matters, is_over, phase
from stablehand.machinery.podtemplates import template_hash
from stablehand.machinery.resources import resource
from stablehand.machinery.revisions import REVISION_LABEL
from stablehand.machinery.selectors import SelectorError, from_label_selector
from stablehand.machinery.types import Obj
from stablehand.runtime import Controller, EventRecorder, Informers, Result, Terminal, writes
from stablehand.runtime.batches import slow_start
from stablehand.runtime.claims import CannotAdopt, claim, index_by_controller
from stablehand.runtime.revisions import REVISIONS, History

log = logging.getLogger("stablehand.daemonset")

DAEMONSETS = resource("daemonsets.apps")


class DaemonSetController(Controller):
    name = "daemonset"

    def __init__(self, client: Client, informers: Informers, *, clock: Callable[[], float] = time.time) -> None:
        super().__init__(workers=2)
        self._client = client = client.with_manager("daemon-set-controller")
        self._clock = clock
        self._sets = informers.get(DAEMONSETS)
        self._pods = informers.get(resource("pods"))
        self._nodes = informers.get(resource("nodes"))
        self._revisions = informers.get(REVISIONS)
        index_by_controller(self._pods)
        index_by_controller(self._revisions)
        self.wait_for = [self._sets, self._pods, self._nodes, self._revisions]
        self.events = EventRecorder(client, "daemonset-controller")
        self._history = History(client, self._revisions, DAEMONSETS)
        self._sets.on_change(lambda event, old, new: self.enqueue(meta.key(new)))
        self._pods.on_change(self._pod_changed)
        self._nodes.on_change(self._node_changed)

    def _pod_changed(self, event: str, old: Obj | None, new: Obj) -> None:
        if event == "MODIFIED" and old is not None and not change_matters(old, new):
            return
        owners = [ref for ref in (meta.controller_of(old) if old else None, meta.controller_of(new)) if ref]
        for ref in owners:
            if ref.get("kind") == DAEMONSETS.kind:
                self.enqueue((meta.namespace(new), ref["name"]))
        if not owners and event != "DELETED":
            for ds in self._sets.items(meta.namespace(new)):
                if from_label_selector(ds["spec"].get("selector")).matches(meta.labels(new)):
                    self.enqueue(meta.key(ds))

    def _node_changed(self, event: str, old: Obj | None, new: Obj) -> None:
        if event == "MODIFIED" and old is not None:
            same_spec = (old.get("spec") or {}) == (new.get("spec") or {})
            if same_spec and meta.labels(old) == meta.labels(new):
                return
        for ds in self._sets.items():
            self.enqueue(meta.key(ds))

    async def reconcile(self, key: tuple[str, str]) -> Result | None:
        ds = self._sets.cached(*key)
        if ds is None:
            return None
        try:
            selector = from_label_selector(ds["spec"].get("selector"))
        except SelectorError as e:
            raise Terminal(f"selector of {key[1]}: {e}") from e
        if selector.everything:
            text = "This daemon set is selecting all pods. A non-empty selector is required."
            self.events.event(ds, "Warning", "SelectingAll", text)
            return None
        if meta.deletion_timestamp(ds):
            return None
        try:
            history = await self._history.of(ds, selector)
            pods = await claim(self._client, DAEMONSETS, ds, self._pods, selector)
        except CannotAdopt as e:
            log.info("%s/%s: %s", *key, e)
            return Result(after=1.0)
        collisions = int((ds.get("status") or {}).get("collisionCount") or 0)
        resolved = await self._history.resolve(
            ds, history, lambda number, count: _revision(ds, number, count), collisions
        )
        hashed = meta.labels(resolved.update).get(REVISION_LABEL, "")
        error: Exception | None = None
        try:
            await self._manage(ds, pods, hashed)
        except ApiError as e:
            error = e
        now = self._clock()
        pods = [p for p in self._pods.by_index("controller", meta.uid(ds)) if not is_over(p)]
        after = await self._write_status(ds, pods, hashed, resolved.collision_count, now)
        live = {meta.name(resolved.update)}
        hashes = {meta.labels(p).get(REVISION_LABEL) for p in pods}
        live |= {meta.name(r) for r in resolved.history if meta.labels(r).get(REVISION_LABEL) in hashes}
        await self._history.truncate(resolved.history, live, ds["spec"].get("revisionHistoryLimit"))
        if error is not None:
            raise error
        return Result(after=after) if after is not None else None

    # -- pods

    async def _manage(self, ds: Obj, pods: list[Obj], hashed: str) -> None:
        by_node: dict[str, list[Obj]] = {}
        for pod in pods:
            by_node.setdefault(placing.node_of(pod), []).append(pod)
        wanted: list[str] = []
        doomed: list[Obj] = []
        suitable: dict[str, list[Obj]] = {}
        for node in self._nodes.items():
            name = meta.name(node)
            should, may_stay = placing.should_run(ds, node)
            here = by_node.pop(name, [])
            living = [p for p in here if not is_over(p)]
            for pod in here:
                if is_over(pod) and not meta.deletion_timestamp(pod):
                    doomed.append(pod)
                    if phase(pod) == "Failed":
                        text = (
                            f"Found failed daemon pod {meta.namespace(pod)}/{meta.name(pod)} on node {name}, "
                            "will try to kill it"
                        )
                        self.events.event(ds, "Warning", "FailedDaemonPod", text)
            if should:
                suitable[name] = living
                if not living:
                    wanted.append(name)
            if not may_stay:
                doomed.extend(p for p in living if not meta.deletion_timestamp(p))
            else:
                doomed.extend(self._surplus(living, hashed))
        for strays in by_node.values():  # on nodes that are no more, the pod collector sees to them
            doomed.extend(p for p in strays if not p["spec"].get("nodeName") and not meta.deletion_timestamp(p))
        if not wanted and not doomed:
            if (ds["spec"].get("updateStrategy") or {}).get("type") != "OnDelete":
                changes = updating.plan(ds, suitable, hashed, len(suitable), self._clock())
                wanted, doomed = changes.surge, changes.delete
        await asyncio.gather(*(self._delete(ds, pod) for pod in doomed))
        _, error = await slow_start(len(wanted), lambda i: self._create(ds, wanted[i], hashed))
        if error is not None:
            raise error

    @staticmethod
    def _surplus(living: list[Obj], hashed: str) -> list[Obj]:
        """All but the oldest pod of each version (a rolling update with surge has two for a while)."""
        out: list[Obj] = []
        for new in (True, False):
            group = [p for p in living if (meta.labels(p).get(REVISION_LABEL) == hashed) is new]
            group = [p for p in group if not meta.deletion_timestamp(p)]
            group.sort(key=lambda p: (not p["spec"].get("nodeName"), p["metadata"].get("creationTimestamp") or ""))
            out.extend(group[1:])
        return out

    async def _create(self, ds: Obj, node_name: str, hashed: str) -> None:
        try:
            pod = await writes.create(self._client, self._pods, placing.new_pod(ds, node_name, hashed))
        except ApiError as e:
            self.events.event(ds, "Warning", "FailedCreate", f"Error creating: {e}")
            raise
        self.events.event(ds, "Normal", "SuccessfulCreate", f"Created pod: {meta.name(pod)}")

    async def _delete(self, ds: Obj, pod: Obj) -> None:
        try:
            await writes.delete(self._client, self._pods, pod)
        except ApiError as e:
            self.events.event(ds, "Warning", "FailedDelete", f"Error deleting: {e}")
            raise
        self.events.event(ds, "Normal", "SuccessfulDelete", f"Deleted pod: {meta.name(pod)}")

    # -- status

    async def _write_status(self, ds: Obj, pods: list[Obj], hashed: str, collisions: int, now: float) -> float | None:
        by_node: dict[str, list[Obj]] = {}
        for pod in pods:
            by_node.setdefault(placing.node_of(pod), []).append(pod)
        desired = current = misplaced = ready = updated = available = 0
        min_ready = int(ds["spec"].get("minReadySeconds") or 0)
        waits = False
        for node in self._nodes.items():
            here = sorted(by_node.get(meta.name(node), []), key=lambda p: p["metadata"].get("creationTimestamp") or "")
            if not placing.should_run(ds, node)[0]:
                misplaced += 1 if here else 0
                continue
            desired += 1
            if not here:
                continue
            current += 1
            pod = here[0]
            if is_pod_ready(pod):
                ready += 1
                if is_pod_available(pod, min_ready, now):
                    available += 1
                else:
                    waits = True
            if any(meta.labels(p).get(REVISION_LABEL) == hashed for p in here):
                updated += 1
        status: Obj = {
            "currentNumberScheduled": current,
            "numberMisscheduled": misplaced,
            "desiredNumberScheduled": desired,
            "numberReady": ready,
            "observedGeneration": ds["metadata"].get("generation") or 0,
        }
        for field, value in (
            ("updatedNumberScheduled", updated),
            ("numberAvailable", available),
            ("numberUnavailable", desired - available),
        ):
            if value:
                status[field] = value
        old = ds.get("status") or {}
        if collisions or "collisionCount" in old:
            status["collisionCount"] = collisions
        if old.get("conditions"):
            status["conditions"] = old["conditions"]
        if status != old:
            current_ds = self._sets.cached(*meta.key(ds)) or ds
            try:
                written = {**current_ds, "status": status}
                await writes.update(self._client, self._sets, written, subresource="status")
            except NotFound:
                return None
            except Conflict:
                return 0.01
        return float(min_ready) if waits else None


def _revision(ds: Obj, number: int, collisions: int) -> Obj:
    hashed = template_hash(ds["spec"]["template"], collisions)
    revision = revisions.new_revision(ds, ds["spec"]["template"], number, collisions)
    metadata = revision["metadata"]
    metadata["name"] = revisions.revision_name(meta.name(ds), hashed)
    metadata["labels"].pop(revisions.HASH_LABEL, None)
    metadata["labels"][REVISION_LABEL] = hashed
    return revision
