"""What nodes are given and held to: TaintNodesByCondition, and, for a pod is resized on its node, PodResizeValidator and
NodeDeclaredFeatureValidator."""

from __future__ import annotations

from collections.abc import Iterator

from stablehand.apiserver import errors
from stablehand.apiserver.contract import StatusError
from stablehand.apiserver.core import Attributes, Core
from stablehand.machinery import nodes, podresources
from stablehand.machinery.meta import labels, nested
from stablehand.machinery.resources import resource
from stablehand.machinery.types import Obj

_NODES = resource("nodes")
_OS = "kubernetes.io/os"


def taint(core: Core, a: Attributes) -> None:
    """A new node takes no pods before it is ready; the node lifecycle controller removes the taint."""
    if a.resource.key != "nodes" or a.operation != "CREATE" or a.subresource or a.obj is None:
        return
    given = nodes.taints(a.obj)
    if not any(t.get("key") == nodes.NOT_READY and t.get("effect") == "NoSchedule" for t in given):
        a.obj.setdefault("spec", {})["taints"] = [*given, {"key": nodes.NOT_READY, "effect": "NoSchedule"}]


def check_resize(core: Core, a: Attributes) -> None:
    """No pod is resized to more than all its node has to give, nor where the node does not know how to."""
    if a.resource.key != "pods" or a.operation != "UPDATE" or a.subresource != "resize":
        return
    assert a.obj is not None and a.old is not None
    name = a.obj["spec"].get("nodeName")
    if not name or a.obj["spec"] == a.old["spec"]:
        return
    entry = core.storage.collection(_NODES).get(("", name))
    if entry is None:
        raise errors.forbidden(a.resource, a.name, f'node "{name}" not found')
    known = nested(entry.obj, "status", "declaredFeatures") or ()
    if unknown := [feature for feature in _features(a.old, a.obj) if feature not in known]:
        why = f'pod update requires features {", ".join(unknown)} which are not available on node "{name}"'
        raise errors.forbidden(a.resource, a.name, why)
    wanted = podresources.pod_requests(a.obj["spec"])
    there = podresources.amounts(nested(entry.obj, "status", "allocatable"))
    lacking = "; ".join(
        f"{what}, requested: {wanted[what]}, allocatable: {there.get(what, 0)}"
        for what in ("cpu", "memory")
        if wanted.get(what, 0) > there.get(what, 0)
    )
    if lacking:
        raise _because(a, f"Node didn't have enough allocatable resources: {lacking}", "NodeCapacity")
    system = labels(entry.obj).get(_OS, "")
    if system != "linux":
        why = f'pod resize is only supported on linux nodes, node "{name}" is "{system}"'
        raise _because(a, why, "UnsupportedPlatform")


def _features(old: Obj, new: Obj) -> Iterator[str]:
    """What a kubelet must be able to do for a resize (component-helpers/nodedeclaredfeatures)."""
    if nested(old, "status", "qosClass") == "Guaranteed" and any(
        _cpu(was) != _cpu(now) for was, now in zip(old["spec"]["containers"], new["spec"]["containers"], strict=True)
    ):
        yield "GuaranteedQoSPodCPUResize"
    if (old["spec"].get("resources") or None) != (new["spec"].get("resources") or None):
        yield "InPlacePodLevelResourcesVerticalScaling"


def _cpu(container: Obj) -> int:
    return podresources.amounts(nested(container, "resources", "requests")).get("cpu", 0)


def _because(a: Attributes, why: str, reason: str) -> StatusError:
    error = errors.forbidden(a.resource, a.name, why)
    error.details = {**(error.details or {}), "causes": [{"reason": reason}]}
    return error
