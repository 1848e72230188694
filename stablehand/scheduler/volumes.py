"""A pod's claims while it is scheduled: which nodes reach its volumes, and binding what waits for a first consumer.

Choosing (`Claims`) only reads caches; `bind` writes: a volume's claimRef, or the claim's selected node, and waits
until every claim is bound.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from stablehand.client import Client
from stablehand.machinery import meta, volumes
from stablehand.machinery.nodes import selector_matches
from stablehand.machinery.resources import resource
from stablehand.machinery.types import Obj
from stablehand.runtime import Informer, Informers, writes

BIND_TIMEOUT = 600.0


class Unbindable(Exception):
    """The pod's claims cannot be bound on the chosen node; it must be scheduled again."""


class VolumeBinder:
    def __init__(self, client: Client, informers: Informers) -> None:
        self._client = client
        self.claims: Informer = informers.get(resource("persistentvolumeclaims"))
        self.volumes: Informer = informers.get(resource("persistentvolumes"))
        self.classes: Informer = informers.get(resource("storageclasses.storage.k8s.io"))
        self._waiting: dict[tuple[str, str], list[asyncio.Future[None]]] = {}
        self._promised: dict[str, str] = {}  # volume name -> uid of the claim it is about to be bound to
        self.claims.on_change(self._claim_changed)

    def _claim_changed(self, event: str, old: Obj | None, new: Obj) -> None:
        for waiter in self._waiting.pop(meta.key(new), ()):
            if not waiter.done():
                waiter.set_result(None)

    def look(self, pod: Obj) -> Claims | None:
        """The pod's claims; None when it has none."""
        names = volumes.pod_claims(pod)
        return Claims(self, pod, names) if names else None

    def promised(self, claim: Obj) -> set[str]:
        """Volumes that other claims are about to be bound to."""
        uid = meta.uid(claim)
        return {name for name, owner in self._promised.items() if owner != uid}

    def reserve(self, chosen: Choice) -> None:
        for claim, volume in chosen.static:
            self._promised[meta.name(volume)] = meta.uid(claim)

    def release(self, chosen: Choice) -> None:
        for _, volume in chosen.static:
            self._promised.pop(meta.name(volume), None)

    async def bind(self, chosen: Choice, node_name: str) -> None:
        """Writes the choice and waits for the volume binder to complete it. Raises Unbindable or ApiError."""
        for claim, volume in chosen.static:
            if not volumes.is_bound_to(volume, claim) or not (volume["spec"].get("claimRef") or {}).get("uid"):
                ref = {**meta.object_reference(claim), "apiVersion": "v1", "kind": "PersistentVolumeClaim"}
                notes = {**meta.annotations(volume)}
                if not volume["spec"].get("claimRef"):
                    notes[volumes.BOUND_BY_CONTROLLER] = "yes"
                changed = {
                    **volume,
                    "metadata": {**volume["metadata"], "annotations": notes},
                    "spec": {**volume["spec"], "claimRef": ref},
                }
                await writes.update(self._client, self.volumes, changed)
        for claim in chosen.dynamic:
            if meta.annotations(claim).get(volumes.SELECTED_NODE) != node_name:
                notes = {**meta.annotations(claim), volumes.SELECTED_NODE: node_name}
                changed = {**claim, "metadata": {**claim["metadata"], "annotations": notes}}
                await writes.update(self._client, self.claims, changed)
        pending = [claim for claim, _ in chosen.static] + chosen.dynamic
        async with asyncio.timeout(BIND_TIMEOUT):
            for claim in pending:
                await self._bound(claim, node_name, dynamic=claim in chosen.dynamic)

    async def _bound(self, claim: Obj, node_name: str, *, dynamic: bool) -> None:
        key = meta.key(claim)
        while True:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(key, []).append(waiter)
            now = self.claims.cached(*key)
            if now is None or meta.uid(now) != meta.uid(claim):
                raise Unbindable(f'persistentvolumeclaim "{key[1]}" was deleted while it was being bound')
            if volumes.is_fully_bound(now):
                return
            if dynamic and meta.annotations(now).get(volumes.SELECTED_NODE) != node_name:
                raise Unbindable(f'provisioning failed for PVC "{key[1]}"')
            await waiter


class Choice:
    """For one node: claims with the volumes they would get, and claims to be provisioned."""

    __slots__ = ("dynamic", "static")

    def __init__(self) -> None:
        self.static: list[tuple[Obj, Obj]] = []
        self.dynamic: list[Obj] = []

    def __bool__(self) -> bool:
        return bool(self.static or self.dynamic)


class Claims:
    """The claims of one pod. `problem` rules out every node; `reason(node)` one of them."""

    def __init__(self, binder: VolumeBinder, pod: Obj, names: Iterable[tuple[str, bool]]) -> None:
        self._binder = binder
        self._volumes: list[Obj] = []
        self._delayed: list[Obj] = []
        self.exclusive: set[str] = set()  # names of claims that one pod alone may use (ReadWriteOncePod)
        self.problem = self._sort(pod, names)

    def _sort(self, pod: Obj, names: Iterable[tuple[str, bool]]) -> str | None:
        immediate = False
        for name, ephemeral in names:
            claim = self._binder.claims.cached(meta.namespace(pod), name)
            if claim is None:
                what = "waiting for ephemeral volume controller to create the " if ephemeral else ""
                return f'{what}persistentvolumeclaim "{name}"' + ("" if ephemeral else " not found")
            if ephemeral and not meta.is_controlled_by(claim, pod):
                return (
                    f"PVC {meta.namespace(pod)}/{name} was not created for pod {meta.namespace(pod)}/{meta.name(pod)}"
                )
            if (claim.get("status") or {}).get("phase") == "Lost":
                volume_name = claim["spec"].get("volumeName") or ""
                return f'persistentvolumeclaim "{name}" bound to non-existent persistentvolume "{volume_name}"'
            if meta.deletion_timestamp(claim):
                return f'persistentvolumeclaim "{name}" is being deleted'
            if "ReadWriteOncePod" in (claim["spec"].get("accessModes") or ()):
                self.exclusive.add(name)
            if volumes.is_fully_bound(claim):
                volume = self._binder.volumes.cached("", claim["spec"]["volumeName"])
                if volume is None:
                    volume_name = claim["spec"]["volumeName"]
                    return f'persistentvolumeclaim "{name}" bound to non-existent persistentvolume "{volume_name}"'
                self._volumes.append(volume)
                continue
            storage_class = (
                self._binder.classes.cached("", volumes.class_of(claim)) if volumes.class_of(claim) else None
            )
            if volumes.is_delayed(claim, storage_class) and not claim["spec"].get("volumeName"):
                self._delayed.append(claim)
            else:
                immediate = True
        return "pod has unbound immediate PersistentVolumeClaims" if immediate else None

    def reason(self, node: Obj) -> str | None:
        for volume in self._volumes:
            if not selector_matches((volume["spec"].get("nodeAffinity") or {}).get("required"), node):
                return "node(s) didn't match PersistentVolume's node affinity"
        if self._delayed and self.choose(node) is None:
            return "node(s) didn't find available persistent volumes to bind"
        return None

    def choose(self, node: Obj) -> Choice | None:
        """What each waiting claim would get on this node; None where one would get nothing."""
        choice = Choice()
        taken: set[str] = set()
        for claim in sorted(self._delayed, key=volumes.request_of):
            selected = meta.annotations(claim).get(volumes.SELECTED_NODE)
            if selected and selected != meta.name(node):
                return None
            if not selected:
                excluded = taken | self._binder.promised(claim)
                found = volumes.find_match(claim, self._binder.volumes.items(), node=node, excluded=excluded)
                if found is not None:
                    choice.static.append((claim, found))
                    taken.add(meta.name(found))
                    continue
            storage_class = self._binder.classes.cached("", volumes.class_of(claim))
            if storage_class is None or (storage_class.get("provisioner") or "") in ("", volumes.NO_PROVISIONER):
                return None
            if not _topology_allows(storage_class, node):
                return None
            choice.dynamic.append(claim)
        return choice


def _topology_allows(storage_class: Obj, node: Obj) -> bool:
    terms = storage_class.get("allowedTopologies") or ()
    labels = meta.labels(node)
    return not terms or any(
        all(labels.get(e.get("key") or "") in (e.get("values") or ()) for e in t.get("matchLabelExpressions") or ())
        for t in terms
    )
