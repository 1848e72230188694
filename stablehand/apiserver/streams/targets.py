"""What a stream goes to: the pod, its container, and the address of the kubelet that has it."""

from __future__ import annotations

from stablehand.apiserver import errors
from stablehand.apiserver.core import Core
from stablehand.machinery import meta
from stablehand.machinery.meta import nested
from stablehand.machinery.resources import resource
from stablehand.machinery.types import Obj

_SERVICE_NAME = "kubernetes.io/service-name"
_DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"


def find(core: Core, plural: str, namespace: str, name: str) -> Obj:
    """The stored object. Raises StatusError NotFound."""
    res = resource(plural)
    entry = core.storage.collection(res).get((namespace, name) if res.namespaced else ("", name))
    if entry is None:
        raise errors.not_found(res, name)
    return entry.obj


def service_addresses(core: Core, namespace: str, service: str, port_name: str) -> list[tuple[str, int]]:
    """The ready (address, port) behind a Service's port: its Endpoints', or those of hand-made EndpointSlices."""
    entry = core.storage.collection(resource("endpoints")).get((namespace, service))
    if entry is not None:
        return [
            (address["ip"], port["port"])
            for subset in entry.obj.get("subsets") or ()
            for port in subset.get("ports") or ()
            if port.get("name", "") == port_name
            for address in subset.get("addresses") or ()
        ]
    slices = core.storage.collection(resource("endpointslices.discovery.k8s.io")).entries.values()
    return [
        (endpoint["addresses"][0], port["port"])
        for piece in (e.obj for e in slices)
        if meta.namespace(piece) == namespace and meta.labels(piece).get(_SERVICE_NAME) == service
        for port in piece.get("ports") or ()
        if (port.get("name") or "") == port_name and port.get("port")
        for endpoint in piece.get("endpoints") or ()
        if (endpoint.get("conditions") or {}).get("ready") is not False
    ]


def container_of(pod: Obj, wanted: str) -> str:
    """The container asked for, or the only one. Raises StatusError as the API server words it."""
    spec, name = pod.get("spec") or {}, pod["metadata"]["name"]
    normal = [c["name"] for c in spec.get("containers") or ()]
    init = [c["name"] for c in spec.get("initContainers") or ()]
    ephemeral = [c["name"] for c in spec.get("ephemeralContainers") or ()]
    if wanted:
        if wanted not in (*normal, *init, *ephemeral):
            raise errors.bad_request(f"container {wanted} is not valid for pod {name}")
        return wanted
    default = (pod["metadata"].get("annotations") or {}).get(_DEFAULT_CONTAINER)
    if default in normal:
        return str(default)
    if len(normal) == 1:
        return str(normal[0])
    message = f"a container name must be specified for pod {name}"
    if normal:
        message += f", choose one of: [{' '.join(normal)}]"
        if init:
            message += f" or one of the init containers: [{' '.join(init)}]"
    raise errors.bad_request(message)


def host_of(pod: Obj) -> str:
    """The pod's node. Raises StatusError when it has none."""
    node = nested(pod, "spec", "nodeName")
    if not node:
        raise errors.bad_request(f"pod {pod['metadata']['name']} does not have a host assigned")
    return str(node)


def kubelet_address(core: Core, node_name: str) -> tuple[str, int]:
    """Where the node's kubelet listens. Raises StatusError."""
    node = find(core, "nodes", "", node_name)
    addresses = {a["type"]: a["address"] for a in reversed(nested(node, "status", "addresses") or [])}
    for kind in ("InternalIP", "ExternalIP", "Hostname"):
        if kind in addresses:
            port = nested(node, "status", "daemonEndpoints", "kubeletEndpoint", "Port") or 10250
            return str(addresses[kind]), int(port)
    raise errors.internal(f"no preferred addresses found; known addresses: {sorted(addresses)}")
