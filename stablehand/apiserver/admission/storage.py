"""Storage: the default class, protection finalizers, and who may grow a claim."""

from __future__ import annotations

from stablehand.apiserver import errors
from stablehand.apiserver.core import Attributes, Core
from stablehand.machinery import quantity
from stablehand.machinery.meta import nested
from stablehand.machinery.resources import resource
from stablehand.machinery.types import Obj

_CLASSES = resource("storageclasses.storage.k8s.io")
_BETA_CLASS = "volume.beta.kubernetes.io/storage-class"
_DEFAULT = ("storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class")
_FINALIZERS = {
    "persistentvolumeclaims": "kubernetes.io/pvc-protection",
    "persistentvolumes": "kubernetes.io/pv-protection",
    "volumeattributesclasses.storage.k8s.io": "kubernetes.io/vac-protection",
}


def default_class(core: Core, a: Attributes) -> None:
    """DefaultStorageClass: fills spec.storageClassName where neither the field nor the old annotation says anything."""
    if a.operation != "CREATE" or a.resource.key != "persistentvolumeclaims" or a.obj is None or a.subresource:
        return
    claim = a.obj
    if nested(claim, "spec", "storageClassName") is not None:
        return
    if _BETA_CLASS in (claim["metadata"].get("annotations") or {}):
        return
    best = newest_default([e.obj for _, e in core.storage.collection(_CLASSES).ordered()])
    if best is not None:
        claim["spec"]["storageClassName"] = best["metadata"]["name"]


def newest_default(classes: list[Obj]) -> Obj | None:
    """The default class: the newest one marked so, ties by name."""
    marked = [
        c for c in classes if any((c["metadata"].get("annotations") or {}).get(key) == "true" for key in _DEFAULT)
    ]
    if not marked:
        return None
    newest = max(c["metadata"]["creationTimestamp"] for c in marked)
    return min((c for c in marked if c["metadata"]["creationTimestamp"] == newest), key=lambda c: c["metadata"]["name"])


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
    name = (a.old["metadata"].get("annotations") or {}).get(_BETA_CLASS) or nested(a.old, "spec", "storageClassName")
    entry = core.storage.collection(_CLASSES).get(("", name)) if name else None
    if entry is None or not entry.obj.get("allowVolumeExpansion"):
        raise errors.forbidden(
            a.resource,
            a.name,
            "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
        )
