"""Which claims get a volume, what the volume looks like, and what becomes of it. Pure: no files, no API.

The rules are those of sig-storage-lib-external-provisioner v6 and nfs-subdir-external-provisioner.
"""

from __future__ import annotations

import posixpath
import re

from stablehand.machinery import meta, quantity
from stablehand.machinery.types import Obj
from stablehand.machinery.volumes import (
    BETA_PROVISIONER,
    PROVISIONED_BY,
    PROVISIONER,
    SELECTED_NODE,
    class_of,
    is_bound_to,
    is_delayed,
    is_fully_bound,
    mode_of,
    request_of,
)

_PATTERN = re.compile(r"\$\{\.PVC\.((?:labels|annotations)\.(.*?)|.*?)\}")
_FALSE = ("0", "f", "F", "false", "FALSE", "False")
_TRUE = ("1", "t", "T", "true", "TRUE", "True")
DELETE, RETAIN, ARCHIVE = "delete", "retain", "archive"


class PlanError(Exception):
    """The class, the claim or the volume asks for what cannot be; the text goes into an event."""


def volume_name(claim: Obj) -> str:
    return f"pvc-{meta.uid(claim)}"


def wants_volume(claim: Obj, provisioner: str, storage_class: Obj | None) -> bool:
    """Is this claim ours to provision now?"""
    if claim["spec"].get("volumeName") or meta.deletion_timestamp(claim):
        return False
    notes = meta.annotations(claim)
    if (notes.get(BETA_PROVISIONER) or notes.get(PROVISIONER)) != provisioner:
        return False
    return not is_delayed(claim, storage_class) or bool(notes.get(SELECTED_NODE))


def refusal(claim: Obj) -> tuple[str, bool] | None:
    """Why the claim cannot be provisioned, and whether trying again is worth it; None when it can."""
    if mode_of(claim) == "Block":
        return "Block volumes are not supported by this provisioner", False
    if claim["spec"].get("selector") is not None:
        return "claim Selector is not supported", True
    return None


def default_directory(claim: Obj) -> str:
    return f"{meta.namespace(claim)}-{meta.name(claim)}-{volume_name(claim)}"


def directory(claim: Obj, storage_class: Obj) -> str:
    """The folder below the root for this claim. Raises PlanError where a pattern leads out of the root."""
    pattern = (storage_class.get("parameters") or {}).get("pathPattern") or ""
    if not pattern:
        return default_directory(claim)

    def value(match: re.Match[str]) -> str:
        what, key = match[1], match[2]
        if what.startswith("labels."):
            return meta.labels(claim).get(key, "")
        if what.startswith("annotations."):
            return meta.annotations(claim).get(key, "")
        return {"name": meta.name(claim), "namespace": meta.namespace(claim)}.get(what, "")

    path = _PATTERN.sub(value, pattern)
    if not path.strip("/"):
        return default_directory(claim)
    return inside(path, f"pathPattern {pattern!r}")


def inside(path: str, what: str) -> str:
    """The normalised path below a root. Raises PlanError when it is the root itself or leads out of it."""
    normal = posixpath.normpath(path.lstrip("/"))
    if normal in (".", "..", "") or normal.startswith("../"):
        raise PlanError(f"{what} leads out of the exported folder: {path!r}")
    return normal


def volume(claim: Obj, storage_class: Obj, provisioner: str, source: Obj, node_name: str = "") -> Obj:
    """The PersistentVolume of a claim; `source` is {"nfs": …} or {"hostPath": …}."""
    reference = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "namespace": meta.namespace(claim),
        "name": meta.name(claim),
        "uid": meta.uid(claim),
        "resourceVersion": claim["metadata"].get("resourceVersion", ""),
    }
    spec: Obj = {
        "accessModes": list(claim["spec"].get("accessModes") or ()),
        "capacity": {"storage": claim["spec"]["resources"]["requests"]["storage"]},
        "claimRef": reference,
        "persistentVolumeReclaimPolicy": storage_class.get("reclaimPolicy") or "Delete",
        "storageClassName": class_of(claim),
        "volumeMode": "Filesystem",
        **source,
    }
    if storage_class.get("mountOptions"):
        spec["mountOptions"] = list(storage_class["mountOptions"])
    if node_name:
        term = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node_name]}]}
        spec["nodeAffinity"] = {"required": {"nodeSelectorTerms": [term]}}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": volume_name(claim), "annotations": {PROVISIONED_BY: provisioner}},
        "spec": spec,
    }


def wants_growth(claim: Obj) -> bool:
    """Does the claim ask for more than it has?"""
    has = ((claim.get("status") or {}).get("capacity") or {}).get("storage")
    return is_fully_bound(claim) and has is not None and request_of(claim) > quantity.whole(has)


def may_grow(claim: Obj, pv: Obj, storage_class: Obj | None, provisioner: str) -> bool:
    """Is the claim's volume one of ours, of a class that lets it grow?"""
    allowed = storage_class is not None and bool(storage_class.get("allowVolumeExpansion"))
    return allowed and meta.annotations(pv).get(PROVISIONED_BY) == provisioner and is_bound_to(pv, claim)


def must_delete(pv: Obj, provisioner: str) -> bool:
    """Is this volume ours to remove now?"""
    return (
        (pv.get("status") or {}).get("phase") == "Released"
        and pv["spec"].get("persistentVolumeReclaimPolicy") == "Delete"
        and meta.annotations(pv).get(PROVISIONED_BY) == provisioner
        and not meta.deletion_timestamp(pv)
    )


def on_delete(storage_class: Obj) -> str:
    """What becomes of the folder: DELETE, RETAIN or ARCHIVE. Raises PlanError for an unreadable parameter."""
    parameters = storage_class.get("parameters") or {}
    wanted = parameters.get("onDelete") or ""
    if wanted in (DELETE, RETAIN):
        return str(wanted)
    archive = parameters.get("archiveOnDelete")
    if archive is None or archive in _TRUE:
        return ARCHIVE
    if archive in _FALSE:
        return DELETE
    raise PlanError(f"archiveOnDelete: {archive!r} is neither true nor false")
