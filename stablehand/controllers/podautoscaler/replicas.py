"""How many replicas measured values call for (kube-controller-manager's ReplicaCalculator). Pure: `now` is given.

Values are in thousandths (milli) throughout, as upstream counts them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from stablehand.machinery import meta, quantity
from stablehand.machinery.conditions import get_condition, is_pod_ready
from stablehand.machinery.pods import phase
from stablehand.machinery.times import parse_time
from stablehand.machinery.types import Obj

INITIALIZATION = 300.0  # seconds for which a starting pod's CPU is mistrusted
INITIAL_READINESS = 30.0  # seconds within which an unready pod counts as never having been ready


class Uncountable(Exception):
    """The measured values say nothing about replicas; the text is for conditions and events."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One pod's value in thousandths; `window` seconds until `time`."""

    value: int
    time: float = 0.0
    window: float = 60.0


Measures = dict[str, Measured]  # by pod name


@dataclass(frozen=True, slots=True)
class Tolerances:
    """By how much a ratio of used to wanted may differ from one without consequence."""

    down: float = 0.1
    up: float = 0.1

    def within(self, ratio: float) -> bool:
        return 1.0 - self.down <= ratio <= 1.0 + self.up


@dataclass(slots=True)
class Groups:
    """Pods by what their values are good for."""

    ready: int = 0
    unready: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)
    ignored: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Count:
    """`replicas` wanted; `utilization` in percent of the request where that is the target; `value` per pod."""

    replicas: int
    value: int
    utilization: int | None = None


def group(pods: list[Obj], measures: Measures, is_cpu: bool, now: float) -> Groups:
    out = Groups()
    for pod in pods:
        name = meta.name(pod)
        if meta.deletion_timestamp(pod) or phase(pod) == "Failed":
            out.ignored.add(name)
        elif phase(pod) == "Pending":
            out.unready.add(name)
        elif name not in measures:
            out.missing.add(name)
        elif is_cpu and _is_starting(pod, measures[name], now):
            out.unready.add(name)
        else:
            out.ready += 1
    return out


def _is_starting(pod: Obj, measured: Measured, now: float) -> bool:
    """Is this CPU value that of a pod getting ready, which says nothing about its work?"""
    status = pod.get("status") or {}
    condition, start = get_condition(status, "Ready"), status.get("startTime")
    if condition is None or not start:
        return True
    started, unready = parse_time(start), condition.get("status") == "False"
    changed = parse_time(condition["lastTransitionTime"]) if condition.get("lastTransitionTime") else 0.0
    if started + INITIALIZATION > now:
        return unready or measured.time < changed + measured.window
    return unready and started + INITIAL_READINESS > changed


def requests(pods: list[Obj], resource: str, container: str = "") -> dict[str, int]:
    """What each pod (or its container of that name) requests, in thousandths. Raises Uncountable for one without."""
    out: dict[str, int] = {}
    for pod in pods:
        spec = pod["spec"]
        whole = ((spec.get("resources") or {}).get("requests") or {}).get(resource)
        if not container and whole is not None:
            out[meta.name(pod)] = quantity.milli(whole)
            continue
        sidecars = [c for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"]
        total = 0
        for one in [*(spec.get("containers") or ()), *sidecars]:
            if container and one.get("name") != container:
                continue
            asked = ((one.get("resources") or {}).get("requests") or {}).get(resource)
            if asked is None:
                raise Uncountable(
                    f"missing request for {resource} in container {one.get('name')} of Pod {meta.name(pod)}"
                )
            total += quantity.milli(asked)
        out[meta.name(pod)] = total
    return out


def _usable(pods: list[Obj], measures: Measures, is_cpu: bool, now: float) -> tuple[Groups, dict[str, int]]:
    """The groups, and the values of the pods that count. Raises Uncountable when there are none."""
    if not pods:
        raise Uncountable("no pods returned by selector while calculating replica count")
    groups = group(pods, measures, is_cpu, now)
    out = groups.ignored | groups.unready
    values = {name: measured.value for name, measured in measures.items() if name not in out}
    if not values:
        raise Uncountable("did not receive metrics for targeted pods (pods might be unready)")
    return groups, values


def by_utilization(
    current: int,
    target: int,
    measures: Measures,
    pods: list[Obj],
    asked: dict[str, int],
    tolerances: Tolerances,
    *,
    is_cpu: bool,
    now: float,
) -> Count:
    """For a target in percent of what pods request. Raises Uncountable."""
    groups, values = _usable(pods, measures, is_cpu, now)
    utilization, value = _utilization(values, asked)
    ratio = utilization / target

    def again(filled: dict[str, int]) -> float:
        return _utilization(filled, asked)[0] / target

    full = max(100, target)
    absent = {name: asked.get(name, 0) * full // 100 if ratio < 1.0 else 0 for name in groups.missing}
    if ratio == 1.0:
        absent = {}
    return Count(_settle(current, ratio, groups, values, absent, again, tolerances), value, utilization)


def by_value(
    current: int,
    target: int,
    measures: Measures,
    pods: list[Obj],
    tolerances: Tolerances,
    *,
    is_cpu: bool = False,
    now: float,
) -> Count:
    """For a target value per pod. Raises Uncountable."""
    if target <= 0:
        raise Uncountable("invalid metric source: the average value target must be positive")
    groups, values = _usable(pods, measures, is_cpu, now)
    value = sum(values.values()) // len(values)
    ratio = value / target

    def again(filled: dict[str, int]) -> float:
        return sum(filled.values()) // len(filled) / target

    absent = dict.fromkeys(groups.missing, target if ratio < 1.0 else 0)
    return Count(_settle(current, ratio, groups, values, absent, again, tolerances), value)


def _utilization(values: dict[str, int], asked: dict[str, int]) -> tuple[int, int]:
    """(percent of the requests in use, mean value) over the pods whose request is known. Raises Uncountable."""
    known = [name for name in values if name in asked]
    total, wanted = sum(values[n] for n in known), sum(asked[n] for n in known)
    if wanted == 0:
        raise Uncountable("no metrics returned matched known pods")
    return total * 100 // wanted, total // len(known)


def _settle(
    current: int,
    ratio: float,
    groups: Groups,
    values: dict[str, int],
    absent: dict[str, int],
    again: Callable[[dict[str, int]], float],
    tolerances: Tolerances,
) -> int:
    """The count for a ratio; where pods are unready or missing, what they might use must not turn the direction."""
    unready = bool(groups.unready) and ratio > 1.0
    if not unready and not groups.missing:
        return current if tolerances.within(ratio) else math.ceil(ratio * groups.ready)
    filled = {**values, **absent}
    if unready:
        filled |= dict.fromkeys(groups.unready, 0)
    new = again(filled)
    if tolerances.within(new) or (ratio < 1.0 < new) or (new < 1.0 < ratio):
        return current
    replicas = math.ceil(new * len(filled))
    if (new < 1.0 and replicas > current) or (new > 1.0 and replicas < current):
        return current
    return replicas


def by_total(current: int, target: int, total: int, pods: list[Obj], tolerances: Tolerances) -> Count:
    """For one value of the whole (an object's, an external one) against a target of the whole."""
    ratio = total / target
    if current == 0:
        return Count(math.ceil(ratio), total)
    if tolerances.within(ratio):
        return Count(current, total)
    ready = sum(1 for pod in pods if phase(pod) == "Running" and is_pod_ready(pod))
    return Count(math.ceil(ratio * ready), total)


def by_share(observed: int, target: int, total: int, tolerances: Tolerances) -> Count:
    """For one value of the whole against a target for each of the `observed` replicas."""
    if observed == 0:
        return Count(math.ceil(total / target), total)
    replicas = observed
    if not tolerances.within(total / (target * observed)):
        replicas = math.ceil(total / target)
    return Count(replicas, math.ceil(total / observed))
