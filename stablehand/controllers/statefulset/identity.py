"""Who a pod of a set is: its name and ordinal, labels, volumes, and who owns its claims. Pure functions."""

from __future__ import annotations

import re

from stablehand.machinery import meta
from stablehand.machinery.podtemplates import pod_from_template
from stablehand.machinery.revisions import REVISION_LABEL
from stablehand.machinery.types import Obj, copy_object

POD_NAME_LABEL = "statefulset.kubernetes.io/pod-name"
POD_INDEX_LABEL = "apps.kubernetes.io/pod-index"
_NAME = re.compile(r"(.*)-([0-9]+)$", re.DOTALL)
_LARGEST_ORDINAL = 2**31 - 1


def parent_and_ordinal(pod_name: str) -> tuple[str, int]:
    """("web", 0) of "web-0"; ("", -1) where the name ends in no ordinal."""
    found = _NAME.match(pod_name)
    if found is None:
        return "", -1
    ordinal = int(found.group(2))
    return found.group(1), ordinal if ordinal <= _LARGEST_ORDINAL else -1


def desired(set_: Obj) -> int:
    replicas = set_["spec"].get("replicas")
    return 1 if replicas is None else int(replicas)


def start_ordinal(set_: Obj) -> int:
    return int((set_["spec"].get("ordinals") or {}).get("start") or 0)


def partition(set_: Obj) -> int | None:
    """The rolling update's partition; None when `rollingUpdate` is not given at all."""
    rolling = (set_["spec"].get("updateStrategy") or {}).get("rollingUpdate")
    return None if rolling is None else int(rolling.get("partition") or 0)


def update_type(set_: Obj) -> str:
    return (set_["spec"].get("updateStrategy") or {}).get("type") or "RollingUpdate"


def min_ready_seconds(set_: Obj) -> int:
    return int(set_["spec"].get("minReadySeconds") or 0)


def is_ordered(set_: Obj) -> bool:
    return (set_["spec"].get("podManagementPolicy") or "OrderedReady") != "Parallel"


def retention(set_: Obj) -> tuple[str, str]:
    """(whenDeleted, whenScaled)."""
    policy = set_["spec"].get("persistentVolumeClaimRetentionPolicy") or {}
    return policy.get("whenDeleted") or "Retain", policy.get("whenScaled") or "Retain"


def pod_name(set_: Obj, ordinal: int) -> str:
    return f"{meta.name(set_)}-{ordinal}"


def claim_templates(set_: Obj) -> list[Obj]:
    return set_["spec"].get("volumeClaimTemplates") or []


def claim_name(set_: Obj, template: Obj, ordinal: int) -> str:
    return f"{meta.name(template)}-{meta.name(set_)}-{ordinal}"


def claims(set_: Obj, ordinal: int) -> dict[str, Obj]:
    """The claims of the pod with this ordinal, by volume name."""
    out: dict[str, Obj] = {}
    wanted = (set_["spec"].get("selector") or {}).get("matchLabels") or {}
    for template in claim_templates(set_):
        claim = copy_object(template)
        claim.pop("status", None)
        metadata = claim["metadata"]
        metadata["name"] = claim_name(set_, template, ordinal)
        metadata["namespace"] = meta.namespace(set_)
        metadata["labels"] = {**(metadata.get("labels") or {}), **wanted}
        claim.update(apiVersion="v1", kind="PersistentVolumeClaim")
        out[meta.name(template)] = claim
    return out


def new_pod(set_: Obj, template: Obj, revision: str, ordinal: int) -> Obj:
    """The pod with this ordinal, made of the template of this revision."""
    pod = pod_from_template(template, set_)
    metadata, name = pod["metadata"], pod_name(set_, ordinal)
    metadata["name"] = name
    metadata["labels"][REVISION_LABEL] = revision
    set_identity(set_, pod, ordinal)
    pod["spec"]["hostname"] = name
    pod["spec"]["subdomain"] = set_["spec"].get("serviceName") or ""
    set_storage(set_, pod, ordinal)
    return pod


def set_identity(set_: Obj, pod: Obj, ordinal: int) -> None:
    metadata = pod["metadata"]
    metadata["name"] = pod_name(set_, ordinal)
    metadata["namespace"] = meta.namespace(set_)
    labels = metadata.get("labels") or {}
    labels[POD_NAME_LABEL] = metadata["name"]
    labels[POD_INDEX_LABEL] = str(ordinal)
    metadata["labels"] = labels


def set_storage(set_: Obj, pod: Obj, ordinal: int) -> None:
    """Claim volumes come first, and replace volumes of the same name."""
    templates = claim_templates(set_)
    if not templates:
        return
    own: list[Obj] = [
        {"name": meta.name(t), "persistentVolumeClaim": {"claimName": claim_name(set_, t, ordinal)}} for t in templates
    ]
    taken = {volume["name"] for volume in own}
    rest = [v for v in pod["spec"].get("volumes") or () if v.get("name") not in taken]
    pod["spec"]["volumes"] = own + rest


def identity_matches(set_: Obj, pod: Obj) -> bool:
    """Upstream looks at name, namespace and the pod-name label only."""
    name = meta.name(pod)
    parent, ordinal = parent_and_ordinal(name)
    return (
        ordinal >= 0
        and parent == meta.name(set_)
        and name == pod_name(set_, ordinal)
        and meta.namespace(pod) == meta.namespace(set_)
        and meta.labels(pod).get(POD_NAME_LABEL) == name
    )


def storage_matches(set_: Obj, pod: Obj) -> bool:
    """Does the pod mount each claim that the set's templates give it?"""
    templates = claim_templates(set_)
    if not templates:
        return True
    ordinal = parent_and_ordinal(meta.name(pod))[1]
    if ordinal < 0:
        return False
    volumes = {v.get("name"): v for v in pod["spec"].get("volumes") or ()}
    for template in templates:
        source = (volumes.get(meta.name(template)) or {}).get("persistentVolumeClaim")
        if source is None or source.get("claimName") != claim_name(set_, template, ordinal):
            return False
    return True


# -- who owns a claim


def _refers_to(ref: Obj, kind: str, name: str) -> bool:
    group = "apps/" if kind == "StatefulSet" else "v1"
    return ref.get("kind") == kind and ref.get("name") == name and str(ref.get("apiVersion") or "").startswith(group)


def has_stale_owner(claim: Obj, kind: str, name: str, uid: str) -> bool:
    """Does the claim name an owner of this kind and name that was another object?"""
    return any(_refers_to(ref, kind, name) and ref.get("uid") != uid for ref in meta.owner_references(claim))


def wanted_owners(set_: Obj, pod: Obj, claim: Obj, *, condemned: bool) -> tuple[list[Obj], bool]:
    """The owner references that the claim should have, and whether a foreign controller keeps us out.

    The table of KEP-1847: whenDeleted makes the set an owner, whenScaled makes a condemned pod one.
    """
    have = meta.owner_references(claim)
    set_name, set_uid, name, uid = meta.name(set_), meta.uid(set_), meta.name(pod), meta.uid(pod)
    if has_stale_owner(claim, "StatefulSet", set_name, set_uid) or has_stale_owner(claim, "Pod", name, uid):
        return have, False
    deleted, scaled = retention(set_)
    others = [r for r in have if r.get("uid") not in (set_uid, uid)]
    if (deleted, scaled) != ("Retain", "Retain") and any(r.get("controller") for r in others):
        return others, True
    if scaled == "Delete" and condemned:
        wanted: Obj | None = meta.owner_reference({"apiVersion": "v1", "kind": "Pod", "metadata": pod["metadata"]})
    elif deleted == "Delete":
        wanted = meta.owner_reference({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": set_["metadata"]})
    else:
        wanted = None
    if wanted is None:
        return (others if len(others) != len(have) else have), False
    ours = [r for r in have if r.get("uid") in (set_uid, uid)]
    if len(ours) == 1 and ours[0].get("uid") == wanted["uid"] and ours[0].get("controller"):
        return have, False
    return [*others, wanted], False
