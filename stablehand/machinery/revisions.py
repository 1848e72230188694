"""ControllerRevisions as data: the patch they hold, their hash and name, order, and what history may forget.

Pure; reading and writing them is runtime.revisions'.
"""

from __future__ import annotations

from collections.abc import Iterable

from stablehand.machinery import meta
from stablehand.machinery.hashing import fnv1_32, safe_encode
from stablehand.machinery.podtemplates import equal_templates, go_json, go_template
from stablehand.machinery.types import Obj, copy_object

HASH_LABEL = "controller.kubernetes.io/hash"
REVISION_LABEL = "controller-revision-hash"
_PREFIX_LIMIT = 223


def template_patch(template: Obj) -> Obj:
    """The strategic merge patch that puts a workload's template back: what a revision stores."""
    return {"spec": {"template": {**go_template(template), "$patch": "replace"}}}


def revision_hash(data: bytes, collision_count: int) -> str:
    """FNV-1 of the patch's bytes and the decimal collision count, safely encoded."""
    return safe_encode(str(fnv1_32(data + str(collision_count).encode())))


def revision_name(prefix: str, hashed: str) -> str:
    return f"{prefix[:_PREFIX_LIMIT]}-{hashed}"


def new_revision(owner: Obj, template: Obj, revision: int, collision_count: int) -> Obj:
    """A ControllerRevision of the owner's template (StatefulSet's recipe)."""
    data = template_patch(template)
    hashed = revision_hash(go_json(data), collision_count)
    labels = dict((template.get("metadata") or {}).get("labels") or {})
    labels[HASH_LABEL] = hashed
    metadata: Obj = {
        "name": revision_name(meta.name(owner), hashed),
        "namespace": meta.namespace(owner),
        "labels": labels,
        "ownerReferences": [meta.owner_reference(owner)],
    }
    if meta.annotations(owner):
        metadata["annotations"] = dict(meta.annotations(owner))
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": metadata,
        "data": data,
        "revision": revision,
    }


def data_bytes(revision: Obj) -> bytes:
    """The revision's data in canonical form, for comparing."""
    return go_json(revision.get("data"))


def template_of(revision: Obj) -> Obj:
    """The pod template that a revision stores."""
    template = copy_object((revision.get("data") or {}).get("spec", {}).get("template") or {})
    template.pop("$patch", None)
    return template


def same_meaning(revision: Obj, template: Obj) -> bool:
    """Would applying the revision give this template, defaulting aside?"""
    return equal_templates(template_of(revision), template)


def ordered(revisions: Iterable[Obj]) -> list[Obj]:
    """Oldest first: by revision number, creation time, name."""
    return sorted(
        revisions,
        key=lambda r: (r.get("revision") or 0, r["metadata"].get("creationTimestamp") or "", meta.name(r)),
    )


def expired(revisions: list[Obj], live: set[str], limit: int | None) -> list[Obj]:
    """The revisions that history may forget, oldest first: those not live beyond the limit. Negative keeps all."""
    keep = 10 if limit is None else limit
    if keep < 0:
        return []
    dead = [r for r in ordered(revisions) if meta.name(r) not in live]
    return dead[: max(0, len(dead) - keep)]
