"""Endpoints and endpoint slices."""

from __future__ import annotations

import ipaddress

from stablehand.apiserver.strategies import checks
from stablehand.apiserver.strategies.base import Strategy, bump_generation
from stablehand.apiserver.strategies.metadata import immutable
from stablehand.machinery import names
from stablehand.machinery.fielderrors import FieldError, duplicate, invalid, not_supported, required, too_many
from stablehand.machinery.types import Obj

_PROTOCOLS = ("SCTP", "TCP", "UDP")
_FAMILIES = ("FQDN", "IPv4", "IPv6")


class EndpointsStrategy(Strategy):
    def default(self, obj: Obj) -> None:
        for subset in obj.get("subsets") or ():
            for port in subset.get("ports") or ():
                if not port.get("protocol"):
                    port["protocol"] = "TCP"

    def validate(self, obj: Obj) -> list[FieldError]:
        errors: list[FieldError] = []
        for index, subset in enumerate(obj.get("subsets") or ()):
            path = f"subsets[{index}]"
            if not subset.get("addresses") and not subset.get("notReadyAddresses"):
                errors.append(required(path, "must specify `addresses` or `notReadyAddresses`"))
            for key in ("addresses", "notReadyAddresses"):
                for at, address in enumerate(subset.get(key) or ()):
                    errors.extend(checks.usable_address(address.get("ip") or "", f"{path}.{key}[{at}].ip"))
                    if host := address.get("hostname"):
                        errors.extend(checks.named(host, names.dns1123_label, f"{path}.{key}[{at}].hostname"))
            ports = subset.get("ports") or []
            for at, port in enumerate(ports):
                where = f"{path}.ports[{at}]"
                if port.get("name"):
                    errors.extend(checks.named(port["name"], names.dns1123_label, f"{where}.name"))
                elif len(ports) > 1:
                    errors.append(required(f"{where}.name"))
                number = port.get("port") or 0
                errors.extend(invalid(f"{where}.port", number, text) for text in names.port_number(number))
                errors.extend(checks.one_of(port.get("protocol"), _PROTOCOLS, f"{where}.protocol"))
        return errors


def _of_family(address: str, family: str, path: str) -> list[FieldError]:
    try:
        version = ipaddress.ip_address(address).version
    except ValueError:
        return []  # told as no address at all
    return [] if family == f"IPv{version}" else [invalid(path, address, f"must be a valid {family} address")]


def _hints(hints: Obj, path: str) -> list[FieldError]:
    """Where an endpoint's traffic is meant to come from."""
    errors: list[FieldError] = []
    for key in ("forZones", "forNodes"):
        found = [one.get("name") or "" for one in hints.get(key) or ()]
        if len(found) > 8:
            errors.append(too_many(f"{path}.{key}", len(found), 8))
        for index, name in enumerate(found):
            where = f"{path}.{key}[{index}].name"
            if name in found[:index]:
                errors.append(duplicate(where, name))
            errors.extend(
                checks.named(name, names.label_value if key == "forZones" else names.dns1123_subdomain, where)
            )
    return errors


class SliceStrategy(Strategy):
    def default(self, obj: Obj) -> None:
        for port in obj.get("ports") or ():
            port.setdefault("name", "")
            if not port.get("protocol"):
                port["protocol"] = "TCP"

    def prepare_create(self, obj: Obj) -> None:
        obj["metadata"]["generation"] = 1

    def prepare_update(self, new: Obj, old: Obj) -> None:
        def seen(obj: Obj) -> tuple[object, ...]:
            meta = obj["metadata"]
            return obj.get("endpoints"), obj.get("ports"), obj.get("addressType"), meta.get("labels")

        bump_generation(new, old, seen(new) != seen(old))

    def validate(self, obj: Obj) -> list[FieldError]:
        errors: list[FieldError] = []
        family = obj.get("addressType") or ""
        if not family:
            errors.append(required("addressType"))
        elif family not in _FAMILIES:
            errors.append(not_supported("addressType", family, _FAMILIES))
        endpoints, ports = obj.get("endpoints") or [], obj.get("ports") or []
        if len(endpoints) > 1000:
            errors.append(too_many("endpoints", len(endpoints), 1000))
        for index, endpoint in enumerate(endpoints):
            path = f"endpoints[{index}]"
            addresses = endpoint.get("addresses") or []
            if not addresses:
                errors.append(required(f"{path}.addresses", "must contain at least 1 address"))
            elif len(addresses) > 100:
                errors.append(too_many(f"{path}.addresses", len(addresses), 100))
            for at, address in enumerate(addresses):
                where = f"{path}.addresses[{at}]"
                if family == "FQDN":
                    errors.extend(checks.named(address, names.dns1123_subdomain, where))
                elif family:
                    errors.extend(_of_family(address, family, where) or checks.usable_address(address, where))
            if host := endpoint.get("hostname"):
                errors.extend(checks.named(host, names.dns1123_label, f"{path}.hostname"))
            if node := endpoint.get("nodeName"):
                errors.extend(checks.named(node, names.dns1123_subdomain, f"{path}.nodeName"))
            errors.extend(_hints(endpoint.get("hints") or {}, f"{path}.hints"))
        if len(ports) > 20000:
            errors.append(too_many("ports", len(ports), 20000))
        seen: set[str] = set()
        for index, port in enumerate(ports):
            name = port.get("name") or ""
            if name:
                errors.extend(checks.named(name, names.dns1123_label, f"ports[{index}].name"))
            if name in seen:
                errors.append(duplicate(f"ports[{index}].name", name))
            seen.add(name)
            errors.extend(checks.one_of(port.get("protocol"), _PROTOCOLS, f"ports[{index}].protocol"))
            if protocol := port.get("appProtocol"):
                errors.extend(checks.named(protocol, names.qualified_name, f"ports[{index}].appProtocol"))
        return errors

    def validate_change(self, new: Obj, old: Obj) -> list[FieldError]:
        return self.validate(new) + immutable(new.get("addressType"), old.get("addressType"), "addressType")


STRATEGIES = {"endpoints": EndpointsStrategy, "endpointslices.discovery.k8s.io": SliceStrategy}
