"""LimitRanger: default requests and limits, and their bounds, from the namespace's LimitRanges."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from stablehand.apiserver import errors
from stablehand.apiserver.core import Attributes, Core
from stablehand.machinery import quantity
from stablehand.machinery.meta import nested
from stablehand.machinery.resources import resource
from stablehand.machinery.types import Obj

_RANGES = resource("limitranges")


def _items(core: Core, a: Attributes, kind: str) -> Iterator[Obj]:
    for entry in core.storage.collection(_RANGES).namespaces.get(a.namespace, {}).values():
        for item in nested(entry.obj, "spec", "limits") or ():
            if item.get("type") == kind:
                yield item


def _concerns(a: Attributes) -> bool:
    return a.operation == "CREATE" and not a.subresource and a.obj is not None


def apply_defaults(core: Core, a: Attributes) -> None:
    if not _concerns(a) or a.resource.key != "pods":
        return
    assert a.obj is not None
    spec = a.obj["spec"]
    for item in _items(core, a, "Container"):
        for container in [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]:
            for source, target in (("defaultRequest", "requests"), ("default", "limits")):
                for name, value in (item.get(source) or {}).items():
                    resources = container.setdefault("resources", {})
                    given = resources.setdefault(target, {})
                    if name not in given and not (target == "requests" and name in (resources.get("limits") or {})):
                        given[name] = value


def _bounds(item: Obj, requests: Obj, limits: Obj, kind: str) -> Iterator[str]:
    for name, least in (item.get("min") or {}).items():
        got = requests.get(name)
        if got is None:
            yield f"minimum {name} usage per {kind} is {least}. No request is specified"
        elif quantity.parse(got) < quantity.parse(least):
            yield f"minimum {name} usage per {kind} is {least}, but request is {got}"
    for name, most in (item.get("max") or {}).items():
        got = limits.get(name)
        if got is None:
            yield f"maximum {name} usage per {kind} is {most}. No limit is specified"
        elif quantity.parse(got) > quantity.parse(most):
            yield f"maximum {name} usage per {kind} is {most}, but limit is {got}"
    for name, ratio in (item.get("maxLimitRequestRatio") or {}).items():
        low, high = requests.get(name), limits.get(name)
        if low and high and quantity.parse(low) and quantity.parse(high) / quantity.parse(low) > quantity.parse(ratio):
            yield f"{name} max limit to request ratio per {kind} is {ratio}, but provided ratio is greater"


def check(core: Core, a: Attributes) -> None:
    if not _concerns(a):
        return
    assert a.obj is not None
    problems: list[str] = []
    if a.resource.key == "persistentvolumeclaims":
        requests = nested(a.obj, "spec", "resources", "requests") or {}
        for item in _items(core, a, "PersistentVolumeClaim"):
            problems += _bounds(item, requests, requests, "PersistentVolumeClaim")
    elif a.resource.key == "pods":
        spec = a.obj["spec"]
        totals: dict[str, dict[str, Decimal]] = {"requests": {}, "limits": {}}
        for container in spec.get("containers") or ():
            resources = container.get("resources") or {}
            for item in _items(core, a, "Container"):
                problems += _bounds(item, resources.get("requests") or {}, resources.get("limits") or {}, "Container")
            for side, total in totals.items():
                for name, value in (resources.get(side) or {}).items():
                    total[name] = total.get(name, Decimal(0)) + quantity.parse(value)
        sums = {side: {n: str(v) for n, v in total.items()} for side, total in totals.items()}
        for item in _items(core, a, "Pod"):
            problems += _bounds(item, sums["requests"], sums["limits"], "Pod")
    if problems:
        text = problems[0] if len(problems) == 1 else "[" + ", ".join(problems) + "]"
        raise errors.forbidden(a.resource, a.name, text)
