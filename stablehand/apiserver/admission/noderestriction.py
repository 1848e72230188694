"""NodeRestriction: a kubelet changes its own node, its own pods and its own lease only."""

from __future__ import annotations

from stablehand.apiserver import errors
from stablehand.apiserver.authz.node import node_of
from stablehand.apiserver.core import Attributes, Core
from stablehand.machinery.meta import nested


def check(core: Core, a: Attributes) -> None:
    node = node_of(a.request.user)
    if node is None:
        return
    key = a.resource.key
    if key == "nodes" and a.name != node:
        raise errors.forbidden(
            a.resource, a.name, f"node {node!r} is not allowed to modify node {a.name!r}".replace("'", '"')
        )
    if key == "pods":
        pod = a.old if a.old is not None else a.obj
        if a.subresource in ("eviction", "binding"):
            entry = core.storage.collection(a.resource).get((a.namespace, a.name))
            pod = entry.obj if entry is not None else None
        if pod is not None and nested(pod, "spec", "nodeName") != node:
            raise errors.forbidden(
                a.resource, a.name, f'node "{node}" can only act on pods with spec.nodeName set to itself'
            )
        if a.operation == "CREATE" and a.subresource == "binding":
            raise errors.forbidden(a.resource, a.name, f'node "{node}" cannot bind pods')
        if (
            a.operation == "CREATE"
            and not a.subresource
            and "kubernetes.io/config.mirror" not in ((a.obj or {}).get("metadata", {}).get("annotations") or {})
        ):
            raise errors.forbidden(a.resource, a.name, f'node "{node}" can only create mirror pods')
        if a.operation == "UPDATE" and a.subresource != "status":
            raise errors.forbidden(a.resource, a.name, f'node "{node}" can only update pod status')
    if key == "leases.coordination.k8s.io" and a.namespace == "kube-node-lease" and a.name != node:
        raise errors.forbidden(
            a.resource, a.name, "can only access node lease with the same name as the requesting node"
        )
