"""Pod templates: canonical bytes, hashes, equality up to defaulting, and the pod made from one.

Nothing here knows which controller asks; identity (names, ordinals) is the controllers' own.
"""

from __future__ import annotations

from typing import Any

import orjson

from stablehand.machinery import meta
from stablehand.machinery.hashing import fnv1a_32, safe_encode
from stablehand.machinery.types import Obj, copy_object

# What the API server fills in: a field equal to its default says nothing.
_POD_DEFAULTS: dict[str, Any] = {
    "restartPolicy": "Always",
    "terminationGracePeriodSeconds": 30,
    "dnsPolicy": "ClusterFirst",
    "schedulerName": "default-scheduler",
    "enableServiceLinks": True,
    "securityContext": {},
    "hostNetwork": False,
    "hostPID": False,
    "hostIPC": False,
}
_CONTAINER_DEFAULTS: dict[str, Any] = {
    "terminationMessagePath": "/dev/termination-log",
    "terminationMessagePolicy": "File",
    "resources": {},
}
_PROBE_DEFAULTS: dict[str, Any] = {
    "timeoutSeconds": 1,
    "periodSeconds": 10,
    "successThreshold": 1,
    "failureThreshold": 3,
}
_SOURCE_DEFAULTS: dict[str, dict[str, Any]] = {
    "configMap": {"defaultMode": 420},
    "secret": {"defaultMode": 420},
    "projected": {"defaultMode": 420},
    "downwardAPI": {"defaultMode": 420},
    "hostPath": {"type": ""},
}


def go_json(value: Any) -> bytes:
    """JSON as Go's encoder writes a map: compact, keys sorted, <, >, & and the line separators escaped."""
    raw = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    for char, escape in (
        (b"<", b"\\u003c"),
        (b">", b"\\u003e"),
        (b"&", b"\\u0026"),
        (b"\xe2\x80\xa8", b"\\u2028"),
        (b"\xe2\x80\xa9", b"\\u2029"),
    ):
        if char in raw:
            raw = raw.replace(char, escape)
    return raw


def go_template(template: Obj) -> Obj:
    """The template as the typed upstream encoder shows it: metadata and every container's resources are present."""
    out = copy_object(template)
    metadata = out.setdefault("metadata", {}) or {}
    if metadata.get("creationTimestamp", 0) is None:
        del metadata["creationTimestamp"]
    out["metadata"] = metadata
    spec = out.setdefault("spec", {})
    for field in ("containers", "initContainers"):
        for container in spec.get(field) or ():
            container.setdefault("resources", {})
    return out


def _drop(value: Obj, defaults: dict[str, Any]) -> Obj:
    return {k: v for k, v in value.items() if v is not None and v != {} and v != [] and v != defaults.get(k)}


def _plain_container(container: Obj) -> Obj:
    out = _drop(container, _CONTAINER_DEFAULTS)
    image = str(out.get("image", ""))
    latest = ":" not in image.rpartition("/")[2] or image.endswith(":latest")
    usual = "Always" if latest and "@" not in image else "IfNotPresent"
    if out.get("imagePullPolicy") == usual:
        del out["imagePullPolicy"]
    if out.get("ports"):
        out["ports"] = [_drop(port, {"protocol": "TCP"}) for port in out["ports"]]
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        if out.get(probe):
            plain = _drop(out[probe], _PROBE_DEFAULTS)
            if plain.get("httpGet"):
                plain["httpGet"] = _drop(plain["httpGet"], {"scheme": "HTTP", "path": "/"})
            out[probe] = plain
    if out.get("env"):
        out["env"] = [_plain_env(entry) for entry in out["env"]]
    return out


def _plain_env(entry: Obj) -> Obj:
    source = entry.get("valueFrom")
    if source and source.get("fieldRef"):
        return {**entry, "valueFrom": {**source, "fieldRef": _drop(source["fieldRef"], {"apiVersion": "v1"})}}
    return _drop(entry, {"value": ""})


def _plain_volume(volume: Obj) -> Obj:
    out: Obj = {}
    for field, value in volume.items():
        if isinstance(value, dict) and field in _SOURCE_DEFAULTS:
            value = _drop(value, _SOURCE_DEFAULTS[field])
        if value is not None:
            out[field] = value
    return out


def plain_template(template: Obj, *, ignore_label: str = "") -> Obj:
    """The template without what defaulting would add: two plain templates are equal when they mean the same."""
    metadata = _drop(template.get("metadata") or {}, {})
    if ignore_label and metadata.get("labels"):
        rest = {k: v for k, v in metadata["labels"].items() if k != ignore_label}
        metadata = {k: v for k, v in metadata.items() if k != "labels"}
        if rest:
            metadata["labels"] = rest
    spec = _drop(template.get("spec") or {}, _POD_DEFAULTS)
    if spec.get("serviceAccount") == spec.get("serviceAccountName"):
        spec.pop("serviceAccount", None)
    for field in ("containers", "initContainers"):
        if spec.get(field):
            spec[field] = [_plain_container(c) for c in spec[field]]
    if spec.get("volumes"):
        spec["volumes"] = [_plain_volume(v) for v in spec["volumes"]]
    return {"metadata": metadata, "spec": spec}


def equal_templates(one: Obj, other: Obj, *, ignore_label: str = "") -> bool:
    """Do the templates mean the same, whatever the server filled in?"""
    return plain_template(one, ignore_label=ignore_label) == plain_template(other, ignore_label=ignore_label)


def template_hash(template: Obj, collision_count: int | None) -> str:
    """The pod-template-hash: deterministic, another one for each collision count."""
    data = go_json(plain_template(template))
    if collision_count is not None:
        data += collision_count.to_bytes(8, "little")
    return safe_encode(str(fnv1a_32(data)))


def pod_from_template(template: Obj, owner: Obj, *, generate_name: str | None = None) -> Obj:
    """A new pod of the template, controlled by `owner`; the name is left to the caller or to generateName."""
    source = template.get("metadata") or {}
    metadata: Obj = {
        "namespace": meta.namespace(owner),
        "generateName": f"{meta.name(owner)}-" if generate_name is None else generate_name,
        "labels": dict(source.get("labels") or {}),
        "ownerReferences": [meta.owner_reference(owner)],
    }
    if source.get("annotations"):
        metadata["annotations"] = dict(source["annotations"])
    if source.get("finalizers"):
        metadata["finalizers"] = list(source["finalizers"])
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": copy_object(template.get("spec") or {})}
