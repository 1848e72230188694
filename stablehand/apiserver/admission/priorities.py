"""Priority: priorityClassName becomes a number, and only one class is everybody's (plugin/pkg/admission/priority)."""

from __future__ import annotations

from stablehand.apiserver import errors
from stablehand.apiserver.core import Attributes, Core
from stablehand.machinery.resources import resource
from stablehand.machinery.types import Obj

_CLASSES = resource("priorityclasses.scheduling.k8s.io")
_GIVEN = ("priority", "preemptionPolicy")


def priority(core: Core, a: Attributes) -> None:
    """A new pod gets its class's priority and policy; an update that leaves them out keeps them."""
    if a.resource.key != "pods" or a.subresource or a.obj is None:
        return
    spec = a.obj["spec"]
    if a.operation == "UPDATE" and a.old is not None:
        for field in _GIVEN:
            if spec.get(field) is None and a.old["spec"].get(field) is not None:
                spec[field] = a.old["spec"][field]
    if a.operation != "CREATE":
        return
    found: Obj | None
    if name := spec.get("priorityClassName"):
        entry = core.storage.collection(_CLASSES).get(("", name))
        if entry is None:
            raise errors.forbidden(a.resource, a.told_name, f"no PriorityClass with name {name} was found")
        found = entry.obj
    else:
        found = _default(core)
        if found is not None:
            spec["priorityClassName"] = found["metadata"]["name"]
    value = found.get("value", 0) if found is not None else 0
    policy = (found or {}).get("preemptionPolicy") or "PreemptLowerPriority"
    for field, what, computed in zip(
        _GIVEN, ("integer value of priority", "string value of PreemptionPolicy"), (value, policy), strict=True
    ):
        if spec.get(field) is not None and spec[field] != computed:
            why = (
                f"the {what} ({spec[field]}) must not be provided in pod spec; priority admission controller computed "
                f"{computed} from the given PriorityClass name"
            )
            raise errors.forbidden(a.resource, a.told_name, why)
        spec[field] = computed


def _default(core: Core) -> Obj | None:
    marked = [e.obj for _, e in core.storage.collection(_CLASSES).ordered() if e.obj.get("globalDefault")]
    return min(marked, key=lambda o: o.get("value", 0), default=None)


def check_default(core: Core, a: Attributes) -> None:
    """There is one globalDefault at most."""
    if a.resource.key != _CLASSES.key or a.operation not in ("CREATE", "UPDATE") or a.obj is None:
        return
    if a.obj.get("globalDefault") and (other := _default(core)) is not None:
        name = other["metadata"]["name"]
        if a.operation == "CREATE" or name != a.name:
            why = f"PriorityClass {name} is already marked as default. Only one default can exist"
            raise errors.forbidden(a.resource, a.name, why)
