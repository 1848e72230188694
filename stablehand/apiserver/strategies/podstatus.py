"""What a pod's status may say, and what of it may not be taken back (ValidatePodStatusUpdate)."""

from __future__ import annotations

from stablehand.apiserver.strategies import checks
from stablehand.apiserver.strategies.metadata import immutable
from stablehand.machinery import names
from stablehand.machinery.fielderrors import FieldError, forbidden, invalid
from stablehand.machinery.types import Obj

_LEFT = "may not be transitioned to non-terminated state"


def validate_status(new: Obj, old: Obj) -> list[FieldError]:
    status, before = new.get("status") or {}, old.get("status") or {}
    spec = old["spec"]
    errors: list[FieldError] = []
    for index, condition in enumerate(status.get("conditions") or ()):
        kind = condition.get("type") or ""
        errors.extend(checks.named(kind, names.qualified_name, f"metadata.conditions[{index}].Type"))
    if new["spec"].get("nodeName") != spec.get("nodeName"):
        errors.append(forbidden("status.nodeName", "may not be changed directly"))
    nominated = status.get("nominatedNodeName")
    if nominated and nominated != before.get("nominatedNodeName"):
        errors.extend(checks.named(nominated, names.dns1123_subdomain, "status.nominatedNodeName"))
    if before.get("qosClass"):
        errors.extend(immutable(status.get("qosClass"), before["qosClass"], "status.qosClass"))
    policy = spec.get("restartPolicy") or "Always"
    if _starts_all_again(spec):
        policy = "Always"
    errors.extend(_stay_ended(status, before, "containerStatuses", spec.get("containers") or (), policy))
    errors.extend(_stay_ended(status, before, "initContainerStatuses", spec.get("initContainers") or (), policy))
    errors.extend(_stay_ended(status, before, "ephemeralContainerStatuses", (), "Never"))
    for field in ("podIPs", "hostIPs"):
        if status.get(field) != before.get(field):
            errors.extend(_addresses(status.get(field) or [], f"status.{field}"))
    return errors


def _starts_all_again(spec: Obj) -> bool:
    """Whether the end of one container may start every one of the pod's again."""
    containers = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    return any(r.get("action") == "RestartAllContainers" for c in containers for r in c.get("restartPolicyRules") or ())


def _stay_ended(
    status: Obj, before: Obj, field: str, containers: list[Obj] | tuple[()], policy: str
) -> list[FieldError]:
    """A container that is not to be started again stays terminated."""
    if policy == "Always" and field != "initContainerStatuses":
        return []
    # Containers with a policy of their own are started by that.
    free = {c.get("name") for c in containers if c.get("restartPolicy") or c.get("restartPolicyRules")}
    now = {s.get("name"): s for s in status.get(field) or ()}
    errors = []
    for index, old in enumerate(before.get(field) or ()):
        ended = (old.get("state") or {}).get("terminated")
        if ended is None or old.get("name") in free:
            continue
        if ended.get("exitCode") and policy in ("Always", "OnFailure"):
            continue
        if field == "initContainerStatuses" and policy == "Always":
            continue  # the whole pod starts again, its init containers too
        found = now.get(old.get("name"))
        if found is not None and (found.get("state") or {}).get("terminated") is None:
            errors.append(forbidden(f"status.{field}[{index}].state", _LEFT))
    return errors


def _addresses(found: list[Obj], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    addresses = [one.get("ip") or "" for one in found]
    for index, address in enumerate(addresses):
        errors.extend(checks.named(address, names.ip_address, f"{path}[{index}]"))
    families = [":" in address for address in addresses]
    if not errors and (len(families) > 2 or len(set(families)) < len(families)):
        errors.append(invalid(path, found, "may specify no more than one IP for each IP family"))
    return errors
