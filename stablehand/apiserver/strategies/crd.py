"""CustomResourceDefinitions: defaults and checks of their names and schemas. Conditions are set by apiserver.custom."""

from __future__ import annotations

from urllib.parse import urlsplit

import orjson

from stablehand.apiserver.strategies import checks
from stablehand.apiserver.strategies.base import Strategy
from stablehand.apiserver.strategies.metadata import immutable
from stablehand.machinery import names
from stablehand.machinery.fielderrors import FieldError, duplicate, forbidden, invalid, not_supported, required
from stablehand.machinery.types import Obj

_APPROVED = "api-approved.kubernetes.io"
_APPROVAL = "https://github.com/kubernetes/enhancements/pull/1111"
_TYPES = ("array", "boolean", "integer", "number", "object", "string")
_COLUMN_TYPES = ("integer", "number", "string", "boolean", "date")
_FORBIDDEN_KEYS = ("$ref", "definitions", "dependencies", "patternProperties", "additionalItems")


class DefinitionStrategy(Strategy):
    any_finalizer = True

    def default(self, obj: Obj) -> None:
        spec = obj.setdefault("spec", {})
        kinds = spec.setdefault("names", {})
        kind = kinds.get("kind") or ""
        if not kinds.get("singular"):
            kinds["singular"] = kind.lower()
        if not kinds.get("listKind") and kind:
            kinds["listKind"] = kind + "List"
        if spec.get("conversion") is None:
            spec["conversion"] = {"strategy": "None"}
        if spec.get("preserveUnknownFields") is False:
            del spec["preserveUnknownFields"]

    def initial_status(self, obj: Obj) -> None:
        stored = [v.get("name") for v in obj["spec"].get("versions") or () if v.get("storage")]
        accepted = {"plural": "", "kind": ""}
        obj["status"] = {"conditions": [], "acceptedNames": accepted, "storedVersions": stored}

    def prepare_update(self, new: Obj, old: Obj) -> None:
        super().prepare_update(new, old)
        status = dict(old.get("status") or {})
        stored = list(status.get("storedVersions") or [])
        for version in new["spec"].get("versions") or ():
            if version.get("storage") and version.get("name") not in stored:
                stored.append(version.get("name"))
        status["storedVersions"] = stored
        new["status"] = status

    def validate(self, obj: Obj) -> list[FieldError]:
        spec = obj["spec"]
        errors = _spec(spec)
        name = obj["metadata"].get("name") or ""
        wanted = f"{(spec.get('names') or {}).get('plural', '')}.{spec.get('group', '')}"
        if name and name != wanted:
            errors.append(invalid("metadata.name", name, 'must be spec.names.plural+"."+spec.group'))
        return errors

    def validate_create(self, obj: Obj) -> list[FieldError]:
        return super().validate_create(obj) + _approval(obj)

    def validate_change(self, new: Obj, old: Obj) -> list[FieldError]:
        errors = self.validate(new)
        errors.extend(immutable(new["spec"].get("group"), old["spec"].get("group"), "spec.group"))
        conditions = (old.get("status") or {}).get("conditions") or ()
        if any(c.get("type") == "Established" and c.get("status") == "True" for c in conditions):
            errors.extend(immutable(new["spec"].get("scope"), old["spec"].get("scope"), "spec.scope"))
            kind, before = new["spec"]["names"].get("kind"), old["spec"]["names"].get("kind")
            errors.extend(immutable(kind, before, "spec.names.kind"))
        stored = (new.get("status") or {}).get("storedVersions") or []
        present = {v.get("name") for v in new["spec"].get("versions") or ()}
        for index, version in enumerate(stored):
            if version not in present:
                text = f"must appear in spec.versions: {version}"
                errors.append(
                    invalid(f"status.storedVersions[{index}]", version, "missing from spec.versions; " + text)
                )
        return errors


def _approval(obj: Obj) -> list[FieldError]:
    """Groups of the Kubernetes community ask for the page where the API was approved, or a word that it was not."""
    group = obj["spec"].get("group") or ""
    if group not in ("k8s.io", "kubernetes.io") and not group.endswith((".k8s.io", ".kubernetes.io")):
        return []
    value = (obj["metadata"].get("annotations") or {}).get(_APPROVED, "")
    path, text = f"metadata.annotations[{_APPROVED}]", f'protected groups must have approval annotation "{_APPROVED}"'
    if not value:
        return [required(path, f"{text}, see {_APPROVAL}")]
    url = urlsplit(value)
    if value.startswith("unapproved") or (url.scheme and url.netloc):
        return []
    text += f' with either a URL or a reason starting with "unapproved", see {_APPROVAL}'
    return [invalid(path, value, text)]


def _spec(spec: Obj) -> list[FieldError]:
    errors: list[FieldError] = []
    group = spec.get("group") or ""
    if not group:
        errors.append(required("spec.group"))
    else:
        errors.extend(checks.named(group, names.dns1123_subdomain, "spec.group"))
        if "." not in group:
            errors.append(invalid("spec.group", group, "should be a domain with at least one dot"))
    errors.extend(checks.one_of(spec.get("scope"), ("Cluster", "Namespaced"), "spec.scope"))
    versions = spec.get("versions") or []
    seen: set[str] = set()
    schemas = [(v.get("schema") or {}).get("openAPIV3Schema") for v in versions]
    # Upstream's internal type has one schema for all versions when theirs are the same, and says so in its paths.
    shared = all(schema == schemas[0] for schema in schemas)
    for index, version in enumerate(versions):
        path = f"spec.versions[{index}]"
        name = version.get("name") or ""
        errors.extend(checks.named(name, names.dns1035_label, f"{path}.name"))
        if name in seen:
            errors.append(invalid(f"{path}.name", name, "must have unique names"))
        seen.add(name)
        schema = schemas[index]
        if schema is None:
            errors.append(required(f"{path}.schema.openAPIV3Schema", "schemas are required"))
        elif index == 0 or not shared:
            within = "spec.validation.openAPIV3Schema" if shared else f"{path}.schema.openAPIV3Schema"
            errors.extend(_root_schema(schema, within) or _rules(schema, within))
        for at, column in enumerate(version.get("additionalPrinterColumns") or ()):
            where = f"{path}.additionalPrinterColumns[{at}]"
            for key in ("name", "type", "jsonPath"):
                errors.extend(checks.must_have(column.get(key), f"{where}.{key}"))
            if column.get("type") and column["type"] not in _COLUMN_TYPES:
                text = f"must be one of {','.join(_COLUMN_TYPES)}"
                errors.append(invalid(f"{where}.type", column["type"], text))
        scale = (version.get("subresources") or {}).get("scale")
        if scale is not None:
            for key, prefix in (("specReplicasPath", ".spec."), ("statusReplicasPath", ".status.")):
                value = scale.get(key) or ""
                where = f"{path}.subresources.scale.{key}"
                if not value:
                    errors.append(required(where))
                elif not value.startswith(prefix):
                    errors.append(invalid(where, value, f"should be a json path under {prefix[:-1]}"))
    storage = sum(1 for v in versions if v.get("storage"))
    if storage != 1:
        errors.append(invalid("spec.versions", versions, "must have exactly one version marked as storage version"))
    errors.extend(_names(spec.get("names") or {}))
    conversion = spec.get("conversion") or {}
    errors.extend(checks.one_of(conversion.get("strategy"), ("None", "Webhook"), "spec.conversion.strategy"))
    if conversion.get("strategy") == "Webhook" and not (conversion.get("webhook") or {}).get("clientConfig"):
        errors.append(required("spec.conversion.webhook.clientConfig", "required when strategy is set to Webhook"))
    return errors


def _rules(schema: Obj, path: str) -> list[FieldError]:
    """The schema's x-kubernetes-validations; CEL is loaded only for schemas that have some."""
    if b'"x-kubernetes-validations"' not in orjson.dumps(schema):
        return []
    from stablehand.machinery.rulechecks import check_rules

    return check_rules(schema, path)


def _names(kinds: Obj) -> list[FieldError]:
    errors: list[FieldError] = []
    for key in ("plural", "singular", "kind", "listKind"):
        value = kinds.get(key) or ""
        path = f"spec.names.{key}"
        if not value:
            errors.append(required(path))
            continue
        errors.extend(checks.named(value.lower(), names.dns1035_label, path))
        if key in ("plural", "singular") and value != value.lower():
            errors.append(invalid(path, value, "must be all lowercase"))
    if kinds.get("kind") and kinds.get("kind") == kinds.get("listKind"):
        errors.append(invalid("spec.names.listKind", kinds["listKind"], "kind and listKind may not be the same"))
    for index, short in enumerate(kinds.get("shortNames") or ()):
        errors.extend(checks.named(short, names.dns1035_label, f"spec.names.shortNames[{index}]"))
    return errors


def _root_schema(schema: Obj, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if schema.get("type") != "object":
        if not schema.get("type"):
            errors.append(required(f"{path}.type", "must not be empty at the root"))
        else:
            errors.append(invalid(f"{path}.type", schema["type"], 'must be "object" at the root'))
    if schema.get("nullable"):
        errors.append(forbidden(f"{path}.nullable", "nullable cannot be true at the root"))
    return errors + _structural(schema, path)


def _structural(schema: Obj, path: str, root: bool = True) -> list[FieldError]:
    """The rules of structural schemas: types everywhere, no references."""
    errors: list[FieldError] = []
    for key in _FORBIDDEN_KEYS:
        if schema.get(key):
            errors.append(forbidden(f"{path}.{key}", f"{key} is not supported"))
    if schema.get("uniqueItems"):
        errors.append(
            forbidden(
                f"{path}.uniqueItems",
                "uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
            )
        )
    kind = schema.get("type") or ""
    anything = schema.get("x-kubernetes-preserve-unknown-fields") or schema.get("x-kubernetes-int-or-string")
    if kind and kind not in _TYPES:
        errors.append(not_supported(f"{path}.type", kind, _TYPES))
    elif not kind and not anything and not root:
        errors.append(required(f"{path}.type", "must not be empty for specified object fields"))
    if schema.get("properties") and isinstance(schema.get("additionalProperties"), dict):
        text = "additionalProperties and properties are mutual exclusive"
        errors.append(forbidden(f"{path}.additionalProperties", text))
    items = schema.get("items")
    if kind == "array" and items is None:
        errors.append(required(f"{path}.items", "must be specified"))
    elif isinstance(items, list):
        errors.append(forbidden(f"{path}.items", "items must be a schema object and not an array"))
    elif isinstance(items, dict):
        errors.extend(_structural(items, f"{path}.items", False))
    list_type = schema.get("x-kubernetes-list-type")
    errors.extend(checks.optional_one_of(list_type, ("atomic", "set", "map"), f"{path}.x-kubernetes-list-type"))
    keys = schema.get("x-kubernetes-list-map-keys") or []
    if list_type == "map":
        if not keys:
            text = "must not be empty if x-kubernetes-list-type is map"
            errors.append(required(f"{path}.x-kubernetes-list-map-keys", text))
        for index in sorted(checks.duplicates(keys)):
            errors.append(duplicate(f"{path}.x-kubernetes-list-map-keys[{index}]", keys[index]))
    for name, child in (schema.get("properties") or {}).items():
        if root and name == "metadata":
            continue
        errors.extend(_structural(child, f"{path}.properties[{name}]", False))
    rest = schema.get("additionalProperties")
    if isinstance(rest, dict):
        errors.extend(_structural(rest, f"{path}.additionalProperties", False))
    return errors


STRATEGIES = {"customresourcedefinitions.apiextensions.k8s.io": DefinitionStrategy}
