"""Defaults of pod specs, for pods and for the templates of everything that makes pods.

Also drops the zero values that Go never writes (hostNetwork: false, nodeName: ""), so that comparing two specs
finds only real changes. Validation is in podspec.py.
"""

from __future__ import annotations

from typing import Any

from stablehand.apiserver.strategies.podgates import drop_disabled
from stablehand.machinery.podresources import format_amount, pod_requests
from stablehand.machinery.types import Obj

_ZERO_SPEC = ("nodeName", "hostname", "subdomain", "priorityClassName", "hostNetwork", "hostPID", "hostIPC")
_ZERO_CONTAINER = ("stdin", "stdinOnce", "tty", "workingDir")
_PROBES = ("readinessProbe", "livenessProbe", "startupProbe")


def default_template(template: Obj) -> None:
    """A PodTemplateSpec."""
    spec = template.get("spec")
    if spec is None:
        spec = template["spec"] = {}
    default_pod_spec(spec)


def default_pod_spec(spec: Obj) -> None:
    drop_disabled(spec)
    for key in _ZERO_SPEC:
        if key in spec and not spec[key]:
            del spec[key]
    if "restartPolicy" not in spec:
        spec["restartPolicy"] = "Always"
    if "dnsPolicy" not in spec:
        spec["dnsPolicy"] = "ClusterFirst"
    if "terminationGracePeriodSeconds" not in spec:
        spec["terminationGracePeriodSeconds"] = 30
    if "schedulerName" not in spec:
        spec["schedulerName"] = "default-scheduler"
    if "securityContext" not in spec:
        spec["securityContext"] = {}
    account = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if account:
        spec["serviceAccountName"] = spec["serviceAccount"] = account
    else:
        spec.pop("serviceAccountName", None)
        spec.pop("serviceAccount", None)
    for key in ("containers", "initContainers", "ephemeralContainers"):
        for container in spec.get(key) or ():
            default_container(container)
    for volume in spec.get("volumes") or ():
        default_volume(volume)


def default_pod(spec: Obj) -> None:
    """What only pods get, not templates."""
    if (spec.get("terminationGracePeriodSeconds") or 0) < 0:
        spec["terminationGracePeriodSeconds"] = 1
    if "enableServiceLinks" not in spec:
        spec["enableServiceLinks"] = True
    _default_requests(spec)
    for key in ("containers", "initContainers"):
        for container in spec.get(key) or ():
            resources = container.get("resources")
            if resources and (limits := resources.get("limits")):
                requests = resources.setdefault("requests", {})
                for name, value in limits.items():
                    if name not in requests:
                        requests[name] = value
            if spec.get("hostNetwork"):
                for port in container.get("ports") or ():
                    port.setdefault("hostPort", port.get("containerPort"))


def _default_requests(spec: Obj) -> None:
    """The requests of a pod with limits of its own: what its containers ask for together, else what it is limited to."""
    resources = spec.get("resources") or {}
    if not resources.get("limits"):
        return
    together = pod_requests({key: spec[key] for key in ("containers", "initContainers") if key in spec})
    found = dict(resources.get("requests") or {})
    for name, limit in resources["limits"].items():
        if name not in found and (name in ("cpu", "memory") or name.startswith("hugepages-")):
            asked = together.get(name)
            found[name] = limit if asked is None else format_amount(name, asked)
    for name in ("cpu", "memory"):
        if name not in found and name in together:
            found[name] = format_amount(name, together[name])
    resources["requests"] = found


def pull_policy(image: str) -> str:
    """Always for :latest and for no tag at all, unless a digest pins the image."""
    if "@" in image:
        return "IfNotPresent"
    tag = image.rpartition("/")[2].partition(":")[2]
    return "Always" if tag in ("", "latest") else "IfNotPresent"


def default_container(container: Obj) -> None:
    for key in _ZERO_CONTAINER:
        if key in container and not container[key]:
            del container[key]
    if "imagePullPolicy" not in container:
        container["imagePullPolicy"] = pull_policy(container.get("image") or "")
    if "terminationMessagePath" not in container:
        container["terminationMessagePath"] = "/dev/termination-log"
    if "terminationMessagePolicy" not in container:
        container["terminationMessagePolicy"] = "File"
    if "resources" not in container:
        container["resources"] = {}
    for port in container.get("ports") or ():
        if "protocol" not in port:
            port["protocol"] = "TCP"
        for key in ("name", "hostPort", "hostIP"):
            if key in port and not port[key]:
                del port[key]
    for mount in container.get("volumeMounts") or ():
        for key in ("readOnly", "subPath", "subPathExpr"):
            if key in mount and not mount[key]:
                del mount[key]
    for env in container.get("env") or ():
        source = env.get("valueFrom")
        if source is not None:
            _default_source(source)
        elif env.get("value") == "":
            del env["value"]
    for key in _PROBES:
        probe = container.get(key)
        if probe is not None:
            _default_probe(probe)
    lifecycle = container.get("lifecycle")
    if lifecycle is not None:
        for hook in ("postStart", "preStop"):
            if hook in lifecycle:
                _default_handler(lifecycle[hook])


def _default_source(source: Obj) -> None:
    if "fieldRef" in source:
        source["fieldRef"].setdefault("apiVersion", "v1")
    if "resourceFieldRef" in source:
        source["resourceFieldRef"].setdefault("divisor", "0")


def _default_handler(handler: Obj) -> None:
    http = handler.get("httpGet")
    if http is not None:
        if not http.get("path"):
            http["path"] = "/"
        if not http.get("scheme"):
            http["scheme"] = "HTTP"
    if "grpc" in handler:
        handler["grpc"].setdefault("service", "")


def _default_probe(probe: Obj) -> None:
    _default_handler(probe)
    for key, value in (("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)):
        if not probe.get(key):
            probe[key] = value
    if probe.get("initialDelaySeconds") == 0:
        del probe["initialDelaySeconds"]


_MODES = ("secret", "configMap", "downwardAPI", "projected")
_SOURCE_DEFAULTS: dict[str, dict[str, Any]] = {
    "iscsi": {"iscsiInterface": "default"},
    "rbd": {"pool": "rbd", "user": "admin", "keyring": "/etc/ceph/keyring"},
    "azureDisk": {"cachingMode": "ReadWrite", "kind": "Shared", "fsType": "ext4", "readOnly": False},
    "scaleIO": {"storageMode": "ThinProvisioned", "fsType": "xfs"},
    "hostPath": {"type": ""},
}


def default_volume(volume: Obj) -> None:
    if len(volume) <= 1 and set(volume) <= {"name"}:
        volume["emptyDir"] = {}
        return
    for key in _MODES:
        source = volume.get(key)
        if source is not None:
            if "defaultMode" not in source:
                source["defaultMode"] = 420
            for item in source.get("items") or ():
                _default_source(item)
            for part in source.get("sources") or ():
                if "serviceAccountToken" in part:
                    part["serviceAccountToken"].setdefault("expirationSeconds", 3600)
                for item in (part.get("downwardAPI") or {}).get("items") or ():
                    _default_source(item)
            return
    default_source(volume)
    template = (volume.get("ephemeral") or {}).get("volumeClaimTemplate")
    if template is not None:
        template.setdefault("spec", {}).setdefault("volumeMode", "Filesystem")
    if "image" in volume:
        image = volume["image"]
        image.setdefault("pullPolicy", pull_policy(image.get("reference") or ""))


def default_source(holder: Obj) -> None:
    """Volume sources that pods and PersistentVolumes share."""
    for key, defaults in _SOURCE_DEFAULTS.items():
        source = holder.get(key)
        if source is not None:
            for name, value in defaults.items():
                source.setdefault(name, value)
