"""Claims and volumes: classes, access modes, and which volume a claim would be bound to. Pure.

Used by the volume binder (any node) and the scheduler (a given node).
"""

from __future__ import annotations

from collections.abc import Iterable

from stablehand.machinery import meta, quantity
from stablehand.machinery.nodes import selector_matches
from stablehand.machinery.selectors import from_label_selector
from stablehand.machinery.types import Obj

BETA_CLASS = "volume.beta.kubernetes.io/storage-class"
BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
BOUND_BY_CONTROLLER = "pv.kubernetes.io/bound-by-controller"
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
PROVISIONER = "volume.kubernetes.io/storage-provisioner"
BETA_PROVISIONER = "volume.beta.kubernetes.io/storage-provisioner"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
NO_PROVISIONER = "kubernetes.io/no-provisioner"
DEFAULT_CLASS = (
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
)


def class_of(obj: Obj) -> str:
    """The storage class of a claim or a volume: the old annotation goes before the field; "" is none."""
    annotations = meta.annotations(obj)
    if BETA_CLASS in annotations:
        return annotations[BETA_CLASS]
    return obj["spec"].get("storageClassName") or ""


def has_class(claim: Obj) -> bool:
    """Did someone say anything about the class, were it only ""?"""
    return BETA_CLASS in meta.annotations(claim) or claim["spec"].get("storageClassName") is not None


def default_class(classes: Iterable[Obj], annotations: tuple[str, ...] = DEFAULT_CLASS) -> Obj | None:
    """The class that one of the annotations marks as default: the newest, ties by name."""
    marked = [c for c in classes if any(meta.annotations(c).get(a) == "true" for a in annotations)]
    if not marked:
        return None
    newest = max(c["metadata"].get("creationTimestamp") or "" for c in marked)
    return min((c for c in marked if (c["metadata"].get("creationTimestamp") or "") == newest), key=meta.name)


def is_delayed(claim: Obj, storage_class: Obj | None) -> bool:
    """Does the claim wait for its first consumer?"""
    return storage_class is not None and storage_class.get("volumeBindingMode") == "WaitForFirstConsumer"


def mode_of(obj: Obj) -> str:
    return obj["spec"].get("volumeMode") or "Filesystem"


def request_of(claim: Obj) -> int:
    return quantity.whole(((claim["spec"].get("resources") or {}).get("requests") or {}).get("storage") or 0)


def capacity_of(volume: Obj) -> int:
    return quantity.whole((volume["spec"].get("capacity") or {}).get("storage") or 0)


def access_modes(obj: Obj) -> set[str]:
    return set(obj["spec"].get("accessModes") or ())


def attributes_class(obj: Obj) -> str:
    return obj["spec"].get("volumeAttributesClassName") or ""


def is_bound_to(volume: Obj, claim: Obj) -> bool:
    """Does the volume's claimRef name this claim (a missing uid names it too)?"""
    ref = volume["spec"].get("claimRef")
    if not ref or ref.get("name") != meta.name(claim) or ref.get("namespace") != meta.namespace(claim):
        return False
    return not ref.get("uid") or ref["uid"] == meta.uid(claim)


def satisfies(volume: Obj, claim: Obj) -> str | None:
    """Why a volume that the claim names could not be bound to it; None when it can."""
    if capacity_of(volume) < request_of(claim):
        return "requested PV is too small"
    if class_of(volume) != class_of(claim):
        return "storageClassName does not match"
    if mode_of(volume) != mode_of(claim):
        return "incompatible volumeMode"
    if not access_modes(claim) <= access_modes(volume):
        return "incompatible accessMode"
    if attributes_class(volume) != attributes_class(claim):
        return "volumeAttributesClassName does not match"
    return None


def find_match(
    claim: Obj, volumes: Iterable[Obj], *, node: Obj | None = None, excluded: Iterable[str] = (), delayed: bool = False
) -> Obj | None:
    """The volume to bind the claim to: one that names it, else the smallest that suits, in the access mode set
    with the fewest modes first. `delayed` leaves unnamed volumes to the scheduler (a binder's look at a
    WaitForFirstConsumer claim); `node` limits the choice to what that node can reach."""
    groups: dict[tuple[str, ...], list[Obj]] = {}
    wanted_modes, taken = access_modes(claim), set(excluded)
    for volume in volumes:
        modes = access_modes(volume)
        if wanted_modes <= modes:
            groups.setdefault(tuple(sorted(modes)), []).append(volume)
    for modes_key in sorted(groups, key=lambda m: (len(m), m)):
        found = _best(claim, groups[modes_key], node, taken, delayed)
        if found is not None:
            return found
    return None


def _best(claim: Obj, volumes: list[Obj], node: Obj | None, taken: set[str], delayed: bool) -> Obj | None:
    size, wanted_class, mode = request_of(claim), class_of(claim), mode_of(claim)
    attributes = attributes_class(claim)
    label_selector = claim["spec"].get("selector")
    selector = from_label_selector(label_selector) if label_selector else None
    best: Obj | None = None
    for volume in volumes:
        if meta.name(volume) in taken or capacity_of(volume) < size or mode_of(volume) != mode:
            continue
        if attributes_class(volume) != attributes or meta.deletion_timestamp(volume):
            continue
        reachable = selector_matches((volume["spec"].get("nodeAffinity") or {}).get("required"), node) if node else True
        if is_bound_to(volume, claim):
            if not reachable:
                return None  # promised to the claim, but out of this node's reach
            return volume
        if delayed or not reachable or volume["spec"].get("claimRef"):
            continue
        if (volume.get("status") or {}).get("phase") != "Available" or class_of(volume) != wanted_class:
            continue
        if selector is not None and not selector.matches(meta.labels(volume)):
            continue
        if best is None or (capacity_of(volume), meta.name(volume)) < (capacity_of(best), meta.name(best)):
            best = volume
    return best


def is_fully_bound(claim: Obj) -> bool:
    return bool(claim["spec"].get("volumeName")) and BIND_COMPLETED in meta.annotations(claim)


def pod_claims(pod: Obj) -> list[tuple[str, bool]]:
    """(claim name, is it of a generic ephemeral volume) for each claim volume of the pod."""
    out: list[tuple[str, bool]] = []
    for volume in pod["spec"].get("volumes") or ():
        if volume.get("persistentVolumeClaim"):
            out.append((volume["persistentVolumeClaim"].get("claimName") or "", False))
        elif volume.get("ephemeral"):
            out.append((f"{meta.name(pod)}-{volume['name']}", True))
    return out
