"""Claims outlive the pods that use them, volumes their binding, and attributes classes those that have them: the
protection finalizers, and their end.

Also creates the claims of generic ephemeral volumes, and says of claims that should grow who is to do it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from stablehand.client import AlreadyExists, Client, Conflict, NotFound
from stablehand.machinery import meta, quantity, volumes
from stablehand.machinery.resources import resource
from stablehand.machinery.types import Obj, copy_object
from stablehand.runtime import Controller, EventRecorder, Informer, Informers, Result, Terminal, writes

log = logging.getLogger("stablehand.volumeprotection")

CLAIM_FINALIZER = "kubernetes.io/pvc-protection"
VOLUME_FINALIZER = "kubernetes.io/pv-protection"
ATTRIBUTES_FINALIZER = "kubernetes.io/vac-protection"


def _pods_index(pod: Obj) -> list[str]:
    return [f"{meta.namespace(pod)}/{name}" for name, _ in volumes.pod_claims(pod)]


def _with_finalizers(obj: Obj, finalizers: list[str]) -> Obj:
    metadata = {**obj["metadata"], "finalizers": finalizers}
    if not finalizers:
        del metadata["finalizers"]
    return {**obj, "metadata": metadata}


async def _settle(client: Client, informer: Informer, obj: Obj, finalizer: str, *, needed: bool) -> None:
    """Adds the finalizer to a living object that lacks it; takes it off a dying one that no longer needs it."""
    have: list[str] = list(obj["metadata"].get("finalizers") or ())
    dying = bool(meta.deletion_timestamp(obj))
    if dying and finalizer in have and not needed:
        have.remove(finalizer)
    elif not dying and finalizer not in have:
        have.append(finalizer)
    else:
        return
    try:
        changed = await client.update(informer.resource, _with_finalizers(obj, have))
    except NotFound:
        return
    if changed.get("metadata") and not (dying and not have):
        informer.observe(changed)


class ClaimProtectionController(Controller):
    name = "persistentvolumeclaim-protection"

    def __init__(self, client: Client, informers: Informers) -> None:
        super().__init__(workers=2)
        self._client = client = client.with_manager("pvc-protection-controller")
        self._claims = informers.get(resource("persistentvolumeclaims"))
        self._pods = informers.get(resource("pods"))
        self._pods.add_index("claims", _pods_index)
        self.wait_for = [self._claims, self._pods]
        self._claims.on_change(lambda event, old, new: None if event == "DELETED" else self.enqueue(meta.key(new)))
        self._pods.on_change(self._pod_changed)

    def _pod_changed(self, event: str, old: Obj | None, new: Obj) -> None:
        if event != "DELETED" and (new["spec"].get("nodeName") or not meta.deletion_timestamp(new)):
            return
        for name, _ in volumes.pod_claims(new):
            self.enqueue((meta.namespace(new), name))

    async def reconcile(self, key: tuple[str, str]) -> Result | None:
        claim = self._claims.cached(*key)
        if claim is None:
            return None
        needed = bool(meta.deletion_timestamp(claim)) and await self._is_used(key)
        await _settle(self._client, self._claims, claim, CLAIM_FINALIZER, needed=needed)
        return None

    async def _is_used(self, key: tuple[str, str]) -> bool:
        """By a pod that has a node, were it completed. Where the cache knows of none, the server is asked."""
        if any(pod["spec"].get("nodeName") for pod in self._pods.by_index("claims", f"{key[0]}/{key[1]}")):
            return True
        live = (await self._client.list(self._pods.resource, key[0])).get("items") or ()
        return any(
            pod["spec"].get("nodeName") and any(name == key[1] for name, _ in volumes.pod_claims(pod)) for pod in live
        )


class VolumeProtectionController(Controller):
    name = "persistentvolume-protection"

    def __init__(self, client: Client, informers: Informers) -> None:
        super().__init__(workers=1)
        self._client = client.with_manager("pv-protection-controller")
        self._pvs = informers.get(resource("persistentvolumes"))
        self.wait_for = [self._pvs]
        self._pvs.on_change(lambda event, old, new: None if event == "DELETED" else self.enqueue(meta.name(new)))

    async def reconcile(self, key: str) -> Result | None:
        volume = self._pvs.cached("", key)
        if volume is not None:
            bound = (volume.get("status") or {}).get("phase") == "Bound"
            await _settle(self._client, self._pvs, volume, VOLUME_FINALIZER, needed=bound)
        return None


def _attributes_of_claim(claim: Obj) -> list[str]:
    """The attributes classes that a claim has, wants, and is on its way to."""
    spec, status = claim.get("spec") or {}, claim.get("status") or {}
    target = (status.get("modifyVolumeStatus") or {}).get("targetVolumeAttributesClassName")
    found = (spec.get("volumeAttributesClassName"), status.get("currentVolumeAttributesClassName"), target)
    return [name for name in dict.fromkeys(found) if name]


def _attributes_of_volume(volume: Obj) -> list[str]:
    name = (volume.get("spec") or {}).get("volumeAttributesClassName")
    return [name] if name else []


class AttributesClassProtectionController(Controller):
    """Of VolumeAttributesClasses, which claims and volumes name (KEP-3751)."""

    name = "volumeattributesclass-protection"

    def __init__(self, client: Client, informers: Informers) -> None:
        super().__init__(workers=1)
        self._client = client.with_manager("volumeattributesclass-protection-controller")
        self._classes = informers.get(resource("volumeattributesclasses.storage.k8s.io"))
        self._claims = informers.get(resource("persistentvolumeclaims"))
        self._pvs = informers.get(resource("persistentvolumes"))
        self._claims.add_index("attributes", _attributes_of_claim)
        self._pvs.add_index("attributes", _attributes_of_volume)
        self.wait_for = [self._classes, self._claims, self._pvs]
        self._classes.on_change(lambda event, old, new: None if event == "DELETED" else self.enqueue(meta.name(new)))
        for informer, names in ((self._claims, _attributes_of_claim), (self._pvs, _attributes_of_volume)):
            informer.on_change(partial(self._user_changed, names))

    def _user_changed(self, names: Callable[[Obj], list[str]], event: str, old: Obj | None, new: Obj) -> None:
        """What is not named any more may go."""
        kept = [] if event == "DELETED" else names(new)
        for name in (*names(old or {}), *names(new)):
            if name not in kept:
                self.enqueue(name)

    async def reconcile(self, key: str) -> Result | None:
        found = self._classes.cached("", key)
        if found is not None:
            used = any(True for i in (self._claims, self._pvs) for _ in i.by_index("attributes", key))
            await _settle(self._client, self._classes, found, ATTRIBUTES_FINALIZER, needed=used)
        return None


class EphemeralVolumeController(Controller):
    """A pod's generic ephemeral volumes are claims that live and die with it."""

    name = "ephemeral-volume"

    def __init__(self, client: Client, informers: Informers) -> None:
        super().__init__(workers=2)
        self._client = client = client.with_manager("ephemeral-volume-controller")
        self._pods = informers.get(resource("pods"))
        self._claims = informers.get(resource("persistentvolumeclaims"))
        self.wait_for = [self._pods, self._claims]
        self.events = EventRecorder(client, "ephemeral_volume")
        self._pods.on_change(self._pod_changed)

    def _pod_changed(self, event: str, old: Obj | None, new: Obj) -> None:
        if event == "ADDED" and any(ephemeral for _, ephemeral in volumes.pod_claims(new)):
            self.enqueue(meta.key(new))

    async def reconcile(self, key: tuple[str, str]) -> Result | None:
        pod = self._pods.cached(*key)
        if pod is None or meta.deletion_timestamp(pod):
            return None
        for volume in pod["spec"].get("volumes") or ():
            template = (volume.get("ephemeral") or {}).get("volumeClaimTemplate")
            if template is None:
                continue
            name = f"{meta.name(pod)}-{volume['name']}"
            existing = self._claims.cached(key[0], name)
            if existing is not None:
                if not meta.is_controlled_by(existing, pod):
                    raise Terminal(f"PVC {key[0]}/{name} was not created for pod {key[0]}/{key[1]}")
                continue
            metadata = {**copy_object(template.get("metadata") or {}), "name": name, "namespace": key[0]}
            metadata["ownerReferences"] = [meta.owner_reference({**pod, "apiVersion": "v1", "kind": "Pod"})]
            claim: Obj = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata}
            claim["spec"] = copy_object(template.get("spec") or {})
            try:
                await writes.create(self._client, self._claims, claim)
            except AlreadyExists as e:
                raise Conflict(e.status) from e
            except Exception as e:
                text = f"ephemeral volume controller failed to create PVC {name}: {e}"
                self.events.event(pod, "Warning", "FailedBinding", text)
                raise
        return None


class ExpandController(Controller):
    """Volumes grow by the hand of their provisioner; this says that it is waited for."""

    name = "persistentvolume-expander"

    def __init__(self, client: Client, informers: Informers) -> None:
        super().__init__(workers=1)
        self._claims = informers.get(resource("persistentvolumeclaims"))
        self.wait_for = [self._claims]
        self.events = EventRecorder(client.with_manager("volume-expand"), "volume_expand")
        self._claims.on_change(self._claim_changed)

    def _claim_changed(self, event: str, old: Obj | None, new: Obj) -> None:
        if event != "MODIFIED" or old is None or _request(old) == _request(new):
            return
        size = ((new.get("status") or {}).get("capacity") or {}).get("storage")
        if (new.get("status") or {}).get("phase") == "Bound" and size and _request(new) > quantity.whole(size):
            self.enqueue(meta.key(new))

    async def reconcile(self, key: tuple[str, str]) -> Result | None:
        claim = self._claims.cached(*key)
        if claim is not None:
            text = "waiting for an external controller to expand this PVC"
            self.events.event(claim, "Normal", "ExternalExpanding", text)
        return None


def _request(claim: Obj) -> int:
    return volumes.request_of(claim)
