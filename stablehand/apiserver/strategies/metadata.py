"""Validation of ObjectMeta, the same for all kinds: names, labels, annotations, owners, finalizers, immutability.

Which rule a kind's names follow, the kind's strategy says. Messages are upstream's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from stablehand.machinery import names
from stablehand.machinery.fielderrors import FieldError, forbidden, invalid, required, too_long
from stablehand.machinery.types import Obj

NameRule = Callable[[str, bool], list[str]]  # (name, whether it is a prefix) -> complaints

ANNOTATIONS_LIMIT = 256 * 1024
IMMUTABLE = "field is immutable"


def _masked(name: str, prefix: bool) -> str:
    """A prefix may end in a dash: that dash is not looked at."""
    return name[:-1] + "a" if prefix and len(name) > 1 and name.endswith("-") else name


def subdomain_name(name: str, prefix: bool) -> list[str]:
    return names.dns1123_subdomain(_masked(name, prefix))


def label_name(name: str, prefix: bool) -> list[str]:
    return names.dns1123_label(_masked(name, prefix))


def label_1035_name(name: str, prefix: bool) -> list[str]:
    return names.dns1035_label(_masked(name, prefix))


def path_name(name: str, prefix: bool) -> list[str]:
    return [text for text in names.path_segment(name) if not (prefix and text.startswith("may not be"))]


def validate(obj: Obj, namespaced: bool, rule: NameRule | None, any_finalizer: bool = False) -> list[FieldError]:
    """Checks metadata; `rule` None leaves the name alone (updates); `any_finalizer`: see `validate_finalizers`."""
    meta = obj.get("metadata") or {}
    errors: list[FieldError] = []
    if rule is not None:
        if base := meta.get("generateName"):
            errors.extend(invalid("metadata.generateName", base, text) for text in rule(base, True))
        name = meta.get("name")
        if not name:
            errors.append(required("metadata.name", "name or generateName is required"))
        else:
            errors.extend(invalid("metadata.name", name, text) for text in rule(name, False))
        namespace = meta.get("namespace")
        if namespaced:
            if not namespace:
                errors.append(required("metadata.namespace"))
            else:
                errors.extend(invalid("metadata.namespace", namespace, text) for text in names.dns1123_label(namespace))
        elif namespace:
            errors.append(forbidden("metadata.namespace", "not allowed on this type"))
    if (meta.get("generation") or 0) < 0:
        errors.append(invalid("metadata.generation", meta["generation"], "must be greater than or equal to 0"))
    if labels := meta.get("labels"):
        errors.extend(validate_labels(labels, "metadata.labels"))
    if notes := meta.get("annotations"):
        errors.extend(validate_annotations(notes, "metadata.annotations"))
    if owners := meta.get("ownerReferences"):
        errors.extend(_owners(owners))
    if finalizers := meta.get("finalizers"):
        errors.extend(validate_finalizers(finalizers, "metadata.finalizers", any_finalizer))
    return errors


def validate_labels(labels: Mapping[str, str], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for key, value in labels.items():
        errors.extend(invalid(path, key, text) for text in names.qualified_name(key))
        errors.extend(invalid(path, value, text) for text in names.label_value(value))
    return errors


def validate_annotations(notes: Mapping[str, str], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    size = 0
    for key, value in notes.items():
        errors.extend(invalid(path, key, text) for text in names.qualified_name(key.lower()))
        size += len(key) + len(value)
    if size > ANNOTATIONS_LIMIT // 4:  # characters may take four bytes
        size = sum(len(k.encode()) + len(v.encode()) for k, v in notes.items())
        if size > ANNOTATIONS_LIMIT:
            errors.append(too_long(path, "", ANNOTATIONS_LIMIT))
    return errors


def validate_finalizers(finalizers: list[str], path: str, any_finalizer: bool = False) -> list[FieldError]:
    """A finalizer without a domain must be one of the API's own, except on custom resources, their definitions and
    APIServices (`any_finalizer`)."""
    errors: list[FieldError] = []
    for index, finalizer in enumerate(finalizers):
        complaints = names.qualified_name(finalizer)
        where = f"{path}[{index}]" if "/" not in finalizer else path
        errors.extend(invalid(path, finalizer, text) for text in complaints)
        own = "/" in finalizer or any_finalizer or finalizer in ("orphan", "foregroundDeletion", "kubernetes")
        if not complaints and not own:
            errors.append(
                invalid(where, finalizer, "name is neither a standard finalizer name nor is it fully qualified")
            )
    if "orphan" in finalizers and "foregroundDeletion" in finalizers:
        text = "finalizer orphan and foregroundDeletion cannot be both set"
        errors.append(invalid(path, finalizers, text))
    return errors


def _owners(owners: list[Obj]) -> list[FieldError]:
    errors: list[FieldError] = []
    controller = ""
    for index, owner in enumerate(owners):
        path = f"metadata.ownerReferences[{index}]"
        api_version = owner.get("apiVersion") or ""
        if not api_version or api_version.count("/") > 1:
            errors.append(invalid(f"{path}.apiVersion", api_version, "version must not be empty"))
        for key in ("kind", "name", "uid"):
            if not owner.get(key):
                errors.append(invalid(f"{path}.{key}", "", "must not be empty"))
        if api_version == "v1" and owner.get("kind") == "Event":
            errors.append(invalid(path, owner, f"{api_version}, Kind=Event is disallowed from being an owner"))
        if owner.get("controller"):
            if controller:
                text = (
                    "Only one reference can have Controller set to true. Found "
                    f'"true" in references for {controller} and {owner.get("name")}'
                )
                errors.append(invalid("metadata.ownerReferences", owners, text))
            controller = owner.get("name", "")
    return errors


def validate_update(new: Obj, old: Obj) -> list[FieldError]:
    """What may not change in metadata. The verb already restored the system's own fields."""
    meta, before = new.get("metadata") or {}, old.get("metadata") or {}
    errors: list[FieldError] = []
    added = [f for f in meta.get("finalizers") or () if f not in (before.get("finalizers") or ())]
    if before.get("deletionTimestamp") and added:
        detail = "no new finalizers can be added if the object is being deleted, found new finalizers "
        errors.append(forbidden("metadata.finalizers", detail + _go_strings(added)))
    if (meta.get("generation") or 0) < (before.get("generation") or 0):
        errors.append(invalid("metadata.generation", meta.get("generation") or 0, "must not be decremented"))
    for key in ("name", "namespace", "uid", "creationTimestamp"):
        if meta.get(key) != before.get(key):
            errors.append(invalid(f"metadata.{key}", meta.get(key, ""), IMMUTABLE))
    return errors


def _go_strings(values: list[str]) -> str:
    return "[]string{" + ", ".join(f'"{v}"' for v in values) + "}"


def immutable(new: Any, old: Any, path: str) -> list[FieldError]:
    """A field that may not change."""
    return [] if new == old else [invalid(path, new, IMMUTABLE)]
