"""Watches deployments, their ReplicaSets and the last of their pods; takes the name of a changed deployment."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from stablehand.client import Client, NotFound
from stablehand.controllers.deployment import sizes
from stablehand.controllers.deployment import status as counting
from stablehand.controllers.deployment.replicasets import REPLICASETS, ReplicaSetControl
from stablehand.controllers.deployment.rollout import Rollout, Sync
from stablehand.machinery import meta
from stablehand.machinery.resources import resource
from stablehand.machinery.selectors import SelectorError, from_label_selector
from stablehand.machinery.types import Obj, copy_object
from stablehand.runtime import Controller, EventRecorder, Informers, Result, Terminal, writes
from stablehand.runtime.claims import CannotAdopt, claim, controlled_by, index_by_controller

log = logging.getLogger("stablehand.deployment")

DEPLOYMENTS = resource("deployments.apps")


class DeploymentController(Controller):
    name = "deployment"

    def __init__(self, client: Client, informers: Informers, *, clock: Callable[[], float] = time.time) -> None:
        super().__init__(workers=5)
        self._client = client = client.with_manager("deployment-controller")
        self._clock = clock
        self._deployments = informers.get(DEPLOYMENTS)
        self._sets = informers.get(REPLICASETS)
        self._pods = informers.get(resource("pods"))
        index_by_controller(self._sets)
        index_by_controller(self._pods)
        self.wait_for = [self._deployments, self._sets, self._pods]
        self.events = EventRecorder(client, "deployment-controller")
        self._rollout = Rollout(ReplicaSetControl(client, self._sets, self.events, clock), self._sets)
        self._deployments.on_change(lambda event, old, new: self.enqueue(meta.key(new)))
        self._sets.on_change(self._set_changed)
        self._pods.on_change(self._pod_changed)

    def _set_changed(self, event: str, old: Obj | None, new: Obj) -> None:
        owners = {
            ref["name"]
            for ref in (meta.controller_of(old) if old else None, meta.controller_of(new))
            if ref and ref.get("kind") == DEPLOYMENTS.kind
        }
        if not owners and meta.controller_of(new) is None and event != "DELETED":
            for deployment in self._deployments.items(meta.namespace(new)):
                if from_label_selector(deployment["spec"].get("selector")).matches(meta.labels(new)):
                    owners.add(meta.name(deployment))
        for name in owners:
            self.enqueue((meta.namespace(new), name))

    def _pod_changed(self, event: str, old: Obj | None, new: Obj) -> None:
        """A deployment that recreates waits for its old pods to go."""
        if event != "DELETED":
            return
        owner = meta.controller_of(new)
        if owner is None or owner.get("kind") != REPLICASETS.kind:
            return
        rs = self._sets.cached(meta.namespace(new), owner["name"])
        above = meta.controller_of(rs) if rs is not None else None
        if above is None or above.get("kind") != DEPLOYMENTS.kind:
            return
        deployment = self._deployments.cached(meta.namespace(new), above["name"])
        if deployment is not None and not sizes.is_rolling(deployment):
            self.enqueue(meta.key(deployment))

    async def reconcile(self, key: tuple[str, str]) -> Result | None:
        cached = self._deployments.cached(*key)
        if cached is None:
            return None
        try:
            selector = from_label_selector(cached["spec"].get("selector"))
        except SelectorError as e:
            raise Terminal(f"selector of {key[1]}: {e}") from e
        if selector.everything:
            text = "This deployment is selecting all pods. A non-empty selector is required."
            self.events.event(cached, "Warning", "SelectingAll", text)
            return None
        deployment = {**cached, "status": copy_object(cached.get("status") or {})}
        try:
            owned = await claim(self._client, DEPLOYMENTS, deployment, self._sets, selector)
        except CannotAdopt as e:
            log.info("%s/%s: %s", *key, e)
            return Result(after=1.0)
        pods = {} if sizes.is_rolling(deployment) else {meta.uid(rs): controlled_by(self._pods, rs) for rs in owned}
        now = self._clock()
        sync = Sync(deployment, owned, pods, now)
        new_status = await self._rollout.run(sync)
        await self._write(cached, new_status, sync.revision)
        if sync.error is not None:
            raise sync.error
        after = counting.next_check(deployment, new_status, now)
        return Result(after=after) if after is not None else None

    async def _write(self, deployment: Obj, new_status: Obj, revision: str | None) -> None:
        """Status and the revision's annotation in one write, of the status: it leaves the generation as it is."""
        written = {**deployment, "status": new_status}
        noted = revision is None or meta.annotations(deployment).get(sizes.REVISION) == revision
        if not noted:
            notes = {**meta.annotations(deployment), sizes.REVISION: revision}
            written["metadata"] = {**deployment["metadata"], "annotations": notes}
        if noted and _same(deployment.get("status") or {}, new_status):
            return
        try:
            await writes.update(self._client, self._deployments, written, subresource="status")
        except NotFound:
            return


def _same(one: Obj, other: Obj) -> bool:
    return all((one.get(f) or 0) == (other.get(f) or 0) for f in {*one, *other} - {"conditions"}) and (
        one.get("conditions") or []
    ) == (other.get("conditions") or [])
