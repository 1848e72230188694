"""watch: opens a watcher from a revision, from now, or with the present state first. The front streams it."""

from __future__ import annotations

import functools

import orjson

from stablehand.apiserver import conversion
from stablehand.apiserver.contract import Answer, Request, StatusError, WatchResponse
from stablehand.apiserver.core import Core
from stablehand.apiserver.storage.watchers import Entry, Event, Watcher
from stablehand.apiserver.verbs import present
from stablehand.apiserver.verbs.freshness import reached, revision_of
from stablehand.apiserver.verbs.list import integer
from stablehand.apiserver.verbs.select import matcher
from stablehand.machinery.types import Obj

INITIAL_EVENTS_END = "k8s.io/initial-events-end"


def bookmark(core: Core, request: Request, *, initial_end: bool = False) -> Event:
    """A BOOKMARK event at the newest revision."""
    res = request.info.resource
    assert res is not None
    meta: Obj = {"resourceVersion": str(core.storage.revision), "creationTimestamp": None}
    if initial_end:
        meta["annotations"] = {INITIAL_EVENTS_END: "true"}
    obj: Obj = {"kind": res.kind, "apiVersion": res.api_version, "metadata": meta}
    shape, _ = present.accepted(request)
    if shape:
        obj = present.partial(obj)
        if shape == "Table":  # no object to show: a row without cells
            row = {"cells": [], "object": obj}
            meta = {"resourceVersion": meta["resourceVersion"]}
            obj = {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": meta}
            obj |= {"columnDefinitions": None, "rows": [row]}

    return Event("BOOKMARK", ("", ""), Entry(obj, orjson.dumps(obj), core.storage.revision), None)


def _invalid(field: str, why: str) -> StatusError:
    return StatusError(422, "Invalid", f'ListOptions.meta.k8s.io "" is invalid: {field}: Forbidden: {why}')


async def handle(core: Core, request: Request) -> Answer:
    info = request.info
    res = info.resource
    assert res is not None
    collection = core.storage.collection(res)
    namespace = info.namespace if res.namespaced else ""
    match = matcher(request, res, getattr(core.registry.strategy(res), "selectable", ()) if res.custom else ())
    if request.method == "GET" and info.name and "fieldSelector" not in request.query:
        name = info.name  # the deprecated watch of a single object
        match = lambda obj: obj["metadata"]["name"] == name  # noqa: E731
    shape = present.shaper(core, request, res)
    text = request.query.get("resourceVersion", "")
    initial = request.query.get("sendInitialEvents", "")
    rule = request.query.get("resourceVersionMatch", "")
    if initial and rule != "NotOlderThan":
        raise _invalid(
            "resourceVersionMatch", "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        )
    if rule and not initial:
        raise _invalid(
            "resourceVersionMatch", "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
        )
    timeout = float(integer(request, "timeoutSeconds")) or None
    if initial == "true":
        try:
            await reached(core, revision_of(text) if text else 0)
        except StatusError as e:
            if e.code != 504:
                raise
            watcher = Watcher(namespace, match, set())
            watcher.fail(e)  # told within the stream
            return WatchResponse(watcher, shape, timeout)
        watcher = collection.watch_with_state(namespace, match)
        if request.flag("allowWatchBookmarks"):
            watcher.push("BOOKMARK", bookmark(core, request, initial_end=True))
    elif (not text or text == "0") and initial != "false":
        watcher = collection.watch_with_state(namespace, match)
    else:
        since = revision_of(text) if text not in ("", "0") else core.storage.revision
        watcher = collection.watch(namespace, match, since, core.storage.revision)
    prepare = None
    if conversion.webhook(core, res) is not None:
        prepare = functools.partial(conversion.prepare, core, res)
    return WatchResponse(watcher, shape, timeout, prepare)
