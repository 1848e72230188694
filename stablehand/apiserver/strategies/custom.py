"""Custom resources: a strategy made from one version of a CustomResourceDefinition."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import orjson

from stablehand.apiserver.contract import StatusError
from stablehand.apiserver.registry import version_rank
from stablehand.apiserver.strategies.base import Strategy, bump_generation, keep
from stablehand.machinery import schema as schemas
from stablehand.machinery.fielderrors import (
    NOT_SUPPORTED,
    REQUIRED,
    TOO_LONG,
    TOO_MANY,
    TYPE_INVALID,
    FieldError,
    invalid,
)
from stablehand.machinery.resources import Resource
from stablehand.machinery.schema import Schema
from stablehand.machinery.structural import apply_defaults, compile_structural, validate_custom
from stablehand.machinery.types import Obj

if TYPE_CHECKING:
    from stablehand.machinery.customrules import RuleNode

_OUTSIDE_SPEC = frozenset({"metadata", "status", "apiVersion", "kind", "managedFields"})
# Errors after which the rules are not asked: they may rely on what the schema promises (hasBlockingErr upstream).
_BLOCKING = frozenset({NOT_SUPPORTED, REQUIRED, TOO_LONG, TOO_MANY, TYPE_INVALID})
_STANDARD_FINALIZERS = frozenset({"orphan", "foregroundDeletion"})
_PREFER_DOMAIN = (
    "prefer a domain-qualified finalizer name including a path (/) to avoid accidental conflicts with other "
    "finalizer writers"
)
_UNCHECKED = (
    "some validation rules were not checked because the object was invalid; correct the existing errors to complete "
    "validation"
)


_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"


def _published(schema: Obj | None) -> Obj:
    """A definition's schema with the fields that every object has."""
    out: Obj = {"type": "object", **(schema or {"x-kubernetes-preserve-unknown-fields": True})}
    text = {"type": "string"}
    metadata = {
        "allOf": [{"$ref": f"#/components/schemas/{_META}"}],
        "description": "Standard object's metadata. More info: "
        "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata",
    }
    common = {
        "apiVersion": {
            "description": "APIVersion defines the versioned schema of this representation of an object. Servers "
            "should convert recognized schemas to the latest internal value, and may reject unrecognized values. More "
            "info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources",
            **text,
        },
        "kind": {
            "description": "Kind is a string value representing the REST resource this object represents. Servers may "
            "infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: "
            "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds",
            **text,
        },
        "metadata": metadata,
    }
    out["properties"] = {**(out.get("properties") or {}), **common}
    return out


def _deprecation(spec: Obj, version: str) -> str:
    """What a deprecated version's requests are warned of: where there is one, the best version that is not."""
    group, kind = spec["group"], spec["names"]["kind"]
    served = [v["name"] for v in spec["versions"] if v.get("served") and not v.get("deprecated")]
    better = min((name for name in served if version_rank(name) < version_rank(version)), key=version_rank, default="")
    text = f"{group}/{version} {kind} is deprecated"
    return f"{text}; use {group}/{better} {kind}" if better else text


class CustomStrategy(Strategy):
    """`schema` decodes, `columns` print, `selectable` are the field paths of field selectors, `scale` the paths of
    the scale subresource, `storage_api_version` the apiVersion that objects are stored with, `openapi` the schema that
    /openapi publishes."""

    any_finalizer = True

    def __init__(self, res: Resource, crd: Obj, version: Obj) -> None:
        super().__init__(res)
        spec = crd["spec"]
        self.schema = compile_structural(
            (version.get("schema") or {}).get("openAPIV3Schema"), bool(spec.get("preserveUnknownFields"))
        )
        self._source: Obj | None = (version.get("schema") or {}).get("openAPIV3Schema")
        self.openapi = _published(self._source)
        self.columns: list[Obj] = version.get("additionalPrinterColumns") or []
        self.selectable = tuple(f.get("jsonPath", "").lstrip(".") for f in version.get("selectableFields") or ())
        self.scale: Obj | None = (version.get("subresources") or {}).get("scale")
        stored = next((v for v in spec["versions"] if v.get("storage")), version)
        self.storage_api_version = f"{spec['group']}/{stored['name']}"
        conversion = spec.get("conversion") or {}
        self.conversion: Obj | None = conversion.get("webhook") if conversion.get("strategy") == "Webhook" else None
        # Without a webhook, what is written in another version reads as the stored version's schema has it.
        self._stored: Schema | None = None
        if stored["name"] != version["name"] and self.conversion is None:
            source = (stored.get("schema") or {}).get("openAPIV3Schema")
            self._stored = compile_structural(source, bool(spec.get("preserveUnknownFields")))
        self.terminating = any(
            condition.get("type") == "Terminating" and condition.get("status") == "True"
            for condition in (crd.get("status") or {}).get("conditions") or ()
        )
        self.deprecation = ""
        if version.get("deprecated"):
            self.deprecation = version.get("deprecationWarning") or _deprecation(spec, version["name"])

    @cached_property
    def rules(self) -> RuleNode | None:
        """The schema's x-kubernetes-validations; compiled (and CEL loaded) when the first object comes."""
        if b'"x-kubernetes-validations"' not in orjson.dumps(self._source):
            return None
        from stablehand.machinery.customrules import compile_rules

        return compile_rules(self._source)

    def _evaluated(self, new: Obj, old: Obj | None) -> tuple[list[FieldError], list[FieldError]]:
        """What the rules say: errors, and what an update may keep."""
        if self.rules is None:
            return [], []
        from stablehand.machinery.customrules import evaluate_rules

        return evaluate_rules(self.rules, new, old)

    @property
    def tracks_generation(self) -> bool:
        return True

    def default(self, obj: Obj) -> None:
        apply_defaults(self.schema, obj)
        if self._stored is not None:
            schemas.decode(self._stored, obj)
            apply_defaults(self._stored, obj)

    def prepare_create(self, obj: Obj) -> None:
        if self.terminating:
            text = "create not allowed while custom resource definition is terminating"
            raise StatusError(405, "MethodNotAllowed", text, {"group": self.res.group, "kind": self.res.plural})
        super().prepare_create(obj)

    def initial_status(self, obj: Obj) -> None:
        """A default of the whole status is there from the start, since objects read with their defaults."""
        apply_defaults(self.schema, obj)

    def prepare_update(self, new: Obj, old: Obj) -> None:
        if self.has_status:
            keep(new, old, "status")
        bump_generation(new, old, self.spec_changed(new, old))

    def spec_changed(self, new: Obj, old: Obj) -> bool:
        outside = _OUTSIDE_SPEC if self.has_status else _OUTSIDE_SPEC - {"status"}
        return any(new.get(key) != old.get(key) for key in {*new, *old} - outside)

    def prepare_status_update(self, new: Obj, old: Obj) -> None:
        for key in {*new, *old} - {"status", "metadata"}:
            keep(new, old, key)
        metadata = dict(old["metadata"])
        for key in ("managedFields", "resourceVersion"):
            if key in new["metadata"]:
                metadata[key] = new["metadata"][key]
        new["metadata"] = metadata

    def validate(self, obj: Obj) -> list[FieldError]:
        return self._checked(obj, None)

    def validate_change(self, new: Obj, old: Obj) -> list[FieldError]:
        return self._checked(new, old)

    def validate_status(self, new: Obj, old: Obj) -> list[FieldError]:
        return self._ruled(
            [e for e in validate_custom(self.schema, new, old) if e.field.startswith("status")], new, old
        )

    def _checked(self, new: Obj, old: Obj | None) -> list[FieldError]:
        return self._ruled(validate_custom(self.schema, new, old), new, old)

    def _ruled(self, errors: list[FieldError], new: Obj, old: Obj | None) -> list[FieldError]:
        """The errors so far, and those of the rules."""
        if self.rules is None:
            return errors
        if any(error.type in _BLOCKING for error in errors):
            return [*errors, invalid("<nil>", "null", _UNCHECKED)]
        return errors + self._evaluated(new, old)[0]

    def update_warnings(self, new: Obj, old: Obj) -> list[str]:
        """What rules say of parts that the update did not touch is no error but a warning."""
        return self.warnings(new) + [error.message() for error in self._evaluated(new, old)[1]]

    def warnings(self, obj: Obj) -> list[str]:
        bare = [f for f in obj["metadata"].get("finalizers") or () if "/" not in f and f not in _STANDARD_FINALIZERS]
        return [f'metadata.finalizers: "{finalizer}": {_PREFER_DOMAIN}' for finalizer in bare]
