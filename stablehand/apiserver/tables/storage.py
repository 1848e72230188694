"""Cells of volumes, claims, classes and what drivers register."""

from __future__ import annotations

from typing import Any

from stablehand.apiserver.tables.columns import printer
from stablehand.apiserver.tables.format import NONE, UNSET, access_modes, age
from stablehand.machinery.types import Obj

_CLASS = "volume.beta.kubernetes.io/storage-class"
_DEFAULT = ("storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class")


def _name(obj: Obj) -> str:
    name: str = obj["metadata"].get("name", "")
    return name


def _class(obj: Obj) -> str:
    notes = obj["metadata"].get("annotations") or {}
    if _CLASS in notes:
        return str(notes[_CLASS])
    return str((obj.get("spec") or {}).get("storageClassName") or "")


def _phase(obj: Obj) -> str:
    if obj["metadata"].get("deletionTimestamp"):
        return "Terminating"
    return str((obj.get("status") or {}).get("phase") or "")


def _pv(obj: Obj, now: float) -> list[Any]:
    spec = obj.get("spec") or {}
    claim = spec.get("claimRef")
    return [
        _name(obj),
        (spec.get("capacity") or {}).get("storage") or "",
        access_modes(spec.get("accessModes")),
        spec.get("persistentVolumeReclaimPolicy") or "",
        _phase(obj),
        f"{claim.get('namespace', '')}/{claim.get('name', '')}" if claim else "",
        _class(obj),
        spec.get("volumeAttributesClassName") or UNSET,
        (obj.get("status") or {}).get("reason") or "",
        age(obj, now),
        spec.get("volumeMode") or UNSET,
    ]


def _pvc(obj: Obj, now: float) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    bound = bool(spec.get("volumeName"))
    return [
        _name(obj),
        _phase(obj),
        spec.get("volumeName") or "",
        ((status.get("capacity") or {}).get("storage") or "") if bound else "",
        access_modes(status.get("accessModes")) if bound else "",
        _class(obj),
        spec.get("volumeAttributesClassName") or UNSET,
        age(obj, now),
        spec.get("volumeMode") or UNSET,
    ]


def _storage_class(obj: Obj, now: float) -> list[Any]:
    notes = obj["metadata"].get("annotations") or {}
    name = _name(obj)
    if any(notes.get(key) == "true" for key in _DEFAULT):
        name += " (default)"
    return [
        name,
        obj.get("provisioner") or "",
        obj.get("reclaimPolicy") or "Delete",
        obj.get("volumeBindingMode") or "Immediate",
        "true" if obj.get("allowVolumeExpansion") else "false",
        age(obj, now),
    ]


def _attachment(obj: Obj, now: float) -> list[Any]:
    spec = obj.get("spec") or {}
    return [
        _name(obj),
        spec.get("attacher") or "",
        (spec.get("source") or {}).get("persistentVolumeName") or "",
        spec.get("nodeName") or "",
        bool((obj.get("status") or {}).get("attached")),
        age(obj, now),
    ]


def _csi_driver(obj: Obj, now: float) -> list[Any]:
    spec = obj.get("spec") or {}
    tokens = ",".join(t.get("audience") or "" for t in spec.get("tokenRequests") or ()) or UNSET
    return [
        _name(obj),
        spec.get("attachRequired") is not False,
        bool(spec.get("podInfoOnMount")),
        bool(spec.get("storageCapacity")),
        tokens,
        bool(spec.get("requiresRepublish")),
        ",".join(spec.get("volumeLifecycleModes") or ()) or NONE,
        age(obj, now),
    ]


def _csi_node(obj: Obj, now: float) -> list[Any]:
    return [_name(obj), len((obj.get("spec") or {}).get("drivers") or ()), age(obj, now)]


def _csi_capacity(obj: Obj, now: float) -> list[Any]:
    return [_name(obj), obj.get("storageClassName") or "", obj.get("capacity") or "<unset>"]


def _attributes_class(obj: Obj, now: float) -> list[Any]:
    return [_name(obj), obj.get("driverName") or "", age(obj, now)]


PRINTERS = {
    "persistentvolumes": printer(
        "Name,Capacity,Access Modes,Reclaim Policy,Status,Claim,StorageClass,VolumeAttributesClass,Reason,Age,"
        "*VolumeMode",
        _pv,
    ),
    "persistentvolumeclaims": printer(
        "Name,Status,Volume,Capacity,Access Modes,StorageClass,VolumeAttributesClass,Age,*VolumeMode", _pvc
    ),
    "storageclasses.storage.k8s.io": printer(
        "Name,Provisioner,ReclaimPolicy,VolumeBindingMode,AllowVolumeExpansion,Age", _storage_class
    ),
    "volumeattachments.storage.k8s.io": printer("Name,Attacher,PV,Node,?Attached,Age", _attachment),
    "csidrivers.storage.k8s.io": printer(
        "Name,?AttachRequired,?PodInfoOnMount,?StorageCapacity,TokenRequests,?RequiresRepublish,Modes,Age", _csi_driver
    ),
    "csinodes.storage.k8s.io": printer("Name,#Drivers,Age", _csi_node),
    "csistoragecapacities.storage.k8s.io": printer("Name,StorageClassName,Capacity", _csi_capacity),
    "volumeattributesclasses.storage.k8s.io": printer("Name,DriverName,Age", _attributes_class),
}
