"""Nodes that fall silent: their conditions become Unknown, their pods not ready, and taints say so to the scheduler.

What the NoExecute taints do to pods is tainteviction's.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from stablehand.client import Client, NotFound
from stablehand.machinery import meta, nodes
from stablehand.machinery.conditions import get_condition, set_condition
from stablehand.machinery.resources import resource
from stablehand.machinery.times import format_time
from stablehand.machinery.types import Obj, copy_object
from stablehand.runtime import Controller, EventRecorder, Informers, Result, writes

log = logging.getLogger("stablehand.nodelifecycle")

LEASE_NAMESPACE = "kube-node-lease"
GRACE, STARTUP_GRACE = 40.0, 60.0
_WATCHED = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")
_PRESSURE = {
    "MemoryPressure": "node.kubernetes.io/memory-pressure",
    "DiskPressure": "node.kubernetes.io/disk-pressure",
    "PIDPressure": "node.kubernetes.io/pid-pressure",
    "NetworkUnavailable": "node.kubernetes.io/network-unavailable",
}
_OURS = {nodes.NOT_READY, nodes.UNREACHABLE, nodes.UNSCHEDULABLE, *_PRESSURE.values()}


class NodeLifecycleController(Controller):
    name = "node-lifecycle"

    def __init__(
        self,
        client: Client,
        informers: Informers,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(workers=2)
        self._client = client = client.with_manager("node-controller")
        self._clock, self._monotonic = clock, monotonic
        self._nodes = informers.get(resource("nodes"))
        self._leases = informers.get(resource("leases.coordination.k8s.io"), namespace=LEASE_NAMESPACE)
        self._pods = informers.get(resource("pods"))
        self._pods.add_index("node", lambda pod: [pod["spec"].get("nodeName") or ""])
        self.wait_for = [self._nodes, self._leases, self._pods]
        self.events = EventRecorder(client, "node-controller")
        self._heard: dict[str, float] = {}  # when each node last showed a sign of life, by our own clock
        self._nodes.on_change(self._node_changed)
        self._leases.on_change(self._lease_changed)

    def _node_changed(self, event: str, old: Obj | None, new: Obj) -> None:
        name = meta.name(new)
        if event == "DELETED":
            self._heard.pop(name, None)
            text = f"Node {name} event: Removing Node {name} from Controller"
            self.events.event(_reference(new), "Normal", "RemovingNode", text)
            return
        if old is None:
            self._heard[name] = self._monotonic()
            text = f"Node {name} event: Registered Node {name} in Controller"
            self.events.event(_reference(new), "Normal", "RegisteredNode", text)
        elif _beat(old) != _beat(new):
            self._heard[name] = self._monotonic()
        if old is None or _concerns(old, new):
            self.enqueue(name)

    def _lease_changed(self, event: str, old: Obj | None, new: Obj) -> None:
        name = meta.name(new)
        renewed = (new.get("spec") or {}).get("renewTime")
        if event == "DELETED" or (old is not None and (old.get("spec") or {}).get("renewTime") == renewed):
            return
        self._heard[name] = self._monotonic()
        node = self._nodes.cached("", name)
        ready = get_condition(node.get("status"), "Ready") if node is not None else None
        if ready is None or ready.get("status") == "Unknown":
            self.enqueue(name)

    async def reconcile(self, key: str) -> Result | None:
        node = self._nodes.cached("", key)
        if node is None:
            return None
        ready = get_condition(node.get("status"), "Ready")
        grace = GRACE if ready is not None else STARTUP_GRACE
        silent = self._monotonic() - self._heard.setdefault(key, self._monotonic())
        was_ready = nodes.is_ready(node)
        try:
            if silent > grace:
                node = await self._mark_unknown(node)
            await self._taint(node)
        except NotFound:
            return None
        now_ready = nodes.is_ready(node)
        if not now_ready and get_condition(node.get("status"), "Ready") is not None:
            await self._mark_pods(node)
            if was_ready:
                text = f"Node {key} status is now: NodeNotReady"
                self.events.event(_reference(node), "Normal", "NodeNotReady", text)
        return Result(after=grace - silent + 0.1 if silent <= grace else grace)

    async def _mark_unknown(self, node: Obj) -> Obj:
        status, now = copy_object(node.get("status") or {}), self._clock()
        changed = False
        for kind in _WATCHED:
            known = get_condition(status, kind)
            if known is None:
                if set_condition(
                    status, kind, "Unknown", "NodeStatusNeverUpdated", "Kubelet never posted node status.", now
                ):
                    changed = True
            elif known.get("status") != "Unknown":
                text = "Kubelet stopped posting node status."
                changed = set_condition(status, kind, "Unknown", "NodeStatusUnknown", text, now) or changed
        if not changed:
            return node
        return await writes.update(self._client, self._nodes, {**node, "status": status}, subresource="status")

    async def _taint(self, node: Obj) -> None:
        have = nodes.taints(node)
        wanted = _wanted_taints(node)
        kept = [t for t in have if t.get("key") not in _OURS or (t["key"], t.get("effect")) in wanted]
        known = {(t.get("key"), t.get("effect")) for t in kept}
        added = []
        for key, effect in wanted:
            if (key, effect) in known:
                continue
            taint = {"key": key, "effect": effect}
            if effect == "NoExecute" or key == nodes.UNSCHEDULABLE:
                taint["timeAdded"] = format_time(self._clock())
            added.append(taint)
        if len(kept) == len(have) and not added:
            return
        spec = {**(node.get("spec") or {}), "taints": [*kept, *added]}
        if not spec["taints"]:
            del spec["taints"]
        await writes.update(self._client, self._nodes, {**node, "spec": spec})

    async def _mark_pods(self, node: Obj) -> None:
        """Pods of a node that is not ready are not ready either: Services leave them out."""
        for pod in self._pods.by_index("node", meta.name(node)):
            ready = get_condition(pod.get("status"), "Ready")
            if ready is None or ready.get("status") != "True":
                continue
            condition = {"type": "Ready", "status": "False", "lastTransitionTime": format_time(self._clock())}
            patch = {"metadata": {"uid": meta.uid(pod)}, "status": {"conditions": [condition]}}
            try:
                await self._client.patch(
                    self._pods.resource,
                    meta.name(pod),
                    patch,
                    meta.namespace(pod),
                    kind="strategic",
                    subresource="status",
                )
            except NotFound:
                continue
            text = "Node is not ready"
            self.events.event(pod, "Warning", "NodeNotReady", text)


def _wanted_taints(node: Obj) -> list[tuple[str, str]]:
    out: list[tuple[str, str]] = []
    ready = get_condition(node.get("status"), "Ready")
    if ready is not None and ready.get("status") != "True":
        key = nodes.NOT_READY if ready.get("status") == "False" else nodes.UNREACHABLE
        out += [(key, "NoSchedule"), (key, "NoExecute")]
    elif ready is None and any(t.get("key") == nodes.NOT_READY for t in nodes.taints(node)):
        out.append((nodes.NOT_READY, "NoSchedule"))  # given at registration, until the node first reports
    for kind, key in _PRESSURE.items():
        condition = get_condition(node.get("status"), kind)
        if condition is not None and condition.get("status") == "True":
            out.append((key, "NoSchedule"))
    if (node.get("spec") or {}).get("unschedulable"):
        out.append((nodes.UNSCHEDULABLE, "NoSchedule"))
    return out


def _beat(node: Obj) -> object:
    return [(c.get("type"), c.get("lastHeartbeatTime")) for c in (node.get("status") or {}).get("conditions") or ()]


def _concerns(old: Obj, new: Obj) -> bool:
    def conditions(node: Obj) -> object:
        return [(c.get("type"), c.get("status")) for c in (node.get("status") or {}).get("conditions") or ()]

    before, after = old.get("spec") or {}, new.get("spec") or {}
    fields = ("taints", "unschedulable")
    return conditions(old) != conditions(new) or any(before.get(f) != after.get(f) for f in fields)


def _reference(node: Obj) -> Obj:
    """Events about nodes use the name as uid, so that `kubectl describe node` finds them."""
    return {"kind": "Node", "apiVersion": "v1", "name": meta.name(node), "uid": meta.name(node)}
