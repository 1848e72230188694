"""Reads a request's path and method: which resource, which object, which verb (RequestInfoFactory)."""

from __future__ import annotations

import re
from urllib.parse import unquote

from stablehand.apiserver import errors
from stablehand.apiserver.contract import Request, RequestInfo
from stablehand.apiserver.registry import Registry

_NAMESPACE_SUBRESOURCES = ("status", "finalize")
_VERBS = {"POST": "create", "GET": "get", "HEAD": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


_DURATION = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")


def check_timeout(text: str) -> None:
    """Raises StatusError 400 for a `timeout` that is no duration (Go's time.ParseDuration)."""
    if text in ("", "0") or _DURATION.sub("", text) == "":
        return
    missing = f'time: missing unit in duration "{text}"' if text.isdigit() else f'time: invalid duration "{text}"'
    raise errors.bad_request(f"invalid timeout specified in the request URL - {missing}")


def request_info(request: Request, registry: Registry) -> RequestInfo:
    """Never raises: a path that is no resource is one only to the authorizer; `resource` None means unknown."""
    path = request.path
    parts = [unquote(p) for p in path.split("/") if p]
    info = RequestInfo(path, request.method.lower())
    if len(parts) >= 3 and parts[0] == "api":
        info.group, info.version, rest = "", parts[1], parts[2:]
    elif len(parts) >= 4 and parts[0] == "apis":
        info.group, info.version, rest = parts[1], parts[2], parts[3:]
    else:
        return info
    info.is_resource = True
    info.verb = _VERBS.get(request.method, request.method.lower())
    if rest[0] == "watch" and len(rest) > 1:  # the deprecated /watch/ prefix
        rest = rest[1:]
        info.verb = "watch"
    if rest[0] == "namespaces" and len(rest) > 1:
        info.namespace = rest[1]
        if len(rest) > 2 and not (len(rest) == 3 and rest[2] in _NAMESPACE_SUBRESOURCES):
            rest = rest[2:]
        else:
            rest = ["namespaces", *rest[1:]]
    info.plural = rest[0]
    if len(rest) > 1:
        info.name = rest[1]
    if len(rest) > 2:
        info.subresource = rest[2]
        info.rest = "/".join(rest[3:])
    info.resource = registry.find(info.group, info.version, info.plural)
    if info.verb == "get" and not info.name:
        info.verb = "watch" if request.flag("watch") else "list"
        info.field_selector = request.query.get("fieldSelector", "")
        if "metadata.name=" in info.field_selector:
            for term in info.field_selector.split(","):
                if term.startswith("metadata.name="):
                    info.name = term.removeprefix("metadata.name=").lstrip("=")
    elif info.verb == "get" and request.flag("watch") and not info.subresource:
        info.verb = "watch"
    elif info.verb == "delete" and not info.name:
        info.verb = "deletecollection"
        info.field_selector = request.query.get("fieldSelector", "")
    return info
