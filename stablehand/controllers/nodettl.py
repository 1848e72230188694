"""Tells kubelets on each Node for how long they may keep Secrets and ConfigMaps, by the size of the cluster."""

from __future__ import annotations

from stablehand.client import Client, NotFound
from stablehand.machinery import meta
from stablehand.machinery.resources import resource
from stablehand.machinery.types import Obj
from stablehand.runtime import Controller, Informers, Result

ANNOTATION = "node.alpha.kubernetes.io/ttl"
# (the step holds down to so many nodes, up to so many, seconds); the steps overlap, so that no cluster flaps.
_STEPS = ((0, 100, 0), (90, 500, 15), (450, 1000, 30), (900, 2000, 60), (1800, 2**31, 300))


class TtlController(Controller):
    name = "ttl"

    def __init__(self, client: Client, informers: Informers) -> None:
        super().__init__(workers=1)
        self._client = client.with_manager("ttl-controller")
        self._nodes = informers.get(resource("nodes"))
        self.wait_for = [self._nodes]
        self._count = self._step = 0
        self._nodes.on_change(self._changed)

    def _changed(self, event: str, old: Obj | None, new: Obj) -> None:
        self._count += {"ADDED": 1, "DELETED": -1}.get(event, 0)
        before = self._step
        self._step = step_for(self._count, self._step)
        if self._step != before:
            for node in self._nodes.items():
                self.enqueue(meta.name(node))
        if event != "DELETED":
            self.enqueue(meta.name(new))

    async def reconcile(self, key: str) -> Result | None:
        node = self._nodes.cached("", key)
        wanted = str(_STEPS[self._step][2])
        if node is None or meta.annotations(node).get(ANNOTATION) == wanted:
            return None
        try:
            patch = {"metadata": {"annotations": {ANNOTATION: wanted}}}
            self._nodes.observe(await self._client.patch(self._nodes.resource, key, patch, kind="merge"))
        except NotFound:
            return None
        return None


def step_for(nodes: int, step: int) -> int:
    """The step for so many nodes, from the one it was."""
    while nodes > _STEPS[step][1]:
        step += 1
    while nodes < _STEPS[step][0]:
        step -= 1
    return step
