"""The status of a ReplicaSet or ReplicationController, from its pods. Pure."""

from __future__ import annotations

from stablehand.machinery import meta
from stablehand.machinery.conditions import get_condition, is_pod_ready, set_condition
from stablehand.machinery.pods import ready_since
from stablehand.machinery.types import Obj, copy_object

FAILURE = "ReplicaFailure"


def desired(rs: Obj) -> int:
    replicas = rs["spec"].get("replicas")
    return 1 if replicas is None else int(replicas)


def build(
    rs: Obj, active: list[Obj], terminating: int | None, error: Exception | None, surplus: int, now: float
) -> tuple[Obj, float | None]:
    """The new status, and in how many seconds a ready pod next becomes available."""
    wanted = ((rs["spec"].get("template") or {}).get("metadata") or {}).get("labels") or {}
    min_ready = int(rs["spec"].get("minReadySeconds") or 0)
    labeled = ready = available = 0
    after: float | None = None
    for pod in active:
        labels = meta.labels(pod)
        if all(labels.get(k) == v for k, v in wanted.items()):
            labeled += 1
        if is_pod_ready(pod):
            ready += 1
            wait = ready_since(pod) + min_ready - now if min_ready else 0.0
            if wait <= 0:
                available += 1
            elif after is None or wait < after:
                after = wait
    old = rs.get("status") or {}
    status: Obj = {"replicas": len(active), "observedGeneration": rs["metadata"].get("generation") or 0}
    for field, value in (
        ("fullyLabeledReplicas", labeled),
        ("readyReplicas", ready),
        ("availableReplicas", available),
    ):
        if value:
            status[field] = value
    if terminating is not None:
        status["terminatingReplicas"] = terminating
    if old.get("conditions"):
        status["conditions"] = copy_object({"c": old["conditions"]})["c"]
    if error is not None and get_condition(old, FAILURE) is None:
        reason = "FailedCreate" if surplus < 0 else "FailedDelete"
        set_condition(status, FAILURE, "True", reason, str(error), now)
    elif error is None and get_condition(old, FAILURE) is not None:
        status["conditions"] = [c for c in status["conditions"] if c.get("type") != FAILURE]
        if not status["conditions"]:
            del status["conditions"]
    return status, after
