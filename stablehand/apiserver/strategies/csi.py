"""What storage drivers say of themselves and of nodes: CSIDriver, CSINode, CSIStorageCapacity, VolumeAttachment,
VolumeAttributesClass (pkg/apis/storage)."""

from __future__ import annotations

from typing import Any

from stablehand.apiserver.strategies import checks
from stablehand.apiserver.strategies.base import Strategy
from stablehand.apiserver.strategies.metadata import immutable
from stablehand.apiserver.strategies.volumes import parameters, provisioner, validate_spec
from stablehand.machinery import names, quantity
from stablehand.machinery.fielderrors import FieldError, duplicate, forbidden, invalid, not_supported, required
from stablehand.machinery.types import Obj

_MODES = ("Ephemeral", "Persistent")
_GROUP_POLICIES = ("File", "None", "ReadWriteOnceWithFSType")
_ID_LIMIT = 256
_MESSAGE_LIMIT = 1024
_METADATA_LIMIT = 256 * 1024


def driver_name(name: str, path: str) -> list[FieldError]:
    """The name of a CSI driver, where one is referred to."""
    if not name:
        return [required(path)]
    errors = []
    if len(name) > 63:
        errors.append(FieldError("FieldValueTooLong", path, name, "may not be more than 63 bytes"))
    return errors + checks.named(name.lower(), names.dns1123_subdomain, path)


class DriverStrategy(Strategy):
    def default(self, obj: Obj) -> None:
        spec = obj.setdefault("spec", {})
        spec.setdefault("attachRequired", True)
        for key in ("podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount"):
            spec.setdefault(key, False)
        spec.setdefault("fsGroupPolicy", "ReadWriteOnceWithFSType")
        if not spec.get("volumeLifecycleModes"):
            spec["volumeLifecycleModes"] = ["Persistent"]

    def validate(self, obj: Obj) -> list[FieldError]:
        spec = obj["spec"]
        errors = checks.optional_one_of(spec.get("fsGroupPolicy"), _GROUP_POLICIES, "spec.fsGroupPolicy")
        errors.extend(_tokens(spec.get("tokenRequests") or []))
        for mode in spec.get("volumeLifecycleModes") or ():
            if mode not in _MODES:
                errors.append(not_supported("spec.volumeLifecycleModes", mode, _MODES))
        period = spec.get("nodeAllocatableUpdatePeriodSeconds")
        if period is not None and period < 10:
            where = "spec.nodeAllocatableUpdatePeriodSeconds"
            errors.append(invalid(where, period, "must be greater than or equal to 10 seconds"))
        return errors

    def validate_change(self, new: Obj, old: Obj) -> list[FieldError]:
        errors = self.validate(new)
        for key, path in (("attachRequired", "attachedRequired"), ("volumeLifecycleModes", "volumeLifecycleModes")):
            errors.extend(immutable(new["spec"].get(key), old["spec"].get(key), f"spec.{path}"))
        return errors


def _tokens(requests: list[Obj]) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for index, request in enumerate(requests):
        path, audience = f"spec.tokenRequests[{index}]", request.get("audience") or ""
        if audience in seen:
            errors.append(duplicate(f"{path}.audience", audience))
        seen.add(audience)
        seconds = request.get("expirationSeconds")
        if seconds is not None and seconds < 600:
            text = "may not specify a duration less than 10 minutes"
            errors.append(invalid(f"{path}.expirationSeconds", seconds, text))
        if seconds is not None and seconds > 2**32:
            text = "may not specify a duration larger than 2^32 seconds"
            errors.append(invalid(f"{path}.expirationSeconds", seconds, text))
    return errors


class NodeStrategy(Strategy):
    def default(self, obj: Obj) -> None:
        spec = obj.setdefault("spec", {})
        if spec.get("drivers") is None:
            spec["drivers"] = []

    def validate(self, obj: Obj) -> list[FieldError]:
        errors: list[FieldError] = []
        seen: set[str] = set()
        for index, driver in enumerate(obj["spec"].get("drivers") or ()):
            path, name = f"spec.drivers[{index}]", driver.get("name") or ""
            errors.extend(driver_name(name, f"{path}.name"))
            node = driver.get("nodeID") or ""
            if not node:
                errors.append(required(f"{path}.nodeID"))
            if len(node) > _ID_LIMIT:
                errors.append(invalid(f"{path}.nodeID", node, f"must be {_ID_LIMIT} characters or less"))
            count = (driver.get("allocatable") or {}).get("count")
            errors.extend(checks.not_negative(count, f"{path}.allocatable.count"))
            if name in seen:
                errors.append(duplicate(f"{path}.name", name))
            seen.add(name)
            errors.extend(_topology(driver.get("topologyKeys") or [], path))
        return errors

    def validate_change(self, new: Obj, old: Obj) -> list[FieldError]:
        errors = self.validate(new)
        before = {d.get("name"): _fixed(d) for d in old["spec"].get("drivers") or ()}
        for driver in new["spec"].get("drivers") or ():
            if driver.get("name") in before:
                errors.extend(immutable(_fixed(driver), before[driver.get("name")], "spec.drivers"))
        return errors


def _fixed(driver: Obj) -> Obj:
    return {k: v for k, v in driver.items() if k != "allocatable"}


def _topology(keys: list[str], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for index, key in enumerate(keys):
        if not key:
            errors.append(required(path))
        if key in keys[:index]:
            errors.append(duplicate(path, key))
        errors.extend(checks.named(key, names.qualified_name, path))
    return errors


class CapacityStrategy(Strategy):
    def validate(self, obj: Obj) -> list[FieldError]:
        errors = checks.label_selector(obj.get("nodeTopology"), "nodeTopology")
        errors.extend(checks.named(obj.get("storageClassName") or "", names.dns1123_subdomain, "storageClassName"))
        for key in ("capacity", "maximumVolumeSize"):
            value = obj.get(key)
            if value is not None and quantity.parse(value) < 0:
                errors.append(invalid(key, value, checks.NOT_NEGATIVE))
        return errors

    def validate_change(self, new: Obj, old: Obj) -> list[FieldError]:
        errors = self.validate(new)
        for key in ("nodeTopology", "storageClassName"):
            errors.extend(immutable(new.get(key), old.get(key), key))
        return errors


class AttachmentStrategy(Strategy):
    def initial_status(self, obj: Obj) -> None:
        obj["status"] = {"attached": False}

    def validate(self, obj: Obj) -> list[FieldError]:
        spec = obj.get("spec") or {}
        errors = [] if spec.get("attacher") else [required("spec.attacher")]
        errors.extend(_attached(spec.get("source") or {}, "spec.source"))
        errors.extend(checks.named(spec.get("nodeName") or "", names.dns1123_subdomain, "spec.nodeName"))
        if spec.get("attacher"):
            errors.extend(driver_name(spec["attacher"], "spec.attacher"))
        return errors

    def validate_change(self, new: Obj, old: Obj) -> list[FieldError]:
        return self.validate(new) + immutable(new.get("spec"), old.get("spec"), "spec")

    def validate_status(self, new: Obj, old: Obj) -> list[FieldError]:
        status = new.get("status") or {}
        errors: list[FieldError] = []
        notes = status.get("attachmentMetadata") or {}
        if sum(len(k) + len(v) for k, v in notes.items()) > _METADATA_LIMIT:
            errors.append(_long("status.attachmentMetadata", _METADATA_LIMIT))
        for key in ("attachError", "detachError"):
            found = status.get(key) or {}
            if len(found.get("message") or "") > _MESSAGE_LIMIT:
                errors.append(_long(f"status.{key}.message", _METADATA_LIMIT))
            if (found.get("errorCode") or 0) < 0:
                text = f"must be between 0 and {2**31 - 1}, inclusive"
                errors.append(invalid(f"status.{key}.errorCode", found["errorCode"], text))
        return errors


def _long(path: str, limit: int) -> FieldError:
    return FieldError("FieldValueTooLong", path, "", f"may not be more than {limit} bytes")


def _attached(source: Obj, path: str) -> list[FieldError]:
    volume: Any = source.get("persistentVolumeName")
    inline = source.get("inlineVolumeSpec")
    text = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"
    if inline is None and volume is None:
        return [required(path, text)]
    if inline is not None and volume is not None:
        return [forbidden(path, text)]
    if inline is not None:
        return validate_spec(inline, f"{path}.inlineVolumeSpec", inline=True)
    if not volume:
        return [required(f"{path}.persistentVolumeName", "must specify non empty persistentVolumeName")]
    return checks.named(volume, names.dns1123_subdomain, f"{path}.persistentVolumeName")


class AttributesClassStrategy(Strategy):
    def validate(self, obj: Obj) -> list[FieldError]:
        errors = provisioner(obj.get("driverName") or "", "driverName")
        return errors + parameters(obj.get("parameters") or {}, may_be_empty=False)

    def validate_change(self, new: Obj, old: Obj) -> list[FieldError]:
        errors: list[FieldError] = []
        for key in ("driverName", "parameters"):
            if (new.get(key) or None) != (old.get(key) or None):
                errors.append(forbidden(key, f"updates to {key} are forbidden."))
        return errors


_GROUP = "storage.k8s.io"
STRATEGIES = {
    f"csidrivers.{_GROUP}": DriverStrategy,
    f"csinodes.{_GROUP}": NodeStrategy,
    f"csistoragecapacities.{_GROUP}": CapacityStrategy,
    f"volumeattachments.{_GROUP}": AttachmentStrategy,
    f"volumeattributesclasses.{_GROUP}": AttributesClassStrategy,
}
