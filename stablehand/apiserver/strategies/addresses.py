"""ServiceCIDRs, and the IPAddresses that are given out of them (pkg/apis/networking)."""

from __future__ import annotations

import ipaddress

from stablehand.apiserver.strategies import checks
from stablehand.apiserver.strategies.base import Strategy
from stablehand.apiserver.strategies.metadata import IMMUTABLE, immutable
from stablehand.machinery import names
from stablehand.machinery.fielderrors import FieldError, invalid, required
from stablehand.machinery.types import Obj


def address_name(name: str, prefix: bool) -> list[str]:
    """An IPAddress is named by what it is, in canonical form."""
    try:
        plain = str(ipaddress.ip_address(name))
    except ValueError:
        return ["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"]
    return [] if plain == name else [f'must be in canonical form ("{plain}")']


class AddressStrategy(Strategy):
    name_rule = staticmethod(address_name)

    def validate(self, obj: Obj) -> list[FieldError]:
        parent = (obj.get("spec") or {}).get("parentRef")
        if parent is None:
            return [required("spec.parentRef")]
        errors: list[FieldError] = []
        if group := parent.get("group"):
            errors.extend(checks.named(group, names.dns1123_subdomain, "spec.parentRef.group"))
        for key in ("resource", "name"):
            value = parent.get(key) or ""
            where = f"spec.parentRef.{key}"
            errors.extend(checks.named(value, names.path_segment, where) if value else [required(where)])
        if namespace := parent.get("namespace"):
            errors.extend(checks.named(namespace, names.path_segment, "spec.parentRef.namespace"))
        return errors

    def validate_change(self, new: Obj, old: Obj) -> list[FieldError]:
        own, was = (new.get("spec") or {}).get("parentRef"), (old.get("spec") or {}).get("parentRef")
        return self.validate(new) + immutable(own, was, "spec.parentRef")


class RangeStrategy(Strategy):
    def validate(self, obj: Obj) -> list[FieldError]:
        ranges = (obj.get("spec") or {}).get("cidrs") or []
        path = "spec.cidrs"
        if not ranges:
            return [required(path, "at least one CIDR required")]
        errors: list[FieldError] = []
        if len(ranges) > 2:
            errors.append(invalid(path, obj["spec"], "may only hold up to 2 values"))
        if len(ranges) == 2 and (":" in ranges[0]) == (":" in ranges[1]):
            text = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/96"
            errors.append(invalid(path, obj["spec"], text))
        for index, text in enumerate(ranges):
            errors.extend(checks.cidr(text, f"{path}[{index}]"))
        return errors

    def validate_change(self, new: Obj, old: Obj) -> list[FieldError]:
        errors = self.validate(new)
        ranges, before = (new.get("spec") or {}).get("cidrs") or [], (old.get("spec") or {}).get("cidrs") or []
        # One may become two, of the other family; what is there stays.
        for index, text in enumerate(before):
            if index >= len(ranges) or ranges[index] != text:
                errors.append(invalid(f"spec.cidrs[{index}]", ranges[index] if index < len(ranges) else "", IMMUTABLE))
        return errors


_GROUP = "networking.k8s.io"
STRATEGIES = {f"ipaddresses.{_GROUP}": AddressStrategy, f"servicecidrs.{_GROUP}": RangeStrategy}
