"""What is wrong with the spec of a CustomResourceDefinition: names, versions, columns, subresources, conversion.

Follows apiextensions validation.go. Schemas are checked by the modules of stablehand.machinery that `schema_errors`
calls; defaults and status are crd.py's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from stablehand.apiserver.strategies import checks
from stablehand.apiserver.strategies.webhookclients import check_bundle, check_client
from stablehand.machinery import names
from stablehand.machinery.fielderrors import (
    FieldError,
    duplicate,
    forbidden,
    invalid,
    required,
    too_many,
)
from stablehand.machinery.openapirules import Leniency, check_openapi
from stablehand.machinery.structuraldefaults import check_defaults, has_defaults
from stablehand.machinery.structuralpaths import resolve_path
from stablehand.machinery.structuralrules import check_structural
from stablehand.machinery.types import Obj

_COLUMN_TYPES = ("boolean", "date", "integer", "number", "string")
_COLUMN_FORMATS = ("byte", "date", "date-time", "double", "float", "int32", "int64", "password")
_REVIEW_VERSIONS = ("v1", "v1beta1")
_MOST_SELECTABLE = 8
_NOT_WEBHOOK = "should not be set when strategy is not set to Webhook"
# What a root schema may say beside type when /status is served; upstream tells of them by their Go names.
_AT_ROOT = (
    "Description", "Type", "Format", "Title", "Maximum", "ExclusiveMaximum", "Minimum", "ExclusiveMinimum", "MaxLength",
    "MinLength", "Pattern", "MaxItems", "MinItems", "UniqueItems", "MultipleOf", "Required", "Items", "Properties",
    "ExternalDocs", "Example", "XPreserveUnknownFields", "XValidations",
)  # fmt: skip
_KEYS_AT_ROOT = {
    *(name[0].lower() + name[1:] for name in _AT_ROOT),
    *("x-kubernetes-preserve-unknown-fields", "x-kubernetes-validations"),
}
_PER_VERSION = ("schema", "subresources", "additionalPrinterColumns", "selectableFields")


@dataclass(frozen=True)
class Tolerance:
    """What an update may keep. `unchanged`: the versions whose schema is as it was."""

    schema: Leniency = field(default_factory=Leniency)
    unpruned_defaults: bool = False
    unchanged: frozenset[str] = frozenset()
    review_versions: bool = False
    ca_bundle: bool = True


def spec_errors(spec: Obj, tolerance: Tolerance) -> list[FieldError]:
    """Everything that a create is refused for, less what `tolerance` lets an update keep."""
    errors = _group(spec.get("group") or "")
    errors.extend(checks.one_of(spec.get("scope"), ("Cluster", "Namespaced"), "spec.scope"))
    versions: list[Obj] = spec.get("versions") or []
    shared = {key: _shared(versions, key) for key in _PER_VERSION}
    for index, version in enumerate(versions):
        if ((version.get("schema") or {}).get("openAPIV3Schema")) is None:
            errors.append(required(f"spec.versions[{index}].schema.openAPIV3Schema", "schemas are required"))
    errors.extend(_preserving(spec, versions))
    for index, version in enumerate(versions):
        errors.extend(_version(version, f"spec.versions[{index}]", tolerance, shared))
    errors.extend(_all_versions(versions))
    errors.extend(_names(spec.get("names") or {}, "spec.names"))
    # Upstream's internal type has what all versions share once, for all of them, and says so in its paths.
    first = versions[0] if versions else {}
    any_status = any((v.get("subresources") or {}).get("status") is not None for v in versions)
    if shared["schema"]:
        errors.extend(_schema(first, "spec.validation", any_status, tolerance))
    if shared["subresources"]:
        errors.extend(_subresources(first["subresources"], "spec.subresources"))
    if shared["additionalPrinterColumns"]:
        errors.extend(_columns(first["additionalPrinterColumns"], "spec.additionalPrinterColumns"))
    if shared["selectableFields"]:
        errors.extend(_selectable(first, "spec.selectableFields"))
    errors.extend(_conversion(spec.get("conversion") or {}, tolerance))
    return errors


def _shared(versions: Sequence[Obj], key: str) -> bool:
    """Whether all versions have the same of something."""
    value = versions[0].get(key) if versions else None
    return bool(value) and all(version.get(key) == value for version in versions)


def _group(group: str) -> list[FieldError]:
    if not group:
        return [required("spec.group")]
    if wrong := names.dns1123_subdomain(group):
        return [invalid("spec.group", group, ",".join(wrong))]
    return [] if "." in group else [invalid("spec.group", group, "should be a domain with at least one dot")]


def _preserving(spec: Obj, versions: Sequence[Obj]) -> Iterator[FieldError]:
    if not spec.get("preserveUnknownFields"):
        return
    path = "spec.preserveUnknownFields"
    if any(has_defaults(version.get("schema") or {}) for version in versions):
        yield invalid(path, True, "must be false in order to use defaults in the schema")
    if (spec.get("conversion") or {}).get("strategy") not in (None, "None"):
        text = "must be None if spec.preserveUnknownFields is true"
        yield invalid("spec.conversion.strategy", spec["conversion"]["strategy"], text)
    text = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"
    yield invalid(path, True, text)


def _all_versions(versions: Sequence[Obj]) -> Iterator[FieldError]:
    known = [version.get("name") for version in versions]
    if len(set(known)) < len(known):
        yield invalid("spec.versions", versions, "must contain unique version names")
    if sum(1 for version in versions if version.get("storage")) != 1:
        yield invalid("spec.versions", versions, "must have exactly one version marked as storage version")


def _version(version: Obj, path: str, tolerance: Tolerance, shared: dict[str, bool]) -> Iterator[FieldError]:
    name = version.get("name") or ""
    if wrong := names.dns1035_label(name):
        yield invalid(f"{path}.name", name, ",".join(wrong))
    yield from _deprecation(version, f"{path}.deprecationWarning")
    status = (version.get("subresources") or {}).get("status") is not None
    if not shared["schema"]:
        yield from _schema(version, f"{path}.schema", status, tolerance)
    if version.get("subresources") and not shared["subresources"]:
        yield from _subresources(version["subresources"], f"{path}.subresources")
    if version.get("additionalPrinterColumns") and not shared["additionalPrinterColumns"]:
        yield from _columns(version["additionalPrinterColumns"], f"{path}.additionalPrinterColumns")
    if version.get("selectableFields") and not shared["selectableFields"]:
        yield from _selectable(version, f"{path}.selectableFields")


def _deprecation(version: Obj, path: str) -> Iterator[FieldError]:
    text = version.get("deprecationWarning")
    if text is None:
        return
    if not version.get("deprecated"):
        yield invalid(path, text, "can only be set for deprecated versions")
        return
    if len(text.encode()) > 256:
        yield invalid(path, text, "must be <= 256 characters long")
    if not text:
        yield invalid(path, text, "must not be an empty string")
    for index, char in enumerate(text):
        if not char.isprintable():
            at = len(text[:index].encode())
            why = f"must only contain printable UTF-8 characters; non-printable character found at index {at}"
            yield invalid(path, text, why)
            break


# --- schemas


def _schema(version: Obj, path: str, status: bool, tolerance: Tolerance) -> list[FieldError]:
    schema = (version.get("schema") or {}).get("openAPIV3Schema")
    if schema is None:
        return []
    keep = version.get("name") in tolerance.unchanged
    return schema_errors(schema, f"{path}.openAPIV3Schema", status, tolerance, unchanged=keep)


def schema_errors(
    schema: Obj, path: str, status: bool, tolerance: Tolerance, *, unchanged: bool = False
) -> list[FieldError]:
    """What is wrong with one openAPIV3Schema. `status`: the version has a status subresource."""
    errors: list[FieldError] = []
    if status:
        kind = schema.get("type")
        if kind and kind != "object":
            text = 'only "object" is allowed as the type at the root of the schema if the status subresource is enabled'
            errors.append(invalid(f"{path}.type", kind, text))
        if any(value not in (None, "", False, [], {}) and key not in _KEYS_AT_ROOT for key, value in schema.items()):
            allowed = f"only [{' '.join(_AT_ROOT)}] fields are allowed at the root of the schema if the status "
            errors.append(invalid(path, schema, allowed + "subresource is enabled"))
    if schema.get("nullable"):
        errors.append(forbidden(f"{path}.nullable", "nullable cannot be true at the root"))
    structural = check_structural(schema, path)
    if not structural:
        structural = check_defaults(schema, path, pruned=not tolerance.unpruned_defaults)
    errors.extend(structural)
    openapi = check_openapi(schema, path, tolerance.schema)
    errors.extend(openapi)
    if not errors and schema.get("$schema"):
        errors.append(invalid(path, "", "OpenAPI schema 'schema' is not supported"))
    if not structural and not openapi:
        errors.extend(_rules(schema, path, unchanged))
    return errors


def _rules(schema: Obj, path: str, unchanged: bool) -> list[FieldError]:
    """The schema's x-kubernetes-validations; CEL is loaded only for schemas that have some."""
    if b'"x-kubernetes-validations"' not in orjson.dumps(schema):
        return []
    from stablehand.machinery.rulechecks import check_rules

    return check_rules(schema, path, lenient=unchanged)


# --- columns, subresources, selectable fields


def _simple_path(text: str, path: str, prefixes: tuple[str, ...], text_under: str) -> list[FieldError]:
    if not text.startswith("."):
        return [invalid(path, text, "must be a simple json path starting with .")]
    if prefixes and not text.startswith(prefixes):
        return [invalid(path, text, f"should be a json path under {text_under}")]
    return []


def _columns(columns: Sequence[Obj], path: str) -> Iterator[FieldError]:
    one_of = f"must be one of {','.join(_COLUMN_TYPES)}"
    for index, column in enumerate(columns):
        where = f"{path}[{index}]"
        yield from checks.must_have(column.get("name"), f"{where}.name")
        kind, form, source = (column.get(key) or "" for key in ("type", "format", "jsonPath"))
        if not kind:
            yield required(f"{where}.type", one_of)
        elif kind not in _COLUMN_TYPES:
            yield invalid(f"{where}.type", kind, one_of)
        if form and form not in _COLUMN_FORMATS:
            yield invalid(f"{where}.format", form, f"must be one of {','.join(_COLUMN_FORMATS)}")
        if not source:
            yield required(f"{where}.JSONPath")
        else:
            yield from _simple_path(source, f"{where}.JSONPath", (), "")


def _subresources(subresources: Obj, path: str) -> Iterator[FieldError]:
    scale = subresources.get("scale")
    if scale is None:
        return
    for key, prefix in (("specReplicasPath", ".spec"), ("statusReplicasPath", ".status")):
        value, where = scale.get(key) or "", f"{path}.scale.{key}"
        if not value:
            yield required(where)
        else:
            yield from _simple_path(value, where, (f"{prefix}.",), prefix)
    if labels := scale.get("labelSelectorPath"):
        where = f"{path}.scale.labelSelectorPath"
        yield from _simple_path(labels, where, (".spec.", ".status."), "either .spec or .status")


def _selectable(version: Obj, path: str) -> Iterator[FieldError]:
    schema: Obj = (version.get("schema") or {}).get("openAPIV3Schema") or {}
    seen: set[str] = set()
    for index, selectable in enumerate(version["selectableFields"]):
        where, text = f"{path}[{index}].jsonPath", selectable.get("jsonPath") or ""
        if not text:
            yield required(where)
            continue
        try:
            parts, found = resolve_path(schema, text, brackets=False)
        except ValueError as e:
            yield invalid(where, text, f"is an invalid path: {e}")
            continue
        if parts[0] == "metadata":
            yield invalid(where, text, "must not point to fields in metadata")
        if found.get("type") not in ("string", "boolean", "integer"):
            why = "must point to a field of type string, boolean or integer. Enum string fields and strings with "
            yield invalid(where, text, why + "formats are allowed.")
        if ".".join(parts) in seen:
            yield duplicate(where, text)
        seen.add(".".join(parts))
    if len(seen) > _MOST_SELECTABLE:
        yield too_many(path, len(seen), _MOST_SELECTABLE)


# --- names and conversion


def _names(given: Obj, path: str) -> Iterator[FieldError]:
    for key in ("plural", "singular", "kind", "listKind"):
        if not given.get(key):
            yield required(f"{path}.{key}")
    for key in ("plural", "singular"):
        if given.get(key) and (wrong := names.dns1035_label(given[key])):
            yield invalid(f"{path}.{key}", given[key], ",".join(wrong))
    for key in ("kind", "listKind"):
        if given.get(key) and (wrong := names.dns1035_label(given[key].lower())):
            text = "may have mixed case, but should otherwise match: "
            yield invalid(f"{path}.{key}", given[key], text + ",".join(wrong))
    for key in ("shortNames", "categories"):
        for index, name in enumerate(given.get(key) or ()):
            if wrong := names.dns1035_label(name):
                yield invalid(f"{path}.{key}[{index}]", name, ",".join(wrong))
    if given.get("kind") and given["kind"] == given.get("listKind"):
        yield invalid(f"{path}.listKind", given["listKind"], "kind and listKind may not be the same")


def _conversion(conversion: Obj, tolerance: Tolerance) -> Iterator[FieldError]:
    path, strategy = "spec.conversion", conversion.get("strategy") or ""
    yield from checks.one_of(strategy, ("None", "Webhook"), f"{path}.strategy")
    webhook: Obj = conversion.get("webhook") or {}
    config, versions = webhook.get("clientConfig"), webhook.get("conversionReviewVersions") or []
    if strategy != "Webhook":
        if config is not None:
            yield forbidden(f"{path}.webhookClientConfig", _NOT_WEBHOOK)
        if versions:
            yield forbidden(f"{path}.conversionReviewVersions", _NOT_WEBHOOK)
        return
    if config is None:
        yield required(f"{path}.webhookClientConfig", "required when strategy is set to Webhook")
    else:
        yield from check_client(config, f"{path}.webhookClientConfig")
        if config.get("caBundle") and not tolerance.ca_bundle:
            yield from check_bundle(config["caBundle"], f"{path}.webhookClientConfig.caBundle")
    yield from _review_versions(versions, f"{path}.conversionReviewVersions", tolerance.review_versions)


def _review_versions(versions: Sequence[Any], path: str, lenient: bool) -> Iterator[FieldError]:
    if not versions:
        yield required(path)
        return
    for index, version in enumerate(versions):
        if version in versions[:index]:
            yield invalid(f"{path}[{index}]", version, "duplicate version")
            continue
        for why in names.dns1035_label(version):
            yield invalid(f"{path}[{index}]", version, why)
    if not lenient and not any(known in versions for known in _REVIEW_VERSIONS):
        text = f"must include at least one of {', '.join(_REVIEW_VERSIONS)}"
        yield invalid(path, list(versions), text)
