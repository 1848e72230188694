"""What an object counts for under a ResourceQuota, and which quotas are about it. Pure; admission and the quota
controller both count by these rules (k8s.io/kubernetes pkg/quota/v1/evaluator/core).
"""

from __future__ import annotations

from decimal import Decimal

from stablehand.machinery import meta, quantity, volumes
from stablehand.machinery.podresources import claimed_spec
from stablehand.machinery.pods import is_over
from stablehand.machinery.resources import Resource
from stablehand.machinery.times import parse_time
from stablehand.machinery.types import Obj

Usage = dict[str, Decimal]  # by quota resource name; plain units (cpu in cores, memory in bytes)

# Kinds that are counted under their plural alone, beside count/<plural>.
COUNTED = frozenset(
    {"services", "secrets", "configmaps", "persistentvolumeclaims", "replicationcontrollers", "resourcequotas"}
)
_CLASS = ".storageclass.storage.k8s.io/"
_COMPUTE = ("cpu", "memory", "ephemeral-storage")
_ONE, _ZERO = Decimal(1), Decimal(0)


def usage(res: Resource, obj: Obj, now: float) -> Usage:
    """Everything the object counts for, by name."""
    out: Usage = {f"count/{res.key}": _ONE}
    if res.key in COUNTED:
        out[res.plural] = _ONE
    if res.key == "pods":
        out |= _pod(obj, now)
    elif res.key == "services":
        out |= _service(obj["spec"])
    elif res.key == "persistentvolumeclaims":
        out |= _claim(obj)
    return out


def _pod(pod: Obj, now: float) -> Usage:
    if is_over(pod) or _given_up(pod, now):
        return {}
    out: Usage = {"pods": _ONE}
    spec = claimed_spec(pod)
    for field in ("requests", "limits"):
        for name, amount in _resources(spec, field).items():
            out[f"{field}.{name}"] = amount
            if field == "requests" and (name in _COMPUTE or name.startswith("hugepages-")):
                out[name] = amount
    return out


def _given_up(pod: Obj, now: float) -> bool:
    """Its grace is over, yet it is still there: a node that does not answer must not keep a quota used up."""
    deleted, grace = pod["metadata"].get("deletionTimestamp"), pod["metadata"].get("deletionGracePeriodSeconds")
    return bool(deleted) and grace is not None and now > parse_time(deleted) + grace


def _resources(spec: Obj, field: str) -> Usage:
    """The larger of all containers (and sidecars) together and each init container beside the sidecars before it."""

    def of(container: Obj) -> Usage:
        resources = container.get("resources") or {}
        return {name: quantity.parse(value) for name, value in (resources.get(field) or {}).items()}

    total: Usage = {}
    for container in spec.get("containers") or ():
        _add(total, of(container))
    sidecars: Usage = {}
    initial: Usage = {}
    for container in spec.get("initContainers") or ():
        beside = dict(sidecars)
        _add(beside, of(container))
        if container.get("restartPolicy") == "Always":
            _add(total, of(container))
            sidecars = beside
        for name, amount in beside.items():
            initial[name] = max(initial.get(name, _ZERO), amount)
    for name, amount in initial.items():
        total[name] = max(total.get(name, _ZERO), amount)
    pod_level = of(spec)
    total.update(pod_level)
    if field == "requests" or total:
        overhead = {name: quantity.parse(value) for name, value in (spec.get("overhead") or {}).items()}
        _add(total, overhead if field == "requests" else {n: a for n, a in overhead.items() if n in total})
    return total


def _add(total: Usage, more: Usage) -> None:
    for name, amount in more.items():
        total[name] = total.get(name, _ZERO) + amount


def _service(spec: Obj) -> Usage:
    kind, ports = spec.get("type"), spec.get("ports") or ()
    out: Usage = {"services.loadbalancers": _ZERO, "services.nodeports": _ZERO}
    if kind == "LoadBalancer":
        out["services.loadbalancers"] = _ONE
        if spec.get("allocateLoadBalancerNodePorts") is False:
            ports = [p for p in ports if p.get("nodePort")]
    if kind in ("NodePort", "LoadBalancer"):
        out["services.nodeports"] = Decimal(len(ports))
    return out


def _claim(claim: Obj) -> Usage:
    amount = Decimal(volumes.request_of(claim))
    out: Usage = {"requests.storage": amount}
    if name := volumes.class_of(claim):
        out[f"{name}{_CLASS}requests.storage"] = amount
        out[f"{name}{_CLASS}persistentvolumeclaims"] = _ONE
    return out


def counted_kind(name: str) -> str | None:
    """The resource key whose objects a quota name counts one by one: "configmaps" of configmaps and
    count/configmaps; None for amounts."""
    if name.startswith("count/"):
        return name.removeprefix("count/")
    return name if name in COUNTED or name == "pods" else None


def text(name: str, amount: Decimal) -> str:
    """An amount as a quota's status writes it."""
    if name in ("cpu", "requests.cpu", "limits.cpu"):
        return quantity.format_milli(int(amount * 1000))
    if counted_kind(name) or name.startswith("services.") or name.endswith("/persistentvolumeclaims"):
        return str(int(amount))
    return quantity.format_bytes(int(amount))


# -- scopes


def terms(quota: Obj) -> list[Obj]:
    """The quota's scopes as selector terms."""
    spec = quota["spec"]
    plain = [{"scopeName": s, "operator": "Exists"} for s in spec.get("scopes") or ()]
    return plain + list((spec.get("scopeSelector") or {}).get("matchExpressions") or ())


def in_scope(quota: Obj, res: Resource, obj: Obj) -> bool:
    """Is the quota about this object? Scopes are about pods (and one about claims); a scoped quota counts no other."""
    wanted = terms(quota)
    if not wanted:
        return True
    if res.key == "persistentvolumeclaims":
        return all(t.get("scopeName") == "VolumeAttributesClass" and _attributes_class(t, obj) for t in wanted)
    return res.key == "pods" and all(_term(term, obj) for term in wanted)


def _attributes_class(term: Obj, claim: Obj) -> bool:
    names = {
        claim["spec"].get("volumeAttributesClassName"),
        (claim.get("status") or {}).get("currentVolumeAttributesClassName"),
    } - {None, ""}
    match term.get("operator"):
        case "In":
            return bool(names & set(term.get("values") or ()))
        case "NotIn":
            return not names & set(term.get("values") or ())
        case "DoesNotExist":
            return not names
    return bool(names)


def _term(term: Obj, pod: Obj) -> bool:
    spec = pod["spec"]
    match term.get("scopeName"):
        case "Terminating":
            return spec.get("activeDeadlineSeconds") is not None
        case "NotTerminating":
            return spec.get("activeDeadlineSeconds") is None
        case "BestEffort":
            return _best_effort(spec)
        case "NotBestEffort":
            return not _best_effort(spec)
        case "PriorityClass":
            return _priority(term, spec.get("priorityClassName") or "")
        case "CrossNamespacePodAffinity":
            return _crosses_namespaces(spec.get("affinity") or {})
    return False


def _best_effort(spec: Obj) -> bool:
    containers = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    return not any(
        quantity.parse(value)
        for c in containers
        for field in ("requests", "limits")
        for name, value in ((c.get("resources") or {}).get(field) or {}).items()
        if name in ("cpu", "memory")
    )


def _priority(term: Obj, name: str) -> bool:
    values = term.get("values") or ()
    match term.get("operator"):
        case "In":
            return name in values
        case "NotIn":
            return name not in values
        case "DoesNotExist":
            return not name
    return bool(name)


def _crosses_namespaces(affinity: Obj) -> bool:
    for kind in ("podAffinity", "podAntiAffinity"):
        rules = affinity.get(kind) or {}
        found = list(rules.get("requiredDuringSchedulingIgnoredDuringExecution") or ())
        found += [
            w.get("podAffinityTerm") or {} for w in rules.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
        ]
        if any(t.get("namespaces") or t.get("namespaceSelector") is not None for t in found):
            return True
    return False


# -- what a pod must say


def unset(hard: Obj, pod: Obj) -> dict[str, list[str]]:
    """Compute resources that the quota limits and containers do not set: by name, the containers at fault."""
    spec, out = pod["spec"], {}
    if meta.nested(spec, "resources"):
        return {}
    for name in sorted(hard):
        field, _, what = name.partition(".") if "." in name else ("requests", "", name)
        if field not in ("requests", "limits") or what not in ("cpu", "memory"):
            continue
        lacking = [
            c["name"]
            for c in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
            if what not in ((c.get("resources") or {}).get(field) or {})
        ]
        if lacking:
            out[name] = sorted(lacking)
    return out
