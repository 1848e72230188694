"""Namespaces and nodes."""

from __future__ import annotations

from typing import Any

from stablehand.apiserver.strategies import checks
from stablehand.apiserver.strategies.base import Strategy, keep
from stablehand.apiserver.strategies.metadata import label_name
from stablehand.apiserver.strategies.podspec import EFFECTS
from stablehand.machinery import names, quantity
from stablehand.machinery.fielderrors import FieldError, duplicate, forbidden, invalid, not_supported, required
from stablehand.machinery.types import Obj

NAME_LABEL = "kubernetes.io/metadata.name"


class NamespaceStrategy(Strategy):
    name_rule = staticmethod(label_name)

    def default(self, obj: Obj) -> None:
        name = obj["metadata"].get("name")
        if name:
            obj["metadata"].setdefault("labels", {})[NAME_LABEL] = name

    def prepare_create(self, obj: Obj) -> None:
        super().prepare_create(obj)
        finalizers = (obj.get("spec") or {}).get("finalizers") or []
        if "kubernetes" not in finalizers:
            finalizers = [*finalizers, "kubernetes"]
        obj["spec"] = {"finalizers": finalizers}
        self.default(obj)

    def initial_status(self, obj: Obj) -> None:
        obj["status"] = {"phase": "Active"}

    def prepare_update(self, new: Obj, old: Obj) -> None:
        keep(new, old, "spec")
        keep(new, old, "status")

    def prepare_subresource(self, new: Obj, old: Obj, subresource: str) -> None:
        keep(new, old, "status")

    def validate(self, obj: Obj) -> list[FieldError]:
        errors: list[FieldError] = []
        for name in (obj.get("spec") or {}).get("finalizers") or ():
            errors.extend(checks.named(name, names.qualified_name, "spec.finalizers"))
        return errors

    def validate_status(self, new: Obj, old: Obj) -> list[FieldError]:
        phase = (new.get("status") or {}).get("phase") or ""
        deleted = bool(new["metadata"].get("deletionTimestamp"))
        if deleted and phase != "Terminating":
            return [invalid("status.Phase", phase, "may only be 'Terminating' if `deletionTimestamp` is not empty")]
        if not deleted and phase != "Active":
            return [invalid("status.Phase", phase, "may only be 'Active' if `deletionTimestamp` is empty")]
        return []


class NodeStrategy(Strategy):
    def prepare_create(self, obj: Obj) -> None:
        status = obj.setdefault("status", {})
        self._allocatable(status)

    def prepare_status_update(self, new: Obj, old: Obj) -> None:
        super().prepare_status_update(new, old)
        self._allocatable(new.setdefault("status", {}))

    @staticmethod
    def _allocatable(status: Obj) -> None:
        if status.get("capacity") and not status.get("allocatable"):
            status["allocatable"] = dict(status["capacity"])

    def validate(self, obj: Obj) -> list[FieldError]:
        spec, status = obj.get("spec") or {}, obj.get("status") or {}
        errors = _taints(spec.get("taints") or [])
        ranges = spec.get("podCIDRs") or []
        for index, text in enumerate(ranges):
            errors.extend(checks.cidr(text, f"spec.podCIDRs[{index}]"))
        families = [":" in text for text in ranges]
        if len(ranges) > 2 or len(set(families)) < len(families):
            text = "may specify no more than one CIDR for each IP family"
            errors.append(invalid("spec.podCIDRs", ranges, text))
        for key in ("capacity", "allocatable"):
            for name, value in (status.get(key) or {}).items():
                if quantity.parse(value) < 0:
                    errors.append(invalid(f"status.{key}.{name}", value, checks.NOT_NEGATIVE))
        return errors

    def validate_status(self, new: Obj, old: Obj) -> list[FieldError]:
        errors: list[FieldError] = []
        seen: list[Obj] = []
        for index, address in enumerate((new.get("status") or {}).get("addresses") or ()):
            if address in seen:
                errors.append(duplicate(f"status.addresses[{index}]", address))
            seen.append(address)
        return errors

    def validate_change(self, new: Obj, old: Obj) -> list[FieldError]:
        errors = self.validate(new)
        spec, before = new.get("spec") or {}, old.get("spec") or {}
        if before.get("podCIDRs") and spec.get("podCIDRs") != before["podCIDRs"]:
            errors.append(forbidden("spec.podCIDRs", 'node updates may not change podCIDR except from "" to valid'))
        if before.get("providerID") and spec.get("providerID") != before["providerID"]:
            errors.append(
                forbidden("spec.providerID", 'node updates may not change providerID except from "" to valid')
            )
        free = {"podCIDR", "podCIDRs", "providerID", "taints", "unschedulable", "configSource"}
        if any(spec.get(key) != before.get(key) for key in {*spec, *before} - free):
            text = "node updates may only change labels, taints, or capacity"
            errors.append(forbidden("", text))
        return errors


def _taints(taints: list[Obj]) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[tuple[Any, Any]] = set()
    for index, taint in enumerate(taints):
        path = f"spec.taints[{index}]"
        errors.extend(checks.named(taint.get("key") or "", names.qualified_name, f"{path}.key"))
        errors.extend(checks.named(taint.get("value") or "", names.label_value, f"{path}.value"))
        effect = taint.get("effect") or ""
        if not effect:
            errors.append(required(f"{path}.effect"))
        elif effect not in EFFECTS:
            errors.append(not_supported(f"{path}.effect", effect, EFFECTS))
        key = (taint.get("key"), effect)
        if key in seen:
            error = duplicate(path, taint)
            errors.append(FieldError(error.type, path, taint, "taints must be unique by key and effect pair"))
        seen.add(key)
    return errors


STRATEGIES = {
    "namespaces": NamespaceStrategy,
    "nodes": NodeStrategy,
}
