"""Validation of containers: names, images, ports, environment, probes, mounts, security.

Part of podspec.py's work, which is the only caller.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from stablehand.apiserver.strategies import checks
from stablehand.apiserver.strategies.containerrules import validate_in_pod
from stablehand.machinery import names
from stablehand.machinery.fielderrors import (
    FieldError,
    duplicate,
    forbidden,
    invalid,
    not_found,
    not_supported,
    required,
)
from stablehand.machinery.types import Obj

PULL_POLICIES = ("Always", "IfNotPresent", "Never")
PROTOCOLS = ("SCTP", "TCP", "UDP")
_ENV_FIELDS = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
_SUBSCRIPT = re.compile(r"metadata\.(annotations|labels)\['(.*)'\]")
_FILE_RESOURCES = (
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
)
_MAX_ID = 2**31 - 1


def validate_containers(spec: Obj, path: str, volumes: Mapping[str, Obj], *, is_pod: bool) -> list[FieldError]:
    """All three kinds of containers of a pod spec."""
    errors: list[FieldError] = []
    containers = spec.get("containers") or []
    init = spec.get("initContainers") or []
    ephemeral = spec.get("ephemeralContainers") or []
    host_network = bool(spec.get("hostNetwork"))
    if not containers:
        errors.append(required(f"{path}.containers"))
    seen: set[str] = set()
    used_ports: set[tuple[Any, ...]] = set()
    for index, container in enumerate(containers):
        where = f"{path}.containers[{index}]"
        errors.extend(_container(container, where, volumes, seen, host_network, is_pod))
        errors.extend(validate_in_pod(container, spec, where))
        errors.extend(_host_ports(container, where, used_ports))
        for key in ("readinessProbe", "livenessProbe", "startupProbe"):
            if key in container:
                errors.extend(_probe(container[key], f"{where}.{key}", key))
        errors.extend(_lifecycle(container, where, spec.get("terminationGracePeriodSeconds")))
    for index, container in enumerate(init):
        where = f"{path}.initContainers[{index}]"
        errors.extend(_container(container, where, volumes, seen, host_network, is_pod))
        errors.extend(validate_in_pod(container, spec, where))
        policy = container.get("restartPolicy")
        if policy == "Always":
            errors.extend(_host_ports(container, where, used_ports))
            for key in ("readinessProbe", "livenessProbe", "startupProbe"):
                if key in container:
                    errors.extend(_probe(container[key], f"{where}.{key}", key))
            errors.extend(_lifecycle(container, where, spec.get("terminationGracePeriodSeconds")))
        else:
            for key in ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe"):
                if container.get(key) is not None:
                    text = "may not be set for init containers without restartPolicy=Always"
                    errors.append(forbidden(f"{where}.{key}", text))
    for index, container in enumerate(ephemeral):
        where = f"{path}.ephemeralContainers[{index}]"
        errors.extend(_container(container, where, volumes, seen, host_network, is_pod))
        errors.extend(validate_in_pod(container, spec, where))
        target = container.get("targetContainerName")
        if target and target not in {c.get("name") for c in [*containers, *init]}:
            errors.append(not_found(f"{where}.targetContainerName", target))
        for key in ("ports", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle"):
            if container.get(key):
                errors.append(forbidden(f"{where}.{key}", "cannot be set for an Ephemeral Container"))
        if container.get("resources"):
            errors.append(forbidden(f"{where}.resources", "cannot be set for an Ephemeral Container"))
    return errors


def _container(
    container: Obj, path: str, volumes: Mapping[str, Obj], seen: set[str], host_network: bool, is_pod: bool
) -> list[FieldError]:
    errors: list[FieldError] = []
    name = container.get("name") or ""
    if not name:
        errors.append(required(f"{path}.name"))
    else:
        errors.extend(checks.named(name, names.dns1123_label, f"{path}.name"))
        if name in seen:
            errors.append(duplicate(f"{path}.name", name))
        seen.add(name)
    image = container.get("image") or ""
    if is_pod and not image:
        errors.append(required(f"{path}.image"))
    if image != image.strip():
        errors.append(invalid(f"{path}.image", image, "must not have leading or trailing whitespace"))
    errors.extend(
        checks.one_of(
            container.get("terminationMessagePolicy"),
            ("File", "FallbackToLogsOnError"),
            f"{path}.terminationMessagePolicy",
        )
    )
    errors.extend(checks.one_of(container.get("imagePullPolicy"), PULL_POLICIES, f"{path}.imagePullPolicy"))
    if ports := container.get("ports"):
        errors.extend(_ports(ports, f"{path}.ports", host_network))
    if env := container.get("env"):
        errors.extend(_env(env, f"{path}.env"))
    if sources := container.get("envFrom"):
        errors.extend(_env_from(sources, f"{path}.envFrom"))
    if mounts := container.get("volumeMounts"):
        errors.extend(_mounts(mounts, f"{path}.volumeMounts", volumes))
    if devices := container.get("volumeDevices"):
        errors.extend(_devices(devices, f"{path}.volumeDevices", volumes, container))
    if resources := container.get("resources"):
        errors.extend(checks.resource_requirements(resources, f"{path}.resources"))
    if context := container.get("securityContext"):
        errors.extend(_security(context, f"{path}.securityContext"))
    policy = container.get("restartPolicy")
    if policy is not None and policy not in ("Always", "Never", "OnFailure"):
        errors.append(not_supported(f"{path}.restartPolicy", policy, ("Always", "Never", "OnFailure")))
    for index, resize in enumerate(container.get("resizePolicy") or ()):
        where = f"{path}.resizePolicy[{index}]"
        errors.extend(checks.one_of(resize.get("resourceName"), ("cpu", "memory"), f"{where}.resourceName"))
        allowed = ("NotRequired", "RestartContainer")
        errors.extend(checks.one_of(resize.get("restartPolicy"), allowed, f"{where}.restartPolicy"))
    return errors


def _ports(ports: list[Obj], path: str, host_network: bool) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for index, port in enumerate(ports):
        where = f"{path}[{index}]"
        name = port.get("name")
        if name:
            complaints = names.port_name(name)
            errors.extend(invalid(f"{where}.name", name, text) for text in complaints)
            if not complaints:
                if name in seen:
                    errors.append(duplicate(f"{where}.name", name))
                seen.add(name)
        number, host = port.get("containerPort") or 0, port.get("hostPort") or 0
        if not number:
            errors.append(required(f"{where}.containerPort"))
        else:
            errors.extend(invalid(f"{where}.containerPort", number, text) for text in names.port_number(number))
        if host:
            errors.extend(invalid(f"{where}.hostPort", host, text) for text in names.port_number(host))
            if host_network and host != number:
                text = "must match `containerPort` when `hostNetwork` is true"
                errors.append(invalid(f"{where}.hostPort", host, text))
        errors.extend(checks.one_of(port.get("protocol"), PROTOCOLS, f"{where}.protocol"))
    return errors


def _host_ports(container: Obj, path: str, used: set[tuple[Any, ...]]) -> list[FieldError]:
    errors = []
    for index, port in enumerate(container.get("ports") or ()):
        if port.get("hostPort"):
            key = (port.get("protocol"), port.get("hostIP") or "", port["hostPort"])
            if key in used:
                shown = f"{key[0]}/{key[1]}/{key[2]}"
                errors.append(duplicate(f"{path}.ports[{index}].hostPort", shown))
            used.add(key)
    return errors


# --- environment ------------------------------------------------------------------------------------------------


def _env(env: list[Obj], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for index, one in enumerate(env):
        where = f"{path}[{index}]"
        name = one.get("name") or ""
        if not name:
            errors.append(required(f"{where}.name"))
        else:
            errors.extend(checks.named(name, names.env_var_name, f"{where}.name"))
        source = one.get("valueFrom")
        if source is not None:
            errors.extend(_env_source(source, f"{where}.valueFrom", bool(one.get("value"))))
    return errors


def _env_source(source: Obj, path: str, has_value: bool) -> list[FieldError]:
    errors: list[FieldError] = []
    if ref := source.get("fieldRef"):
        errors.extend(field_ref(ref, f"{path}.fieldRef", _ENV_FIELDS))
    if ref := source.get("resourceFieldRef"):
        errors.extend(resource_ref(ref, f"{path}.resourceFieldRef", volume=False))
    for key in ("configMapKeyRef", "secretKeyRef"):
        if (ref := source.get(key)) is not None:
            errors.extend(key_ref(ref, f"{path}.{key}"))
    count = sum(
        source.get(k) is not None
        for k in ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef")
    )
    if count == 0:
        text = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        errors.append(invalid(path, "", text))
    elif has_value:
        errors.append(invalid(path, "", "may not be specified when `value` is not empty"))
    elif count > 1:
        errors.append(invalid(path, "", "may not have more than one field specified at a time"))
    return errors


def key_ref(ref: Obj, path: str) -> list[FieldError]:
    errors = [] if ref.get("name") else [required(f"{path}.name")]
    key = ref.get("key")
    if not key:
        errors.append(required(f"{path}.key"))
    else:
        errors.extend(checks.named(key, names.config_key, f"{path}.key"))
    return errors


def field_ref(ref: Obj, path: str, allowed: tuple[str, ...]) -> list[FieldError]:
    if not ref.get("apiVersion"):
        return [required(f"{path}.apiVersion")]
    text = ref.get("fieldPath")
    if not text:
        return [required(f"{path}.fieldPath")]
    found = _SUBSCRIPT.fullmatch(text)
    if found:
        kind, key = found.groups()
        return checks.named(key.lower() if kind == "annotations" else key, names.qualified_name, path)
    if text in allowed:
        return []
    known = (
        *_ENV_FIELDS,
        "metadata.annotations",
        "metadata.labels",
        "spec.restartPolicy",
        "spec.schedulerName",
        "status.phase",
        "status.nominatedNodeName",
    )
    if text not in known and not text.startswith(("metadata.labels[", "metadata.annotations[")):
        detail = f"error converting fieldPath: field label not supported: {text}"
        return [invalid(f"{path}.fieldPath", text, detail)]
    return [not_supported(f"{path}.fieldPath", text, allowed)]


def resource_ref(ref: Obj, path: str, *, volume: bool) -> list[FieldError]:
    errors = []
    if volume and not ref.get("containerName"):
        errors.append(required(f"{path}.containerName"))
    name = ref.get("resource")
    if not name:
        errors.append(required(f"{path}.resource"))
    elif name not in _FILE_RESOURCES and not name.startswith(("requests.hugepages-", "limits.hugepages-")):
        errors.append(not_supported(f"{path}.resource", name, _FILE_RESOURCES))
    return errors


def _env_from(sources: list[Obj], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for index, source in enumerate(sources):
        where = f"{path}[{index}]"
        if prefix := source.get("prefix"):
            errors.extend(checks.named(prefix, names.env_var_name, f"{where}.prefix"))
        found = [key for key in ("configMapRef", "secretRef") if source.get(key) is not None]
        for key in found:
            if not source[key].get("name"):
                errors.append(required(f"{where}.{key}.name"))
        if not found:
            errors.append(invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"))
        elif len(found) > 1:
            errors.append(invalid(path, "", "may not have more than one field specified at a time"))
    return errors


# --- mounts -----------------------------------------------------------------------------------------------------


def _mounts(mounts: list[Obj], path: str, volumes: Mapping[str, Obj]) -> list[FieldError]:
    errors: list[FieldError] = []
    points: set[str] = set()
    for index, mount in enumerate(mounts):
        where = f"{path}[{index}]"
        name, point = mount.get("name") or "", mount.get("mountPath") or ""
        if not name:
            errors.append(required(f"{where}.name"))
        if name not in volumes:
            errors.append(not_found(f"{where}.name", name))
        if not point:
            errors.append(required(f"{where}.mountPath"))
        if point in points:
            errors.append(invalid(f"{where}.mountPath", point, "must be unique"))
        points.add(point)
        for key in ("subPath", "subPathExpr"):
            if mount.get(key):
                errors.extend(local_path(mount[key], f"{where}.{key}"))
        if mount.get("subPath") and mount.get("subPathExpr"):
            errors.append(
                invalid(f"{where}.subPathExpr", mount["subPathExpr"], "subPathExpr and subPath are mutually exclusive")
            )
        allowed = ("Bidirectional", "HostToContainer", "None")
        errors.extend(checks.optional_one_of(mount.get("mountPropagation"), allowed, f"{where}.mountPropagation"))
        recursive = mount.get("recursiveReadOnly")
        errors.extend(
            checks.optional_one_of(recursive, ("Disabled", "Enabled", "IfPossible"), f"{where}.recursiveReadOnly")
        )
    return errors


def _devices(devices: list[Obj], path: str, volumes: Mapping[str, Obj], container: Obj) -> list[FieldError]:
    errors: list[FieldError] = []
    mounted = {m.get("name") for m in container.get("volumeMounts") or ()}
    for index, device in enumerate(devices):
        where = f"{path}[{index}]"
        name = device.get("name") or ""
        if not name:
            errors.append(required(f"{where}.name"))
        volume = volumes.get(name)
        if volume is None:
            errors.append(not_found(f"{where}.name", name))
        elif "persistentVolumeClaim" not in volume and "ephemeral" not in volume:
            text = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"
            errors.append(invalid(f"{where}.name", name, text))
        if not device.get("devicePath"):
            errors.append(required(f"{where}.devicePath"))
        if name in mounted:
            errors.append(invalid(f"{where}.name", name, "must not already exist in volumeMounts"))
    return errors


def local_path(text: str, path: str) -> list[FieldError]:
    """A relative path without a step up."""
    errors = []
    if text.startswith("/"):
        errors.append(invalid(path, text, "must be a relative path"))
    if ".." in text.split("/"):
        errors.append(invalid(path, text, "must not contain '..'"))
    return errors


# --- probes and hooks -------------------------------------------------------------------------------------------


def _probe(probe: Obj, path: str, kind: str) -> list[FieldError]:
    errors = _handler(probe, path)
    for key in ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"):
        errors.extend(checks.not_negative(probe.get(key), f"{path}.{key}"))
    grace = probe.get("terminationGracePeriodSeconds")
    if grace is not None:
        where = f"{path}.terminationGracePeriodSeconds"
        if kind == "readinessProbe":
            errors.append(invalid(where, grace, "must not be set for readinessProbes"))
        elif grace <= 0:
            errors.append(invalid(where, grace, "must be greater than 0"))
    if kind != "readinessProbe" and probe.get("successThreshold") not in (None, 1):
        errors.append(invalid(f"{path}.successThreshold", probe["successThreshold"], "must be 1"))
    return errors


def _lifecycle(container: Obj, path: str, grace: int | None) -> list[FieldError]:
    errors: list[FieldError] = []
    for hook in ("postStart", "preStop"):
        handler = (container.get("lifecycle") or {}).get(hook)
        if handler is not None:
            errors.extend(_handler(handler, f"{path}.lifecycle.{hook}", hook=True, grace=grace))
    return errors


def _handler(handler: Obj, path: str, *, hook: bool = False, grace: int | None = None) -> list[FieldError]:
    errors: list[FieldError] = []
    found = 0
    for key in ("exec", "httpGet", "tcpSocket", "grpc", "sleep"):
        action = handler.get(key)
        if action is None or (key == "sleep" and not hook) or (key == "grpc" and hook):
            continue
        found += 1
        where = f"{path}.{key}"
        if found > 1:
            errors.append(forbidden(where, "may not specify more than 1 handler type"))
            continue
        if key == "exec":
            errors.extend(checks.must_have(action.get("command"), f"{where}.command"))
        elif key == "httpGet":
            errors.extend(checks.must_have(action.get("path"), f"{where}.path"))
            errors.extend(_port(action.get("port"), f"{where}.port"))
            errors.extend(checks.one_of(action.get("scheme"), ("HTTP", "HTTPS"), f"{where}.scheme"))
            for header in action.get("httpHeaders") or ():
                errors.extend(checks.named(header.get("name") or "", names.http_header, f"{where}.httpHeaders"))
        elif key in ("tcpSocket", "grpc"):
            errors.extend(_port(action.get("port"), f"{where}.port"))
        elif not 0 <= (seconds := action.get("seconds") or 0) <= (seconds if grace is None else grace):
            text = f"must be non-negative and less than terminationGracePeriodSeconds ({grace})"
            errors.append(invalid(f"{path}.sleep", seconds, text))
    if not found:
        errors.append(required(path, "must specify a handler type"))
    return errors


def _port(port: Any, path: str) -> list[FieldError]:
    if isinstance(port, str):
        return [invalid(path, port, text) for text in names.port_name(port)]
    return [invalid(path, port or 0, text) for text in names.port_number(port or 0)]


# --- security ---------------------------------------------------------------------------------------------------

_SECCOMP = ("Localhost", "RuntimeDefault", "Unconfined")


def user_ids(context: Obj, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for key in ("runAsUser", "runAsGroup", "fsGroup"):
        if (value := context.get(key)) is not None:
            errors.extend(checks.between(value, 0, _MAX_ID, f"{path}.{key}"))
    for key in ("seccompProfile", "appArmorProfile"):
        profile = context.get(key)
        if profile is not None:
            where = f"{path}.{key}"
            kind = profile.get("type")
            if not kind:
                errors.append(
                    required(f"{where}.type", "type is required when seccompProfile is set" if key[0] == "s" else "")
                )
            elif kind not in _SECCOMP:
                errors.append(not_supported(f"{where}.type", kind, _SECCOMP))
            if kind == "Localhost" and not profile.get("localhostProfile"):
                text = (
                    "must be set when seccomp type is Localhost"
                    if key[0] == "s"
                    else "must be set when AppArmor type is Localhost"
                )
                errors.append(required(f"{where}.localhostProfile", text))
            profile_path = profile.get("localhostProfile")
            if profile_path and kind == "Localhost" and key[0] == "s":
                errors.extend(local_path(profile_path, f"{where}.localhostProfile"))
            elif profile_path is not None and kind != "Localhost":
                word = "seccomp type" if key[0] == "s" else "AppArmor type"
                text = f"can only be set when {word} is Localhost"
                errors.append(invalid(f"{where}.localhostProfile", profile_path, text))
    return errors


def _security(context: Obj, path: str) -> list[FieldError]:
    errors = user_ids(context, path)
    allowed = ("Default", "Unmasked")
    errors.extend(checks.optional_one_of(context.get("procMount"), allowed, f"{path}.procMount"))
    if context.get("allowPrivilegeEscalation") is False:
        if context.get("privileged"):
            text = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
            errors.append(invalid(path, context, text))
        added = (context.get("capabilities") or {}).get("add") or ()
        if "CAP_SYS_ADMIN" in added:
            text = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"
            errors.append(invalid(path, context, text))
    return errors
