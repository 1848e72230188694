"""Validation of what of a pod spec has to do with its host: namespaces it shares, its operating system, its host name,
devices it claims. Part of podspec.py's work, which is the only caller."""

from __future__ import annotations

from stablehand.apiserver.strategies import checks
from stablehand.machinery import names
from stablehand.machinery.fielderrors import FieldError, duplicate, forbidden, invalid
from stablehand.machinery.types import Obj

_HOST = ("hostNetwork", "hostPID", "hostIPC")
_NOT_WINDOWS = ("hostPID", "hostIPC", "hostUsers", "shareProcessNamespace")
_NOT_WINDOWS_SECURITY = (
    "seLinuxOptions",
    "seccompProfile",
    "appArmorProfile",
    "fsGroup",
    "fsGroupChangePolicy",
    "sysctls",
    "runAsUser",
    "runAsGroup",
    "supplementalGroups",
    "supplementalGroupsPolicy",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
)
_CONTAINERS = ("initContainers", "containers", "ephemeralContainers")


def validate_host(spec: Obj, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if spec.get("shareProcessNamespace") and spec.get("hostPID"):
        text = "ShareProcessNamespace and HostPID cannot both be enabled"
        errors.append(invalid(f"{path}.securityContext.shareProcessNamespace", True, text))
    if spec.get("hostUsers") is False:
        errors.extend(forbidden(f"{path}.{k}", "when `hostUsers` is false") for k in _HOST if spec.get(k))
        for index, container in enumerate(spec.get("containers") or ()):
            if container.get("volumeDevices"):
                text = "when `hostUsers` is false"
                errors.append(forbidden(f"{path}.containers[{index}].volumeDevices", text))
    system = (spec.get("os") or {}).get("name")
    if system == "windows":
        errors.extend(_windows(spec, path))
    elif system == "linux":
        errors.extend(_linux(spec, path))
    errors.extend(_hostname(spec, path))
    errors.extend(_claims(spec.get("resourceClaims") or [], f"{path}.resourceClaims"))
    return errors


def _windows(spec: Obj, path: str) -> list[FieldError]:
    text = "cannot be set for a windows pod"
    errors = [forbidden(f"{path}.{k}", text) for k in _NOT_WINDOWS if spec.get(k) not in (None, False)]
    for where, context in _contexts(spec, path):
        errors.extend(forbidden(f"{where}.{k}", text) for k in _NOT_WINDOWS_SECURITY if context.get(k) is not None)
    return errors


def _linux(spec: Obj, path: str) -> list[FieldError]:
    text = "windows options cannot be set for a linux pod"
    return [
        forbidden(f"{where}.windowsOptions", text)
        for where, context in _contexts(spec, path)
        if context.get("windowsOptions") is not None
    ]


def _contexts(spec: Obj, path: str) -> list[tuple[str, Obj]]:
    found = [(f"{path}.securityContext", spec.get("securityContext") or {})]
    for kind in _CONTAINERS:
        for index, container in enumerate(spec.get(kind) or ()):
            found.append((f"{path}.{kind}[{index}].securityContext", container.get("securityContext") or {}))
    return found


def _hostname(spec: Obj, path: str) -> list[FieldError]:
    name = spec.get("hostnameOverride")
    if name is None:
        return []
    where = f"{path}.hostnameOverride"
    errors = checks.named(name, names.dns1123_subdomain, where)
    if len(name) > 64:
        errors.append(invalid(where, name, "must be no more than 64 characters"))
    if spec.get("hostNetwork"):
        errors.append(forbidden(where, "may not be set when hostNetwork is true"))
    if spec.get("setHostnameAsFQDN"):
        errors.append(forbidden(where, "may not be set when setHostnameAsFQDN is true"))
    return errors


def _claims(claims: list[Obj], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for index, claim in enumerate(claims):
        where, name = f"{path}[{index}]", claim.get("name") or ""
        errors.extend(checks.named(name, names.dns1123_label, f"{where}.name"))
        if any(other.get("name") == name for other in claims[:index]):
            errors.append(duplicate(f"{where}.name", name))
        given = [k for k in ("resourceClaimName", "resourceClaimTemplateName") if claim.get(k) is not None]
        if len(given) > 1:
            text = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
            errors.append(invalid(where, claim, text))
        if not given:
            text = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"
            errors.append(invalid(where, claim, text))
        for key in given:
            errors.extend(checks.named(claim[key], names.dns1123_subdomain, f"{where}.{key}"))
    return errors
