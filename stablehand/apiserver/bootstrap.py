"""What every cluster has from its first second: namespaces, roles, priority classes, the kubernetes Service.

Written straight through the storage, before the first request; missing pieces come back at every start. All writes
of one start share one group commit.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import uuid
from collections.abc import Iterable

from stablehand.apiserver.authz import bootstrap_roles
from stablehand.apiserver.core import Core
from stablehand.apiserver.flowcontrol.objects import all_objects as flow_objects
from stablehand.apiserver.storage.collection import Collection, Key
from stablehand.machinery.resources import Resource, resource
from stablehand.machinery.times import format_time
from stablehand.machinery.types import Obj, copy_object
from stablehand.store.contract import RevisionMismatch

_RBAC = "rbac.authorization.k8s.io"
NAMESPACES = ("default", "kube-node-lease", "kube-public", "kube-system")


def _priority(name: str, value: int, description: str) -> Obj:
    return {
        "kind": "PriorityClass",
        "apiVersion": "scheduling.k8s.io/v1",
        "metadata": {"name": name, "generation": 1},
        "value": value,
        "description": description,
        "preemptionPolicy": "PreemptLowerPriority",
    }


def _namespace(name: str) -> Obj:
    return {
        "kind": "Namespace",
        "apiVersion": "v1",
        "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"},
    }


def _objects(core: Core) -> Iterable[tuple[Resource, Obj]]:
    for name in NAMESPACES:
        yield resource("namespaces"), _namespace(name)
    for role in bootstrap_roles.cluster_roles():
        yield resource(f"clusterroles.{_RBAC}"), role
    for binding in bootstrap_roles.cluster_role_bindings():
        yield resource(f"clusterrolebindings.{_RBAC}"), binding
    for role in bootstrap_roles.roles():
        yield resource(f"roles.{_RBAC}"), role
    for binding in bootstrap_roles.role_bindings():
        yield resource(f"rolebindings.{_RBAC}"), binding
    yield from flow_objects(format_time(core.clock()))
    yield resource("servicecidrs.networking.k8s.io"), _service_cidr(core)
    yield resource("configmaps"), _token_tracking(core)
    classes = resource("priorityclasses.scheduling.k8s.io")
    yield (
        classes,
        _priority(
            "system-node-critical",
            2000001000,
            "Used for system critical pods that must not be moved from their current node.",
        ),
    )
    yield (
        classes,
        _priority(
            "system-cluster-critical",
            2000000000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
    )


def _authentication(core: Core) -> Obj:
    """kube-system/extension-apiserver-authentication: how an aggregated API server knows who asks through us."""
    data = {"client-ca-file": core.config.ca_pem}
    if core.config.proxy_ca_pem:
        data |= {
            "requestheader-client-ca-file": core.config.proxy_ca_pem,
            "requestheader-allowed-names": '["front-proxy-client"]',
            "requestheader-username-headers": '["X-Remote-User"]',
            "requestheader-uid-headers": '["X-Remote-Uid"]',
            "requestheader-group-headers": '["X-Remote-Group"]',
            "requestheader-extra-headers-prefix": '["X-Remote-Extra-"]',
        }
    return {
        "kind": "ConfigMap",
        "apiVersion": "v1",
        "metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system"},
        "data": data,
    }


def _token_tracking(core: Core) -> Obj:
    """Since when the use of tokens in Secrets is written on them."""
    return {
        "kind": "ConfigMap",
        "apiVersion": "v1",
        "metadata": {"name": "kube-apiserver-legacy-service-account-token-tracking", "namespace": "kube-system"},
        "data": {"since": format_time(core.clock())[:10]},
    }


def _service_cidr(core: Core) -> Obj:
    ready = {
        "type": "Ready",
        "status": "True",
        "lastTransitionTime": format_time(core.clock()),
        "reason": "",
        "message": "Kubernetes Service CIDR is ready",
    }
    return {
        "kind": "ServiceCIDR",
        "apiVersion": "networking.k8s.io/v1",
        "metadata": {"name": "kubernetes", "finalizers": ["networking.k8s.io/service-cidr-finalizer"]},
        "spec": {"cidrs": [core.config.service_cidr]},
        "status": {"conditions": [ready]},
    }


async def run(core: Core) -> None:
    """Makes what is missing. Raises the store's errors."""
    writes = []
    now = format_time(core.clock())
    for res, obj in _objects(core):
        collection = core.storage.collection(res)
        meta = obj["metadata"]
        key = (meta.get("namespace", ""), meta["name"])
        entry = collection.get(key)
        if entry is None:
            writes.append(_make(core, collection, key, _stamped(obj, now)))
        elif res.group == _RBAC and (reconciled := bootstrap_roles.reconciled(entry.obj, obj)) is not None:
            writes.append(_put(core, collection, key, reconciled, entry.revision))
    await asyncio.gather(*writes)
    await _kubernetes_service(core, now)
    await _ensure(core, resource("configmaps"), _authentication(core), now, ("data",))


async def _make(core: Core, collection: Collection, key: Key, obj: Obj) -> None:
    """Writes a new object, unless another API server on the same store has just made it."""
    await _put(core, collection, key, obj, 0)


async def _put(core: Core, collection: Collection, key: Key, obj: Obj, expect: int) -> None:
    with contextlib.suppress(RevisionMismatch):
        await core.storage.put(collection, key, obj, expect)


def _stamped(obj: Obj, now: str) -> Obj:
    obj = copy_object(obj)
    obj["metadata"].update(uid=str(uuid.uuid4()), creationTimestamp=now)
    return obj


async def _kubernetes_service(core: Core, now: str) -> None:
    """default/kubernetes, its Endpoints and its EndpointSlice: how pods find the API server."""
    config = core.config
    first = str(ipaddress.ip_network(config.service_cidr)[1])
    labels = {"component": "apiserver", "provider": "kubernetes"}
    port = {"name": "https", "port": config.advertise_port, "protocol": "TCP"}
    service: Obj = {
        "kind": "Service",
        "apiVersion": "v1",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
        "spec": {
            "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": config.advertise_port}],
            "clusterIP": first,
            "clusterIPs": [first],
            "type": "ClusterIP",
            "sessionAffinity": "None",
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
            "internalTrafficPolicy": "Cluster",
        },
        "status": {"loadBalancer": {}},
    }
    await _ensure(core, resource("services"), service, now, ("spec", "ports"))
    await core.allocator.addresses.repair()
    if not config.advertise_address:
        return
    address = config.advertise_address
    skip = {"endpointslice.kubernetes.io/skip-mirror": "true"}
    endpoints: Obj = {
        "kind": "Endpoints",
        "apiVersion": "v1",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": skip},
        "subsets": [{"addresses": [{"ip": address}], "ports": [port]}],
    }
    await _ensure(core, resource("endpoints"), endpoints, now, ("subsets",))
    endpoint_slice: Obj = {
        "kind": "EndpointSlice",
        "apiVersion": "discovery.k8s.io/v1",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "generation": 1,
            "labels": {"kubernetes.io/service-name": "kubernetes"},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
        "ports": [port],
    }
    await _ensure(core, resource("endpointslices.discovery.k8s.io"), endpoint_slice, now, ("endpoints", "ports"))


async def _ensure(core: Core, res: Resource, obj: Obj, now: str, fields: tuple[str, ...]) -> None:
    """Makes the object, or brings the named parts of the stored one up to date."""
    collection = core.storage.collection(res)
    key = (obj["metadata"]["namespace"], obj["metadata"]["name"])
    if collection.get(key) is None:
        await _make(core, collection, key, _stamped(obj, now))
    while (entry := collection.get(key)) is not None:
        new = copy_object(entry.obj)
        if fields[0] == "spec":
            new["spec"][fields[1]] = obj["spec"][fields[1]]
        else:
            for field in fields:
                new[field] = obj[field]
        if new == entry.obj:
            return
        try:
            await core.storage.put(collection, key, new, entry.revision)
            return
        except RevisionMismatch:
            continue  # another API server's write came first: `put` has waited until it is visible
