"""Validation of a pod's volumes. Part of podspec.py's work; PersistentVolumes use `validate_nfs` and friends too."""

from __future__ import annotations

from collections.abc import Callable

from stablehand.apiserver.strategies import checks
from stablehand.apiserver.strategies.containers import field_ref, local_path, resource_ref
from stablehand.machinery import names, quantity
from stablehand.machinery.fielderrors import FieldError, duplicate, forbidden, invalid, required
from stablehand.machinery.types import Obj

_FILE_FIELDS = ("metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid")
_HOST_PATH_TYPES = (
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
)


def validate_volumes(volumes: list[Obj], path: str) -> tuple[dict[str, Obj], list[FieldError]]:
    """(volumes by name, errors)."""
    errors: list[FieldError] = []
    known: dict[str, Obj] = {}
    for index, volume in enumerate(volumes):
        where = f"{path}[{index}]"
        name = volume.get("name") or ""
        found = _source(volume, where)
        if not name:
            found.append(required(f"{where}.name"))
        else:
            found.extend(checks.named(name, names.dns1123_label, f"{where}.name"))
        if name in known:
            found.append(duplicate(f"{where}.name", name))
        if found:
            errors.extend(found)
        if name:
            known[name] = volume
    return known, errors


def _source(volume: Obj, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    count = 0
    for key, value in volume.items():
        if key == "name" or value is None:
            continue
        count += 1
        if count > 1:
            errors.append(forbidden(f"{path}.{key}", "may not specify more than 1 volume type"))
            continue
        check = _CHECKS.get(key)
        if check is not None:
            errors.extend(check(value, f"{path}.{key}"))
    if not count:
        errors.append(required(path, "must specify a volume type"))
    return errors


def validate_host_path(source: Obj, path: str) -> list[FieldError]:
    text = source.get("path") or ""
    if not text:
        return [required(f"{path}.path")]
    errors = []
    if ".." in text.split("/"):
        errors.append(invalid(f"{path}.path", text, "must not contain '..'"))
    errors.extend(checks.optional_one_of(source.get("type"), _HOST_PATH_TYPES, f"{path}.type"))
    return errors


def validate_nfs(source: Obj, path: str) -> list[FieldError]:
    errors = checks.must_have(source.get("server"), f"{path}.server")
    folder = source.get("path") or ""
    if not folder:
        errors.append(required(f"{path}.path"))
    elif not folder.startswith("/"):
        errors.append(invalid(f"{path}.path", folder, "must be an absolute path"))
    return errors


def validate_csi(source: Obj, path: str) -> list[FieldError]:
    driver = source.get("driver") or ""
    if not driver:
        return [required(f"{path}.driver")]
    return checks.named(driver.lower(), names.dns1123_subdomain, f"{path}.driver")


def _empty_dir(source: Obj, path: str) -> list[FieldError]:
    limit = source.get("sizeLimit")
    if limit is not None and quantity.parse(limit) < 0:
        return [forbidden(f"{path}.sizeLimit", "SizeLimit field must be a valid resource quantity")]
    return []


def _keys(items: list[Obj], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for index, item in enumerate(items):
        where = f"{path}[{index}]"
        errors.extend(checks.must_have(item.get("key"), f"{where}.key"))
        errors.extend(_file(item, where))
    return errors


def _file(item: Obj, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    target = item.get("path")
    if not target:
        errors.append(required(f"{path}.path"))
    else:
        errors.extend(local_path(target, f"{path}.path"))
        if target.startswith(".."):
            errors.append(invalid(f"{path}.path", target, "must not start with '..'"))
    errors.extend(_mode(item.get("mode"), f"{path}.mode"))
    return errors


def _mode(mode: int | None, path: str) -> list[FieldError]:
    if mode is not None and not 0 <= mode <= 0o777:
        return [invalid(path, mode, "must be a number between 0 and 0777 (octal), both inclusive")]
    return []


def _secret(source: Obj, path: str) -> list[FieldError]:
    errors = checks.must_have(source.get("secretName"), f"{path}.secretName")
    errors.extend(_mode(source.get("defaultMode"), f"{path}.defaultMode"))
    return errors + _keys(source.get("items") or [], f"{path}.items")


def _config_map(source: Obj, path: str) -> list[FieldError]:
    errors = checks.must_have(source.get("name"), f"{path}.name")
    errors.extend(_mode(source.get("defaultMode"), f"{path}.defaultMode"))
    return errors + _keys(source.get("items") or [], f"{path}.items")


def _downward(source: Obj, path: str) -> list[FieldError]:
    errors = _mode(source.get("defaultMode"), f"{path}.defaultMode")
    for index, item in enumerate(source.get("items") or ()):
        where = f"{path}.items[{index}]"
        errors.extend(_file(item, where))
        field, resource = item.get("fieldRef"), item.get("resourceFieldRef")
        if field is not None:
            errors.extend(field_ref(field, f"{where}.fieldRef", _FILE_FIELDS))
            if resource is not None:
                errors.append(
                    invalid(where, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously")
                )
        elif resource is not None:
            errors.extend(resource_ref(resource, f"{where}.resourceFieldRef", volume=True))
        else:
            errors.append(required(where, "one of fieldRef and resourceFieldRef is required"))
    return errors


_WITH_ITEMS = ("secret", "configMap", "downwardAPI")


def _image(source: Obj, path: str) -> list[FieldError]:
    errors = checks.must_have(source.get("reference"), f"{path}.reference")
    policies = ("Always", "IfNotPresent", "Never")
    return errors + checks.optional_one_of(source.get("pullPolicy"), policies, f"{path}.pullPolicy")


def _paths(part: Obj) -> list[str]:
    """Where a source of a projected volume puts its files, as far as it says."""
    found = [item.get("path") or "" for key in _WITH_ITEMS for item in (part.get(key) or {}).get("items") or ()]
    found += [(part.get(key) or {}).get("path") or "" for key in ("serviceAccountToken", "clusterTrustBundle")]
    return [path for path in found if path]


def _conflicts(source: Obj, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for part in source.get("sources") or ():
        for file in _paths(part):
            if file in seen:
                name = next((part[k].get("name") for k in ("secret", "configMap") if part.get(k)), None)
                errors.append(invalid(path, name or file, "conflicting duplicate paths"))
            seen.add(file)
    return errors


def _projected(source: Obj, path: str) -> list[FieldError]:
    errors = _mode(source.get("defaultMode"), f"{path}.defaultMode")
    errors.extend(_conflicts(source, path))
    for index, part in enumerate(source.get("sources") or ()):
        where = f"{path}.sources[{index}]"
        kinds = [key for key, value in part.items() if value is not None]
        if len(kinds) > 1:
            errors.append(forbidden(f"{where}.{kinds[1]}", "may not specify more than 1 volume type per source"))
        if "secret" in part:
            errors.extend(checks.must_have(part["secret"].get("name"), f"{where}.name"))
            errors.extend(_keys(part["secret"].get("items") or [], f"{where}.items"))
        elif "configMap" in part:
            errors.extend(checks.must_have(part["configMap"].get("name"), f"{where}.configMap.name"))
            errors.extend(_keys(part["configMap"].get("items") or [], f"{where}.items"))
        elif "downwardAPI" in part:
            errors.extend(_downward(part["downwardAPI"], f"{where}.downwardAPI"))
        elif "serviceAccountToken" in part:
            token = part["serviceAccountToken"]
            seconds = token.get("expirationSeconds") or 0
            if seconds < 600:
                text = "may not specify a duration less than 10 minutes"
                errors.append(invalid(f"{where}.serviceAccountToken.expirationSeconds", seconds, text))
            errors.extend(checks.must_have(token.get("path"), f"{where}.serviceAccountToken.path"))
    return errors


def _claim(source: Obj, path: str) -> list[FieldError]:
    return checks.must_have(source.get("claimName"), f"{path}.claimName")


def _ephemeral(source: Obj, path: str) -> list[FieldError]:
    template = source.get("volumeClaimTemplate")
    if template is None:
        return [required(f"{path}.volumeClaimTemplate")]
    from stablehand.apiserver.strategies.claims import validate_claim_spec

    return validate_claim_spec(template.get("spec") or {}, f"{path}.volumeClaimTemplate.spec")


_CHECKS: dict[str, Callable[[Obj, str], list[FieldError]]] = {
    "hostPath": validate_host_path,
    "nfs": validate_nfs,
    "emptyDir": _empty_dir,
    "secret": _secret,
    "configMap": _config_map,
    "downwardAPI": _downward,
    "projected": _projected,
    "image": _image,
    "persistentVolumeClaim": _claim,
    "ephemeral": _ephemeral,
    "csi": validate_csi,
}
