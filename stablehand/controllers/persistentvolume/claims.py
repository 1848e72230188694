"""What one claim needs next: a volume that matches, a default class, a provisioner, or the news that it is lost."""

from __future__ import annotations

from stablehand.client import Client
from stablehand.controllers.persistentvolume.binding import Binding
from stablehand.machinery import meta, volumes
from stablehand.machinery.pods import is_over
from stablehand.machinery.types import Obj
from stablehand.runtime import EventRecorder, Informer, writes

_IN_TREE = "kubernetes.io/"


class InvalidBinding(Exception):
    """A claim names, by the controller's own hand, a volume that is another's."""


class ClaimSync:
    def __init__(
        self,
        client: Client,
        claims: Informer,
        pvs: Informer,
        classes: Informer,
        pods: Informer,
        binding: Binding,
        events: EventRecorder,
    ) -> None:
        self._client = client
        self._claims = claims
        self._pvs = pvs
        self._classes = classes
        self._pods = pods
        self._binding = binding
        self._events = events

    async def sync(self, claim: Obj) -> None:
        if volumes.BIND_COMPLETED in meta.annotations(claim):
            await self._sync_bound(claim)
        elif claim["spec"].get("volumeName"):
            await self._sync_named(claim, claim["spec"]["volumeName"])
        else:
            await self._sync_unbound(claim)

    # -- bound before

    async def _sync_bound(self, claim: Obj) -> None:
        name = claim["spec"].get("volumeName")
        if not name:
            text = "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!"
            await self._binding.lose(claim, "ClaimLost", text)
            return
        volume = self._pvs.cached("", name)
        if volume is None:
            text = "Bound claim has lost its PersistentVolume. Data on the volume is lost!"
            await self._binding.lose(claim, "ClaimLost", text)
            return
        ref = volume["spec"].get("claimRef")
        if ref is None or ref.get("uid") == meta.uid(claim):
            await self._binding.bind(volume, claim)
        else:
            text = "Two claims are bound to the same volume, this one is bound incorrectly"
            await self._binding.lose(claim, "ClaimMisbound", text)

    # -- asks for one volume by name

    async def _sync_named(self, claim: Obj, name: str) -> None:
        volume = self._pvs.cached("", name)
        if volume is None:
            await self._binding.set_claim_phase(claim, "Pending")
        elif not volume["spec"].get("claimRef"):
            problem = volumes.satisfies(volume, claim)
            if problem is None:
                await self._binding.bind(volume, claim)
                return
            self._events.event(
                claim, "Warning", "VolumeMismatch", f'Cannot bind to requested volume "{name}": {problem}'
            )
            await self._binding.set_claim_phase(claim, "Pending")
        elif volumes.is_bound_to(volume, claim):
            await self._binding.bind(volume, claim)
        elif volumes.BOUND_BY_CONTROLLER not in meta.annotations(claim):
            text = f'volume "{name}" already bound to a different claim.'
            self._events.event(claim, "Warning", "FailedBinding", text)
            await self._binding.set_claim_phase(claim, "Pending")
        else:
            other = volume["spec"]["claimRef"]
            raise InvalidBinding(
                f'invalid binding of claim "{meta.namespace(claim)}/{meta.name(claim)}" to volume "{name}": '
                f'volume already claimed by "{other.get("namespace")}/{other.get("name")}"'
            )

    # -- open to any volume

    async def _sync_unbound(self, claim: Obj) -> None:
        class_name = volumes.class_of(claim)
        storage_class = self._classes.cached("", class_name) if class_name else None
        delayed = volumes.is_delayed(claim, storage_class)
        volume = volumes.find_match(claim, self._pvs.items(), delayed=delayed)
        if volume is not None:
            await self._binding.bind(volume, claim)
            return
        if await self._assign_default_class(claim):
            return
        if delayed and not meta.annotations(claim).get(volumes.SELECTED_NODE):
            self._explain_waiting(claim)
        elif class_name:
            await self._provision(claim, class_name, storage_class)
            return
        else:
            text = "no persistent volumes available for this claim and no storage class is set"
            self._events.event(claim, "Normal", "FailedBinding", text)
        await self._binding.set_claim_phase(claim, "Pending")

    async def _assign_default_class(self, claim: Obj) -> bool:
        if volumes.has_class(claim):
            return False
        default = volumes.default_class(self._classes.items())
        if default is None:
            return False
        changed = {**claim, "spec": {**claim["spec"], "storageClassName": meta.name(default)}}
        await writes.update(self._client, self._claims, changed)
        return True

    def _explain_waiting(self, claim: Obj) -> None:
        names = [
            meta.name(pod)
            for pod in self._pods.items(meta.namespace(claim))
            if not pod["spec"].get("nodeName")
            and not is_over(pod)
            and any(name == meta.name(claim) for name, _ in volumes.pod_claims(pod))
        ]
        if names:
            text = f"waiting for pod{'s' if len(names) > 1 else ''} {','.join(names)} to be scheduled"
            self._events.event(claim, "Normal", "WaitForPodScheduled", text)
        else:
            text = "waiting for first consumer to be created before binding"
            self._events.event(claim, "Normal", "WaitForFirstConsumer", text)

    async def _provision(self, claim: Obj, class_name: str, storage_class: Obj | None) -> None:
        """Calls for the class's provisioner by annotations; all provisioners are external here."""
        if storage_class is None:
            text = f'storageclass.storage.k8s.io "{class_name}" not found'
            self._events.event(claim, "Warning", "ProvisioningFailed", text)
            return
        provisioner = storage_class.get("provisioner") or ""
        if provisioner.startswith(_IN_TREE):
            text = f"no volume plugin matched name: {provisioner}"
            self._events.event(claim, "Warning", "ProvisioningFailed", text)
            return
        notes = dict(meta.annotations(claim))
        notes[volumes.PROVISIONER] = notes[volumes.BETA_PROVISIONER] = provisioner
        if notes != meta.annotations(claim):
            changed = {**claim, "metadata": {**claim["metadata"], "annotations": notes}}
            claim = await writes.update(self._client, self._claims, changed)
        text = (
            f"Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the "
            "system administrator. If volume creation is delayed, please verify that the provisioner is running and "
            "correctly registered."
        )
        self._events.event(claim, "Normal", "ExternalProvisioning", text)
