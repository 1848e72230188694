"""What one volume needs next: its phase, its claim's attention, or, once its claim has gone, reclaiming."""

from __future__ import annotations

from collections.abc import Callable

from stablehand.client import AlreadyExists, Client, NotFound
from stablehand.controllers.persistentvolume.binding import Binding
from stablehand.machinery import meta, volumes
from stablehand.machinery.pods import phase as pod_phase
from stablehand.machinery.types import Obj
from stablehand.runtime import EventRecorder, Informer, writes

RECYCLER_PREFIX, RECYCLER_NAMESPACE = "recycler-for-", "default"
_SCRUB = 'test -e /scrub && find /scrub -mindepth 1 -delete && test -z "$(ls -A /scrub)" || exit 1'


class VolumeSync:
    def __init__(
        self,
        client: Client,
        claims: Informer,
        pods: Informer,
        binding: Binding,
        events: EventRecorder,
        wake_claim: Callable[[tuple[str, str]], None],
    ) -> None:
        self._client = client
        self._claims = claims
        self._pods = pods
        self._binding = binding
        self._events = events
        self._wake_claim = wake_claim

    async def sync(self, volume: Obj) -> None:
        ref = volume["spec"].get("claimRef")
        if not ref or not ref.get("uid"):
            # Free, or promised by name to a claim that has not taken it yet.
            await self._binding.set_phase(volume, "Available")
            return
        claim = await self._claim(ref, (volume.get("status") or {}).get("phase") or "")
        if claim is None:
            await self._release(volume)
        elif not claim["spec"].get("volumeName"):
            if volumes.mode_of(claim) != volumes.mode_of(volume):
                self._mismatch(volume, claim)
            else:
                self._wake_claim(meta.key(claim))
        elif claim["spec"]["volumeName"] == meta.name(volume):
            await self._binding.set_phase(volume, "Bound")
        elif volumes.PROVISIONED_BY in meta.annotations(volume) and _policy(volume) == "Delete":
            await self._release(volume)  # made for a claim that is bound elsewhere
        else:
            await self._binding.unbind(volume)

    async def _claim(self, ref: Obj, phase: str) -> Obj | None:
        """The very claim (by uid) that the volume points to. A live look before a volume is released."""
        namespace, name = ref.get("namespace") or "", ref.get("name") or ""
        claim = self._claims.cached(namespace, name)
        if claim is not None and meta.uid(claim) == ref["uid"]:
            return claim
        if phase in ("Released", "Failed"):
            return None
        try:
            claim = await self._client.get(self._claims.resource, name, namespace)
        except NotFound:
            return None
        return claim if meta.uid(claim) == ref["uid"] else None

    def _mismatch(self, volume: Obj, claim: Obj) -> None:
        text = (
            f'Cannot bind PersistentVolume to requested PersistentVolumeClaim "{meta.name(claim)}" due to '
            "incompatible volumeMode."
        )
        self._events.event(volume, "Warning", "VolumeMismatch", text)
        text = (
            f'Cannot bind PersistentVolume "{meta.name(volume)}" to requested PersistentVolumeClaim due to '
            "incompatible volumeMode."
        )
        self._events.event(claim, "Warning", "VolumeMismatch", text)

    async def _release(self, volume: Obj) -> None:
        if (volume.get("status") or {}).get("phase") not in ("Released", "Failed"):
            volume = await self._binding.set_phase(volume, "Released")
        match _policy(volume):
            case "Retain":
                return
            case "Delete":
                await self._delete(volume)
            case "Recycle":
                await self._recycle(volume)
            case _:
                text = "Volume has an unrecognized reclaim policy"
                await self._binding.fail(volume, "VolumeUnknownReclaimPolicy", text)

    async def _delete(self, volume: Obj) -> None:
        """A provisioner deletes what it made; nobody here can delete what people made."""
        provisioner = meta.annotations(volume).get(volumes.PROVISIONED_BY)
        if provisioner is not None and not provisioner.startswith("kubernetes.io/"):
            return
        name = meta.name(volume)
        text = f'error getting deleter volume plugin for volume "{name}": no deletable volume plugin matched'
        await self._binding.fail(volume, "VolumeFailedDelete", text)

    # -- recycling (deprecated upstream, still there)

    async def _recycle(self, volume: Obj) -> None:
        source = next((s for s in ("nfs", "hostPath") if volume["spec"].get(s)), None)
        if source is None:
            text = "No recycler plugin found for the volume!"
            await self._binding.fail(volume, "VolumeFailedRecycle", text)
            return
        name = RECYCLER_PREFIX + meta.name(volume)
        pod = self._pods.cached(RECYCLER_NAMESPACE, name)
        if pod is None:
            if (volume.get("status") or {}).get("phase") == "Failed":
                return
            try:
                await writes.create(self._client, self._pods, _scrubber(name, volume, source))
            except AlreadyExists:
                return
            self._events.event(volume, "Normal", "RecyclerPod", f"Recycler pod: created {name}")
        elif pod_phase(pod) == "Succeeded":
            await writes.delete(self._client, self._pods, pod)
            self._events.event(volume, "Normal", "VolumeRecycled", "Volume recycled")
            await self._binding.unbind(volume)
        elif pod_phase(pod) == "Failed":
            why = (pod.get("status") or {}).get(
                "message"
            ) or "Pod was active on the node longer than specified deadline"
            await writes.delete(self._client, self._pods, pod)
            await self._binding.fail(volume, "VolumeFailedRecycle", f"Recycle failed: {why}")


def _policy(volume: Obj) -> str:
    return volume["spec"].get("persistentVolumeReclaimPolicy") or "Retain"


def _scrubber(name: str, volume: Obj, source: str) -> Obj:
    container = {
        "name": "pv-recycler",
        "image": "registry.k8s.io/build-image/debian-base:bookworm-v1.0.4",
        "command": ["/bin/sh"],
        "args": ["-c", _SCRUB],
        "volumeMounts": [{"name": "vol", "mountPath": "/scrub"}],
    }
    spec = {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": 300,
        "containers": [container],
        "volumes": [{"name": "vol", source: volume["spec"][source]}],
    }
    metadata = {"name": name, "namespace": RECYCLER_NAMESPACE}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
