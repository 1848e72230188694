"""ResourceQuota: a create is refused when it would pass a hard limit of its namespace.

Usage is counted from what is stored at this moment; status.used is written by the quota controller.
"""

from __future__ import annotations

from decimal import Decimal

from stablehand.apiserver import errors
from stablehand.apiserver.core import Attributes, Core
from stablehand.machinery import quantity
from stablehand.machinery.meta import nested
from stablehand.machinery.resources import Resource, resource
from stablehand.machinery.types import Obj

_QUOTAS = resource("resourcequotas")
_COUNTED = {
    "pods", "services", "secrets", "configmaps", "persistentvolumeclaims", "replicationcontrollers", "resourcequotas",
}  # fmt: skip


def usage(res: Resource, obj: Obj) -> dict[str, Decimal]:
    """What one object counts for, by quota resource name."""
    one = Decimal(1)
    out: dict[str, Decimal] = {f"count/{res.key}": one}
    if res.key == "pods":
        if nested(obj, "status", "phase") in ("Succeeded", "Failed"):
            return out
        out["pods"] = one
        for container in nested(obj, "spec", "containers") or ():
            resources = container.get("resources") or {}
            for side in ("requests", "limits"):
                for name, value in (resources.get(side) or {}).items():
                    amount = quantity.parse(value)
                    for label in (f"{side}.{name}", name if side == "requests" else ""):
                        if label:
                            out[label] = out.get(label, Decimal(0)) + amount
        return out
    if res.key in _COUNTED:
        out[res.plural] = one
    if res.key == "services":
        kind = nested(obj, "spec", "type")
        if kind == "LoadBalancer":
            out["services.loadbalancers"] = one
        if kind in ("NodePort", "LoadBalancer"):
            out["services.nodeports"] = Decimal(len(nested(obj, "spec", "ports") or ()))
    if res.key == "persistentvolumeclaims":
        request = nested(obj, "spec", "resources", "requests", "storage")
        if request:
            out["requests.storage"] = quantity.parse(request)
            name = nested(obj, "spec", "storageClassName")
            if name:
                out[f"{name}.storageclass.storage.k8s.io/requests.storage"] = quantity.parse(request)
                out[f"{name}.storageclass.storage.k8s.io/persistentvolumeclaims"] = one
    return out


def check(core: Core, a: Attributes) -> None:
    if a.operation not in ("CREATE", "UPDATE") or not a.namespace or a.subresource or a.obj is None:
        return
    quotas = core.storage.collection(_QUOTAS).namespaces.get(a.namespace)
    if not quotas:
        return
    new = usage(a.resource, a.obj)
    before = usage(a.resource, a.old) if a.old is not None else {}
    delta = {k: v - before.get(k, Decimal(0)) for k, v in new.items() if v > before.get(k, Decimal(0))}
    if not delta:
        return
    used: dict[str, Decimal] = {}
    for entry in core.storage.collection(a.resource).namespaces.get(a.namespace, {}).values():
        for name, amount in usage(a.resource, entry.obj).items():
            used[name] = used.get(name, Decimal(0)) + amount
    for name, entry in sorted(quotas.items()):
        spec = entry.obj.get("spec") or {}
        if spec.get("scopes") or spec.get("scopeSelector"):
            continue  # scoped quotas are counted by the controller only
        hard = spec.get("hard") or {}
        if a.resource.key == "pods" and a.operation == "CREATE":
            compute = ("cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory")
            missing = [k for k in hard if k in compute and k not in new]
            if missing:
                raise errors.forbidden(
                    a.resource,
                    a.name,
                    f"failed quota: {name}: must specify {','.join(sorted(missing))} for: "
                    + ",".join(c["name"] for c in a.obj["spec"]["containers"]),
                )
        over = [k for k in sorted(delta) if k in hard and used.get(k, Decimal(0)) + delta[k] > quantity.parse(hard[k])]
        if over:
            asked = ",".join(f"{k}={quantity.format_decimal(delta[k])}" for k in over)
            have = ",".join(f"{k}={quantity.format_decimal(used.get(k, Decimal(0)))}" for k in over)
            limit = ",".join(f"{k}={hard[k]}" for k in over)
            raise errors.forbidden(
                a.resource, a.name, f"exceeded quota: {name}, requested: {asked}, used: {have}, limited: {limit}"
            )
