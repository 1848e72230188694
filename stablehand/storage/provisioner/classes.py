"""Storage classes that Stablehand brings along."""

from __future__ import annotations

from stablehand.client import AlreadyExists, Client
from stablehand.machinery.resources import resource
from stablehand.machinery.types import Obj

CLASSES = resource("storageclasses.storage.k8s.io")
_DEFAULT = "storageclass.kubernetes.io/is-default-class"


async def ensure_class(
    client: Client,
    name: str,
    provisioner: str,
    default: bool,
    reclaim: str = "Delete",
    binding: str = "Immediate",
) -> None:
    """Makes the class unless one of this name is there: what the user changed about it stays. Its claims may grow."""
    storage_class: Obj = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": name},
        "provisioner": provisioner,
        "reclaimPolicy": reclaim,
        "volumeBindingMode": binding,
        "allowVolumeExpansion": True,
    }
    if default:
        storage_class["metadata"]["annotations"] = {_DEFAULT: "true"}
    try:
        await client.create(CLASSES, storage_class)
    except AlreadyExists:
        return
