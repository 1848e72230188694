"""The provisioner's control loop: claims in, volumes out; volumes grown; released ones removed. Folders are the backend's."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from stablehand.client import AlreadyExists, ApiError, Client, NotFound, Unavailable
from stablehand.machinery import meta, quantity
from stablehand.machinery.resources import resource
from stablehand.machinery.types import Obj
from stablehand.machinery.volumes import capacity_of, class_of, request_of
from stablehand.runtime import Controller, EventRecorder, Informers, Result, Terminal
from stablehand.storage.provisioner import plan
from stablehand.storage.provisioner.classes import CLASSES
from stablehand.storage.provisioner.config import ProvisionerConfig
from stablehand.storage.provisioner.folders import Backend

log = logging.getLogger("stablehand.provisioner")

CLAIMS = resource("persistentvolumeclaims")
VOLUMES = resource("persistentvolumes")
RETRY_FIRST, RETRY_LONGEST, ATTEMPTS = 15.0, 1000.0, 15
RESYNC = 15 * 60.0

Key = tuple[str, str, str]  # ("claim" or "growth", namespace, name) or ("volume", "", name)


class Provisioner(Controller):
    def __init__(
        self, config: ProvisionerConfig, informers: Informers, backend: Backend, events: EventRecorder
    ) -> None:
        super().__init__(workers=4)
        self.name = f"provisioner {config.name}"
        self._failures: dict[Key, int] = {}
        self._client: Client = config.client
        self._provisioner = config.name
        self._backend = backend
        self._events = events
        self._claims = informers.get(CLAIMS)
        self._volumes = informers.get(VOLUMES)
        self._classes = informers.get(CLASSES)
        self.wait_for = [self._claims, self._volumes, self._classes]
        self._claims.on_change(self._on_claim)
        self._volumes.on_change(self._on_volume)
        self._classes.on_change(lambda kind, old, new: self._enqueue_all() if kind == "ADDED" else None)

    def _on_claim(self, kind: str, old: Obj | None, new: Obj) -> None:
        if kind != "DELETED" and plan.wants_volume(new, self._provisioner, None):
            self.enqueue(("claim", *meta.key(new)))
        if kind != "DELETED" and plan.wants_growth(new):
            self.enqueue(("growth", *meta.key(new)))

    def _on_volume(self, kind: str, old: Obj | None, new: Obj) -> None:
        if kind != "DELETED" and plan.must_delete(new, self._provisioner):
            self.enqueue(("volume", "", meta.name(new)))

    def _enqueue_all(self) -> None:
        for claim in self._claims.items():
            self._on_claim("MODIFIED", None, claim)
        for pv in self._volumes.items():
            self._on_volume("MODIFIED", None, pv)

    async def resync(self) -> None:
        """Looks at everything again from time to time, as what was given up on may have mended."""
        while True:
            await asyncio.sleep(RESYNC)
            self._enqueue_all()

    async def reconcile(self, key: Key) -> Result | None:
        what, namespace, name = key
        if what == "claim":
            claim = self._claims.cached(namespace, name)
            if claim is not None:
                return await self._attempt(key, claim, "ProvisioningFailed", self._provision)
        elif what == "growth":
            claim = self._claims.cached(namespace, name)
            if claim is not None and plan.wants_growth(claim):
                return await self._attempt(key, claim, "VolumeResizeFailed", self._grow)
        else:
            pv = self._volumes.cached("", name)
            if pv is not None and plan.must_delete(pv, self._provisioner):
                return await self._attempt(key, pv, "VolumeFailedDelete", self._remove)
        self._failures.pop(key, None)
        return None

    async def _attempt(
        self, key: Key, obj: Obj, reason: str, work: Callable[[Obj], Coroutine[Any, Any, None]]
    ) -> Result | None:
        """Runs `work`; a failure becomes an event and a later attempt, until there were enough of them."""
        try:
            await work(obj)
        except Terminal as e:
            self._event(obj, "Warning", reason, str(e))
            raise
        except (plan.PlanError, OSError, ApiError, Unavailable) as e:
            text = str(e)
            if key[0] == "claim":
                text = f'failed to provision volume with StorageClass "{class_of(obj)}": {text}'
            self._event(obj, "Warning", reason, text)
            failures = self._failures[key] = self._failures.get(key, 0) + 1
            if failures >= ATTEMPTS:
                del self._failures[key]
                raise Terminal(f"giving up after {ATTEMPTS} attempts: {e}") from e
            log.warning("%s %s: %s", key[0], meta.name(obj), e)
            return Result(after=min(RETRY_LONGEST, RETRY_FIRST * 2.0 ** (failures - 1)))
        self._failures.pop(key, None)
        return None

    async def _provision(self, claim: Obj) -> None:
        storage_class = await self._class(class_of(claim))
        if not plan.wants_volume(claim, self._provisioner, storage_class):
            return
        if storage_class is None:
            raise plan.PlanError(f'storageclass.storage.k8s.io "{class_of(claim)}" not found')
        if self._volumes.cached("", plan.volume_name(claim)) is not None:
            return
        refusal = plan.refusal(claim)
        if refusal is not None and not refusal[1]:
            raise Terminal(refusal[0])
        shown = f'"{meta.namespace(claim)}/{meta.name(claim)}"'
        self._event(claim, "Normal", "Provisioning", f"External provisioner is provisioning volume for claim {shown}")
        if refusal is not None:
            raise plan.PlanError(refusal[0])
        source = await asyncio.to_thread(self._backend.provision, claim, storage_class)
        pv = plan.volume(claim, storage_class, self._provisioner, source, self._backend.node_name)
        try:
            self._volumes.observe(await self._client.create(VOLUMES, pv))
        except AlreadyExists:
            log.debug("volume %s exists", meta.name(pv))
        self._event(claim, "Normal", "ProvisioningSucceeded", f"Successfully provisioned volume {meta.name(pv)}")

    async def _grow(self, claim: Obj) -> None:
        """A folder has no size of its own: only what the volume and the claim say of it changes."""
        pv = self._volumes.cached("", claim["spec"]["volumeName"])
        storage_class = await self._class(class_of(claim))
        if pv is None or not plan.may_grow(claim, pv, storage_class, self._provisioner):
            return
        size = quantity.canonical(claim["spec"]["resources"]["requests"]["storage"])
        self._event(claim, "Normal", "Resizing", f"External resizer is resizing volume {meta.name(pv)}")
        if capacity_of(pv) < request_of(claim):
            patch: Obj = {"spec": {"capacity": {"storage": size}}}
            self._volumes.observe(await self._client.patch(VOLUMES, meta.name(pv), patch))
        patch = {"status": {"capacity": {"storage": size}, "allocatedResources": {"storage": size}}}
        namespace, name = meta.key(claim)
        self._claims.observe(await self._client.patch(CLAIMS, name, patch, namespace, subresource="status"))
        self._event(claim, "Normal", "VolumeResizeSuccessful", "Resize volume succeeded")

    async def _remove(self, pv: Obj) -> None:
        storage_class = await self._class(class_of(pv), live=True)
        await asyncio.to_thread(self._backend.remove, pv, storage_class)
        try:
            await self._client.delete(VOLUMES, meta.name(pv), uid=meta.uid(pv))
        except NotFound:
            log.debug("volume %s is gone", meta.name(pv))

    async def _class(self, name: str, *, live: bool = False) -> Obj | None:
        cached = self._classes.cached("", name)
        if cached is not None and not live:
            return cached
        try:
            return await self._client.get(CLASSES, name) if name else None
        except NotFound:
            return None

    def _event(self, obj: Obj, kind: str, reason: str, message: str) -> None:
        typed = {"apiVersion": "v1", "kind": "PersistentVolume" if reason == "VolumeFailedDelete" else CLAIMS.kind}
        self._events.event({**obj, **typed}, kind, reason, message)
