"""LimitRanges: which bounds fit together (ValidateLimitRange). Applying them is admission's."""

from __future__ import annotations

from typing import Any

from stablehand.apiserver.strategies import checks, quotas
from stablehand.apiserver.strategies.base import Strategy
from stablehand.machinery import names, quantity
from stablehand.machinery.fielderrors import FieldError, duplicate, forbidden, invalid, required
from stablehand.machinery.types import Obj

_TYPES = ("Pod", "Container", "PersistentVolumeClaim")
_FIELDS = ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio")
# What must not be (bound, other bound, the field it is told of, whose value is shown, words); in upstream's order.
_ORDERED = (
    ("min", "max", "min", "min", "min value {} is greater than max value {}"),
    ("min", "defaultRequest", "defaultRequest", "defaultRequest",
     "min value {} is greater than default request value {}"),
    ("defaultRequest", "max", "defaultRequest", "defaultRequest",
     "default request value {} is greater than max value {}"),
    ("defaultRequest", "default", "defaultRequest", "defaultRequest",
     "default request value {} is greater than default limit value {}"),
    ("min", "default", "default", "min", "min value {} is greater than default value {}"),
    ("default", "max", "default", "max", "default value {} is greater than max value {}"),
)  # fmt: skip


class LimitRangeStrategy(Strategy):
    def default(self, obj: Obj) -> None:
        for item in (obj.get("spec") or {}).get("limits") or ():
            if item.get("type") != "Container":
                continue
            if item.get("max"):
                default = item.setdefault("default", {})
                for name, value in item["max"].items():
                    default.setdefault(name, value)
            if item.get("default"):
                request = item.setdefault("defaultRequest", {})
                for name, value in item["default"].items():
                    request.setdefault(name, value)
            if item.get("min"):
                request = item.setdefault("defaultRequest", {})
                for name, value in item["min"].items():
                    request.setdefault(name, value)

    def validate(self, obj: Obj) -> list[FieldError]:
        errors: list[FieldError] = []
        seen: set[Any] = set()
        for index, item in enumerate((obj.get("spec") or {}).get("limits") or ()):
            path = f"spec.limits[{index}]"
            kind = item.get("type") or ""
            errors.extend(_type(kind, f"{path}.type"))
            if kind in seen:
                errors.append(duplicate(f"{path}.type", kind))
            seen.add(kind)
            errors.extend(_item(item, kind, path))
        return errors


def _type(kind: str, path: str) -> list[FieldError]:
    errors = checks.named(kind, names.qualified_name, path)
    if not errors and "/" not in kind and kind not in _TYPES:
        errors.append(invalid(path, kind, "must be a standard limit type or fully qualified"))
    return errors


def _name(kind: str, name: str, path: str) -> list[FieldError]:
    if kind in ("Pod", "Container"):
        return checks.resource_name(name, path)
    errors = checks.named(name, names.qualified_name, path)
    if not errors and "/" not in name and name != "storage" and not quotas.is_standard(name):
        errors.append(invalid(path, name, "must be a standard resource type or fully qualified"))
    return errors


def _item(item: Obj, kind: str, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    known: dict[str, None] = {}
    for field in _FIELDS:
        values = item.get(field) or {}
        if kind == "Pod" and field in ("default", "defaultRequest"):
            if values:
                errors.append(forbidden(f"{path}.{field}", "may not be specified when `type` is 'Pod'"))
            continue
        for name in values:
            errors.extend(_name(kind, name, f"{path}.{field}[{name}]"))
            known[name] = None
    if kind == "PersistentVolumeClaim" and not any("storage" in (item.get(f) or {}) for f in ("min", "max")):
        text = "either minimum or maximum storage value is required, but neither was provided"
        errors.append(required(f"{path}.limits", text))
    for name in known:
        errors.extend(_bounds(item, name, kind == "Pod", path))
    return errors


def _bounds(item: Obj, name: str, pod: bool, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    fields = [f for f in _FIELDS if not (pod and f in ("default", "defaultRequest"))]
    value = {f: str(item[f][name]) for f in fields if name in (item.get(f) or {})}
    for low, high, field, shown, words in _ORDERED:
        if low in value and high in value and quantity.compare(value[low], value[high]) > 0:
            text = words.format(quantity.canonical(value[low]), quantity.canonical(value[high]))
            errors.append(invalid(f"{path}.{field}[{name}]", value[shown], text))
    ratio = value.get("maxLimitRequestRatio")
    where = f"{path}.maxLimitRequestRatio[{name}]"
    if ratio is not None and quantity.compare(ratio, 1) < 0:
        errors.append(invalid(where, ratio, f"ratio {ratio} is less than 1"))
    if ratio is not None and "min" in value and "max" in value and quantity.parse(value["min"]):
        most = quantity.parse(value["max"]) / quantity.parse(value["min"])
        if quantity.parse(ratio) > most:
            errors.append(invalid(where, ratio, f"ratio {ratio} is greater than max/min = {float(most):f}"))
    limit, request = value.get("default"), value.get("defaultRequest")
    fixed = not checks.overcommits(name)
    if fixed and limit is not None and request is not None and quantity.compare(limit, request) != 0:
        text = f"default value {limit} must equal to defaultRequest value {request} in {name}"
        errors.append(invalid(f"{path}.defaultRequest[{name}]", request, text))
    return errors


STRATEGIES = {"limitranges": LimitRangeStrategy}
