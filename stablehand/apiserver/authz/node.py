"""The node authorizer: a kubelet may read what the pods bound to its node use, and nothing else's secrets.

Its writes (pods' and its own node's status, leases) are limited further by NodeRestriction in admission.
"""

from __future__ import annotations

from stablehand.apiserver.contract import RequestInfo, User
from stablehand.apiserver.storage.storage import Storage
from stablehand.machinery.meta import nested
from stablehand.machinery.resources import resource
from stablehand.machinery.types import Obj

PREFIX, GROUP = "system:node:", "system:nodes"
_GUARDED = ("secrets", "configmaps", "persistentvolumeclaims", "persistentvolumes", "serviceaccounts")


def node_of(user: User) -> str | None:
    """The node's name when the user is a kubelet."""
    if GROUP in user.groups and user.name.startswith(PREFIX):
        return user.name.removeprefix(PREFIX)
    return None


class NodeAuthorizer:
    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def authorize(self, user: User, info: RequestInfo) -> bool | None:
        """True or False for a kubelet's guarded requests; None where RBAC decides."""
        node = node_of(user)
        if node is None or not info.is_resource or info.group or info.plural not in _GUARDED:
            return None
        if info.plural == "serviceaccounts":
            if info.verb != "create" or info.subresource != "token":
                return None
            return any(nested(p, "spec", "serviceAccountName") == info.name for p in self._pods(node, info.namespace))
        if info.plural == "persistentvolumeclaims" and info.subresource == "status":
            return info.verb in ("get", "patch", "update")
        if info.verb not in ("get", "list", "watch") or not info.name:
            return False
        if info.plural == "persistentvolumes":
            entry = self._storage.collection(resource("persistentvolumes")).get(("", info.name))
            claim = nested(entry.obj, "spec", "claimRef") if entry is not None else None
            return claim is not None and self._uses(
                node, claim.get("namespace", ""), "persistentvolumeclaims", claim.get("name")
            )
        return self._uses(node, info.namespace, info.plural, info.name)

    def _pods(self, node: str, namespace: str) -> list[Obj]:
        pods = self._storage.collection(resource("pods")).namespaces.get(namespace, {})
        return [e.obj for e in pods.values() if nested(e.obj, "spec", "nodeName") == node]

    def _uses(self, node: str, namespace: str, plural: str, name: str) -> bool:
        return any(name in references(pod, plural) for pod in self._pods(node, namespace))


def references(pod: Obj, plural: str) -> set[str]:
    """Names of the secrets, configmaps or claims that a pod refers to."""
    spec = pod.get("spec") or {}
    found: set[str | None] = set()
    field, env_field, from_field = (
        ("secret", "secretKeyRef", "secretRef")
        if plural == "secrets"
        else ("configMap", "configMapKeyRef", "configMapRef")
    )
    for volume in spec.get("volumes") or ():
        if plural == "persistentvolumeclaims":
            if nested(volume, "persistentVolumeClaim", "claimName"):
                found.add(volume["persistentVolumeClaim"]["claimName"])
            if volume.get("ephemeral"):
                found.add(f"{pod['metadata']['name']}-{volume['name']}")
            continue
        source = volume.get(field) or {}
        found.add(source.get("secretName") if plural == "secrets" else source.get("name"))
        for projection in nested(volume, "projected", "sources") or ():
            found.add((projection.get(field) or {}).get("name"))
    if plural == "persistentvolumeclaims":
        return {name for name in found if name}
    for group in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(group) or ():
            for env in container.get("env") or ():
                found.add(nested(env, "valueFrom", env_field, "name"))
            for source in container.get("envFrom") or ():
                found.add((source.get(from_field) or {}).get("name"))
    if plural == "secrets":
        found.update(s.get("name") for s in spec.get("imagePullSecrets") or ())
    return {name for name in found if name}
