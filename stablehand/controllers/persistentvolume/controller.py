"""Watches claims, volumes and classes; takes one claim or volume at a time from the queue."""

from __future__ import annotations

import logging

from stablehand.client import Client
from stablehand.controllers.persistentvolume.binding import Binding
from stablehand.controllers.persistentvolume.claims import ClaimSync, InvalidBinding
from stablehand.controllers.persistentvolume.reclaim import RECYCLER_NAMESPACE, RECYCLER_PREFIX, VolumeSync
from stablehand.machinery import meta, volumes
from stablehand.machinery.resources import resource
from stablehand.machinery.types import Obj
from stablehand.runtime import Controller, EventRecorder, Informers, Result, Terminal

log = logging.getLogger("stablehand.persistentvolume")

Key = tuple[str, str, str]  # ("claim" | "volume", namespace, name)


def _by_volume(claim: Obj) -> list[str]:
    name = claim["spec"].get("volumeName")
    return [name] if name else []


def _by_claim(volume: Obj) -> list[str]:
    ref = volume["spec"].get("claimRef")
    return [f"{ref.get('namespace')}/{ref.get('name')}"] if ref else []


def _unbound(claim: Obj) -> list[str]:
    return [] if volumes.BIND_COMPLETED in meta.annotations(claim) else ["unbound"]


class PersistentVolumeController(Controller):
    name = "persistentvolume-binder"

    def __init__(self, client: Client, informers: Informers) -> None:
        super().__init__(workers=4)
        client = client.with_manager("persistent-volume-binder")
        self._claims = informers.get(resource("persistentvolumeclaims"))
        self._pvs = informers.get(resource("persistentvolumes"))
        self._classes = informers.get(resource("storageclasses.storage.k8s.io"))
        self._pods = informers.get(resource("pods"))
        self._claims.add_index("volume", _by_volume)
        self._claims.add_index("unbound", _unbound)
        self._pvs.add_index("claim", _by_claim)
        self.wait_for = [self._claims, self._pvs, self._classes, self._pods]
        self.events = EventRecorder(client, "persistentvolume-controller")
        binding = Binding(client, self._claims, self._pvs, self.events)
        self._claim_sync = ClaimSync(client, self._claims, self._pvs, self._classes, self._pods, binding, self.events)
        self._volume_sync = VolumeSync(client, self._claims, self._pods, binding, self.events, self._wake_claim)
        self._claims.on_change(self._claim_changed)
        self._pvs.on_change(self._volume_changed)
        self._classes.on_change(self._class_changed)
        self._pods.on_change(self._pod_changed)

    # -- what wakes a claim or a volume

    def _wake_claim(self, key: tuple[str, str]) -> None:
        self.enqueue(("claim", *key))

    def _wake_volume(self, name: str) -> None:
        self.enqueue(("volume", "", name))

    def _claim_changed(self, event: str, old: Obj | None, new: Obj) -> None:
        if event != "DELETED":
            self._wake_claim(meta.key(new))
        if event != "MODIFIED" or (old or new)["spec"].get("volumeName") != new["spec"].get("volumeName"):
            if new["spec"].get("volumeName"):
                self._wake_volume(new["spec"]["volumeName"])
            for volume in self._pvs.by_index("claim", f"{meta.namespace(new)}/{meta.name(new)}"):
                self._wake_volume(meta.name(volume))

    def _volume_changed(self, event: str, old: Obj | None, new: Obj) -> None:
        name = meta.name(new)
        if event != "DELETED":
            self._wake_volume(name)
        for claim in self._claims.by_index("volume", name):
            self._wake_claim(meta.key(claim))
        ref = new["spec"].get("claimRef")
        if event == "DELETED":
            return
        if ref:
            self._wake_claim((ref.get("namespace") or "", ref.get("name") or ""))
        elif (new.get("status") or {}).get("phase") == "Available":
            self._wake_unbound(volumes.class_of(new))

    def _wake_unbound(self, class_name: str | None) -> None:
        for claim in self._claims.by_index("unbound", "unbound"):
            if class_name is None or volumes.class_of(claim) == class_name:
                self._wake_claim(meta.key(claim))

    def _class_changed(self, event: str, old: Obj | None, new: Obj) -> None:
        if event != "DELETED":
            self._wake_unbound(None)

    def _pod_changed(self, event: str, old: Obj | None, new: Obj) -> None:
        name = meta.name(new)
        if name.startswith(RECYCLER_PREFIX) and meta.namespace(new) == RECYCLER_NAMESPACE:
            self._wake_volume(name.removeprefix(RECYCLER_PREFIX))

    # -- one claim or volume

    async def reconcile(self, key: Key) -> Result | None:
        what, namespace, name = key
        if what == "volume":
            volume = self._pvs.cached("", name)
            if volume is not None:
                await self._volume_sync.sync(volume)
            return None
        claim = self._claims.cached(namespace, name)
        if claim is None:
            return None
        try:
            await self._claim_sync.sync(claim)
        except InvalidBinding as e:
            raise Terminal(str(e)) from e
        return None
