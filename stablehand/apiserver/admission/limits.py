"""LimitRanger: default requests and limits, and their bounds, from the namespace's LimitRanges
(plugin/pkg/admission/limitranger)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from stablehand.apiserver import errors
from stablehand.apiserver.core import Attributes, Core
from stablehand.machinery import podresources, quantity
from stablehand.machinery.meta import nested
from stablehand.machinery.resources import resource
from stablehand.machinery.types import Obj

_RANGES = resource("limitranges")
ANNOTATION = "kubernetes.io/limit-ranger"


def _ranges(core: Core, a: Attributes) -> Iterator[list[Obj]]:
    """The items of each LimitRange."""
    for _, entry in core.storage.collection(_RANGES).ordered(a.namespace):
        yield nested(entry.obj, "spec", "limits") or []


def _concerns(a: Attributes) -> bool:
    """A pod's resources change only where it is made or resized; a claim's also later."""
    if a.obj is None:
        return False
    if a.resource.key == "pods":
        return (a.operation == "CREATE" and not a.subresource) or (
            a.operation == "UPDATE" and a.subresource == "resize"
        )
    return a.resource.key == "persistentvolumeclaims" and a.operation in ("CREATE", "UPDATE") and not a.subresource


def apply_defaults(core: Core, a: Attributes) -> None:
    """Fills in what a container does not say, and writes on the pod what was filled in."""
    if not _concerns(a) or a.resource.key != "pods":
        return
    assert a.obj is not None
    spec, notes = a.obj["spec"], []
    for items in _ranges(core, a):
        defaults: dict[str, Obj] = {"requests": {}, "limits": {}}
        for item in items:
            if item.get("type") == "Container":
                defaults["requests"] |= item.get("defaultRequest") or {}
                defaults["limits"] |= item.get("default") or {}
        for kind, containers in (("container", spec.get("containers")), ("init container", spec.get("initContainers"))):
            for container in containers or ():
                notes += _filled(container, kind, defaults)
    if notes:
        text = "LimitRanger plugin set: " + "; ".join(notes)
        a.obj["metadata"].setdefault("annotations", {})[ANNOTATION] = text


def _filled(container: Obj, kind: str, defaults: Mapping[str, Obj]) -> list[str]:
    notes = []
    for side, word in (("requests", "request"), ("limits", "limit")):
        resources = container.setdefault("resources", {})
        added = {k: v for k, v in defaults[side].items() if k not in (resources.get(side) or {})}
        if added:
            resources[side] = {**(resources.get(side) or {}), **added}
            notes.append(f"{', '.join(sorted(added))} {word} for {kind} {container.get('name')}")
    return notes


def _minimum(item: Obj, kind: str, requests: Obj, limits: Obj) -> Iterator[str]:
    for name, least in (item.get("min") or {}).items():
        what = f"minimum {name} usage per {kind} is {quantity.canonical(str(least))}"
        request, limit = requests.get(name), limits.get(name)
        if request is None:
            yield f"{what}.  No request is specified"
        elif quantity.compare(request, least) < 0:
            yield f"{what}, but request is {request}"
        elif limit is not None and quantity.compare(limit, least) < 0:
            yield f"{what}, but limit is {limit}"


def _maximum(item: Obj, kind: str, requests: Obj, limits: Obj) -> Iterator[str]:
    for name, most in (item.get("max") or {}).items():
        what = f"maximum {name} usage per {kind} is {quantity.canonical(str(most))}"
        request, limit = requests.get(name), limits.get(name)
        if limit is None:
            yield f"{what}.  No limit is specified"
        elif quantity.compare(limit, most) > 0:
            yield f"{what}, but limit is {limit}"
        elif request is not None and quantity.compare(request, most) > 0:
            yield f"{what}, but request is {request}"


def _ratio(item: Obj, kind: str, requests: Obj, limits: Obj) -> Iterator[str]:
    for name, most in (item.get("maxLimitRequestRatio") or {}).items():
        what = f"{name} max limit to request ratio per {kind} is {quantity.canonical(str(most))}"
        low, high = quantity.parse(requests.get(name) or 0), quantity.parse(limits.get(name) or 0)
        if not low:
            yield f"{what}, but no request is specified or request is 0"
        elif not high:
            yield f"{what}, but no limit is specified or limit is 0"
        elif high / low > quantity.parse(most):
            yield f"{what}, but provided ratio is {float(high / low):f}"


def _bounds(item: Obj, kind: str, requests: Obj, limits: Obj) -> Iterator[str]:
    yield from _minimum(item, kind, requests, limits)
    yield from _maximum(item, kind, requests, limits)
    yield from _ratio(item, kind, requests, limits)


def _of_pod(items: list[Obj], spec: Obj) -> Iterator[str]:
    for item in items:
        if item.get("type") == "Container":
            for container in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]:
                resources = container.get("resources") or {}
                yield from _bounds(item, "Container", resources.get("requests") or {}, resources.get("limits") or {})
        elif item.get("type") == "Pod":
            # Overhead is no part of what somebody wrote down.
            own = {k: v for k, v in spec.items() if k != "overhead"}
            requests = _quantities(podresources.pod_requests(own))
            yield from _bounds(item, "Pod", requests, _quantities(podresources.pod_limits(own)))


def _quantities(amounts: podresources.Amounts) -> Obj:
    return {name: quantity.canonical(f"{value}m" if name == "cpu" else str(value)) for name, value in amounts.items()}


def _of_claim(items: list[Obj], requests: Obj) -> Iterator[str]:
    for item in items:
        if item.get("type") != "PersistentVolumeClaim":
            continue
        yield from _minimum(item, "PersistentVolumeClaim", requests, {})
        for name, most in (item.get("max") or {}).items():
            what = f"maximum {name} usage per PersistentVolumeClaim is {quantity.canonical(str(most))}"
            request = requests.get(name)
            if request is None:
                yield f"{what}.  No request is specified"
            elif quantity.compare(request, most) > 0:
                yield f"{what}, but request is {request}"


def check(core: Core, a: Attributes) -> None:
    if not _concerns(a):
        return
    assert a.obj is not None
    for items in _ranges(core, a):
        if a.resource.key == "pods":
            problems = list(_of_pod(items, a.obj["spec"]))
        else:
            problems = list(_of_claim(items, nested(a.obj, "spec", "resources", "requests") or {}))
        if problems:
            problems = list(dict.fromkeys(problems))
            text = problems[0] if len(problems) == 1 else "[" + ", ".join(problems) + "]"
            raise errors.forbidden(a.resource, a.name, text)
