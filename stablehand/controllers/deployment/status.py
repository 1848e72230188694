"""A deployment's status and conditions. Pure: `now` is given."""

from __future__ import annotations

from stablehand.controllers.deployment import sizes
from stablehand.machinery import meta
from stablehand.machinery.conditions import get_condition
from stablehand.machinery.times import format_time, parse_time
from stablehand.machinery.types import Obj, copy_object

PROGRESSING, AVAILABLE, FAILURE = "Progressing", "Available", "ReplicaFailure"
_NO_DEADLINE = 2**31 - 1


def deadline(deployment: Obj) -> int | None:
    """progressDeadlineSeconds, or None where there is none."""
    value = deployment["spec"].get("progressDeadlineSeconds")
    return None if value is None or int(value) >= _NO_DEADLINE else int(value)


def condition(kind: str, value: str, reason: str, message: str, now: float) -> Obj:
    stamp = format_time(now)
    return {
        "type": kind,
        "status": value,
        "lastUpdateTime": stamp,
        "lastTransitionTime": stamp,
        "reason": reason,
        "message": message,
    }


def put(status: Obj, new: Obj) -> None:
    """Sets a condition unless status and reason are the same already."""
    old = get_condition(status, new["type"])
    if old is not None:
        if old.get("status") == new["status"] and old.get("reason") == new["reason"]:
            return
        if old.get("status") == new["status"]:
            new = {**new, "lastTransitionTime": old.get("lastTransitionTime")}
    drop(status, new["type"])
    status.setdefault("conditions", []).append(new)


def drop(status: Obj, kind: str) -> None:
    if "conditions" in status:
        status["conditions"] = [c for c in status["conditions"] if c.get("type") != kind]


def build(deployment: Obj, sets: list[Obj], new: Obj | None, now: float) -> Obj:
    """The counters and the Available condition; other conditions as they were."""
    old = deployment.get("status") or {}

    def add(field: str, of: list[Obj]) -> int:
        return sum(int((rs.get("status") or {}).get(field) or 0) for rs in of)

    ready_to_use = add("availableReplicas", sets)
    status: Obj = {"observedGeneration": deployment["metadata"].get("generation") or 0}
    for field, value in (
        ("replicas", add("replicas", sets)),
        ("updatedReplicas", add("replicas", [new] if new else [])),
        ("readyReplicas", add("readyReplicas", sets)),
        ("availableReplicas", ready_to_use),
        ("unavailableReplicas", max(0, sizes.total(sets) - ready_to_use)),
    ):
        if value:
            status[field] = value
    status["terminatingReplicas"] = add("terminatingReplicas", sets)
    if old.get("collisionCount") is not None:
        status["collisionCount"] = old["collisionCount"]
    status["conditions"] = copy_object({"c": old.get("conditions") or []})["c"]
    if ready_to_use >= sizes.replicas(deployment) - sizes.max_unavailable(deployment):
        good = ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    else:
        good = ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    put(status, condition(AVAILABLE, *good, now))
    return status


def complete(deployment: Obj, status: Obj) -> bool:
    """All pods are of the new template and available, and nothing old is left."""
    wanted = sizes.replicas(deployment)
    return all((status.get(f) or 0) == wanted for f in ("updatedReplicas", "replicas", "availableReplicas")) and (
        status.get("observedGeneration") or 0
    ) >= (deployment["metadata"].get("generation") or 0)


def progressed(deployment: Obj, new: Obj) -> bool:
    """Is the new status a step further than the old one?"""
    old = deployment.get("status") or {}

    def of(status: Obj, field: str) -> int:
        return int(status.get(field) or 0)

    return (
        of(new, "updatedReplicas") > of(old, "updatedReplicas")
        or of(new, "replicas") - of(new, "updatedReplicas") < of(old, "replicas") - of(old, "updatedReplicas")
        or of(new, "readyReplicas") > of(old, "readyReplicas")
        or of(new, "availableReplicas") > of(old, "availableReplicas")
    )


def timed_out(deployment: Obj, status: Obj, now: float) -> bool:
    found, limit = get_condition(status, PROGRESSING), deadline(deployment)
    if found is None or limit is None or found.get("reason") == "NewReplicaSetAvailable":
        return False
    if found.get("reason") == "ProgressDeadlineExceeded":
        return True
    return parse_time(found["lastUpdateTime"]) + limit < now


def with_progress(deployment: Obj, status: Obj, new: Obj | None, now: float) -> Obj:
    """Adds what the rollout has come to: complete, progressing, timed out."""
    if deadline(deployment) is None:
        drop(status, PROGRESSING)
        return status
    found = get_condition(deployment.get("status"), PROGRESSING)
    done = (
        (status.get("replicas") or 0) == (status.get("updatedReplicas") or 0)
        and found is not None
        and found.get("reason") == "NewReplicaSetAvailable"
    )
    if done:
        return status
    subject = f'ReplicaSet "{meta.name(new)}"' if new else f'Deployment "{meta.name(deployment)}"'
    if complete(deployment, status):
        text = f"{subject} has successfully progressed."
        put(status, condition(PROGRESSING, "True", "NewReplicaSetAvailable", text, now))
    elif progressed(deployment, status):
        fresh = condition(PROGRESSING, "True", "ReplicaSetUpdated", f"{subject} is progressing.", now)
        if found is not None and found.get("status") == "True":
            fresh["lastTransitionTime"] = found.get("lastTransitionTime")
        drop(status, PROGRESSING)
        status["conditions"].append(fresh)
    elif timed_out(deployment, status, now):
        text = f"{subject} has timed out progressing."
        put(status, condition(PROGRESSING, "False", "ProgressDeadlineExceeded", text, now))
    return status


def with_failures(status: Obj, sets: list[Obj], new: Obj | None) -> Obj:
    """Passes on a ReplicaSet's failure to make pods: the new one's first."""
    drop(status, FAILURE)
    for rs in ([new] if new else []) + sets:
        found = get_condition(rs.get("status"), FAILURE)
        if found is not None:
            stamp = found.get("lastTransitionTime")
            status["conditions"].append({**found, "lastUpdateTime": stamp, "lastTransitionTime": stamp})
            break
    return status


def next_check(deployment: Obj, status: Obj, now: float) -> float | None:
    """Seconds until the rollout may have run out of time; None when there is nothing to wait for."""
    found, limit = get_condition(status, PROGRESSING), deadline(deployment)
    if found is None or limit is None or complete(deployment, status):
        return None
    if found.get("reason") in ("ProgressDeadlineExceeded", "NewReplicaSetAvailable"):
        return None
    return max(0.0, parse_time(found["lastUpdateTime"]) + limit - now) + 1.0
