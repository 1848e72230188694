"""The writes of a deployment's ReplicaSets: making the new one, scaling, annotating, forgetting old ones."""

from __future__ import annotations

import logging
from collections.abc import Callable

from stablehand.client import AlreadyExists, ApiError, Client, NotFound
from stablehand.controllers.deployment import sizes, status
from stablehand.machinery import meta
from stablehand.machinery.podtemplates import equal_templates, plain_template, template_hash
from stablehand.machinery.resources import resource
from stablehand.machinery.types import Obj, copy_object
from stablehand.runtime import EventRecorder, Informer, writes

log = logging.getLogger("stablehand.deployment")

HASH_LABEL = "pod-template-hash"
REPLICASETS = resource("replicasets.apps")
_NOT_COPIED = {
    "kubectl.kubernetes.io/last-applied-configuration",
    sizes.REVISION,
    sizes.REVISION_HISTORY,
    sizes.DESIRED,
    sizes.MAX,
    "deprecated.deployment.rollback.to",
}
_HISTORY_CHARS = 2000


class HashCollision(Exception):
    """Another object has the name that the new ReplicaSet would have: the collision count must rise."""


def find_new(deployment: Obj, owned: list[Obj]) -> Obj | None:
    """The (oldest) ReplicaSet whose template is the deployment's, the hash label aside."""
    wanted = plain_template(deployment["spec"]["template"], ignore_label=HASH_LABEL)
    for rs in sorted(owned, key=lambda r: (r["metadata"].get("creationTimestamp") or "", meta.name(r))):
        if plain_template(rs["spec"]["template"], ignore_label=HASH_LABEL) == wanted:
            return rs
    return None


def revision(obj: Obj) -> int:
    return sizes.number(obj, sizes.REVISION) or 0


def _annotate(deployment: Obj, rs: Obj, new_revision: int, *, exists: bool) -> bool:
    """Brings the annotations of the (copied) new ReplicaSet up to date; True when one changed."""
    notes: dict[str, str] = rs["metadata"].get("annotations") or {}
    before = dict(notes)
    notes.update({k: v for k, v in meta.annotations(deployment).items() if k not in _NOT_COPIED})
    old_revision = notes.get(sizes.REVISION)
    if old_revision is None or not old_revision.isdigit() or int(old_revision) < new_revision:
        notes[sizes.REVISION] = str(new_revision)
        if old_revision:
            history = [h for h in notes.get(sizes.REVISION_HISTORY, "").split(",") if h]
            while history and len(",".join([*history, old_revision])) > _HISTORY_CHARS:
                history.pop(0)
            notes[sizes.REVISION_HISTORY] = ",".join([*history, old_revision])
    if not exists:
        _note_sizes(deployment, notes)
    rs["metadata"]["annotations"] = notes
    return notes != before


def _note_sizes(deployment: Obj, notes: dict[str, str]) -> None:
    wanted = sizes.replicas(deployment)
    notes[sizes.DESIRED] = str(wanted)
    notes[sizes.MAX] = str(wanted + sizes.max_surge(deployment))


class ReplicaSetControl:
    def __init__(self, client: Client, informer: Informer, events: EventRecorder, clock: Callable[[], float]) -> None:
        self._client = client
        self._informer = informer
        self._events = events
        self._clock = clock

    async def keep_current(self, deployment: Obj, rs: Obj, old: list[Obj]) -> Obj:
        """Renumbers and annotates the new ReplicaSet where it lags behind the deployment."""
        changed = copy_object(rs)
        differs = _annotate(deployment, changed, max(map(revision, old), default=0) + 1, exists=True)
        min_ready = int(deployment["spec"].get("minReadySeconds") or 0)
        if int(rs["spec"].get("minReadySeconds") or 0) != min_ready:
            changed["spec"]["minReadySeconds"] = min_ready
            differs = True
        return await writes.update(self._client, self._informer, changed) if differs else rs

    async def create_new(self, deployment: Obj, old: list[Obj], collision_count: int | None) -> Obj:
        """Makes the ReplicaSet of the current template, as large as the strategy lets it be now."""
        template = copy_object(deployment["spec"]["template"])
        hashed = template_hash(template, collision_count)
        metadata = template.setdefault("metadata", {}) or {}
        template["metadata"] = metadata
        metadata["labels"] = {**(metadata.get("labels") or {}), HASH_LABEL: hashed}
        selector = copy_object(deployment["spec"].get("selector") or {})
        selector["matchLabels"] = {**(selector.get("matchLabels") or {}), HASH_LABEL: hashed}
        rs: Obj = {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {
                "name": f"{meta.name(deployment)}-{hashed}",
                "namespace": meta.namespace(deployment),
                "ownerReferences": [meta.owner_reference(deployment)],
                "labels": dict(metadata["labels"]),
            },
            "spec": {"replicas": sizes.new_size(deployment, old, 0), "selector": selector, "template": template},
        }
        if deployment["spec"].get("minReadySeconds"):
            rs["spec"]["minReadySeconds"] = deployment["spec"]["minReadySeconds"]
        _annotate(deployment, rs, max(map(revision, old), default=0) + 1, exists=False)
        try:
            created = await writes.create(self._client, self._informer, rs)
        except AlreadyExists:
            existing = await self._client.get(REPLICASETS, meta.name(rs), meta.namespace(rs))
            if meta.is_controlled_by(existing, deployment) and equal_templates(
                existing["spec"]["template"], template, ignore_label=HASH_LABEL
            ):
                self._informer.observe(existing)
                return existing
            raise HashCollision(meta.name(rs)) from None
        if sizes.replicas(created) > 0:
            self._scaled(deployment, created, "up", 0)
        return created

    async def scale(self, deployment: Obj, rs: Obj, size: int) -> bool:
        """Sets the ReplicaSet's size and its notes about the deployment's; True when the size changed."""
        had = sizes.replicas(rs)
        notes = dict(meta.annotations(rs))
        _note_sizes(deployment, notes)
        if had == size and notes == meta.annotations(rs):
            return False
        changed = {
            **rs,
            "metadata": {**rs["metadata"], "annotations": notes},
            "spec": {**rs["spec"], "replicas": size},
        }
        written = await writes.update(self._client, self._informer, changed)
        if had != size:
            self._scaled(deployment, written, "up" if size > had else "down", had)
        return had != size

    def _scaled(self, deployment: Obj, rs: Obj, direction: str, had: int) -> None:
        text = f"Scaled {direction} replica set {meta.name(rs)} from {had} to {sizes.replicas(rs)}"
        self._events.event(deployment, "Normal", "ScalingReplicaSet", text)

    async def forget_old(self, deployment: Obj, old: list[Obj]) -> None:
        """Deletes the oldest empty ReplicaSets beyond revisionHistoryLimit."""
        limit = deployment["spec"].get("revisionHistoryLimit")
        if limit is None or int(limit) >= 2**31 - 1:
            return
        alive = sorted((rs for rs in old if not meta.deletion_timestamp(rs)), key=revision)
        for rs in alive[: max(0, len(alive) - int(limit))]:
            counted = rs.get("status") or {}
            if counted.get("replicas") or sizes.replicas(rs):
                continue
            if (rs["metadata"].get("generation") or 0) > (counted.get("observedGeneration") or 0):
                continue
            try:
                await writes.delete(self._client, self._informer, rs)
            except NotFound:
                pass

    def failed_to_create(self, deployment: Obj, error: ApiError) -> Obj:
        """The condition that says why there is no new ReplicaSet."""
        hashed = template_hash(deployment["spec"]["template"], None)
        text = f'Failed to create new replica set "{meta.name(deployment)}-{hashed}": {error}'
        return status.condition(status.PROGRESSING, "False", "ReplicaSetCreateError", text, self._clock())
