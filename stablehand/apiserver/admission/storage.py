"""Storage: the default class, protection finalizers, and who may grow a claim."""

from __future__ import annotations

from stablehand.apiserver import errors
from stablehand.apiserver.core import Attributes, Core
from stablehand.machinery import quantity, volumes
from stablehand.machinery.meta import nested
from stablehand.machinery.resources import resource

_CLASSES = resource("storageclasses.storage.k8s.io")
_FINALIZERS = {
    "persistentvolumeclaims": "kubernetes.io/pvc-protection",
    "persistentvolumes": "kubernetes.io/pv-protection",
    "volumeattributesclasses.storage.k8s.io": "kubernetes.io/vac-protection",
}


def default_class(core: Core, a: Attributes) -> None:
    """DefaultStorageClass: fills spec.storageClassName where neither the field nor the old annotation says anything."""
    if a.operation != "CREATE" or a.resource.key != "persistentvolumeclaims" or a.obj is None or a.subresource:
        return
    if volumes.has_class(a.obj):
        return
    best = volumes.default_class(e.obj for _, e in core.storage.collection(_CLASSES).ordered())
    if best is not None:
        a.obj["spec"]["storageClassName"] = best["metadata"]["name"]


def protection_finalizers(core: Core, a: Attributes) -> None:
    """StorageObjectInUseProtection."""
    finalizer = _FINALIZERS.get(a.resource.key)
    if finalizer is None or a.operation != "CREATE" or a.obj is None or a.subresource:
        return
    meta = a.obj["metadata"]
    if finalizer not in (meta.get("finalizers") or ()):
        meta["finalizers"] = [*(meta.get("finalizers") or []), finalizer]


def check_resize(core: Core, a: Attributes) -> None:
    """PersistentVolumeClaimResize: only bound claims of a class that allows it may grow."""
    if a.operation != "UPDATE" or a.resource.key != "persistentvolumeclaims" or a.subresource:
        return
    assert a.obj is not None and a.old is not None
    new = nested(a.obj, "spec", "resources", "requests", "storage")
    old = nested(a.old, "spec", "resources", "requests", "storage")
    if new is None or old is None or quantity.parse(new) <= quantity.parse(old):
        return
    if nested(a.old, "status", "phase") != "Bound":
        raise errors.forbidden(a.resource, a.name, "Only bound persistent volume claims can be expanded")
    name = volumes.class_of(a.old)
    entry = core.storage.collection(_CLASSES).get(("", name)) if name else None
    if entry is None or not entry.obj.get("allowVolumeExpansion"):
        raise errors.forbidden(
            a.resource,
            a.name,
            "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
        )
