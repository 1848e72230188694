"""What a pod asks of a node: cpu, memory and other resources, and host ports. Pure."""

from __future__ import annotations

from stablehand.machinery import quantity
from stablehand.machinery.types import Obj

Amounts = dict[str, int]  # cpu in thousandths, everything else in whole units


def amount(name: str, value: str | int | float) -> int:
    return quantity.milli(value) if name == "cpu" else quantity.whole(value)


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


def pod_requests(spec: Obj) -> Amounts:
    """The larger of all containers together and each init container on its own; sidecars run beside both."""
    total: Amounts = {}
    for container in spec.get("containers") or ():
        _add(total, _requests(container))
    sidecars: Amounts = {}
    initial: Amounts = {}
    for container in spec.get("initContainers") or ():
        own = _requests(container)
        if container.get("restartPolicy") == "Always":
            _add(total, own)
            _add(sidecars, own)
            _max(initial, sidecars)
        else:
            beside = dict(sidecars)
            _add(beside, own)
            _max(initial, beside)
    _max(total, initial)
    pod_level = spec.get("resources") or {}
    total.update(amounts({**(pod_level.get("limits") or {}), **(pod_level.get("requests") or {})}))
    _add(total, amounts(spec.get("overhead")))
    return {name: value for name, value in total.items() if value}


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
