"""Requests and limits of a pod as the kernel's numbers: QoS class, cgroup shares and quotas, OOM scores. Pure."""

from __future__ import annotations

from stablehand.machinery import quantity
from stablehand.machinery.types import Obj
from stablehand.node.cri.pb import cri_pb2 as pb

PERIOD = 100_000
MIN_SHARES, MAX_SHARES, MIN_QUOTA = 2, 262_144, 1000


def qos_class(pod: Obj) -> str:
    """Guaranteed, Burstable or BestEffort."""
    seen, guaranteed = False, True
    pod_level = pod["spec"].get("resources")
    owners = [pod["spec"]] if pod_level else [*pod["spec"]["containers"], *(pod["spec"].get("initContainers") or ())]
    for owner in owners:
        resources = owner.get("resources") or {}
        asked = {k: v for k, v in (resources.get("requests") or {}).items() if k in ("cpu", "memory")}
        limits = {k: v for k, v in (resources.get("limits") or {}).items() if k in ("cpu", "memory")}
        asked = {k: v for k, v in asked.items() if quantity.parse(v) > 0}
        limits = {k: v for k, v in limits.items() if quantity.parse(v) > 0}
        seen = seen or bool(asked or limits)
        equal = all(quantity.compare(asked.get(k, limits[k]), limits[k]) == 0 for k in limits)
        guaranteed = guaranteed and set(limits) == {"cpu", "memory"} and equal
    if not seen:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


def cpu_shares(milli: int) -> int:
    return max(MIN_SHARES, min(MAX_SHARES, milli * 1024 // 1000)) if milli else MIN_SHARES


def cpu_quota(milli: int) -> int:
    return max(MIN_QUOTA, milli * PERIOD // 1000) if milli else 0


def oom_score(pod: Obj, container: Obj, capacity: int) -> int:
    qos = qos_class(pod)
    if qos == "Guaranteed":
        return -997
    if qos == "BestEffort":
        return 1000
    request = _amount(container, "requests", "memory") or _amount(container, "limits", "memory")
    request += _spare_memory(pod)
    score = 1000 - (1000 * request) // max(capacity, 1)
    return max(3, min(999, score))


def _spare_memory(pod: Obj) -> int:
    """Each container's part of the memory that only the pod as a whole asks for."""
    whole = _amount(pod["spec"], "requests", "memory")
    if not whole:
        return 0
    spec = pod["spec"]
    sidecars = [c for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"]
    containers = [*spec["containers"], *sidecars]
    return max(0, whole - sum(_amount(c, "requests", "memory") for c in containers)) // len(containers)


def _amount(container: Obj, kind: str, name: str) -> int:
    value = ((container.get("resources") or {}).get(kind) or {}).get(name)
    if value is None:
        return 0
    return quantity.milli(value) if name == "cpu" else quantity.whole(value)


def container_resources(pod: Obj, container: Obj, capacity: int) -> pb.LinuxContainerResources:
    """What CRI sets on the container's cgroup; the limits of the whole pod hold for a container without its own."""
    cpu, memory = (
        _amount(container, "limits", name) or _amount(pod["spec"], "limits", name) for name in ("cpu", "memory")
    )
    request = _amount(container, "requests", "cpu") or cpu
    return pb.LinuxContainerResources(
        cpu_period=PERIOD,
        cpu_quota=cpu_quota(cpu),
        cpu_shares=cpu_shares(request),
        memory_limit_in_bytes=memory,
        oom_score_adj=oom_score(pod, container, capacity),
    )


def amount(container: Obj, kind: str, name: str) -> int:
    """Milli-CPU, or the whole number of another resource; 0 where none is given."""
    return _amount(container, kind, name)
