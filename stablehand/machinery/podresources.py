"""What a pod asks of a node: cpu, memory and other resources, and host ports. Pure."""

from __future__ import annotations

from collections.abc import Callable

from stablehand.machinery import quantity
from stablehand.machinery.types import Obj

Amounts = dict[str, int]  # cpu in thousandths, everything else in whole units


def amount(name: str, value: str | int | float) -> int:
    return quantity.milli(value) if name == "cpu" else quantity.whole(value)


def format_amount(name: str, value: int) -> str:
    """An amount as a quantity."""
    return quantity.format_milli(value) if name == "cpu" else quantity.format_bytes(value)


def amounts(resources: Obj | None) -> Amounts:
    return {name: amount(name, value) for name, value in (resources or {}).items()}


def _add(total: Amounts, more: Amounts) -> None:
    for name, value in more.items():
        total[name] = total.get(name, 0) + value


def _max(total: Amounts, other: Amounts) -> None:
    for name, value in other.items():
        total[name] = max(total.get(name, 0), value)


def _requests(container: Obj) -> Amounts:
    resources = container.get("resources") or {}
    return amounts({**(resources.get("limits") or {}), **(resources.get("requests") or {})})


def _limits(container: Obj) -> Amounts:
    return amounts((container.get("resources") or {}).get("limits"))


def pod_requests(spec: Obj) -> Amounts:
    """What the pod asks for: as `_together`, or what it says for itself as a whole; and its overhead."""
    total = _together(spec, _requests)
    pod_level = spec.get("resources") or {}
    total.update(amounts({**(pod_level.get("limits") or {}), **(pod_level.get("requests") or {})}))
    _add(total, amounts(spec.get("overhead")))
    return {name: value for name, value in total.items() if value}


def pod_limits(spec: Obj) -> Amounts:
    """The limits of all containers, or of the pod as a whole, and the overhead where there is a limit."""
    total = _together(spec, _limits)
    total.update(amounts((spec.get("resources") or {}).get("limits")))
    _add(total, {name: value for name, value in amounts(spec.get("overhead")).items() if name in total})
    return {name: value for name, value in total.items() if value}


def claimed_spec(pod: Obj) -> Obj:
    """The spec with what the pod counts for: while a resize is pending or under way, for each resource the largest of
    what a container asks for, has, and was granted; what it asks for in vain (infeasible) does not count."""
    spec, status = pod["spec"], pod.get("status") or {}
    told = {
        s["name"]: s for f in ("containerStatuses", "initContainerStatuses") for s in status.get(f) or () if "name" in s
    }
    in_vain = any(
        c.get("type") == "PodResizePending" and c.get("reason") == "Infeasible" for c in status.get("conditions") or ()
    )
    result = spec
    for field in ("containers", "initContainers"):
        containers = spec.get(field) or []
        counted = [_claimed(c, told.get(c.get("name", "")) or {}, in_vain) for c in containers]
        if any(now is not before for now, before in zip(counted, containers)):
            result = {**result, field: counted}
    if spec.get("resources"):
        whole = _claimed(spec, status, in_vain)
        result = {**result, "resources": whole["resources"]} if whole is not spec else result
    return result


def _claimed(container: Obj, status: Obj, in_vain: bool) -> Obj:
    asked, has = container.get("resources") or {}, status.get("resources")
    if not has:
        return container
    granted = {"requests": status.get("allocatedResources") or {}}
    claims: Obj = {}
    for kind in ("requests", "limits"):
        sources = [has.get(kind) or {}, granted.get(kind) or {}, *([] if in_vain else [asked.get(kind) or {}])]
        largest: dict[str, str] = {}
        for source in sources:
            for name, value in source.items():
                if name not in largest or quantity.compare(value, largest[name]) > 0:
                    largest[name] = value
        # What a status does not tell (the request of a device, say) is as asked for.
        claims[kind] = {**(asked.get(kind) or {}), **largest}
    return container if claims == {k: asked.get(k) or {} for k in claims} else {**container, "resources": claims}


def _together(spec: Obj, of: Callable[[Obj], Amounts]) -> Amounts:
    """The larger of all containers together and each init container on its own; sidecars run beside both."""
    total: Amounts = {}
    for container in spec.get("containers") or ():
        _add(total, of(container))
    sidecars: Amounts = {}
    initial: Amounts = {}
    for container in spec.get("initContainers") or ():
        own = of(container)
        if container.get("restartPolicy") == "Always":
            _add(total, own)
            _add(sidecars, own)
            _max(initial, sidecars)
        else:
            beside = dict(sidecars)
            _add(beside, own)
            _max(initial, beside)
    _max(total, initial)
    return total


def host_ports(spec: Obj) -> set[tuple[str, str, int]]:
    """(address, protocol, port) of each host port; address "0.0.0.0" is all of them."""
    out: set[tuple[str, str, int]] = set()
    for container in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]:
        for port in container.get("ports") or ():
            if port.get("hostPort"):
                address = port.get("hostIP") or "0.0.0.0"
                out.add((address, port.get("protocol") or "TCP", int(port["hostPort"])))
    return out


def ports_conflict(wanted: set[tuple[str, str, int]], used: set[tuple[str, str, int]]) -> bool:
    for address, protocol, port in wanted:
        for other, other_protocol, other_port in used:
            if (port, protocol) == (other_port, other_protocol) and (address == other or "0.0.0.0" in (address, other)):
                return True
    return False
