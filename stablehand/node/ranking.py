"""Which pod a short machine ends first, and in what words: kubelet's order of eviction. Pure.

First those that use more than they asked for, then by priority, then by how much more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from stablehand.machinery import quantity
from stablehand.machinery.podresources import pod_requests
from stablehand.machinery.types import Obj
from stablehand.node.resources import qos_class
from stablehand.node.signals import RESOURCES, Observation, Threshold

_CRITICAL = 2_000_000_000
MEMORY_TAINT = "node.kubernetes.io/memory-pressure"


@dataclass(slots=True)
class PodUsage:
    """Bytes, by container; `volumes` are the pod's emptyDirs; `inodes` and `processes` of the whole pod."""

    memory: dict[str, int] = field(default_factory=dict)
    disk: dict[str, int] = field(default_factory=dict)
    volumes: int = 0
    inodes: int = 0
    processes: int = 0


def is_critical(pod: Obj) -> bool:
    """Never evicted, and admitted under any pressure."""
    return int(pod["spec"].get("priority") or 0) >= _CRITICAL


def rank(signal: str, pods: Iterable[tuple[Obj, PodUsage]]) -> list[Obj]:
    """First to go first; critical pods are left out."""
    resource = RESOURCES[signal]

    def key(item: tuple[Obj, PodUsage]) -> tuple[int, int, int]:
        pod, usage = item
        priority = int(pod["spec"].get("priority") or 0)
        if resource == "pids":
            return 0, priority, -usage.processes
        if resource == "inodes":
            return 0, priority, -usage.inodes
        used = sum(usage.memory.values()) if resource == "memory" else sum(usage.disk.values()) + usage.volumes
        over = used - pod_requests(pod["spec"]).get(resource, 0)
        return (0 if over > 0 else 1), priority, -over

    ranked = [item for item in pods if not is_critical(item[0])]
    return [pod for pod, _ in sorted(ranked, key=key)]


def message(threshold: Threshold, seen: Observation, pod: Obj, usage: PodUsage) -> str:
    """Of the Evicted status and event."""
    resource = RESOURCES[threshold.signal]
    amount = threshold.amount(seen.capacity)
    text = f"The node was low on resource: {resource}. "
    text += f"Threshold quantity: {_shown(resource, amount)}, available: {_shown(resource, seen.available)}. "
    by_container = {"memory": usage.memory, "ephemeral-storage": usage.disk}.get(resource, {})
    for container in [*pod["spec"]["containers"], *(pod["spec"].get("initContainers") or ())]:
        used = by_container.get(container["name"])
        asked = ((container.get("resources") or {}).get("requests") or {}).get(resource, "0")
        if used is not None and used > quantity.whole(asked):
            text += f"Container {container['name']} was using {quantity.format_bytes(used)}, request is {asked}, "
            text += f"has larger consumption of {resource}. "
    return text


def _shown(resource: str, amount: int) -> str:
    return quantity.format_bytes(amount) if resource in ("memory", "ephemeral-storage") else str(amount)


def pressure_refusal(pod: Obj, pressing: Mapping[str, bool]) -> tuple[str, str] | None:
    """(reason, message) when a node under pressure takes no such pod, else None."""
    now = [kind for kind, value in pressing.items() if value]
    if not now or is_critical(pod):
        return None
    if now == ["MemoryPressure"]:
        tolerated = any(
            t.get("effect") in (None, "", "NoSchedule")
            and (t.get("key") == MEMORY_TAINT or (not t.get("key") and t.get("operator") == "Exists"))
            for t in pod["spec"].get("tolerations") or ()
        )
        if qos_class(pod) != "BestEffort" or tolerated:
            return None
    return "Evicted", f"The node had condition: [{' '.join(now)}]. "
