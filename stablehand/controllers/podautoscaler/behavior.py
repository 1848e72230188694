"""How far and how fast a recommended replica count is followed: bounds, stabilization windows, rate policies.

Pure: `now` is given, and what is remembered between decisions is a History that the caller keeps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from stablehand.controllers.podautoscaler.replicas import Tolerances
from stablehand.machinery import quantity
from stablehand.machinery.types import Obj

_DOWN_WINDOW = 300.0  # --horizontal-pod-autoscaler-downscale-stabilization
_LEAST_UP = 4
_LIMITLESS = 2**31 - 1

_READY = ("ReadyForNewScale", "recommended size matches current size")
_DOWN_STABLE = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
)
_UP_STABLE = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
)
_WITHIN = ("DesiredWithinRange", "the desired count is within the acceptable range")
_TOO_MANY = ("TooManyReplicas", "the desired replica count is more than the maximum replica count")
_TOO_FEW = ("TooFewReplicas", "the desired replica count is less than the minimum replica count")
_UP_LIMIT = ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate")
_DOWN_LIMIT = ("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate")

Why = tuple[str, str]  # reason and message of a condition


@dataclass(slots=True)
class History:
    """(time, replicas) recommended; (time, how many) scaled up and down. Unix seconds."""

    recommended: list[tuple[float, int]] = field(default_factory=list)
    ups: list[tuple[float, int]] = field(default_factory=list)
    downs: list[tuple[float, int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Decision:
    """`replicas`, why it is or is not what was recommended lately (AbleToScale), and what bounds it (ScalingLimited)."""

    replicas: int
    stable: Why
    limited: bool
    bound: Why


def tolerances(behavior: Obj | None) -> Tolerances:
    """KEP-4951: a tolerance of its own for each direction."""
    values = {}
    for key, name in (("scaleUp", "up"), ("scaleDown", "down")):
        given = ((behavior or {}).get(key) or {}).get("tolerance")
        if given is not None:
            values[name] = float(quantity.parse(given))
    return Tolerances(**values)


def decide(
    current: int, recommended: int, least: int, most: int, behavior: Obj | None, history: History, now: float
) -> Decision:
    """Follows a recommendation as far as rules allow, and remembers it in `history`."""
    if behavior is None:
        return _decide_plain(current, recommended, least, most, history, now)
    up, down = behavior.get("scaleUp") or {}, behavior.get("scaleDown") or {}
    stable = _stabilized(current, recommended, _window(up, 0.0), _window(down, _DOWN_WINDOW), history, now)
    why = _READY if stable == recommended else _UP_STABLE if recommended >= current else _DOWN_STABLE
    if stable > current:
        rate = max(current, _up_limit(current, up, history, now))
        bound, reason = (rate, _UP_LIMIT) if most > rate else (most, _TOO_MANY)
        if stable > bound:
            return Decision(bound, why, True, reason)
    elif stable < current:
        rate = min(current, _down_limit(current, down, history, now))
        bound, reason = (rate, _DOWN_LIMIT) if least < rate else (least, _TOO_FEW)
        if stable < bound:
            return Decision(bound, why, True, reason)
    return Decision(stable, why, False, _WITHIN)


def _decide_plain(current: int, recommended: int, least: int, most: int, history: History, now: float) -> Decision:
    history.recommended = [(t, r) for t, r in history.recommended if t > now - _DOWN_WINDOW]
    stable = max([recommended, *(r for _, r in history.recommended)])
    history.recommended.append((now, recommended))
    why = _READY if stable == recommended else _DOWN_STABLE
    rate = max(2 * current, _LEAST_UP)
    bound, reason = (rate, _UP_LIMIT) if most > rate else (most, _TOO_MANY)
    if stable < least:
        return Decision(least, why, True, _TOO_FEW)
    if stable > bound:
        return Decision(bound, why, True, reason)
    return Decision(stable, why, False, _WITHIN)


def _window(rules: Obj, default: float) -> float:
    value = rules.get("stabilizationWindowSeconds")
    return default if value is None else float(value)


def _stabilized(current: int, recommended: int, up: float, down: float, history: History, now: float) -> int:
    """The current count, brought within the lowest recommendation of the up window and the highest of the down one."""
    highest = lowest = recommended
    for when, count in history.recommended:
        if when > now - up:
            lowest = min(lowest, count)
        if when > now - down:
            highest = max(highest, count)
    longest = max(up, down)
    history.recommended = [(t, r) for t, r in history.recommended if t > now - longest]
    history.recommended.append((now, recommended))
    return min(max(current, lowest), highest)


def _change(events: list[tuple[float, int]], period: float, now: float) -> int:
    return sum(count for when, count in events if when > now - period)


def _limit(
    rules: Obj,
    current: int,
    history: History,
    now: float,
    proposal: Callable[[int, Obj], int],
    pick: Callable[[list[int]], int],
) -> int:
    proposals = []
    for policy in rules.get("policies") or ():
        period = float(policy["periodSeconds"])
        start = current - _change(history.ups, period, now) + _change(history.downs, period, now)
        proposals.append(proposal(start, policy))
    return pick(proposals)


def _up_limit(current: int, rules: Obj, history: History, now: float) -> int:
    if rules.get("selectPolicy") == "Disabled":
        return current

    def proposal(start: int, policy: Obj) -> int:
        if policy["type"] == "Pods":
            return start + int(policy["value"])
        # Rounded up, or a small count could never grow.
        return math.ceil(start * (1 + policy["value"] / 100))

    # The smallest change allowed is the lowest count upwards.
    lowest = rules.get("selectPolicy") == "Min"
    return _limit(rules, current, history, now, proposal, lambda p: (min if lowest else max)(p, default=_LIMITLESS))


def _down_limit(current: int, rules: Obj, history: History, now: float) -> int:
    if rules.get("selectPolicy") == "Disabled":
        return current

    def proposal(start: int, policy: Obj) -> int:
        if policy["type"] == "Pods":
            return start - int(policy["value"])
        return int(start * (1 - policy["value"] / 100))

    highest = rules.get("selectPolicy") == "Min"
    return _limit(rules, current, history, now, proposal, lambda p: (max if highest else min)(p, default=0))


def record(history: History, behavior: Obj | None, before: int, after: int, now: float) -> None:
    """Remembers a change of scale for as long as the longest policy looks back."""
    if behavior is None:
        return
    for key, events, count in (("scaleUp", "ups", after - before), ("scaleDown", "downs", before - after)):
        if count <= 0:
            continue
        policies = (behavior.get(key) or {}).get("policies") or ()
        longest = max((float(p["periodSeconds"]) for p in policies), default=0.0)
        kept = [(t, c) for t, c in getattr(history, events) if t > now - longest]
        setattr(history, events, [*kept, (now, count)])
