"""What every pod is given: what its RuntimeClass adds, the tolerations for a node that fails, requests that limits imply."""

from __future__ import annotations

from stablehand.apiserver import errors
from stablehand.apiserver.core import Attributes, Core
from stablehand.machinery.resources import resource
from stablehand.machinery.types import Obj

_RUNTIMES = resource("runtimeclasses.node.k8s.io")
_FAILURES = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
TOLERATION_SECONDS = 300


def _new_pod(a: Attributes) -> Obj | None:
    if a.operation == "CREATE" and a.resource.key == "pods" and not a.subresource and a.obj is not None:
        return a.obj["spec"]
    return None


def _written_pod(a: Attributes) -> Obj | None:
    """The spec of a pod that is created or updated itself, as a client that applies its manifest again does."""
    if a.operation in ("CREATE", "UPDATE") and a.resource.key == "pods" and not a.subresource and a.obj is not None:
        return a.obj["spec"]
    return None


def default_tolerations(core: Core, a: Attributes) -> None:
    """DefaultTolerationSeconds: five minutes on a node that is not ready or not reachable."""
    spec = _written_pod(a)
    if spec is None:
        return
    present = spec.get("tolerations") or []
    missing = [key for key in _FAILURES if not any(_tolerates(t, key) for t in present)]
    if missing:
        spec["tolerations"] = present + [
            {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": TOLERATION_SECONDS}
            for key in missing
        ]


def _tolerates(toleration: Obj, key: str) -> bool:
    return (not toleration.get("key") or toleration["key"] == key) and toleration.get("effect") in (
        None,
        "",
        "NoExecute",
    )


def mirror_limits(core: Core, a: Attributes) -> None:
    """Requests default to limits (SetDefaults_Pod); here, because LimitRanger may have added limits."""
    spec = _new_pod(a)
    if spec is None:
        return
    for container in [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]:
        limits = (container.get("resources") or {}).get("limits")
        if limits:
            requests = container["resources"].setdefault("requests", {})
            for name, value in limits.items():
                requests.setdefault(name, value)


def runtime_class(core: Core, a: Attributes) -> None:
    """RuntimeClass: the overhead, node selector and tolerations of the class that the pod names, which must exist."""
    spec = _new_pod(a)
    if spec is None:
        return
    found: Obj = {}
    if name := spec.get("runtimeClassName"):
        entry = core.storage.collection(_RUNTIMES).get(("", name))
        if entry is None:
            raise errors.forbidden(a.resource, a.told_name, f'pod rejected: RuntimeClass "{name}" not found')
        found = entry.obj
    overhead = (found.get("overhead") or {}).get("podFixed")
    if spec.get("overhead") and not overhead:
        text = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
        raise errors.forbidden(a.resource, a.told_name, text)
    if spec.get("overhead") and spec["overhead"] != overhead:
        text = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"
        raise errors.forbidden(a.resource, a.told_name, text)
    if overhead:
        spec["overhead"] = dict(overhead)
    scheduling = found.get("scheduling") or {}
    selector = spec.get("nodeSelector") or {}
    for key, value in (scheduling.get("nodeSelector") or {}).items():
        if selector.get(key, value) != value:
            text = f"conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; pod.spec.nodeSelector[{key}] = "
            raise errors.forbidden(a.resource, a.told_name, text + str(selector[key]))
        spec.setdefault("nodeSelector", {})[key] = value
    for toleration in scheduling.get("tolerations") or ():
        if toleration not in spec.setdefault("tolerations", []):
            spec["tolerations"].append(toleration)
