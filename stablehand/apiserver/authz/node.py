"""The node authorizer: a kubelet may read what the pods bound to its node use, and nothing else's secrets
(plugin/pkg/auth/authorizer/node).

What is not divided by node, the rules of the ClusterRole system:node decide, which is bound to nobody. A kubelet's
writes are limited further by NodeRestriction in admission.
"""

from __future__ import annotations

from collections.abc import Iterator

from stablehand.apiserver.authz import bootstrap_roles
from stablehand.apiserver.authz.rbac import allows
from stablehand.apiserver.authz.references import references, volume_secrets
from stablehand.apiserver.contract import RequestInfo, User
from stablehand.apiserver.storage.storage import Storage
from stablehand.machinery import selectors
from stablehand.machinery.meta import nested
from stablehand.machinery.resources import resource
from stablehand.machinery.types import Obj

PREFIX, GROUP = "system:node:", "system:nodes"
LEASES = "kube-node-lease"
MIRROR = "kubernetes.io/config.mirror"
_OWN = ("get", "create", "update", "patch", "delete")
Decision = tuple[bool, str]  # whether it is allowed, and why not; not allowed here, RBAC may still allow it

_ALLOWED: Decision = (True, "")


def node_of(user: User) -> str | None:
    """The node's name when the user is a kubelet."""
    if GROUP in user.groups and user.name.startswith(PREFIX):
        return user.name.removeprefix(PREFIX)
    return None


class NodeAuthorizer:
    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._rules = [bootstrap_roles.rule(line) for line in bootstrap_roles.CLUSTER_ROLES["system:node"]]

    def decide(self, user: User, info: RequestInfo) -> Decision:
        node = node_of(user)
        if node is None:
            return False, ""
        if not node:
            return False, f'unknown node for user "{user.name}"'
        if info.is_resource and (found := self._divided(node, info)) is not None:
            return found
        return any(allows(rule, info) for rule in self._rules), ""

    def _divided(self, node: str, info: RequestInfo) -> Decision | None:
        """None for what is not divided by node."""
        match info.group, info.plural:
            case "", "secrets" | "configmaps":
                return self._read(node, info)
            case "", "persistentvolumeclaims" if info.subresource == "status":
                if info.verb not in ("update", "patch"):
                    return False, "can only get/update/patch this type"
                return self._related(node, info)
            case "", "persistentvolumeclaims" | "persistentvolumes":
                return self._get(node, info)
            case "", "serviceaccounts":
                return self._token(node, info)
            case "", "nodes":
                return _node(node, info)
            case "", "pods":
                return self._pod(node, info)
            case "resource.k8s.io", "resourceclaims":
                return self._get(node, info)
            case "resource.k8s.io", "resourceslices":
                return self._slice(node, info)
            case "storage.k8s.io", "volumeattachments":
                return self._get(node, info)
            case "storage.k8s.io", "csinodes":
                return _csi_node(node, info)
            case "coordination.k8s.io", "leases":
                return _lease(node, info)
        return None

    def _read(self, node: str, info: RequestInfo) -> Decision:
        if info.verb not in ("get", "list", "watch"):
            return False, "can only read resources of this type"
        if info.subresource:
            return False, "cannot read subresource"
        if not info.namespace:
            return False, "can only read namespaced object of this type"
        return self._related(node, info)

    def _get(self, node: str, info: RequestInfo) -> Decision:
        if info.verb != "get":
            return False, "can only get individual resources of this type"
        if info.subresource:
            return False, "cannot get subresource"
        return self._related(node, info)

    def _token(self, node: str, info: RequestInfo) -> Decision:
        if info.verb != "create" or not info.name:
            return False, "can only create tokens for individual service accounts"
        if info.subresource != "token":
            return False, "can only create token subresource of serviceaccount"
        return self._related(node, info)

    def _pod(self, node: str, info: RequestInfo) -> Decision:
        match info.subresource, info.verb:
            case "", "get":
                return self._get(node, info)
            case "", "list" | "watch":
                if _selects(info, "spec.nodeName", node):
                    return _ALLOWED
                if info.name:
                    return self._related(node, info)
                return False, "can only list/watch pods with spec.nodeName field selector"
            case ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create"):
                return _ALLOWED  # of its own pods only: NodeRestriction sees to that
        return False, ""

    def _slice(self, node: str, info: RequestInfo) -> Decision:
        if info.subresource:
            return False, "cannot authorize ResourceSlice subresources"
        match info.verb:
            case "create":
                return _ALLOWED
            case "get" | "update" | "patch" | "delete":
                return self._related(node, info)
            case "watch" | "list" | "deletecollection":
                if _selects(info, "spec.nodeName", node):
                    return _ALLOWED
                return False, "can only list/watch/deletecollection resourceslices with nodeName field selector"
        return False, (
            "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, "
            "delete, deletecollection"
        )

    # -- what belongs to a node

    def _related(self, node: str, info: RequestInfo) -> Decision:
        if not info.name:
            return False, "No Object name found"
        if self._belongs(node, info):
            return _ALLOWED
        return False, f"no relationship found between node '{node}' and this object"

    def _belongs(self, node: str, info: RequestInfo) -> bool:
        name = info.name
        match info.plural:
            case "pods":
                entry = self._storage.collection(resource("pods")).get((info.namespace, name))
                return entry is not None and nested(entry.obj, "spec", "nodeName") == node
            case "serviceaccounts":
                pods = self._pods(node, info.namespace)
                return any(nested(p, "spec", "serviceAccountName") == name for p in pods)
            case "persistentvolumes":
                entry = self._storage.collection(resource("persistentvolumes")).get(("", name))
                claim = nested(entry.obj, "spec", "claimRef") if entry is not None else None
                return claim is not None and self._uses(
                    node, claim.get("namespace", ""), "persistentvolumeclaims", claim.get("name", "")
                )
            case "volumeattachments" | "resourceslices":
                entry = self._storage.collection(resource(f"{info.plural}.{info.group}")).get(("", name))
                return entry is not None and nested(entry.obj, "spec", "nodeName") == node
            case "secrets":
                if self._uses(node, info.namespace, "secrets", name):
                    return True
                return any(name in volume_secrets(volume) for volume in self._volumes(node, info.namespace))
        return self._uses(node, info.namespace, info.plural, name)

    def _pods(self, node: str, namespace: str) -> Iterator[Obj]:
        for entry in self._storage.collection(resource("pods")).namespaces.get(namespace, {}).values():
            if nested(entry.obj, "spec", "nodeName") != node:
                continue
            if MIRROR not in (entry.obj["metadata"].get("annotations") or {}):  # a mirror pod grants nothing
                yield entry.obj

    def _uses(self, node: str, namespace: str, plural: str, name: str) -> bool:
        return any(name in references(pod, plural) for pod in self._pods(node, namespace))

    def _volumes(self, node: str, namespace: str) -> Iterator[Obj]:
        """PersistentVolumes bound to claims of a node's pods in a namespace."""
        claims = self._storage.collection(resource("persistentvolumeclaims"))
        volumes = self._storage.collection(resource("persistentvolumes"))
        for pod in self._pods(node, namespace):
            for name in references(pod, "persistentvolumeclaims"):
                claim = claims.get((namespace, name))
                bound = nested(claim.obj, "spec", "volumeName") if claim is not None else None
                entry = volumes.get(("", bound)) if bound else None
                if entry is not None and nested(entry.obj, "spec", "claimRef", "name") == name:
                    yield entry.obj


def _selects(info: RequestInfo, path: str, value: str) -> bool:
    """Whether the request's field selector asks for just that value."""
    if not info.field_selector:
        return False
    try:
        terms = selectors.parse_field_selector(info.field_selector)
    except ValueError:
        return False
    return any(p == path and op == "=" and v == value for p, op, v in terms)


def _node(node: str, info: RequestInfo) -> Decision:
    match info.subresource, info.verb:
        case ("", "create" | "update" | "patch") | ("status", "update" | "patch"):
            return _ALLOWED  # of itself only: NodeRestriction sees to that
        case "", "get" | "list" | "watch":
            if info.name == node:
                return _ALLOWED
            what = f"'{info.name}'" if info.name else "all nodes"
            return False, f"node '{node}' cannot read {what}, only its own Node object"
    return False, ""


def _lease(node: str, info: RequestInfo) -> Decision:
    if info.verb not in _OWN:
        return False, "can only get, create, update, patch, or delete a node lease"
    if info.namespace != LEASES:
        return False, f'can only access leases in the "{LEASES}" system namespace'
    if info.verb != "create" and info.name != node:
        return False, "can only access node lease with the same name as the requesting node"
    return _ALLOWED


def _csi_node(node: str, info: RequestInfo) -> Decision:
    if info.verb not in _OWN:
        return False, "can only get, create, update, patch, or delete a CSINode"
    if info.subresource:
        return False, "cannot authorize CSINode subresources"
    if info.verb != "create" and info.name != node:
        return False, "can only access CSINode with the same name as the requesting node"
    return _ALLOWED
