"""The writes of a set's pods and claims, each with its event. When to write what is set_control's."""

from __future__ import annotations

from stablehand.client import AlreadyExists, ApiError, Client, Conflict, NotFound
from stablehand.controllers.statefulset import identity
from stablehand.machinery import meta
from stablehand.machinery.types import Obj, copy_object
from stablehand.runtime import EventRecorder, Informer, writes

_ATTEMPTS = 4


class ClaimTerminating(Exception):
    """A claim that the pod needs is being deleted."""


class StatefulPodControl:
    """Creates, repairs and deletes the pods of sets, and creates and owns their claims."""

    def __init__(self, client: Client, pods: Informer, claims: Informer, events: EventRecorder) -> None:
        self._client = client
        self._pods = pods
        self._claims = claims
        self._events = events

    # -- pods

    async def create(self, set_: Obj, pod: Obj, *, condemned: bool = False) -> Obj:
        """Creates the pod's claims, then the pod, then sets who owns the claims."""
        try:
            await self._create_claims(set_, pod)
        except Exception as error:
            self._record("create", set_, pod, error)
            raise
        try:
            created = await writes.create(self._client, self._pods, pod)
        except AlreadyExists:
            raise
        except Exception as error:
            self._record("create", set_, pod, error)
            raise
        try:
            await self.fix_claims(set_, created, condemned=condemned)
        except Exception as error:
            self._record("update", set_, pod, error)
            raise
        self._record("create", set_, pod, None)
        return created

    async def delete(self, set_: Obj, pod: Obj) -> None:
        try:
            await writes.delete(self._client, self._pods, pod)
        except Exception as error:
            self._record("delete", set_, pod, error)
            raise
        self._record("delete", set_, pod, None)

    async def repair(self, set_: Obj, pod: Obj) -> Obj:
        """Puts identity, volumes and claim owners right; does nothing when they are."""
        attempted, error = False, None
        for _ in range(_ATTEMPTS):
            changed = copy_object(pod)
            consistent = True
            ordinal = identity.parent_and_ordinal(meta.name(pod))[1]
            if not identity.identity_matches(set_, changed):
                identity.set_identity(set_, changed, ordinal)
                consistent = False
            if not identity.storage_matches(set_, changed):
                identity.set_storage(set_, changed, ordinal)
                consistent = False
                try:
                    await self._create_claims(set_, changed)
                except Exception as e:
                    self._record("update", set_, pod, e)
                    raise
            if not self.claims_match(set_, changed, condemned=False):
                try:
                    await self.fix_claims(set_, changed, condemned=False)
                except Exception as e:
                    self._record("update", set_, pod, e)
                    raise
                consistent = False
            if consistent:
                return pod
            attempted = True
            try:
                pod = await writes.update(self._client, self._pods, changed)
                error = None
                break
            except Conflict as e:
                error = e
                pod = await self._client.get(self._pods.resource, meta.name(pod), meta.namespace(pod))
            except ApiError as e:
                self._record("update", set_, pod, e)
                raise
        if attempted:
            self._record("update", set_, pod, error)
        if error is not None:
            raise error
        return pod

    # -- claims

    async def create_missing_claims(self, set_: Obj, pod: Obj) -> None:
        """For a pod that is Pending: makes the claims it waits for, and sets who owns them."""
        await self._create_claims(set_, pod)
        await self.fix_claims(set_, pod, condemned=False)

    def claims_match(self, set_: Obj, pod: Obj, *, condemned: bool) -> bool:
        """Do the claims have the owners that the retention policy asks for? Absent claims count as right."""
        for claim in self._existing(set_, pod):
            wanted, _ = identity.wanted_owners(set_, pod, claim, condemned=condemned)
            if wanted is not meta.owner_references(claim) and wanted != meta.owner_references(claim):
                return False
        return True

    async def fix_claims(self, set_: Obj, pod: Obj, *, condemned: bool) -> None:
        """Writes the owners that the retention policy asks for where they differ."""
        for claim in self._existing(set_, pod):
            wanted, foreign = identity.wanted_owners(set_, pod, claim, condemned=condemned)
            if foreign:
                self._events.event(
                    set_,
                    "Warning",
                    "ConflictingController",
                    f"Set {meta.name(set_)} has a retention policy of {'/'.join(identity.retention(set_))} but PVC "
                    f"{meta.name(claim)} has another controller manging it; its ownership is left alone",
                )
            if wanted == meta.owner_references(claim):
                continue
            changed = copy_object(claim)
            if wanted:
                changed["metadata"]["ownerReferences"] = copy_object({"refs": wanted})["refs"]
            else:
                changed["metadata"].pop("ownerReferences", None)
            await writes.update(self._client, self._claims, changed)

    def is_stale(self, set_: Obj, pod: Obj) -> bool:
        """Does a claim still belong to an earlier pod of this name? It will be collected: wait for that."""
        if identity.retention(set_)[1] == "Retain":
            return False
        uid = meta.uid(pod)
        return any(identity.has_stale_owner(c, "Pod", meta.name(pod), uid) for c in self._existing(set_, pod))

    def _existing(self, set_: Obj, pod: Obj) -> list[Obj]:
        templates = identity.claim_templates(set_)
        if not templates:
            return []
        ordinal = identity.parent_and_ordinal(meta.name(pod))[1]
        namespace = meta.namespace(set_)
        found = (self._claims.cached(namespace, identity.claim_name(set_, t, ordinal)) for t in templates)
        return [claim for claim in found if claim is not None]

    async def _create_claims(self, set_: Obj, pod: Obj) -> None:
        if not identity.claim_templates(set_):
            return
        errors: list[Exception] = []
        namespace = meta.namespace(set_)
        for claim in identity.claims(set_, identity.parent_and_ordinal(meta.name(pod))[1]).values():
            existing = self._claims.cached(namespace, meta.name(claim))
            if existing is None:
                existing = await self._create_claim(set_, pod, claim, errors)
            if existing is not None and meta.deletion_timestamp(existing):
                errors.append(ClaimTerminating(f"pvc {meta.name(claim)} is being deleted"))
        if errors:
            raise errors[0]

    async def _create_claim(self, set_: Obj, pod: Obj, claim: Obj, errors: list[Exception]) -> Obj | None:
        try:
            created = await writes.create(self._client, self._claims, claim)
        except AlreadyExists:
            try:
                existing = await self._client.get(self._claims.resource, meta.name(claim), meta.namespace(claim))
            except NotFound as e:
                errors.append(e)
                return None
            self._claims.observe(existing)
            return existing
        except Exception as e:
            self._record_claim(set_, pod, claim, e)
            errors.append(e)
            return None
        self._record_claim(set_, pod, claim, None)
        return created

    # -- events

    def _record(self, verb: str, set_: Obj, pod: Obj, error: Exception | None) -> None:
        title = verb.capitalize()
        subject = f"{title} Pod {meta.name(pod)} in StatefulSet {meta.name(set_)}"
        if error is None:
            self._events.event(set_, "Normal", f"Successful{title}", f"{subject} successful")
        else:
            self._events.event(set_, "Warning", f"Failed{title}", f"{subject} failed error: {error}")

    def _record_claim(self, set_: Obj, pod: Obj, claim: Obj, error: Exception | None) -> None:
        claim_name, pod_name, name = meta.name(claim), meta.name(pod), meta.name(set_)
        if error is None:
            message = f"Create Claim {claim_name} Pod {pod_name} in StatefulSet {name} success"
            self._events.event(set_, "Normal", "SuccessfulCreate", message)
        else:
            message = f"Create Claim {claim_name} for Pod {pod_name} in StatefulSet {name} failed error: {error}"
            self._events.event(set_, "Warning", "FailedCreate", message)
