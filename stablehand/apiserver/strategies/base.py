"""The contract of a kind's rules, and the rules of a kind that has none of its own.

A strategy never does I/O and never looks at other objects: what needs them is admission or the verb. `default`,
`prepare_*` change their first argument in place; `old` is shared and never changed. The verbs call, for a create:
default, prepare_create, validate_create, warnings; for an update default, prepare_update, validate_update; for
/status prepare_status_update and validate_status_update; for other subresources prepare_/validate_subresource.
"""

from __future__ import annotations

from typing import Any

from stablehand.apiserver.strategies import metadata
from stablehand.apiserver.strategies.unsupported import NO_EFFECT
from stablehand.machinery import schema as schemas
from stablehand.machinery.fielderrors import FieldError, required
from stablehand.machinery.resources import Resource
from stablehand.machinery.types import Obj

# Kinds with a spec whose metadata.generation upstream never sets.
_NO_GENERATION = frozenset(
    {
        "persistentvolumeclaims",
        "persistentvolumes",
        "nodes",
        "namespaces",
        "services",
        "resourcequotas",
        "limitranges",
        "leases.coordination.k8s.io",
        "horizontalpodautoscalers.autoscaling",
        "certificatesigningrequests.certificates.k8s.io",
        "volumeattachments.storage.k8s.io",
        "csidrivers.storage.k8s.io",
        "csinodes.storage.k8s.io",
        "apiservices.apiregistration.k8s.io",
        "ipaddresses.networking.k8s.io",
        "resourceclaims.resource.k8s.io",
        "resourceclaimtemplates.resource.k8s.io",
    }
)
# Kinds without a spec that have a generation all the same.
_GENERATION_WITHOUT_SPEC = frozenset(
    {
        "mutatingwebhookconfigurations.admissionregistration.k8s.io",
        "validatingwebhookconfigurations.admissionregistration.k8s.io",
    }
)


class Strategy:
    """The rules of one resource."""

    name_rule: metadata.NameRule = staticmethod(metadata.subdomain_name)
    any_finalizer = False  # finalizers need no domain
    status_keeps_labels = True  # /status leaves metadata.labels and annotations to the caller, as most kinds do

    def __init__(self, res: Resource) -> None:
        self.res = res
        self.has_status = "status" in res.subresources

    # --- what the kind has

    @property
    def tracks_generation(self) -> bool:
        key = self.res.key
        if key in _GENERATION_WITHOUT_SPEC:
            return True
        if key in _NO_GENERATION:
            return False
        schema = schemas.schema_for(self.res.api_version, self.res.kind)
        return (schema is not None and "spec" in schema.props and self.has_status) or key in _SPEC_GENERATION

    # --- preparation

    def default(self, obj: Obj) -> None:
        """API defaults of the stored version, in place. Must be idempotent."""

    def prepare_create(self, obj: Obj) -> None:
        if self.has_status:
            obj.pop("status", None)
            self.initial_status(obj)
        if self.tracks_generation:
            obj["metadata"]["generation"] = 1
        else:
            obj["metadata"].pop("generation", None)

    def initial_status(self, obj: Obj) -> None:
        """The status a new object starts with (status fields that Go always writes)."""

    def prepare_update(self, new: Obj, old: Obj) -> None:
        if self.has_status:
            keep(new, old, "status")
        if self.tracks_generation:
            bump_generation(new, old, self.spec_changed(new, old))

    def spec_changed(self, new: Obj, old: Obj) -> bool:
        """Whether an update raises metadata.generation."""
        if self.res.key in _GENERATION_WITHOUT_SPEC:
            return new.get("webhooks") != old.get("webhooks")
        return bool(new.get("spec") != old.get("spec"))

    def prepare_status_update(self, new: Obj, old: Obj) -> None:
        for key in old:
            if key not in ("metadata", "status", "apiVersion", "kind"):
                keep(new, old, key)
        for key in [k for k in new if k not in old and k not in ("metadata", "status")]:
            del new[key]
        keep_metadata(new, old, self.status_keeps_labels)

    def prepare_subresource(self, new: Obj, old: Obj, subresource: str) -> None:
        self.prepare_update(new, old)

    # --- validation

    def validate_create(self, obj: Obj) -> list[FieldError]:
        errors = metadata.validate(obj, self.res.namespaced, type(self).name_rule, self.any_finalizer)
        errors.extend(self.validate(obj))
        return errors

    def validate_update(self, new: Obj, old: Obj) -> list[FieldError]:
        errors = metadata.validate_update(new, old)
        errors.extend(metadata.validate(new, self.res.namespaced, None, self.any_finalizer))
        errors.extend(self.validate_change(new, old))
        return errors

    def validate_status_update(self, new: Obj, old: Obj) -> list[FieldError]:
        errors = metadata.validate_update(new, old)
        errors.extend(self.validate_status(new, old))
        return errors

    def validate_subresource(self, new: Obj, old: Obj, subresource: str) -> list[FieldError]:
        return self.validate_update(new, old)

    def validate_asked(self, obj: Obj, old: Obj | None) -> list[FieldError]:
        """What only the version asked for has: called on its strategy where another one is stored (`obj`, `old` are
        in the stored form; `old` None for a create)."""
        return []

    def validate(self, obj: Obj) -> list[FieldError]:
        """Everything but metadata, for a create (and, by default, for an update)."""
        schema = schemas.schema_for(self.res.api_version, self.res.kind)
        return missing_fields(schema, obj) if schema is not None else []

    def validate_change(self, new: Obj, old: Obj) -> list[FieldError]:
        """Everything but metadata, for an update."""
        return self.validate(new)

    def validate_status(self, new: Obj, old: Obj) -> list[FieldError]:
        return []

    def warnings(self, obj: Obj) -> list[str]:
        """Texts for Warning headers."""
        text = NO_EFFECT.get(self.res.key)
        return [f"{self.res.kind} has no effect in Stablehand: {text}"] if text else []

    def update_warnings(self, new: Obj, old: Obj) -> list[str]:
        """The same for an update."""
        return self.warnings(new)


# Kinds with a spec and a generation but without a status subresource.
_SPEC_GENERATION = frozenset(
    {
        "networkpolicies.networking.k8s.io",
        "ingressclasses.networking.k8s.io",
        "validatingadmissionpolicybindings.admissionregistration.k8s.io",
        "mutatingadmissionpolicies.admissionregistration.k8s.io",
        "mutatingadmissionpolicybindings.admissionregistration.k8s.io",
        "resourceslices.resource.k8s.io",
        "deviceclasses.resource.k8s.io",
    }
)


def keep(new: Obj, old: Obj, key: str) -> None:
    """Puts back a top-level field as the old object has it."""
    if key in old:
        new[key] = old[key]
    else:
        new.pop(key, None)


def keep_metadata(new: Obj, old: Obj, labels: bool) -> None:
    """What a status update may not change in metadata: owners, and for some kinds labels."""
    meta, before = new.setdefault("metadata", {}), old.get("metadata", {})
    keys = ("deletionTimestamp", "ownerReferences") if labels else ("deletionTimestamp", "ownerReferences", "labels")
    for key in keys:
        keep(meta, before, key)


def bump_generation(new: Obj, old: Obj, changed: bool) -> None:
    generation = old["metadata"].get("generation") or 0
    new["metadata"]["generation"] = generation + 1 if changed else generation or 1


def missing_fields(schema: schemas.Schema, obj: Any, path: str = "") -> list[FieldError]:
    """Required fields of the schema that are absent, for kinds without validation of their own."""
    errors: list[FieldError] = []
    if schema.kind == schemas.OBJECT and isinstance(obj, dict):
        for name in sorted(schema.required):
            if name not in obj and _must_be_set(schema.props.get(name)):
                errors.append(required(f"{path}.{name}" if path else name))
        for name, value in obj.items():
            if path == "" and name in ("metadata", "status"):
                continue
            child = schema.props.get(name)
            if child is not None and isinstance(value, dict | list):
                errors.extend(missing_fields(child, value, f"{path}.{name}" if path else name))
    elif schema.kind in (schemas.ARRAY, schemas.MAP) and schema.item is not None:
        if schema.item.kind in (schemas.OBJECT, schemas.ARRAY, schemas.MAP):
            items = enumerate(obj) if isinstance(obj, list) else obj.items()
            for key, value in items:
                errors.extend(missing_fields(schema.item, value, f"{path}[{key}]"))
    return errors


def _must_be_set(node: schemas.Schema | None) -> bool:
    """Whether Go notices the absence: numbers, booleans and lists decode to zero, which the schema allows."""
    return node is not None and node.kind in (schemas.STRING, schemas.OBJECT)
