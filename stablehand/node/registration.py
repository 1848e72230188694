"""Keeps the Node object and its Lease true: created at start, renewed every 10 s, status written when it changes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from stablehand.aiokit.backoff import Backoff
from stablehand.client import AlreadyExists, ApiError, Client, NotFound, Unavailable
from stablehand.machinery.resources import resource
from stablehand.machinery.times import format_micro_time
from stablehand.machinery.types import Obj
from stablehand.node.config import NodeConfig
from stablehand.node.cri.client import CriError, Runtime
from stablehand.node.nodeobject import Machine, node_object, node_status, same_status
from stablehand.runtime import EventRecorder

log = logging.getLogger("stablehand.node.registration")

_NODES, _LEASES = resource("nodes"), resource("leases.coordination.k8s.io")
_RENEW, _REPORT, _LEASE_SECONDS, _IMAGES = 10.0, 300.0, 40, 50


class Registration:
    """`problem()` says why the node is not ready, or "" when it is; `pressing()` of what it has too little."""

    def __init__(
        self,
        config: NodeConfig,
        client: Client,
        machine: Machine,
        runtime: Callable[[], Runtime],
        events: EventRecorder,
        problem: Callable[[], str],
        pressing: Callable[[], dict[str, bool]],
    ) -> None:
        self._config = config
        self._client = client
        self._machine = machine
        self._runtime = runtime
        self._events = events
        self._problem = problem
        self._pressing = pressing
        self._node: Obj | None = None
        self._reported = 0.0
        self._version = ""
        self._changed = asyncio.Event()

    def reference(self) -> Obj:
        name = self._config.node_name
        return {"kind": "Node", "apiVersion": "v1", "name": name, "uid": name}

    def poke(self) -> None:
        """Something about the node's readiness changed."""
        self._changed.set()

    async def run(self, registered: asyncio.Event) -> None:
        backoff = Backoff(0.05, 7.0)
        while True:
            try:
                await self._register()
                registered.set()
                await self._renew()
                backoff.reset()
            except (ApiError, Unavailable) as e:
                log.log(logging.DEBUG if isinstance(e, Unavailable) else logging.WARNING, "node: %s", e)
                await asyncio.sleep(backoff.next())
                continue
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), _RENEW)
            except TimeoutError:
                pass

    async def _status(self) -> Obj:
        images: list[Obj] = []
        problem = self._problem()
        try:
            if not problem:
                if not self._version:
                    version = await self._runtime().version()
                    self._version = f"{version.runtime_name}://{version.runtime_version}"
                found = sorted(await self._runtime().images(), key=lambda image: -image.size)
                images = [
                    {"names": [*image.repo_digests, *image.repo_tags], "sizeBytes": int(image.size)}
                    for image in found[:_IMAGES]
                    if image.repo_tags or image.repo_digests
                ]
        except CriError as e:
            problem = f"container runtime is down: {e.message}"
        return node_status(
            self._config,
            self._machine,
            old=(self._node or {}).get("status"),
            runtime_version=self._version,
            images=images,
            ready=not problem,
            problem=problem,
            pressing=self._pressing(),
            now=time.time(),
        )

    async def _register(self) -> None:
        """Creates the Node, or brings it up to date."""
        name, now = self._config.node_name, time.time()
        due = now - self._reported >= _REPORT
        if self._node is not None and not due and not self._changed.is_set():
            pressing = self._pressing()
            told = {c["type"]: c["status"] == "True" for c in (self._node.get("status") or {}).get("conditions") or ()}
            if all(told.get(kind) == value for kind, value in pressing.items()) and told.get("Ready") != bool(
                self._problem()
            ):
                return
        if self._node is None:
            try:
                wanted = node_object(self._config, self._machine)
                status = await self._status()
                self._node = await self._client.create(_NODES, {**wanted, "status": status})
                self._events.event(self.reference(), "Normal", "Starting", "Starting Stablehand's node agent.")
            except AlreadyExists:
                self._node = await self._adopt(await self._client.get(_NODES, name))
        status = await self._status()
        old = self._node.get("status") or {}
        if due or not same_status(old, status):
            before = {c["type"]: c["status"] for c in old.get("conditions") or ()}
            was = before.get("Ready")
            patch: Obj = {"status": status}
            if old.get("addresses"):
                patch["status"] = {**status, "addresses": [{"$patch": "replace"}, *status["addresses"]]}
            try:
                self._node = await self._client.patch(_NODES, name, patch, kind="strategic", subresource="status")
            except NotFound:
                self._node = None
                raise
            ready = next(c["status"] for c in status["conditions"] if c["type"] == "Ready")
            if was != ready:
                self._tell(ready == "True")
            for condition in status["conditions"]:
                told = before.get(condition["type"], "False")
                if condition["type"] != "Ready" and condition["status"] != told:
                    text = f"Node {self._config.node_name} status is now: {condition['reason']}"
                    self._events.event(self.reference(), "Normal", condition["reason"], text)
        self._reported = now

    def _tell(self, ready: bool) -> None:
        reason = "NodeReady" if ready else "NodeNotReady"
        text = f"Node {self._config.node_name} status is now: {reason}"
        self._events.event(self.reference(), "Normal", reason, text)

    async def _adopt(self, node: Obj) -> Obj:
        """Puts our labels and the pod CIDR on a Node that exists already."""
        wanted = node_object(self._config, self._machine)
        labels = node["metadata"].get("labels") or {}
        patch: Obj = {}
        if any(labels.get(k) != v for k, v in wanted["metadata"]["labels"].items()):
            patch["metadata"] = {"labels": wanted["metadata"]["labels"]}
        if not node.get("spec", {}).get("podCIDR"):
            patch["spec"] = wanted["spec"]
        if patch:
            node = await self._client.patch(_NODES, wanted["metadata"]["name"], patch)
        self._events.event(self.reference(), "Normal", "Starting", "Starting Stablehand's node agent.")
        return node

    async def _renew(self) -> None:
        name = self._config.node_name
        stamp = format_micro_time(time.time())
        try:
            await self._client.patch(_LEASES, name, {"spec": {"renewTime": stamp}}, "kube-node-lease")
        except NotFound:
            lease: Obj = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": name, "namespace": "kube-node-lease"},
                "spec": {"holderIdentity": name, "leaseDurationSeconds": _LEASE_SECONDS, "renewTime": stamp},
            }
            if self._node is not None:
                owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": self._node["metadata"]["uid"]}
                lease["metadata"]["ownerReferences"] = [owner]
            await self._client.create(_LEASES, lease)
