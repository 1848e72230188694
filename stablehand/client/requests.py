"""Builds API requests; pure. Sending them is the transport's."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from stablehand.client.contract import Request
from stablehand.machinery.resources import Resource
from stablehand.machinery.types import Obj

PATCH_TYPES = {
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "apply": "application/apply-patch+yaml",
}


def _query(**values: Any) -> dict[str, str]:
    out = {}
    for name, value in values.items():
        if value is None or value == "" or value is False:
            continue
        out[name.rstrip("_")] = "true" if value is True else str(value)
    return out


def _path(res: Resource, namespace: str | None, name: str | None, subresource: str | None = None) -> str:
    return res.path(namespace, quote(name, safe=":") if name else None, subresource)


def get(
    res: Resource, name: str, namespace: str | None, subresource: str | None, resource_version: str | None
) -> Request:
    return Request("GET", _path(res, namespace, name, subresource), _query(resourceVersion=resource_version))


def list_(
    res: Resource,
    namespace: str | None,
    *,
    label_selector: str,
    field_selector: str,
    limit: int,
    resource_version: str | None,
    continue_: str | None,
) -> Request:
    query = _query(
        labelSelector=label_selector,
        fieldSelector=field_selector,
        limit=limit or None,
        resourceVersion=resource_version,
        continue_=continue_,
    )
    return Request("GET", _path(res, namespace, None), query)


def create(
    res: Resource,
    obj: Obj,
    namespace: str | None,
    name: str | None,
    subresource: str | None,
    manager: str | None,
    params: dict[str, str] | None,
) -> Request:
    namespace = namespace or obj.get("metadata", {}).get("namespace")
    query = _query(fieldManager=manager)
    query.update(params or {})
    return Request("POST", _path(res, namespace, name, subresource), query, obj)


def update(res: Resource, obj: Obj, subresource: str | None, manager: str | None) -> Request:
    meta = obj["metadata"]
    return Request(
        "PUT", _path(res, meta.get("namespace"), meta["name"], subresource), _query(fieldManager=manager), obj
    )


def patch(
    res: Resource,
    name: str,
    body: Any,
    namespace: str | None,
    kind: str,
    subresource: str | None,
    manager: str | None,
    force: bool,
) -> Request:
    query = _query(fieldManager=manager, force=force)
    return Request("PATCH", _path(res, namespace, name, subresource), query, body, PATCH_TYPES[kind])


def delete(
    res: Resource,
    name: str,
    namespace: str | None,
    *,
    grace: int | None,
    propagation: str | None,
    uid: str | None,
    resource_version: str | None,
) -> Request:
    options: Obj = {"apiVersion": "v1", "kind": "DeleteOptions"}
    if grace is not None:
        options["gracePeriodSeconds"] = grace
    if propagation:
        options["propagationPolicy"] = propagation
    preconditions = {}
    if uid:
        preconditions["uid"] = uid
    if resource_version:
        preconditions["resourceVersion"] = resource_version
    if preconditions:
        options["preconditions"] = preconditions
    return Request("DELETE", _path(res, namespace, name), {}, options)


def watch(
    res: Resource,
    namespace: str | None,
    *,
    resource_version: str,
    label_selector: str,
    field_selector: str,
    bookmarks: bool,
    initial_events: bool,
) -> Request:
    query = _query(
        watch=True,
        resourceVersion=resource_version,
        labelSelector=label_selector,
        fieldSelector=field_selector,
        allowWatchBookmarks=bookmarks,
    )
    if initial_events:
        query.update(sendInitialEvents="true", resourceVersionMatch="NotOlderThan", allowWatchBookmarks="true")
    return Request("GET", _path(res, namespace, None), query)
