"""How many pods each ReplicaSet of a deployment should have. Pure arithmetic; upstream's, rounding included."""

from __future__ import annotations

import math

from stablehand.machinery import meta
from stablehand.machinery.types import Obj

REVISION = "deployment.kubernetes.io/revision"
REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED = "deployment.kubernetes.io/desired-replicas"
MAX = "deployment.kubernetes.io/max-replicas"


def replicas(obj: Obj) -> int:
    value = obj["spec"].get("replicas")
    return 1 if value is None else int(value)


def available(rs: Obj) -> int:
    return int((rs.get("status") or {}).get("availableReplicas") or 0)


def total(sets: list[Obj]) -> int:
    return sum(replicas(rs) for rs in sets)


def number(rs: Obj, annotation: str) -> int | None:
    try:
        return int(meta.annotations(rs)[annotation])
    except (KeyError, ValueError):
        return None


def is_rolling(deployment: Obj) -> bool:
    return ((deployment["spec"].get("strategy") or {}).get("type") or "RollingUpdate") == "RollingUpdate"


def _scaled(value: int | str | None, of: int, *, up: bool, default: int | str) -> int:
    value = default if value is None else value
    if isinstance(value, str) and value.endswith("%"):
        share = int(value[:-1]) * of / 100
        return math.ceil(share) if up else math.floor(share)
    return int(value)


def fenceposts(deployment: Obj) -> tuple[int, int]:
    """(surge, unavailable) in pods: surge rounded up, unavailable down, not both zero."""
    rolling = (deployment["spec"].get("strategy") or {}).get("rollingUpdate") or {}
    size = replicas(deployment)
    surge = _scaled(rolling.get("maxSurge"), size, up=True, default="25%")
    unavailable = _scaled(rolling.get("maxUnavailable"), size, up=False, default="25%")
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return surge, unavailable


def max_surge(deployment: Obj) -> int:
    return fenceposts(deployment)[0] if is_rolling(deployment) else 0


def max_unavailable(deployment: Obj) -> int:
    if not is_rolling(deployment) or replicas(deployment) == 0:
        return 0
    return min(fenceposts(deployment)[1], replicas(deployment))


def new_size(deployment: Obj, sets: list[Obj], new_has: int) -> int:
    """How far the new ReplicaSet may grow now: surge bounds the sum."""
    wanted = replicas(deployment)
    if not is_rolling(deployment):
        return wanted
    room = wanted + max_surge(deployment) - total(sets)
    if room <= 0:
        return new_has
    return new_has + min(room, wanted - new_has)


def _by_age(sets: list[Obj]) -> list[Obj]:
    return sorted(sets, key=lambda rs: (rs["metadata"].get("creationTimestamp") or "", meta.name(rs)))


def shrink_old(deployment: Obj, new: Obj, old: list[Obj]) -> list[tuple[Obj, int]]:
    """The old ReplicaSets to scale down now and to what: pods that are unavailable first, then as many available
    ones as the rest can spare."""
    everything = [*old, new]
    minimum = replicas(deployment) - max_unavailable(deployment)
    may_go = total(everything) - minimum - (replicas(new) - available(new))
    if total(old) == 0 or may_go <= 0:
        return []
    sizes = {meta.uid(rs): replicas(rs) for rs in old}
    gone = 0
    for rs in _by_age(old):
        if gone >= may_go:
            break
        unhealthy = min(may_go - gone, replicas(rs) - available(rs))
        if replicas(rs) and unhealthy > 0:
            sizes[meta.uid(rs)] -= unhealthy
            gone += unhealthy
    spare = sum(available(rs) for rs in everything) - minimum
    for rs in _by_age(old):
        if spare <= 0:
            break
        down = min(sizes[meta.uid(rs)], spare)
        sizes[meta.uid(rs)] -= down
        spare -= down
    return [(rs, sizes[meta.uid(rs)]) for rs in _by_age(old) if sizes[meta.uid(rs)] != replicas(rs)]


def is_saturated(deployment: Obj, new: Obj | None) -> bool:
    """Has the new ReplicaSet, sized for this very deployment, all its pods available?"""
    if new is None:
        return False
    wanted = replicas(deployment)
    return number(new, DESIRED) == wanted and replicas(new) == wanted and available(new) == wanted


def proportional(deployment: Obj, sets: list[Obj]) -> dict[str, int]:
    """Sizes by uid when a deployment is scaled in the middle of a rollout: each set keeps its share."""
    wanted = replicas(deployment)
    allowed = wanted + max_surge(deployment) if wanted > 0 else 0
    to_add = allowed - total(sets)
    # The largest first; among equals the newer when growing, the older when shrinking.
    ordered = _by_age(sets)
    if to_add > 0:
        ordered.reverse()
    ordered.sort(key=lambda rs: -replicas(rs))
    sizes: dict[str, int] = {}
    added = 0
    for rs in ordered:
        share = _share(deployment, rs, to_add, added)
        sizes[meta.uid(rs)] = replicas(rs) + share
        added += share
    if ordered and to_add:
        first = meta.uid(ordered[0])
        sizes[first] = max(0, sizes[first] + to_add - added)
    return sizes


def _share(deployment: Obj, rs: Obj, to_add: int, added: int) -> int:
    if replicas(rs) == 0 or to_add == 0 or to_add == added:
        return 0
    fraction = _fraction(deployment, rs)
    return min(fraction, to_add - added) if to_add > 0 else max(fraction, to_add - added)


def _fraction(deployment: Obj, rs: Obj) -> int:
    wanted = replicas(deployment)
    if wanted == 0:
        return -replicas(rs)
    before = number(rs, MAX) or int((deployment.get("status") or {}).get("replicas") or 0)
    if not before:
        return 0
    size = replicas(rs) * (wanted + max_surge(deployment)) / before
    return math.floor(size + 0.5) - replicas(rs)
