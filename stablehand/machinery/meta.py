"""Reading and building ObjectMeta: names, labels, owners. Selection and status conditions live elsewhere."""

from collections.abc import Mapping
from typing import Any

from stablehand.machinery.types import Obj

_EMPTY: dict[str, Any] = {}


def name(obj: Obj) -> str:
    return obj["metadata"].get("name") or ""


def namespace(obj: Obj) -> str:
    return obj["metadata"].get("namespace") or ""


def key(obj: Obj) -> tuple[str, str]:
    """(namespace, name); namespace is "" for cluster-scoped objects."""
    meta = obj["metadata"]
    return meta.get("namespace") or "", meta.get("name") or ""


def uid(obj: Obj) -> str:
    return obj["metadata"].get("uid") or ""


def resource_version(obj: Obj) -> int:
    """The object's revision as a number; 0 when it has none."""
    return int(obj["metadata"].get("resourceVersion") or 0)


def labels(obj: Obj) -> dict[str, str]:
    return obj["metadata"].get("labels") or _EMPTY


def annotations(obj: Obj) -> dict[str, str]:
    return obj["metadata"].get("annotations") or _EMPTY


def deletion_timestamp(obj: Obj) -> str | None:
    return obj["metadata"].get("deletionTimestamp")


def owner_references(obj: Obj) -> list[Obj]:
    return obj["metadata"].get("ownerReferences") or []


def controller_of(obj: Obj) -> Obj | None:
    """The owner reference whose controller is true, or None."""
    for ref in obj["metadata"].get("ownerReferences") or ():
        if ref.get("controller"):
            return ref
    return None


def is_controlled_by(obj: Obj, owner: Obj) -> bool:
    ref = controller_of(obj)
    return ref is not None and ref.get("uid") == owner["metadata"]["uid"]


def owner_reference(owner: Obj, *, controller: bool = True) -> Obj:
    """A reference to `owner`, with blockOwnerDeletion when it is the controller."""
    ref: Obj = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
    }
    if controller:
        ref["controller"] = True
        ref["blockOwnerDeletion"] = True
    return ref


def object_reference(obj: Obj) -> Obj:
    """A core/v1 ObjectReference to the object (what Events point at)."""
    meta = obj["metadata"]
    ref = {"apiVersion": obj.get("apiVersion", ""), "kind": obj.get("kind", ""), "name": meta.get("name", "")}
    for field in ("namespace", "uid", "resourceVersion"):
        if meta.get(field):
            ref[field] = meta[field]
    return ref


def nested(obj: Mapping[str, Any] | None, *path: str) -> Any:
    """The value at a path of keys, or None where any step is missing."""
    value: Any = obj
    for step in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(step)
    return value
