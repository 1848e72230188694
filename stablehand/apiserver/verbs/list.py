"""list: a collection or a page of it, consistent at one revision."""

from __future__ import annotations

import base64

import orjson

from stablehand.apiserver import conversion, errors
from stablehand.apiserver.contract import Answer, Request, Response, StatusError
from stablehand.apiserver.core import Core
from stablehand.apiserver.storage.collection import Key
from stablehand.apiserver.storage.watchers import Entry
from stablehand.apiserver.verbs import present
from stablehand.apiserver.verbs.freshness import reached, revision_of
from stablehand.apiserver.verbs.select import matcher
from stablehand.machinery.resources import Resource
from stablehand.machinery.types import Obj

# Seconds in which the pages of a list tell of one moment (upstream compacts its history as often). Later a client is
# offered the rest as it is by then.
CONSISTENT_FOR = 300.0


def integer(request: Request, name: str) -> int:
    """A number of the query, 0 when it is not there. Raises StatusError 400."""
    text = request.query.get(name, "")
    try:
        value = int(text) if text else 0
    except ValueError:
        raise errors.bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax') from None
    if value < 0:
        raise errors.bad_request(f"{name}: Invalid value: {value}: must not be negative")
    return value


def _decode_continue(token: str) -> tuple[int, Key, float]:
    """(revision, the last key told, when the token was made); the revision is -1 for "as it is now"."""
    try:
        value = orjson.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        return int(value["rv"]), (value["start"][0], value["start"][1]), float(value["made"])
    except (ValueError, KeyError, TypeError, IndexError):
        raise errors.bad_request(f"continue key is not valid: {token[:64]}") from None


def _encode_continue(revision: int, last: Key, now: float) -> str:
    token = orjson.dumps({"v": "meta.k8s.io/v1", "rv": revision, "start": last, "made": int(now)})
    return base64.urlsafe_b64encode(token).decode().rstrip("=")


async def _minimum_revision(core: Core, request: Request) -> int | None:
    """The revision a list must be served at exactly, or None for the newest. Waits for one that is yet to come; raises
    for what does not come and for the malformed."""
    text, rule = request.query.get("resourceVersion", ""), request.query.get("resourceVersionMatch", "")
    if rule and rule not in ("Exact", "NotOlderThan"):
        raise StatusError(
            422,
            "Invalid",
            f'ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Unsupported value: "{rule}": '
            'supported values: "Exact", "NotOlderThan", ""',
        )
    if rule and not text:
        raise StatusError(
            422,
            "Invalid",
            'ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: '
            "resourceVersionMatch is forbidden unless resourceVersion is provided",
        )
    if not text or text == "0":
        return None
    revision = revision_of(text)
    await reached(core, revision)
    return revision if rule == "Exact" or (not rule and request.query.get("limit")) else None


async def handle(core: Core, request: Request) -> Answer:
    info = request.info
    res = info.resource
    assert res is not None
    collection = core.storage.collection(res)
    namespace = info.namespace if res.namespaced else ""
    match = matcher(request, res, getattr(core.registry.strategy(res), "selectable", ()) if res.custom else ())
    limit = integer(request, "limit")
    token = request.query.get("continue", "")
    revision = core.storage.revision
    start: Key | None = None
    if token:
        if request.query.get("resourceVersion", "") not in ("", "0"):
            raise errors.bad_request("specifying resource version is not allowed when using continue")
        then, start, made = _decode_continue(token)
        if then < 0:
            rows = collection.ordered(namespace)
        else:
            revision = then
            try:
                if core.clock() - made > CONSISTENT_FOR:
                    raise errors.too_old(revision, core.storage.revision)
                rows = collection.at(revision, namespace, core.storage.revision)
            except StatusError as e:
                raise errors.continue_expired(_encode_continue(-1, start, core.clock())) from e
    else:
        exact = await _minimum_revision(core, request)
        revision = core.storage.revision
        if exact is None:
            rows = collection.ordered(namespace)
        else:
            revision = exact
            rows = collection.at(exact, namespace, core.storage.revision)
    if start is not None:
        rows = [row for row in rows if row[0] > start]
    if match is not None:
        rows = [row for row in rows if match(row[1].obj)]
    meta: Obj = {"resourceVersion": str(revision)}
    if limit and len(rows) > limit:
        meta["continue"] = _encode_continue(revision, rows[limit - 1][0], core.clock())
        if match is None:
            meta["remainingItemCount"] = len(rows) - limit
        rows = rows[:limit]
    entries = [entry for _, entry in rows]
    await conversion.prepare(core, res, entries)
    return answer(core, request, res, entries, meta)


def answer(core: Core, request: Request, res: Resource, entries: list[Entry], meta: Obj) -> Response:
    """A list of stored objects in the shape that was asked for."""
    shape, media = present.accepted(request)
    if shape == "Table":
        objects = [present.view(res, e) for e in entries]
        return present.yaml_or_json(present.table(core, request, res, objects, meta), media)
    if shape:
        items = [present.partial(e.obj) for e in entries]
        kind = {"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": meta, "items": items}
        return present.yaml_or_json(kind, media)
    head = {"kind": res.list_kind, "apiVersion": res.api_version, "metadata": meta}
    if res.storage[1] or res.custom or media != "application/json":
        items = [present.view(res, e) for e in entries]
        return present.yaml_or_json({**head, "items": items}, media)
    return Response(lambda: {**head, "items": [e.obj for e in entries]}, raw=lambda: _encode(head, entries, res))


def _encode(head: Obj, entries: list[Entry], res: Resource) -> bytes:
    """Items of built-in lists carry no kind and apiVersion, as upstream's do not; both come first in stored bytes."""
    prefix = b'{"kind":"%b","apiVersion":"%b",' % (res.kind.encode(), res.api_version.encode())
    cut = len(prefix)
    items = [b"{" + e.raw[cut:] if e.raw.startswith(prefix) else e.raw for e in entries]
    return orjson.dumps(head)[:-1] + b',"items":[' + b",".join(items) + b"]}\n"
