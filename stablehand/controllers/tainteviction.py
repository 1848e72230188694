"""Deletes pods from nodes with NoExecute taints, as soon as the pods no longer tolerate them."""

from __future__ import annotations

import time
from collections.abc import Callable

from stablehand.client import Client, NotFound
from stablehand.machinery import meta, nodes
from stablehand.machinery.pods import is_over
from stablehand.machinery.resources import resource
from stablehand.machinery.times import format_time
from stablehand.machinery.types import Obj
from stablehand.runtime import Controller, EventRecorder, Informers, Result, writes


class TaintEvictionController(Controller):
    name = "taint-eviction"

    def __init__(self, client: Client, informers: Informers, *, clock: Callable[[], float] = time.time) -> None:
        super().__init__(workers=4)
        self._client = client = client.with_manager("node-controller")
        self._clock = clock
        self._nodes = informers.get(resource("nodes"))
        self._pods = informers.get(resource("pods"))
        self._pods.add_index("node", lambda pod: [pod["spec"].get("nodeName") or ""])
        self._since: dict[
            str, float
        ] = {}  # pod uid -> when it was first seen under taints that it tolerates for a while
        self.wait_for = [self._nodes, self._pods]
        self.events = EventRecorder(client, "taint-eviction-controller")
        self._nodes.on_change(self._node_changed)
        self._pods.on_change(self._pod_changed)

    def _node_changed(self, event: str, old: Obj | None, new: Obj) -> None:
        if event == "DELETED" or (old is not None and _execute(old) == _execute(new)):
            return
        if old is None and not _execute(new):
            return
        for pod in self._pods.by_index("node", meta.name(new)):
            self.enqueue(meta.key(pod))

    def _pod_changed(self, event: str, old: Obj | None, new: Obj) -> None:
        if event == "DELETED":
            self._since.pop(meta.uid(new), None)
        if event == "DELETED" or not new["spec"].get("nodeName"):
            return
        if old is None or (old["spec"] is not new["spec"] and old["spec"] != new["spec"]):
            node = self._nodes.cached("", new["spec"]["nodeName"])
            if node is not None and _execute(node):
                self.enqueue(meta.key(new))

    async def reconcile(self, key: tuple[str, str]) -> Result | None:
        pod = self._pods.cached(*key)
        if pod is None or meta.deletion_timestamp(pod) or is_over(pod):
            return None
        node = self._nodes.cached("", pod["spec"].get("nodeName") or "")
        taints = _execute(node) if node is not None else []
        tolerations = pod["spec"].get("tolerations") or []
        now = self._clock()
        since = self._since.get(meta.uid(pod), now)
        left = time_left(taints, tolerations, since, now)
        if left is None:
            self._since.pop(meta.uid(pod), None)
            return None
        if left > 0:
            self._since[meta.uid(pod)] = since
            return Result(after=left)
        text = f"Marking for deletion Pod {key[0]}/{key[1]}"
        self.events.event(pod, "Normal", "TaintManagerEviction", text)
        condition = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint",
            "lastTransitionTime": format_time(self._clock()),
        }
        patch = {"metadata": {"uid": meta.uid(pod)}, "status": {"conditions": [condition]}}
        try:
            await self._client.patch(self._pods.resource, key[1], patch, key[0], kind="strategic", subresource="status")
        except NotFound:
            return None
        await writes.delete(self._client, self._pods, pod)
        return None


def _execute(node: Obj) -> list[Obj]:
    return [t for t in nodes.taints(node) if t.get("effect") == "NoExecute"]


def time_left(taints: list[Obj], tolerations: list[Obj], since: float, now: float) -> float | None:
    """Seconds until a pod must go that has been under such taints `since`; None when it may stay for good."""
    least: float | None = None
    for taint in taints:
        matching = [t for t in tolerations if nodes.tolerates(t, taint)]
        if not matching:
            return 0.0
        for toleration in matching:
            if toleration.get("tolerationSeconds") is not None:
                limit = max(0.0, float(toleration["tolerationSeconds"]))
                least = limit if least is None else min(least, limit)
    return None if least is None else max(0.0, since + least - now)
