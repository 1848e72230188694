"""Pods: what may change after creation, and what each subresource may touch. The spec itself is podspec.py's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from stablehand.apiserver.strategies.base import Strategy, bump_generation, keep
from stablehand.apiserver.strategies.poddefaults import default_pod, default_pod_spec
from stablehand.apiserver.strategies.podspec import validate_pod_spec
from stablehand.apiserver.strategies.podstatus import validate_status
from stablehand.machinery import quantity
from stablehand.machinery.fielderrors import FieldError, forbidden, invalid
from stablehand.machinery.types import Obj

_UPDATABLE = (
    "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only "
    "additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was "
    "previously negative)"
)


def qos_class(spec: Obj) -> str:
    """BestEffort, Burstable or Guaranteed, from cpu and memory of the pod as a whole, or else of all containers."""
    requests: dict[str, Any] = {}
    limits: dict[str, Any] = {}
    guaranteed = True
    containers = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    for owner in [spec] if spec.get("resources") else containers:
        resources = owner.get("resources") or {}
        for name, value in (resources.get("requests") or {}).items():
            if name in ("cpu", "memory") and (number := quantity.parse(value)) > 0:
                requests[name] = requests.get(name, 0) + number
        limited = set()
        for name, value in (resources.get("limits") or {}).items():
            if name in ("cpu", "memory") and (number := quantity.parse(value)) > 0:
                limits[name] = limits.get(name, 0) + number
                limited.add(name)
        guaranteed = guaranteed and limited == {"cpu", "memory"}
    if not requests and not limits:
        return "BestEffort"
    if guaranteed and len(requests) == len(limits) and all(limits.get(k) == v for k, v in requests.items()):
        return "Guaranteed"
    return "Burstable"


class PodStrategy(Strategy):
    def default(self, obj: Obj) -> None:
        spec = obj.setdefault("spec", {})
        default_pod_spec(spec)
        default_pod(spec)

    def initial_status(self, obj: Obj) -> None:
        spec = obj.get("spec") or {}
        obj["status"] = {"phase": "Pending", "qosClass": qos_class(spec)}
        if spec.get("schedulingGates"):
            condition = {
                "type": "PodScheduled",
                "status": "False",
                "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
                "lastProbeTime": None,
                "lastTransitionTime": obj["metadata"].get("creationTimestamp"),
            }
            del condition["lastProbeTime"]
            obj["status"]["conditions"] = [condition]

    def prepare_status_update(self, new: Obj, old: Obj) -> None:
        super().prepare_status_update(new, old)
        before = old.get("status") or {}
        status = new.setdefault("status", {})
        if "qosClass" in before:
            status["qosClass"] = before["qosClass"]

    def prepare_subresource(self, new: Obj, old: Obj, subresource: str) -> None:
        keep(new, old, "status")
        sent, spec = new.get("spec") or {}, dict(old["spec"])
        if subresource == "ephemeralcontainers":
            keep(spec, sent, "ephemeralContainers")
        elif subresource == "resize":
            if spec.get("resources") and "resources" in sent:
                spec["resources"] = sent["resources"]
            for key in ("containers", "initContainers"):
                wanted = {c.get("name"): c for c in sent.get(key) or ()}
                if key in spec:
                    spec[key] = [_resized(c, wanted.get(c["name"])) for c in spec[key]]
        else:
            spec = sent
        new["spec"] = spec
        if subresource == "ephemeralcontainers":
            metadata = dict(old["metadata"])
            metadata["managedFields"] = new["metadata"].get("managedFields") or metadata.get("managedFields") or []
            new["metadata"] = metadata
        bump_generation(new, old, new["spec"] != old["spec"])

    def validate(self, obj: Obj) -> list[FieldError]:
        errors = validate_pod_spec(obj["spec"], "spec", is_pod=True)
        if obj["spec"].get("ephemeralContainers"):
            errors.append(forbidden("spec.ephemeralContainers", "cannot be set on create"))
        return errors

    def validate_change(self, new: Obj, old: Obj) -> list[FieldError]:
        if new["spec"] == old["spec"]:
            return []
        return _validate_update(new["spec"], old["spec"])

    def validate_status(self, new: Obj, old: Obj) -> list[FieldError]:
        return validate_status(new, old)

    def validate_subresource(self, new: Obj, old: Obj, subresource: str) -> list[FieldError]:
        errors = validate_pod_spec(new["spec"], "spec", is_pod=True)
        if subresource == "ephemeralcontainers":
            now = {c.get("name"): c for c in new["spec"].get("ephemeralContainers") or ()}
            for container in old["spec"].get("ephemeralContainers") or ():
                name = container.get("name")
                if name not in now:
                    text = f'existing ephemeral containers "{name}" may not be removed\n'
                    errors.append(forbidden("spec.ephemeralContainers", text))
                elif now[name] != container:
                    text = f'existing ephemeral containers "{name}" may not be changed\n'
                    errors.append(forbidden("spec.ephemeralContainers", text))
        elif subresource == "resize":
            errors.extend(_validate_resize(new["spec"], old["spec"]))
        return errors


def _resized(container: Obj, wanted: Obj | None) -> Obj:
    if wanted is None:
        return container
    changed = {**container, "resources": wanted.get("resources") or {}}
    if "resizePolicy" in wanted:
        changed["resizePolicy"] = wanted["resizePolicy"]
    return changed


def _validate_resize(new: Obj, old: Obj) -> list[FieldError]:
    """Only cpu and memory may change, of containers and sidecars; what is set stays set, and so does the QoS class."""
    errors: list[FieldError] = []
    if qos_class(new) != qos_class(old):
        errors.append(invalid("spec", qos_class(new), "Pod QOS Class may not change as a result of resizing"))
    for field in ("containers", "initContainers"):
        for index, (now, before) in enumerate(zip(new.get(field) or (), old.get(field) or ())):
            path = f"spec.{field}[{index}].resources"
            wanted, had = now.get("resources") or {}, before.get("resources") or {}
            if wanted == had:
                continue
            if field == "initContainers" and before.get("restartPolicy") != "Always":
                text = "resources for non-sidecar init containers are immutable"
                errors.append(forbidden(path, text))
                continue
            errors.extend(_resizable(path, wanted, had))
    errors.extend(_resizable("spec.resources", new.get("resources") or {}, old.get("resources") or {}))
    return errors


def _resizable(path: str, wanted: Obj, had: Obj) -> Iterator[FieldError]:
    for kind in ("limits", "requests"):
        after, earlier = wanted.get(kind) or {}, had.get(kind) or {}
        if any(name in earlier and name not in after for name in ("cpu", "memory")):
            yield forbidden(f"{path}.{kind}", f"resource {kind} cannot be removed")
        others = {*after, *earlier} - {"cpu", "memory"}
        if any(after.get(name) != earlier.get(name) for name in others):
            yield forbidden("spec", "only cpu and memory resources are mutable")


def _validate_update(new: Obj, old: Obj) -> list[FieldError]:
    for key in ("containers", "initContainers"):
        if len(new.get(key) or ()) != len(old.get(key) or ()):
            return [forbidden(f"spec.{key}", "pod updates may not add or remove containers")]
    errors: list[FieldError] = []
    for key in ("containers", "initContainers"):
        for index, container in enumerate(new.get(key) or ()):
            if not container.get("image"):
                errors.append(FieldError("FieldValueRequired", f"spec.{key}[{index}].image"))
    deadline, before = new.get("activeDeadlineSeconds"), old.get("activeDeadlineSeconds")
    if deadline is not None:
        if not 0 < deadline <= 2**31 - 1:
            text = "must be between 1 and 2147483647, inclusive"
            errors.append(invalid("spec.activeDeadlineSeconds", deadline, text))
        elif before is not None and before < deadline:
            errors.append(
                invalid("spec.activeDeadlineSeconds", deadline, "must be less than or equal to previous value")
            )
    elif before is not None:
        text = "must not update from a positive integer to nil value"
        errors.append(invalid("spec.activeDeadlineSeconds", None, text))
    errors.extend(_tolerations(new.get("tolerations") or [], old.get("tolerations") or []))
    gates = {g.get("name") for g in old.get("schedulingGates") or ()}
    added = [g.get("name") for g in new.get("schedulingGates") or () if g.get("name") not in gates]
    if added:
        text = f"only deletion is allowed, but found new scheduling gates '{added[0]}'"
        errors.append(forbidden("spec.schedulingGates", text))
    if errors:
        return errors
    munged = dict(new)
    for key in ("containers", "initContainers"):
        if key in old:
            munged[key] = [{**c, "image": o.get("image")} for c, o in zip(new.get(key) or (), old[key])]
    keys = ["activeDeadlineSeconds", "tolerations", "schedulingGates"]
    if (old.get("terminationGracePeriodSeconds") or 0) < 0 and new.get("terminationGracePeriodSeconds") == 1:
        keys.append("terminationGracePeriodSeconds")
    if gates:
        keys.extend(("nodeSelector", "affinity"))
    for key in keys:
        keep(munged, old, key)
    if munged != old:
        text = f"pod updates may not change fields other than {_UPDATABLE}\n{diff(old, munged)}"
        errors.append(forbidden("spec", text))
    return errors


def _tolerations(new: list[Obj], old: list[Obj]) -> list[FieldError]:
    for toleration in old:
        base = {k: v for k, v in toleration.items() if k != "tolerationSeconds"}
        if not any({k: v for k, v in t.items() if k != "tolerationSeconds"} == base for t in new):
            return [
                forbidden("spec.tolerations", "existing toleration can not be modified except its tolerationSeconds")
            ]
    return []


def diff(old: Any, new: Any) -> str:
    """A short account of what differs, for the message of a refusal."""
    lines: list[str] = []
    _diff(old, new, "", lines)
    return "\n".join(lines) + "\n"


def _diff(old: Any, new: Any, path: str, lines: list[str]) -> None:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            if old.get(key) != new.get(key):
                _diff(old.get(key), new.get(key), f"{path}.{key}" if path else key, lines)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (a, b) in enumerate(zip(old, new)):
            if a != b:
                _diff(a, b, f"{path}[{index}]", lines)
    else:
        for sign, value in (("-", old), ("+", new)):
            if value is not None:
                lines.append(f"  {sign} {path}: {orjson.dumps(value).decode()}")


STRATEGIES = {"pods": PodStrategy}
