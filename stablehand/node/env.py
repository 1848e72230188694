"""The environment of a container: Service variables, envFrom, downward API, $(VAR) expansion. Pure.

ConfigMaps and Secrets are handed in as read; what is missing raises ConfigError with kubelet's words.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Iterable, Mapping
from decimal import ROUND_CEILING, Decimal

from stablehand.machinery import quantity
from stablehand.machinery.types import Obj

EnvFiles = Mapping[tuple[str, str], Mapping[str, str] | None]  # by volume and path
_REFERENCE = re.compile(r"\$(?:\$|\(([^)]*)\))")


class ConfigError(Exception):
    """The container's configuration cannot be made (CreateContainerConfigError); the text is the waiting message."""


def expand(text: str, variables: Mapping[str, str]) -> str:
    """$(NAME) becomes its value when known, else stays; $$ is a literal $."""

    def replace(found: re.Match[str]) -> str:
        if found[1] is None:
            return "$"
        return variables.get(found[1], found[0])

    return _REFERENCE.sub(replace, text) if "$" in text else text


def service_variables(services: Iterable[Obj], namespace: str, links: bool) -> dict[str, str]:
    """KUBERNETES_SERVICE_HOST and its like, for the pod's namespace and the API's own Service."""
    variables: dict[str, str] = {}
    chosen: dict[str, Obj] = {}
    for service in services:
        meta = service["metadata"]
        ip = service["spec"].get("clusterIP")
        if not ip or ip == "None" or not service["spec"].get("ports"):
            continue
        master = meta["namespace"] == "default" and meta["name"] == "kubernetes"
        if meta["namespace"] == namespace and (links or master):
            chosen[meta["name"]] = service
        elif master:
            chosen.setdefault(meta["name"], service)
    for name in sorted(chosen):
        spec = chosen[name]["spec"]
        prefix = name.upper().replace("-", "_")
        host = spec["clusterIP"]
        variables[f"{prefix}_SERVICE_HOST"] = host
        variables[f"{prefix}_SERVICE_PORT"] = str(spec["ports"][0]["port"])
        for port in spec["ports"]:
            if port.get("name"):
                variables[f"{prefix}_SERVICE_PORT_{port['name'].upper().replace('-', '_')}"] = str(port["port"])
        address = f"[{host}]" if ipaddress.ip_address(host).version == 6 else host
        for index, port in enumerate(spec["ports"]):
            protocol = port.get("protocol") or "TCP"
            url = f"{protocol.lower()}://{address}:{port['port']}"
            if index == 0:
                variables[f"{prefix}_PORT"] = url
            key = f"{prefix}_PORT_{port['port']}_{protocol.upper()}"
            variables[key] = url
            variables[f"{key}_PROTO"] = protocol.lower()
            variables[f"{key}_PORT"] = str(port["port"])
            variables[f"{key}_ADDR"] = host
    return variables


def field_value(pod: Obj, path: str, node: Mapping[str, str]) -> str:
    """A downward API fieldRef. `node` holds nodeName, hostIP and podIP as known now."""
    meta = pod["metadata"]
    simple = {
        "metadata.name": meta.get("name", ""),
        "metadata.namespace": meta.get("namespace", ""),
        "metadata.uid": meta.get("uid", ""),
        "spec.nodeName": pod["spec"].get("nodeName", ""),
        "spec.serviceAccountName": pod["spec"].get("serviceAccountName") or "default",
        "status.hostIP": node.get("hostIP", ""),
        "status.hostIPs": node.get("hostIP", ""),
        "status.podIP": node.get("podIP", ""),
        "status.podIPs": node.get("podIP", ""),
    }
    if path in simple:
        return str(simple[path])
    found = re.fullmatch(r"metadata\.(labels|annotations)\['(.*)'\]", path)
    if found:
        return str((meta.get(found[1]) or {}).get(found[2], ""))
    if path in ("metadata.labels", "metadata.annotations"):
        return format_map(meta.get(path.removeprefix("metadata.")) or {})
    raise ConfigError(f"unsupported fieldPath: {path}")


def format_map(values: Mapping[str, str]) -> str:
    """Labels or annotations as a downward API file holds them: key="escaped value", sorted."""
    return "\n".join(f"{key}={_go_quote(str(values[key]))}" for key in sorted(values))


def _go_quote(text: str) -> str:
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r", "\a": "\\a", "\b": "\\b"}
    escapes |= {"\f": "\\f", "\v": "\\v"}
    out = "".join(escapes.get(c) or (c if c.isprintable() else f"\\x{ord(c):02x}" if ord(c) < 128 else c) for c in text)
    return f'"{out}"'


def resource_value(pod: Obj, reference: Obj, default_container: str, allocatable: Mapping[str, str]) -> str:
    """A downward API resourceFieldRef, divided and rounded up."""
    name = reference.get("containerName") or default_container
    containers = [*pod["spec"]["containers"], *(pod["spec"].get("initContainers") or ())]
    container = next((c for c in containers if c["name"] == name), None)
    if container is None:
        raise ConfigError(f"container {name} not found")
    kind, _, resource = reference["resource"].partition(".")
    resources = container.get("resources") or {}
    value = (resources.get(kind) or {}).get(resource)
    if value is None:
        whole = ((pod["spec"].get("resources") or {}).get("limits") or {}).get(resource)
        value = whole or allocatable.get(resource, "0") if kind == "limits" else "0"
    divisor = quantity.parse(reference.get("divisor") or "0") or Decimal(1)
    return str(int((quantity.parse(value) / divisor).to_integral_value(rounding=ROUND_CEILING)))


def config_references(container: Obj) -> tuple[set[str], set[str]]:
    """The names of the ConfigMaps and Secrets that a container's environment reads."""
    maps, secrets = set(), set()
    for source in container.get("envFrom") or ():
        if ref := source.get("configMapRef"):
            maps.add(ref.get("name", ""))
        if ref := source.get("secretRef"):
            secrets.add(ref.get("name", ""))
    for entry in container.get("env") or ():
        origin = entry.get("valueFrom") or {}
        if ref := origin.get("configMapKeyRef"):
            maps.add(ref.get("name", ""))
        if ref := origin.get("secretKeyRef"):
            secrets.add(ref.get("name", ""))
    return maps, secrets


def secret_data(secret: Obj) -> dict[str, bytes]:
    return {key: base64.b64decode(value) for key, value in (secret.get("data") or {}).items()}


def build_env(
    pod: Obj,
    container: Obj,
    *,
    services: Iterable[Obj],
    maps: Mapping[str, Obj | None],
    secrets: Mapping[str, Obj | None],
    node: Mapping[str, str],
    allocatable: Mapping[str, str],
    files: EnvFiles | None = None,
) -> dict[str, str]:
    """All variables, in order. Raises ConfigError. `files` are those that fileKeyRef names: None, one that is missing."""
    namespace = pod["metadata"]["namespace"]
    result: dict[str, str] = {}
    links = pod["spec"].get("enableServiceLinks", True)
    service_env = service_variables(services, namespace, links)
    for source in container.get("envFrom") or ():
        prefix = source.get("prefix") or ""
        for key, text in _source_values(source, namespace, maps, secrets).items():
            result[prefix + key] = text  # any key of a ConfigMap is a valid name since Kubernetes 1.34
    known = {**service_env, **result}
    for entry in container.get("env") or ():
        name = entry["name"]
        origin = entry.get("valueFrom")
        if not origin:
            value: str | None = expand(entry.get("value") or "", known)
        else:
            value = _origin_value(pod, container, origin, namespace, maps, secrets, node, allocatable, files or {})
        if value is None:
            continue
        result[name] = known[name] = value
    for key, text in service_env.items():
        result.setdefault(key, text)
    return result


def _source_values(
    source: Obj, namespace: str, maps: Mapping[str, Obj | None], secrets: Mapping[str, Obj | None]
) -> dict[str, str]:
    if ref := source.get("configMapRef"):
        found = maps.get(ref.get("name", ""))
        if found is None:
            if ref.get("optional"):
                return {}
            raise ConfigError(f'configmap "{ref.get("name", "")}" not found')
        return dict(found.get("data") or {})
    if ref := source.get("secretRef"):
        found = secrets.get(ref.get("name", ""))
        if found is None:
            if ref.get("optional"):
                return {}
            raise ConfigError(f'secret "{ref.get("name", "")}" not found')
        return {k: v.decode(errors="surrogateescape") for k, v in secret_data(found).items()}
    return {}


def _origin_value(
    pod: Obj,
    container: Obj,
    origin: Obj,
    namespace: str,
    maps: Mapping[str, Obj | None],
    secrets: Mapping[str, Obj | None],
    node: Mapping[str, str],
    allocatable: Mapping[str, str],
    files: EnvFiles,
) -> str | None:
    if ref := origin.get("fieldRef"):
        return field_value(pod, ref["fieldPath"], node)
    if ref := origin.get("resourceFieldRef"):
        return resource_value(pod, ref, container["name"], allocatable)
    if ref := origin.get("configMapKeyRef"):
        return _key(ref, "configmap", "ConfigMap", namespace, maps)
    if ref := origin.get("secretKeyRef"):
        return _key(ref, "secret", "Secret", namespace, secrets)
    if ref := origin.get("fileKeyRef"):
        text = (files.get((ref["volumeName"], ref["path"])) or {}).get(ref["key"])
        if text is None and not ref.get("optional"):
            raise ConfigError(
                f"environment variable key {_go_quote(ref['key'])} not found in file {_go_quote(ref['path'])}"
            )
        return text
    raise ConfigError(f"environment source {next(iter(origin), '?')} is not supported")


def _key(ref: Obj, word: str, kind: str, namespace: str, objects: Mapping[str, Obj | None]) -> str | None:
    name, key = ref.get("name", ""), ref["key"]
    found = objects.get(name)
    if found is None:
        if ref.get("optional"):
            return None
        raise ConfigError(f'{word} "{name}" not found')
    if kind == "Secret":
        data = secret_data(found)
        if key in data:
            return data[key].decode(errors="surrogateescape")
    elif key in (found.get("data") or {}):
        return str(found["data"][key])
    if ref.get("optional"):
        return None
    raise ConfigError(f"couldn't find key {key} in {kind} {namespace}/{name}")
