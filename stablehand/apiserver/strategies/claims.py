"""Persistent volume claims; stateful sets and ephemeral volumes use the claim spec's rules too."""

from __future__ import annotations

from stablehand.apiserver.strategies import checks
from stablehand.apiserver.strategies.base import Strategy
from stablehand.apiserver.strategies.pod import diff
from stablehand.machinery import names, quantity
from stablehand.machinery.fielderrors import FieldError, forbidden, invalid, not_supported, required
from stablehand.machinery.types import Obj

ACCESS_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
_IMMUTABLE = (
    "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n"
)
BETA_CLASS = "volume.beta.kubernetes.io/storage-class"


def default_claim(obj: Obj) -> None:
    spec = obj.setdefault("spec", {})
    if not spec.get("volumeMode"):
        spec["volumeMode"] = "Filesystem"
    if spec.get("volumeName") == "":
        del spec["volumeName"]
    source, wanted = spec.get("dataSource"), spec.get("dataSourceRef")
    if source is None and wanted is not None and not wanted.get("namespace"):
        spec["dataSource"] = {k: v for k, v in wanted.items() if k in ("apiGroup", "kind", "name")}
    elif wanted is None and source is not None:
        spec["dataSourceRef"] = dict(source)


def access_modes(modes: list[str], path: str) -> list[FieldError]:
    errors = []
    for mode in modes:
        if mode not in ACCESS_MODES:
            errors.append(not_supported(path, mode, ACCESS_MODES))
    if "ReadWriteOncePod" in modes and len(modes) > 1:
        errors.append(forbidden(path, "may not use ReadWriteOncePod with other access modes"))
    return errors


def validate_claim_spec(spec: Obj, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    modes = spec.get("accessModes") or []
    if not modes:
        errors.append(required(f"{path}.accessModes", "at least 1 access mode is required"))
    if (selector := spec.get("selector")) is not None:
        errors.extend(checks.label_selector(selector, f"{path}.selector"))
    errors.extend(access_modes(modes, f"{path}.accessModes"))
    size = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    if size is None:
        errors.append(required(f"{path}.resources[storage]"))
    elif quantity.parse(size) <= 0:
        errors.append(invalid(f"{path}.resources[storage]", size, "must be greater than zero"))
    if name := spec.get("storageClassName"):
        errors.extend(checks.named(name, names.dns1123_subdomain, f"{path}.storageClassName"))
    errors.extend(checks.optional_one_of(spec.get("volumeMode"), ("Block", "Filesystem"), f"{path}.volumeMode"))
    for key in ("dataSource", "dataSourceRef"):
        source = spec.get(key)
        if source is not None:
            errors.extend(checks.must_have(source.get("name"), f"{path}.{key}.name"))
            errors.extend(checks.must_have(source.get("kind"), f"{path}.{key}.kind"))
            if not source.get("apiGroup") and source.get("kind") not in (None, "", "PersistentVolumeClaim"):
                text = "must be 'PersistentVolumeClaim' when referencing the default apiGroup"
                errors.append(invalid(f"{path}.{key}", source["kind"], text))
    return errors


class ClaimStrategy(Strategy):
    def default(self, obj: Obj) -> None:
        default_claim(obj)

    def initial_status(self, obj: Obj) -> None:
        obj["status"] = {"phase": "Pending"}

    def validate(self, obj: Obj) -> list[FieldError]:
        return validate_claim_spec(obj["spec"], "spec")

    def validate_change(self, new: Obj, old: Obj) -> list[FieldError]:
        errors = self.validate(new)
        spec, before = new["spec"], old["spec"]
        own = (new["metadata"].get("annotations") or {}).get(BETA_CLASS)
        previous = (old["metadata"].get("annotations") or {}).get(BETA_CLASS)
        bound = (old.get("status") or {}).get("phase") == "Bound"
        resources, old_resources = spec.get("resources") or {}, before.get("resources") or {}
        free = set()
        if not before.get("volumeName"):
            free.add("volumeName")
        if before.get("storageClassName") is None and (previous is None or spec.get("storageClassName") == previous):
            free.add("storageClassName")  # the default class, given later, or the migration from the annotation
        if bound:
            free.add("volumeAttributesClassName")
            if {**resources, "requests": None} == {**old_resources, "requests": None}:
                free.add("resources")
        if any(spec.get(key) != before.get(key) for key in {*spec, *before} - free):
            errors.append(forbidden("spec", _IMMUTABLE + diff(before, spec)))
        size = (resources.get("requests") or {}).get("storage")
        old_size = (old_resources.get("requests") or {}).get("storage")
        if bound and size is not None and old_size is not None and quantity.compare(size, old_size) < 0:
            capacity = ((old.get("status") or {}).get("capacity") or {}).get("storage")
            if capacity is None or quantity.compare(size, capacity) <= 0:
                text = "field can not be less than status.capacity"
                errors.append(forbidden("spec.resources.requests.storage", text))
        if own != previous and previous is not None:
            errors.append(invalid(f"metadata.annotations[{BETA_CLASS}]", own, "field is immutable"))
        return errors

    def validate_status(self, new: Obj, old: Obj) -> list[FieldError]:
        errors: list[FieldError] = []
        for name, value in ((new.get("status") or {}).get("capacity") or {}).items():
            if quantity.parse(value) < 0:
                errors.append(invalid(f"status.capacity[{name}]", value, checks.NOT_NEGATIVE))
        return errors


STRATEGIES = {"persistentvolumeclaims": ClaimStrategy}
