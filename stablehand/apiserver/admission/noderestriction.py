"""NodeRestriction: a kubelet changes its own node, its own pods and its own lease only
(plugin/pkg/admission/noderestriction)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from stablehand.apiserver import errors
from stablehand.apiserver.authz.node import LEASES, MIRROR, node_of
from stablehand.apiserver.authz.references import references
from stablehand.apiserver.contract import StatusError
from stablehand.apiserver.core import Attributes, Core
from stablehand.machinery.meta import nested
from stablehand.machinery.resources import resource
from stablehand.machinery.types import Obj

_RESTRICTED = "node-restriction.kubernetes.io"
# What a kubelet says of its own node (k8s.io/kubelet/pkg/apis/well_known_labels.go).
_KUBELET_LABELS = frozenset(
    {
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "node.kubernetes.io/instance-type",
        "beta.kubernetes.io/instance-type",
        "kubernetes.io/os",
        "kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/arch",
    }
)
_KUBELET_PREFIXES = ("kubelet.kubernetes.io", "node.kubernetes.io")
_CLAIM_STATUS = ("capacity", "conditions", "allocatedResourceStatuses", "allocatedResources")


def check(core: Core, a: Attributes) -> None:
    node = node_of(a.request.user)
    if node is None:
        return
    if not node:
        raise _refused(a, f'could not determine node from user "{a.request.user.name}"')
    checked = _CHECKS.get(a.resource.key)
    if checked is not None:
        checked(core, a, node)


def _refused(a: Attributes, why: str) -> StatusError:
    return errors.forbidden(a.resource, a.name, why)


def _name(a: Attributes) -> str:
    return a.name or str(((a.obj or {}).get("metadata") or {}).get("name") or "")


def _pod_of(core: Core, a: Attributes, name: str) -> Obj:
    pods = resource("pods")
    entry = core.storage.collection(pods).get((a.namespace, name))
    if entry is None:
        raise errors.not_found(pods, name)
    return entry.obj


def _pods(core: Core, a: Attributes, node: str) -> None:
    if a.subresource == "status":
        return _pod_status(a, node)
    if a.subresource == "eviction":
        pod = _pod_of(core, a, a.name)
        if nested(pod, "spec", "nodeName") != node:
            raise _refused(a, f"node {node} can only evict pods with spec.nodeName set to itself")
        return None
    if a.subresource:
        raise _refused(a, f"unexpected pod subresource \"{a.subresource}\", only 'status' and 'eviction' are allowed")
    if a.operation == "CREATE":
        return _mirror_pod(core, a, node)
    if a.operation != "DELETE":
        text = f'unexpected operation "{a.operation}", node "{node}" can only create and delete mirror pods'
        raise _refused(a, text)
    if nested(a.old or {}, "spec", "nodeName") != node:
        raise _refused(a, f'node "{node}" can only delete pods with spec.nodeName set to itself')
    return None


def _pod_status(a: Attributes, node: str) -> None:
    if a.operation != "UPDATE":
        raise _refused(a, f'unexpected operation "{a.operation}"')
    old, new = a.old or {}, a.obj or {}
    if nested(old, "spec", "nodeName") != node:
        raise _refused(a, f'node "{node}" can only update pod status for pods with spec.nodeName set to itself')
    if (nested(old, "metadata", "labels") or {}) != (nested(new, "metadata", "labels") or {}):
        raise _refused(a, f'node "{node}" cannot update labels through pod status')
    for field in ("resourceClaimStatuses", "extendedResourceClaimStatus"):
        if (nested(old, "status", field) or None) != (nested(new, "status", field) or None):
            raise _refused(a, f'node "{node}" cannot update resource claim statues')


def _mirror_pod(core: Core, a: Attributes, node: str) -> None:
    pod = a.obj or {}
    meta, spec = pod.get("metadata") or {}, pod.get("spec") or {}
    if MIRROR not in (meta.get("annotations") or {}):
        raise _refused(a, f'pod does not have "{MIRROR}" annotation, node "{node}" can only create mirror pods')
    if spec.get("nodeName") != node:
        raise _refused(a, f'node "{node}" can only create pods with spec.nodeName set to itself')
    owners = meta.get("ownerReferences") or []
    if len(owners) > 1:
        raise _refused(a, f'node "{node}" can only create pods with a single owner reference set to itself')
    owner = owners[0] if owners else {}
    if (owner.get("apiVersion"), owner.get("kind"), owner.get("name")) != ("v1", "Node", node):
        raise _refused(a, f'node "{node}" can only create pods with an owner reference set to itself')
    if not owner.get("controller"):
        raise _refused(a, f'node "{node}" can only create pods with a controller owner reference set to itself')
    if owner.get("blockOwnerDeletion"):
        raise _refused(a, f'node "{node}" must not set blockOwnerDeletion on an owner reference')
    nodes = resource("nodes")
    entry = core.storage.collection(nodes).get(("", node))
    if entry is None:
        raise errors.not_found(nodes, node)
    if owner.get("uid") != entry.obj["metadata"]["uid"]:
        text = f"node {node} UID mismatch: expected {owner.get('uid')} got {entry.obj['metadata']['uid']}"
        raise _refused(a, text)
    _no_references(a, node, pod, spec)


def _no_references(a: Attributes, node: str, pod: Obj, spec: Obj) -> None:
    """A node must not create a pod that would let it read other objects."""
    if spec.get("serviceAccountName"):
        raise _refused(a, f'node "{node}" can not create pods that reference a service account')
    for plural in ("secrets", "configmaps"):
        if references(pod, plural):
            raise _refused(a, f'node "{node}" can not create pods that reference {plural}')
    for volume in spec.get("volumes") or ():
        if any(source.get("clusterTrustBundle") for source in nested(volume, "projected", "sources") or ()):
            raise _refused(a, f'node "{node}" can not create pods that reference clustertrustbundles')
        if volume.get("persistentVolumeClaim"):
            raise _refused(a, f'node "{node}" can not create pods that reference persistentvolumeclaims')
    if spec.get("resourceClaims"):
        raise _refused(a, f'node "{node}" can not create pods that reference resourceclaims')


def _nodes(core: Core, a: Attributes, node: str) -> None:
    name = _name(a)
    if name != node:
        raise _refused(a, f'node "{node}" is not allowed to modify node "{name}"')
    new, old = a.obj or {}, a.old or {}
    if a.operation == "CREATE":
        wrong = _forbidden_labels(_changed(nested(new, "metadata", "labels"), None))
        if wrong:
            raise _refused(a, f'node "{node}" is not allowed to set the following labels: {", ".join(wrong)}')
    if a.operation != "UPDATE":
        return
    if nested(new, "spec", "configSource") not in (None, nested(old, "spec", "configSource")):
        raise _refused(a, f'node "{node}" is not allowed to update configSource to a new non-nil configSource')
    if (nested(new, "spec", "taints") or []) != (nested(old, "spec", "taints") or []):
        raise _refused(a, f'node "{node}" is not allowed to modify taints')
    if (nested(new, "metadata", "ownerReferences") or []) != (nested(old, "metadata", "ownerReferences") or []):
        raise _refused(a, f'node "{node}" is not allowed to modify ownerReferences')
    wrong = _forbidden_labels(_changed(nested(new, "metadata", "labels"), nested(old, "metadata", "labels")))
    if wrong:
        raise _refused(a, f"is not allowed to modify labels: {', '.join(wrong)}")


def _changed(new: Mapping[str, Any] | None, old: Mapping[str, Any] | None) -> set[str]:
    new, old = new or {}, old or {}
    return {key for key in {*new, *old} if new.get(key) != old.get(key)}


def _within(namespace: str, domain: str) -> bool:
    return namespace == domain or namespace.endswith(f".{domain}")


def _forbidden_labels(keys: set[str]) -> list[str]:
    found = []
    for key in sorted(keys):
        namespace = key.partition("/")[0] if "/" in key else ""
        kubernetes = _within(namespace, "kubernetes.io") or _within(namespace, "k8s.io")
        own = key in _KUBELET_LABELS or any(_within(namespace, domain) for domain in _KUBELET_PREFIXES)
        if _within(namespace, _RESTRICTED) or (kubernetes and not own):
            found.append(key)
    return found


def _claims(core: Core, a: Attributes, node: str) -> None:
    if a.subresource != "status":
        raise _refused(a, "may only update PVC status")
    if a.operation != "UPDATE":
        raise _refused(a, f'unexpected operation "{a.operation}"')
    if _rest_of_claim(a.obj or {}) != _rest_of_claim(a.old or {}):
        text = f'node "{node}" is not allowed to update fields other than status.capacity and status.conditions'
        raise _refused(a, text)


def _rest_of_claim(claim: Obj) -> Obj:
    """A claim without what a kubelet may change of it."""
    meta = {k: v for k, v in (claim.get("metadata") or {}).items() if k not in ("resourceVersion", "managedFields")}
    status = {k: v for k, v in (claim.get("status") or {}).items() if k not in _CLAIM_STATUS}
    return {"metadata": meta, "spec": claim.get("spec") or {}, "status": status}


def _accounts(core: Core, a: Attributes, node: str) -> None:
    if a.operation != "CREATE" or a.subresource != "token":
        return
    bound = nested(a.obj or {}, "spec", "boundObjectRef") or {}
    if bound.get("apiVersion") != "v1" or bound.get("kind") != "Pod" or not bound.get("name"):
        raise _refused(a, "node requested token not bound to a pod")
    if not bound.get("uid"):
        raise _refused(a, "node requested token with a pod binding without a uid")
    pod = _pod_of(core, a, bound["name"])
    if bound["uid"] != pod["metadata"]["uid"]:
        text = (
            f"the UID in the bound object reference ({bound['uid']}) does not match the UID in record. The object "
            "might have been deleted and then recreated"
        )
        raise _refused(a, text)
    if nested(pod, "spec", "nodeName") != node:
        raise _refused(a, "node requested token bound to a pod scheduled on a different node")


def _leases(core: Core, a: Attributes, node: str) -> None:
    if a.namespace != LEASES:
        raise _refused(a, f'can only access leases in the "{LEASES}" system namespace')
    if _name(a) != node:
        raise _refused(a, "can only access node lease with the same name as the requesting node")


def _csi_nodes(core: Core, a: Attributes, node: str) -> None:
    if _name(a) != node:
        raise _refused(a, "can only access CSINode with the same name as the requesting node")


def _slices(core: Core, a: Attributes, node: str) -> None:
    if a.operation == "CREATE" and nested(a.obj or {}, "spec", "nodeName") != node:
        raise _refused(a, "can only create ResourceSlice with the same NodeName as the requesting node")
    if a.operation == "DELETE" and a.old is not None and nested(a.old, "spec", "nodeName") != node:
        raise _refused(a, "can only delete ResourceSlice with the same NodeName as the requesting node")


_CHECKS: dict[str, Callable[[Core, Attributes, str], None]] = {
    "pods": _pods,
    "nodes": _nodes,
    "persistentvolumeclaims": _claims,
    "serviceaccounts": _accounts,
    "leases.coordination.k8s.io": _leases,
    "csinodes.storage.k8s.io": _csi_nodes,
    "resourceslices.resource.k8s.io": _slices,
}
