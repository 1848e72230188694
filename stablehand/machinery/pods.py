"""What controllers ask of pods: alive or over, and which of many to delete first."""

from __future__ import annotations

from collections.abc import Mapping

from stablehand.machinery import meta
from stablehand.machinery.conditions import get_condition, is_pod_ready
from stablehand.machinery.times import parse_time
from stablehand.machinery.types import Obj

_PHASE_RANK = {"Pending": 0, "Unknown": 1, "Running": 2}


def phase(pod: Obj) -> str:
    return (pod.get("status") or {}).get("phase") or ""


def is_over(pod: Obj) -> bool:
    """Failed or Succeeded: it will not run again."""
    return phase(pod) in ("Failed", "Succeeded")


def is_active(pod: Obj) -> bool:
    """Not over and not terminating (controller.IsPodActive)."""
    return not is_over(pod) and not meta.deletion_timestamp(pod)


def ready_since(pod: Obj) -> float:
    """When the pod became Ready; 0 when it is not."""
    condition = get_condition(pod.get("status"), "Ready")
    if condition is None or condition.get("status") != "True" or not condition.get("lastTransitionTime"):
        return 0.0
    return parse_time(condition["lastTransitionTime"])


def restarts(pod: Obj) -> int:
    status = pod.get("status") or {}
    return max((c.get("restartCount") or 0 for c in status.get("containerStatuses") or ()), default=0)


def deletion_cost(pod: Obj) -> int:
    try:
        return int(meta.annotations(pod).get("controller.kubernetes.io/pod-deletion-cost") or 0)
    except ValueError:
        return 0


def deletion_order(pods: list[Obj], per_node: Mapping[str, int], now: float) -> list[Obj]:
    """First the pods whose loss hurts least (ActivePodsWithRanks): unscheduled, pending, not ready, cheap,
    on crowded nodes, ready or made recently, often restarted.

    `per_node` counts the related active pods on each node. Ages are compared on a logarithmic scale, as upstream.
    """

    def age_bucket(since: float) -> int:
        return max(0, int(now - since)).bit_length()

    def rank(pod: Obj) -> tuple[object, ...]:
        node = pod["spec"].get("nodeName") or ""
        ready = is_pod_ready(pod)
        created = pod["metadata"].get("creationTimestamp")
        return (
            bool(node),
            _PHASE_RANK.get(phase(pod), 0),
            ready,
            deletion_cost(pod),
            -per_node.get(node, 0),
            age_bucket(ready_since(pod)) if ready else 0,
            -restarts(pod),
            age_bucket(parse_time(created)) if created else 0,
            meta.uid(pod),
        )

    return sorted(pods, key=rank)


def change_matters(old: Obj, new: Obj) -> bool:
    """Does the change of a pod concern the workload it belongs to? Being bound to a node, say, does not."""
    before, after = old["metadata"], new["metadata"]
    if any(before.get(f) != after.get(f) for f in ("labels", "ownerReferences", "deletionTimestamp", "finalizers")):
        return True
    was, is_ = old.get("status") or {}, new.get("status") or {}
    return was.get("phase") != is_.get("phase") or _readiness(was) != _readiness(is_)


def _readiness(status: Obj) -> tuple[str, str]:
    for condition in status.get("conditions") or ():
        if condition.get("type") == "Ready":
            return condition.get("status") or "", condition.get("lastTransitionTime") or ""
    return "", ""
