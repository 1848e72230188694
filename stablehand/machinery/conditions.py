"""Status conditions: reading, setting, and the two questions controllers ask of pods (ready, available)."""

from __future__ import annotations

from stablehand.machinery.times import format_time, parse_time
from stablehand.machinery.types import Obj


def get_condition(status: Obj | None, kind: str) -> Obj | None:
    for condition in (status or {}).get("conditions") or ():
        if condition.get("type") == kind:
            return condition
    return None


def set_condition(status: Obj, kind: str, value: str, reason: str = "", message: str = "", now: float = 0.0) -> bool:
    """Sets a condition in place; lastTransitionTime moves only when the value changes. True when anything changed."""
    conditions = status.setdefault("conditions", [])
    for condition in conditions:
        if condition.get("type") != kind:
            continue
        if (
            condition.get("status") == value
            and condition.get("reason", "") == reason
            and condition.get("message", "") == message
        ):
            return False
        if condition.get("status") != value:
            condition["lastTransitionTime"] = format_time(now)
        condition["status"] = value
        for field, text in (("reason", reason), ("message", message)):
            if text:
                condition[field] = text
            else:
                condition.pop(field, None)
        return True
    new = {"type": kind, "status": value, "lastTransitionTime": format_time(now)}
    if reason:
        new["reason"] = reason
    if message:
        new["message"] = message
    conditions.append(new)
    return True


def is_pod_ready(pod: Obj) -> bool:
    condition = get_condition(pod.get("status"), "Ready")
    return condition is not None and condition.get("status") == "True"


def is_pod_available(pod: Obj, min_ready_seconds: int, now: float) -> bool:
    """Ready for at least min_ready_seconds (podutil.IsPodAvailable)."""
    condition = get_condition(pod.get("status"), "Ready")
    if condition is None or condition.get("status") != "True":
        return False
    if min_ready_seconds <= 0:
        return True
    since = condition.get("lastTransitionTime")
    return since is not None and parse_time(since) + min_ready_seconds <= now
