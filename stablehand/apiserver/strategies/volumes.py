"""Persistent volumes and storage classes."""

from __future__ import annotations

from collections.abc import Callable

from stablehand.apiserver.strategies import checks
from stablehand.apiserver.strategies.base import Strategy
from stablehand.apiserver.strategies.claims import BETA_CLASS, access_modes
from stablehand.apiserver.strategies.metadata import IMMUTABLE, immutable
from stablehand.apiserver.strategies.pod import diff
from stablehand.apiserver.strategies.poddefaults import default_source
from stablehand.apiserver.strategies.podspec import validate_node_selector
from stablehand.apiserver.strategies.podvolumes import validate_csi, validate_host_path, validate_nfs
from stablehand.machinery import names, quantity
from stablehand.machinery.fielderrors import FieldError, duplicate, forbidden, invalid, not_supported, required
from stablehand.machinery.types import Obj

# What a PersistentVolumeSpec has besides its source.
_PLAIN = frozenset(
    {
        "accessModes",
        "capacity",
        "claimRef",
        "mountOptions",
        "nodeAffinity",
        "persistentVolumeReclaimPolicy",
        "storageClassName",
        "volumeAttributesClassName",
        "volumeMode",
    }
)
# What a volume that is written into a VolumeAttachment does not have.
_STORED_ONLY = ("claimRef", "capacity", "persistentVolumeReclaimPolicy", "storageClassName")
RECLAIM = ("Delete", "Recycle", "Retain")


class VolumeStrategy(Strategy):
    def default(self, obj: Obj) -> None:
        spec = obj.setdefault("spec", {})
        if not spec.get("persistentVolumeReclaimPolicy"):
            spec["persistentVolumeReclaimPolicy"] = "Retain"
        if not spec.get("volumeMode"):
            spec["volumeMode"] = "Filesystem"
        if spec.get("storageClassName") == "":
            del spec["storageClassName"]
        default_source(spec)

    def initial_status(self, obj: Obj) -> None:
        obj["status"] = {"phase": "Pending"}

    def validate(self, obj: Obj) -> list[FieldError]:
        return validate_spec(obj["spec"], "spec")

    def validate_change(self, new: Obj, old: Obj) -> list[FieldError]:
        errors = self.validate(new)
        spec, before = new["spec"], old["spec"]
        source = {k: v for k, v in spec.items() if k not in _PLAIN}
        previous = {k: v for k, v in before.items() if k not in _PLAIN}
        if source != previous:
            text = "spec.persistentvolumesource is immutable after creation\n" + diff(previous, source)
            errors.append(forbidden("spec.persistentvolumesource", text))
        errors.extend(immutable(spec.get("volumeMode"), before.get("volumeMode"), "spec.volumeMode"))
        if before.get("nodeAffinity") is not None:
            errors.extend(immutable(spec.get("nodeAffinity"), before["nodeAffinity"], "spec.nodeAffinity"))
        own = (new["metadata"].get("annotations") or {}).get(BETA_CLASS)
        was = (old["metadata"].get("annotations") or {}).get(BETA_CLASS)
        if was is not None and own != was:
            errors.append(invalid(f"metadata.annotations[{BETA_CLASS}]", own, IMMUTABLE))
        return errors


def validate_spec(spec: Obj, path: str, *, inline: bool = False) -> list[FieldError]:
    """A PersistentVolumeSpec; `inline` in a VolumeAttachment, which leaves out what only a stored volume has."""
    errors: list[FieldError] = []
    modes = spec.get("accessModes") or []
    if not modes:
        errors.append(required(f"{path}.accessModes"))
    errors.extend(access_modes(modes, f"{path}.accessModes"))
    if inline:
        text = "in the context of inline volumes"
        errors.extend(forbidden(f"{path}.{k}", f"may not be specified {text}") for k in _STORED_ONLY if spec.get(k))
        if spec.get("csi") is None:
            errors.append(required(f"{path}.csi", f"has to be specified {text}"))
    else:
        errors.extend(_capacity(spec.get("capacity") or {}, f"{path}.capacity"))
    errors.extend(_source(spec, path))
    policy = spec.get("persistentVolumeReclaimPolicy")
    errors.extend(checks.optional_one_of(policy, RECLAIM, f"{path}.persistentVolumeReclaimPolicy"))
    affinity = spec.get("nodeAffinity")
    if affinity is not None:
        needed = affinity.get("required")
        if needed is None:
            errors.append(required(f"{path}.nodeAffinity.required", "must specify required node constraints"))
        else:
            errors.extend(validate_node_selector(needed, f"{path}.nodeAffinity.required"))
    if spec.get("local") is not None and affinity is None:
        errors.append(required(f"{path}.nodeAffinity", "Local volume requires node affinity"))
    if policy == "Recycle" and (spec.get("hostPath") or {}).get("path", "").rstrip("/") == "" and "hostPath" in spec:
        text = "may not be 'recycle' for a hostPath mount of '/'"
        errors.append(forbidden(f"{path}.persistentVolumeReclaimPolicy", text))
    if name := spec.get("storageClassName"):
        errors.extend(checks.named(name, names.dns1123_subdomain, f"{path}.storageClassName"))
    errors.extend(checks.optional_one_of(spec.get("volumeMode"), ("Block", "Filesystem"), f"{path}.volumeMode"))
    if (cls := spec.get("volumeAttributesClassName")) is not None:
        if not cls:
            errors.append(required(f"{path}.volumeAttributesClassName", "an empty string is disallowed"))
        if spec.get("csi") is None:
            errors.append(required(f"{path}.csi", "has to be specified when using volumeAttributesClassName"))
    return errors


def _capacity(capacity: Obj, path: str) -> list[FieldError]:
    if not capacity:
        return [required(path)]
    errors: list[FieldError] = []
    if "storage" not in capacity or len(capacity) > 1:
        errors.append(not_supported(path, capacity, ("storage",)))
    for name, value in capacity.items():
        if quantity.parse(value) <= 0:
            errors.append(invalid(f"{path}[{name}]", value, "must be greater than zero"))
    return errors


def _local(source: Obj, path: str) -> list[FieldError]:
    folder = source.get("path") or ""
    if not folder:
        return [required(f"{path}.path")]
    return [invalid(f"{path}.path", folder, "must not contain '..'")] if ".." in folder.split("/") else []


def _csi(source: Obj, path: str) -> list[FieldError]:
    return validate_csi(source, path) + checks.must_have(source.get("volumeHandle"), f"{path}.volumeHandle")


_CHECKS: dict[str, Callable[[Obj, str], list[FieldError]]] = {
    "hostPath": validate_host_path,
    "nfs": validate_nfs,
    "local": _local,
    "csi": _csi,
}


def _source(spec: Obj, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    found = [key for key in spec if key not in _PLAIN]
    for index, key in enumerate(found):
        if index:
            errors.append(forbidden(f"{path}.{key}", "may not specify more than 1 volume type"))
        elif key in _CHECKS:
            errors.extend(_CHECKS[key](spec[key], f"{path}.{key}"))
    if not found:
        errors.append(required(path, "must specify a volume type"))
    return errors


def provisioner(name: str, path: str) -> list[FieldError]:
    return [invalid(path, name, text) for text in names.qualified_name(name.lower())] if name else [required(path)]


def parameters(values: Obj, *, may_be_empty: bool = True) -> list[FieldError]:
    """What a class hands to its driver."""
    if len(values) > 512:
        return [FieldError("FieldValueTooLong", "parameters", "", "may not be more than 512 bytes")]
    errors: list[FieldError] = []
    if "" in values:
        errors.append(invalid("parameters", "", "field can not be empty."))
    if sum(len(k) + len(v) for k, v in values.items()) > 256 * 1024:
        errors.append(FieldError("FieldValueTooLong", "parameters", "", "may not be more than 262144 bytes"))
    if not values and not may_be_empty:
        errors.append(required("parameters", "must contain at least one key/value pair"))
    return errors


def _topology(term: Obj, path: str) -> list[FieldError]:
    """A TopologySelectorTerm."""
    errors: list[FieldError] = []
    seen: set[str] = set()
    for index, one in enumerate(term.get("matchLabelExpressions") or ()):
        where, key, values = f"{path}.matchLabelExpressions[{index}]", one.get("key") or "", one.get("values") or []
        if not values:
            errors.append(required(f"{where}.values"))
        for at in sorted(checks.duplicates(values)):
            errors.append(duplicate(f"{where}.values[{at}]", values[at]))
        errors.extend(checks.named(key, names.qualified_name, f"{where}.key"))
        if key in seen:
            errors.append(duplicate(f"{where}.key", key))
        seen.add(key)
    return errors


class StorageClassStrategy(Strategy):
    def default(self, obj: Obj) -> None:
        if not obj.get("reclaimPolicy"):
            obj["reclaimPolicy"] = "Delete"
        if not obj.get("volumeBindingMode"):
            obj["volumeBindingMode"] = "Immediate"

    def validate(self, obj: Obj) -> list[FieldError]:
        errors: list[FieldError] = []
        errors.extend(provisioner(obj.get("provisioner") or "", "provisioner"))
        errors.extend(parameters(obj.get("parameters") or {}))
        errors.extend(checks.optional_one_of(obj.get("reclaimPolicy"), ("Delete", "Retain"), "reclaimPolicy"))
        modes = ("Immediate", "WaitForFirstConsumer")
        errors.extend(checks.one_of(obj.get("volumeBindingMode"), modes, "volumeBindingMode"))
        for index, term in enumerate(obj.get("allowedTopologies") or ()):
            errors.extend(_topology(term, f"allowedTopologies[{index}]"))
        return errors

    def validate_change(self, new: Obj, old: Obj) -> list[FieldError]:
        errors: list[FieldError] = []
        for key in ("parameters", "provisioner", "reclaimPolicy"):
            if (new.get(key) or None) != (old.get(key) or None):
                errors.append(forbidden(key, f"updates to {key} are forbidden."))
        errors.extend(immutable(new.get("volumeBindingMode"), old.get("volumeBindingMode"), "volumeBindingMode"))
        return errors


STRATEGIES = {"persistentvolumes": VolumeStrategy, "storageclasses.storage.k8s.io": StorageClassStrategy}
