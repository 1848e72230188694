"""NamespaceLifecycle: nothing is made in a namespace that does not exist or is going; the system's own stay."""

from __future__ import annotations

from stablehand.apiserver import errors
from stablehand.apiserver.contract import StatusError
from stablehand.apiserver.core import Attributes, Core
from stablehand.machinery.resources import resource

_NAMESPACES = resource("namespaces")
IMMORTAL = ("default", "kube-system", "kube-public")


def lifecycle(core: Core, a: Attributes) -> None:
    if a.operation != "CREATE" or not a.namespace or a.resource.key == "namespaces":
        return
    entry = core.storage.collection(_NAMESPACES).get(("", a.namespace))
    if entry is None:
        raise errors.not_found(_NAMESPACES, a.namespace)
    if entry.obj["metadata"].get("deletionTimestamp") or (entry.obj.get("status") or {}).get("phase") == "Terminating":
        why = f"unable to create new content in namespace {a.namespace} because it is being terminated"
        error: StatusError = errors.forbidden(a.resource, a.told_name, why)
        error.details = {
            **(error.details or {}),
            "causes": [
                {
                    "reason": "NamespaceTerminating",
                    "message": f"namespace {a.namespace} is being terminated",
                    "field": "metadata.namespace",
                }
            ],
        }
        raise error


def keep_system(core: Core, a: Attributes) -> None:
    if a.operation == "DELETE" and a.resource.key == "namespaces" and a.name in IMMORTAL:
        raise errors.forbidden(a.resource, a.name, "this namespace may not be deleted")
