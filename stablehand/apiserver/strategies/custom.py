"""Custom resources: a strategy made from one version of a CustomResourceDefinition."""

from __future__ import annotations

from stablehand.apiserver.strategies.base import Strategy, bump_generation, keep
from stablehand.machinery.fielderrors import FieldError
from stablehand.machinery.resources import Resource
from stablehand.machinery.structural import apply_defaults, compile_structural, validate_custom
from stablehand.machinery.types import Obj

_OUTSIDE_SPEC = frozenset({"metadata", "status", "apiVersion", "kind", "managedFields"})


class CustomStrategy(Strategy):
    """`schema` decodes, `columns` print, `selectable` are the field paths of field selectors, `scale` the paths of
    the scale subresource, `storage_api_version` the apiVersion that objects are stored with."""

    def __init__(self, res: Resource, crd: Obj, version: Obj) -> None:
        super().__init__(res)
        spec = crd["spec"]
        self.schema = compile_structural(
            (version.get("schema") or {}).get("openAPIV3Schema"), bool(spec.get("preserveUnknownFields"))
        )
        self.columns: list[Obj] = version.get("additionalPrinterColumns") or []
        self.selectable = tuple(f.get("jsonPath", "").lstrip(".") for f in version.get("selectableFields") or ())
        self.scale: Obj | None = (version.get("subresources") or {}).get("scale")
        stored = next((v["name"] for v in spec["versions"] if v.get("storage")), version["name"])
        self.storage_api_version = f"{spec['group']}/{stored}"
        self.deprecation = ""
        if version.get("deprecated"):
            text = f"{spec['group']}/{version['name']} {res.kind} is deprecated"
            self.deprecation = version.get("deprecationWarning") or text

    @property
    def tracks_generation(self) -> bool:
        return True

    def default(self, obj: Obj) -> None:
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
        return validate_custom(self.schema, obj)

    def validate_status(self, new: Obj, old: Obj) -> list[FieldError]:
        return [error for error in validate_custom(self.schema, new) if error.field.startswith("status")]

    def warnings(self, obj: Obj) -> list[str]:
        return [self.deprecation] if self.deprecation else []
