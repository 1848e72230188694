"""Which daemon pods a rolling update replaces now. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from stablehand.machinery import meta
from stablehand.machinery.conditions import is_pod_available
from stablehand.machinery.revisions import REVISION_LABEL
from stablehand.machinery.types import Obj


@dataclass(slots=True)
class Changes:
    delete: list[Obj] = field(default_factory=list)
    surge: list[str] = field(default_factory=list)  # nodes that get a second, new pod


def limits(ds: Obj, desired: int) -> tuple[int, int]:
    """(maxSurge, maxUnavailable) in pods, both rounded up."""
    rolling = (ds["spec"].get("updateStrategy") or {}).get("rollingUpdate") or {}

    def number(value: int | str | None, default: int) -> int:
        if value is None:
            return default
        if isinstance(value, str) and value.endswith("%"):
            return math.ceil(int(value[:-1]) * desired / 100)
        return int(value)

    surge = number(rolling.get("maxSurge"), 0)
    unavailable = number(rolling.get("maxUnavailable"), 1)
    return surge, unavailable if surge or unavailable else 1


def plan(ds: Obj, by_node: dict[str, list[Obj]], hashed: str, desired: int, now: float) -> Changes:
    surge, unavailable = limits(ds, desired)
    min_ready = int(ds["spec"].get("minReadySeconds") or 0)

    def available(pod: Obj | None) -> bool:
        return pod is not None and not meta.deletion_timestamp(pod) and is_pod_available(pod, min_ready, now)

    changes = Changes()
    down = surging = 0
    spare: list[Obj] = []
    willing: list[str] = []
    for node, pods in sorted(by_node.items()):
        living = [p for p in pods if not meta.deletion_timestamp(p)]
        new = next((p for p in living if meta.labels(p).get(REVISION_LABEL) == hashed), None)
        old = next((p for p in living if meta.labels(p).get(REVISION_LABEL) != hashed), None)
        if surge:
            if old is None:
                continue
            if new is None:
                if not available(old):
                    changes.delete.append(old)  # nothing to lose
                else:
                    willing.append(node)
            elif available(new):
                changes.delete.append(old)
            else:
                surging += 1
        elif new is not None:
            down += 0 if available(new) else 1
        elif old is None:
            down += 1
        elif not available(old):
            down += 1
            changes.delete.append(old)
        else:
            spare.append(old)
    if surge:
        changes.surge = willing[: max(0, surge - surging)]
    else:
        changes.delete.extend(spare[: max(0, unavailable - down)])
    return changes
