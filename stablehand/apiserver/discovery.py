"""Discovery: /api, /apis, the resource lists, and the aggregated form that kubectl asks for first. Also /version."""

from __future__ import annotations

import hashlib
import platform

import orjson

from stablehand import __version__
from stablehand.apiserver import errors
from stablehand.apiserver.contract import Request, Response
from stablehand.apiserver.core import Core
from stablehand.machinery.resources import Resource
from stablehand.machinery.types import Obj

KUBERNETES = "v1.36.0"

# Kinds of subresources that differ from their resource's own: (group, version, kind).
_SUBRESOURCE_KINDS: dict[str, tuple[str, str, str]] = {
    "scale": ("autoscaling", "v1", "Scale"),
    "eviction": ("policy", "v1", "Eviction"),
    "binding": ("", "v1", "Binding"),
    "token": ("authentication.k8s.io", "v1", "TokenRequest"),
    "exec": ("", "v1", "PodExecOptions"),
    "attach": ("", "v1", "PodAttachOptions"),
    "portforward": ("", "v1", "PodPortForwardOptions"),
}
_PROXY_KINDS = {"pods": "PodProxyOptions", "services": "ServiceProxyOptions", "nodes": "NodeProxyOptions"}
_SUBRESOURCE_VERBS: dict[str, list[str]] = {
    "status": ["get", "patch", "update"],
    "scale": ["get", "patch", "update"],
    "approval": ["get", "patch", "update"],
    "ephemeralcontainers": ["get", "patch", "update"],
    "resize": ["get", "patch", "update"],
    "finalize": ["update"],
    "log": ["get"],
    "exec": ["create", "get"],
    "attach": ["create", "get"],
    "portforward": ["create", "get"],
    "proxy": ["create", "delete", "get", "patch", "update"],
    "binding": ["create"],
    "eviction": ["create"],
    "token": ["create"],
}


def version() -> Obj:
    major, minor = KUBERNETES[1:].split(".")[:2]
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return {
        "major": major,
        "minor": minor,
        "emulationMajor": major,
        "emulationMinor": minor,
        "minCompatibilityMajor": major,
        "minCompatibilityMinor": str(int(minor) - 1),
        "gitVersion": f"{KUBERNETES}+stablehand",
        "gitCommit": f"stablehand-{__version__}",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": f"python{platform.python_version()}",
        "compiler": platform.python_implementation(),
        "platform": f"linux/{machine}",
    }


def _singular(res: Resource) -> str:
    return res.singular or res.kind.lower()


def _subresource(res: Resource, name: str) -> Obj:
    group, ver, kind = _SUBRESOURCE_KINDS.get(name, ("", "", res.kind))
    if name == "proxy":
        kind = _PROXY_KINDS[res.plural]
    out: Obj = {"name": f"{res.plural}/{name}", "singularName": "", "namespaced": res.namespaced}
    if ver and (group, ver) != (res.group, res.version):
        out.update(group=group, version=ver)
    out.update(kind=kind, verbs=_SUBRESOURCE_VERBS[name])
    return out


def resource_list(core: Core, group: str, ver: str) -> Obj | None:
    """The APIResourceList of one group and version, or None."""
    rows = core.registry.resources(group, ver)
    if not rows:
        return None
    resources = []
    for res in rows:
        entry: Obj = {
            "name": res.plural,
            "singularName": _singular(res),
            "namespaced": res.namespaced,
            "kind": res.kind,
            "verbs": list(res.verbs),
        }
        if res.short:
            entry["shortNames"] = list(res.short)
        if res.categories:
            entry["categories"] = list(res.categories)
        resources.append(entry)
        resources.extend(_subresource(res, name) for name in sorted(res.subresources))
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{group}/{ver}" if group else ver,
        "resources": resources,
    }


def _group(core: Core, group: str) -> Obj:
    versions = [{"groupVersion": f"{group}/{v}", "version": v} for v in core.registry.versions(group)]
    return {"name": group, "versions": versions, "preferredVersion": versions[0]}


def _aggregated_item(core: Core, group: str) -> Obj:
    versions = []
    for ver in core.registry.versions(group):
        resources = []
        for res in core.registry.resources(group, ver):
            entry: Obj = {
                "resource": res.plural,
                "responseKind": {"group": res.group, "version": res.version, "kind": res.kind},
                "scope": "Namespaced" if res.namespaced else "Cluster",
                "singularResource": _singular(res),
                "verbs": list(res.verbs),
            }
            if res.short:
                entry["shortNames"] = list(res.short)
            if res.categories:
                entry["categories"] = list(res.categories)
            subs = []
            for name in sorted(res.subresources):
                sub = _subresource(res, name)
                kind = {
                    "group": sub.get("group", res.group),
                    "version": sub.get("version", res.version),
                    "kind": sub["kind"],
                }
                subs.append({"subresource": name, "responseKind": kind, "verbs": sub["verbs"]})
            if subs:
                entry["subresources"] = subs
            resources.append(entry)
        versions.append({"version": ver, "resources": resources, "freshness": "Current"})
    return {"metadata": {"name": group, "creationTimestamp": None}, "versions": versions}


def _wants_aggregated(request: Request) -> str:
    for clause in (request.headers.get("Accept") or "").split(","):
        if "as=APIGroupDiscoveryList" in clause and "g=apidiscovery.k8s.io" in clause:
            for ver in ("v2", "v2beta1"):
                if f"v={ver};" in clause + ";":
                    return ver
    return ""


async def handle(core: Core, request: Request) -> Response:
    """Answers /api, /apis and what is below them down to a group's version. Raises StatusError 404."""
    parts = [p for p in request.path.split("/") if p]
    aggregated = _wants_aggregated(request)
    if aggregated and parts in (["api"], ["apis"]):
        groups = [""] if parts == ["api"] else core.registry.groups()
        remote = core.aggregation.discovery
        elsewhere = [] if parts == ["api"] else [g for g in remote.groups() if g not in groups]
        body = {
            "kind": "APIGroupDiscoveryList",
            "apiVersion": f"apidiscovery.k8s.io/{aggregated}",
            "metadata": {},
            "items": [
                *(_aggregated_item(core, g) for g in groups),
                *(remote.aggregated(g) for g in elsewhere),
            ],
        }
        kind = f"application/json;g=apidiscovery.k8s.io;v={aggregated};as=APIGroupDiscoveryList"
        raw = orjson.dumps(body)
        mark = f'"{hashlib.sha512(raw).hexdigest().upper()}"'
        headers = {"Vary": "Accept", "Etag": mark}
        if request.headers.get("If-None-Match") == mark:
            return Response({}, raw=b"", code=304, content_type=kind, headers=headers)
        return Response(body, raw=raw, content_type=kind, headers=headers)
    found: Obj | None = None
    if parts == ["api"]:
        where = f"{core.config.advertise_address or '127.0.0.1'}:{core.config.advertise_port}"
        found = {
            "kind": "APIVersions",
            "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": where}],
        }
    elif parts == ["apis"]:
        ours, remote = core.registry.groups(), core.aggregation.discovery
        named = [_group(core, g) for g in ours]
        named += [found for g in remote.groups() if g not in ours and (found := remote.group(g)) is not None]
        found = {"kind": "APIGroupList", "apiVersion": "v1", "groups": named}
    elif len(parts) == 2 and parts[0] == "api":
        found = resource_list(core, "", parts[1])
    elif len(parts) == 2 and parts[0] == "apis" and parts[1] in core.registry.groups():
        found = {"kind": "APIGroup", "apiVersion": "v1", **_group(core, parts[1])}
    elif len(parts) == 2 and parts[0] == "apis" and (group := core.aggregation.discovery.group(parts[1])):
        found = {"kind": "APIGroup", "apiVersion": "v1", **group}
    elif len(parts) == 3 and parts[0] == "apis":
        found = resource_list(core, parts[1], parts[2])
    if found is None:
        raise errors.no_such_path()
    return Response(found, headers={"Vary": "Accept"})
