"""The writes of a binding, in upstream's order: volume's claimRef, volume Bound, claim's volumeName, claim Bound.

Each is skipped where it is done already, so that a binding cut short anywhere is completed by doing it again.
"""

from __future__ import annotations

from stablehand.client import Client
from stablehand.machinery import meta, volumes
from stablehand.machinery.types import Obj
from stablehand.runtime import EventRecorder, Informer, writes


class Binding:
    def __init__(self, client: Client, claims: Informer, pvs: Informer, events: EventRecorder) -> None:
        self._client = client
        self._claims = claims
        self._pvs = pvs
        self._events = events

    async def bind(self, volume: Obj, claim: Obj) -> None:
        volume = await self._point_volume(volume, claim)
        volume = await self.set_phase(volume, "Bound")
        claim = await self._point_claim(claim, volume)
        await self.set_claim_phase(claim, "Bound", volume)

    async def _point_volume(self, volume: Obj, claim: Obj) -> Obj:
        ref = volume["spec"].get("claimRef") or {}
        named = volumes.is_bound_to(volume, claim)
        notes = dict(meta.annotations(volume))
        if not named:
            notes[volumes.BOUND_BY_CONTROLLER] = "yes"
        if named and ref.get("uid") == meta.uid(claim) and notes == meta.annotations(volume):
            return volume
        if ref.get("uid") != meta.uid(claim) or not named:
            ref = meta.object_reference({**claim, "apiVersion": "v1", "kind": "PersistentVolumeClaim"})
        changed = {**volume, "spec": {**volume["spec"], "claimRef": ref}, "metadata": {**volume["metadata"]}}
        if notes:
            changed["metadata"]["annotations"] = notes
        return await writes.update(self._client, self._pvs, changed)

    async def _point_claim(self, claim: Obj, volume: Obj) -> Obj:
        notes, spec = dict(meta.annotations(claim)), claim["spec"]
        if spec.get("volumeName") != meta.name(volume):
            spec = {**spec, "volumeName": meta.name(volume)}
            notes[volumes.BOUND_BY_CONTROLLER] = "yes"
        notes[volumes.BIND_COMPLETED] = "yes"
        if spec is claim["spec"] and notes == meta.annotations(claim):
            return claim
        changed = {**claim, "spec": spec, "metadata": {**claim["metadata"], "annotations": notes}}
        return await writes.update(self._client, self._claims, changed)

    async def set_phase(self, volume: Obj, phase: str, message: str = "") -> Obj:
        """Sets a volume's phase (and why), where it differs."""
        old = volume.get("status") or {}
        if old.get("phase") == phase and (not message or old.get("message") == message):
            return volume
        status = {k: v for k, v in old.items() if k not in ("message", "reason")}
        status["phase"] = phase
        if message:
            status["message"] = message
        return await writes.update(self._client, self._pvs, {**volume, "status": status}, subresource="status")

    async def fail(self, volume: Obj, reason: str, message: str) -> Obj:
        """Failed, with a Warning where that is news."""
        was = (volume.get("status") or {}).get("phase")
        changed = await self.set_phase(volume, "Failed", message)
        if was != "Failed":
            self._events.event(changed, "Warning", reason, message)
        return changed

    async def set_claim_phase(self, claim: Obj, phase: str, volume: Obj | None = None) -> Obj:
        """Sets a claim's phase, and what it got from its volume, where they differ."""
        old = claim.get("status") or {}
        status = {**old, "phase": phase}
        if volume is None:
            for field in ("accessModes", "capacity", "currentVolumeAttributesClassName"):
                status.pop(field, None)
        else:
            status["accessModes"] = volume["spec"].get("accessModes") or []
            size = (volume["spec"].get("capacity") or {}).get("storage")
            if size is not None and (old.get("phase") != "Bound" or not (old.get("capacity") or {}).get("storage")):
                status["capacity"] = {**(old.get("capacity") or {}), "storage": size}
            attributes = volumes.attributes_class(volume)
            if attributes and old.get("phase") != "Bound":
                status["currentVolumeAttributesClassName"] = attributes
        if status == old:
            return claim
        return await writes.update(self._client, self._claims, {**claim, "status": status}, subresource="status")

    async def lose(self, claim: Obj, reason: str, message: str) -> None:
        """Lost, with a Warning where that is news."""
        was = (claim.get("status") or {}).get("phase")
        changed = await self.set_claim_phase(claim, "Lost")
        if was != "Lost":
            self._events.event(changed, "Warning", reason, message)

    async def unbind(self, volume: Obj) -> Obj:
        """Takes a binding back: all of it where the controller made it, else only the claim's uid."""
        ref = volume["spec"].get("claimRef")
        spec, metadata = dict(volume["spec"]), dict(volume["metadata"])
        if volumes.BOUND_BY_CONTROLLER in meta.annotations(volume):
            spec.pop("claimRef", None)
            rest = {k: v for k, v in meta.annotations(volume).items() if k != volumes.BOUND_BY_CONTROLLER}
            metadata["annotations"] = rest
            if not rest:
                del metadata["annotations"]
        elif ref is not None:
            spec["claimRef"] = {k: v for k, v in ref.items() if k not in ("uid", "resourceVersion")}
        changed = await writes.update(self._client, self._pvs, {**volume, "spec": spec, "metadata": metadata})
        return await self.set_phase(changed, "Available")
