"""Small validators that several kinds share: numbers, names, selectors, resources, percentages.

Each answers a list of FieldErrors for the path it is given.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from stablehand.apiserver.strategies.metadata import validate_labels
from stablehand.machinery import names, quantity
from stablehand.machinery.fielderrors import FieldError, forbidden, invalid, not_supported, required
from stablehand.machinery.types import Obj

NOT_NEGATIVE = "must be greater than or equal to 0"


def not_negative(value: Any, path: str) -> list[FieldError]:
    return [invalid(path, value, NOT_NEGATIVE)] if isinstance(value, int) and value < 0 else []


def between(value: int, low: int, high: int, path: str) -> list[FieldError]:
    return [] if low <= value <= high else [invalid(path, value, f"must be between {low} and {high}, inclusive")]


def named(value: str, rule: Callable[[str], list[str]], path: str) -> list[FieldError]:
    return [invalid(path, value, text) for text in rule(value)]


def one_of(value: Any, allowed: Sequence[str], path: str) -> list[FieldError]:
    """A required enumeration."""
    if not value:
        return [required(path)]
    return [] if value in allowed else [not_supported(path, value, allowed)]


def optional_one_of(value: Any, allowed: Sequence[str], path: str) -> list[FieldError]:
    return [] if value is None or value in allowed else [not_supported(path, value, allowed)]


def must_have(value: Any, path: str, detail: str = "") -> list[FieldError]:
    return [] if value else [required(path, detail)]


def selector_operator(expression: Mapping[str, Any], path: str) -> list[FieldError]:
    """The operator of a requirement, and whether it has the values that go with it."""
    op, values = expression.get("operator") or "", expression.get("values") or ()
    if op in ("In", "NotIn"):
        text = "must be specified when `operator` is 'In' or 'NotIn'"
        return [] if values else [required(f"{path}.values", text)]
    if op in ("Exists", "DoesNotExist"):
        text = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
        return [forbidden(f"{path}.values", text)] if values else []
    return [invalid(f"{path}.operator", op, "not a valid selector operator")]


def label_selector(selector: Mapping[str, Any] | None, path: str) -> list[FieldError]:
    """A metav1.LabelSelector."""
    if not selector:
        return []
    errors: list[FieldError] = validate_labels(selector.get("matchLabels") or {}, f"{path}.matchLabels")
    for index, expression in enumerate(selector.get("matchExpressions") or ()):
        where = f"{path}.matchExpressions[{index}]"
        values = expression.get("values") or ()
        errors.extend(selector_operator(expression, where))
        errors.extend(invalid(f"{where}.key", expression.get("key", ""), t) for t in _label_key(expression))
        for at, value in enumerate(values):
            errors.extend(invalid(f"{where}.values[{at}]", value, text) for text in names.label_value(value))
    return errors


def _label_key(expression: Mapping[str, Any]) -> list[str]:
    return names.qualified_name(expression.get("key") or "")


def empty_selector(selector: Mapping[str, Any]) -> bool:
    return not selector.get("matchLabels") and not selector.get("matchExpressions")


def int_or_percent(value: Any, path: str) -> list[FieldError]:
    """A non-negative number or a percentage."""
    if isinstance(value, str):
        return [invalid(path, value, text) for text in names.percent(value)]
    return not_negative(value, path)


def percent_value(value: Any) -> int | None:
    """The number of a percentage string, None for anything else."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]+%", value):
        return int(value[:-1])
    return None


def at_most_100_percent(value: Any, path: str) -> list[FieldError]:
    number = percent_value(value)
    return [invalid(path, value, "must not be greater than 100%")] if number is not None and number > 100 else []


def duplicates(values: Iterable[Any]) -> set[int]:
    """Indexes of values seen before."""
    seen: set[Any] = set()
    found: set[int] = set()
    for index, value in enumerate(values):
        if value in seen:
            found.add(index)
        seen.add(value)
    return found


def cidr(text: str, path: str) -> list[FieldError]:
    try:
        if "/" not in text:
            raise ValueError
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return [invalid(path, text, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)")]
    return []


def usable_address(text: str, path: str) -> list[FieldError]:
    """An address that something else can be reached at (ValidateEndpointIP)."""
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        return [invalid(path, text, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")]
    if ip.is_unspecified:
        return [invalid(path, text, f"may not be unspecified ({text})")]
    if ip.is_loopback:
        return [invalid(path, text, "may not be in the loopback range (127.0.0.0/8, ::1/128)")]
    if ip.is_link_local:
        return [invalid(path, text, "may not be in the link-local range (169.254.0.0/16, fe80::/10)")]
    if ip.is_multicast and (
        (ip.version == 4 and int(ip) >> 8 == 0xE00000) or (ip.version == 6 and int(ip) >> 112 == 0xFF02)
    ):
        return [invalid(path, text, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)")]
    return []


def load_balancer_address(one: Obj, path: str) -> list[FieldError]:
    """One ingress point of a Service's or an Ingress's status."""
    errors: list[FieldError] = []
    if ip := one.get("ip"):
        errors.extend(named(ip, names.ip_address, f"{path}.ip"))
    if host := one.get("hostname"):
        errors.extend(named(host, names.dns1123_subdomain, f"{path}.hostname"))
        if not names.ip_address(host):
            errors.append(invalid(f"{path}.hostname", host, "must be a DNS name, not an IP address"))
    return errors


# --- resources --------------------------------------------------------------------------------------------------

_CONTAINER_RESOURCES = frozenset({"cpu", "memory", "ephemeral-storage"})
_INTEGRAL = "must be an integer"


def _is_extended(name: str) -> bool:
    return "/" in name and not name.partition("/")[0].endswith("kubernetes.io") and not name.startswith("requests.")


def overcommits(name: str) -> bool:
    """Whether a limit of this resource may be above its request."""
    return not _is_extended(name) and not name.startswith("hugepages-")


def resource_name(name: str, path: str) -> list[FieldError]:
    errors = [invalid(path, name, text) for text in names.qualified_name(name)]
    if errors:
        return errors
    if "/" not in name and name not in _CONTAINER_RESOURCES and not name.startswith("hugepages-"):
        errors.append(invalid(path, name, "must be a standard resource type or fully qualified"))
        errors.append(invalid(path, name, "must be a standard resource for containers"))
    return errors


def resource_requirements(resources: Obj, path: str) -> list[FieldError]:
    """limits and requests of a container."""
    errors: list[FieldError] = []
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for kind, values in (("limits", limits), ("requests", requests)):
        for name, value in values.items():
            where = f"{path}.{kind}"
            errors.extend(resource_name(name, where))
            number = quantity.parse(value)
            if number < 0:
                errors.append(invalid(f"{where}[{name}]", str(value), NOT_NEGATIVE))
            if _is_extended(name) and number != number.to_integral_value():
                errors.append(invalid(f"{where}[{name}]", str(value), _INTEGRAL))
    for name, value in requests.items():
        limit = limits.get(name)
        if limit is not None:
            more = quantity.compare(value, limit)
            if _is_extended(name) or name.startswith("hugepages-"):
                if more != 0:
                    errors.append(invalid(f"{path}.requests", value, f"must be equal to {name} limit of {limit}"))
            elif more > 0:
                text = f"must be less than or equal to {name} limit of {limit}"
                errors.append(invalid(f"{path}.requests", value, text))
        elif _is_extended(name) or name.startswith("hugepages-"):
            errors.append(required(f"{path}.limits", "Limit must be set for non overcommitable resources"))
    return errors


def quantity_map(values: Mapping[str, Any], path: str) -> list[FieldError]:
    """Non-negative quantities under qualified names."""
    errors: list[FieldError] = []
    for name, value in values.items():
        errors.extend(invalid(f"{path}[{name}]", name, text) for text in names.qualified_name(name))
        if quantity.parse(value) < 0:
            errors.append(invalid(f"{path}[{name}]", str(value), NOT_NEGATIVE))
    return errors
