"""Custom resources in other versions than the stored one, where their definition names a conversion webhook.

An object is read, checked and changed in the version that was asked for, and stored in the storage version; what the
webhook made of a stored object is kept beside it. Without a webhook versions differ in apiVersion only (present).
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable

import orjson

from stablehand.apiserver import errors
from stablehand.apiserver.contract import StatusError
from stablehand.apiserver.core import Attributes, Core
from stablehand.apiserver.outbound import CallFailed, target
from stablehand.apiserver.storage.watchers import Entry
from stablehand.machinery.resources import Resource
from stablehand.machinery.types import Obj

_TIMEOUT = 30.0


def webhook(core: Core, res: Resource) -> Obj | None:
    """The definition's spec.conversion.webhook, when that is how its versions are converted."""
    return getattr(core.registry.strategy(res), "conversion", None) if res.custom else None


async def prepare(core: Core, res: Resource, entries: Iterable[Entry]) -> None:
    """Has these stored objects ready in the version of `res`. Raises StatusError when the webhook fails."""
    hook = webhook(core, res)
    if hook is None:
        return
    wanted = res.api_version
    lacking = [e for e in entries if e.obj.get("apiVersion") != wanted and wanted not in (e.forms or ())]
    if lacking:
        for entry, obj in zip(lacking, await _convert(core, res, hook, wanted, [e.obj for e in lacking]), strict=True):
            entry.forms = {**(entry.forms or {}), wanted: obj}


async def as_asked(core: Core, res: Resource, entry: Entry) -> Entry:
    """The entry with its object in the version of `res`, to be changed in that version."""
    if webhook(core, res) is None:
        return entry
    await prepare(core, res, [entry])
    obj = (entry.forms or {}).get(res.api_version, entry.obj)
    return Entry(obj, entry.raw, entry.revision)


async def to_storage(core: Core, res: Resource, obj: Obj) -> Obj:
    """The object in the version it is stored in. Raises StatusError when the webhook fails."""
    hook = webhook(core, res)
    if hook is None:
        return obj
    wanted: str = core.registry.strategy(res).storage_api_version  # type: ignore[attr-defined]
    if obj.get("apiVersion") == wanted:
        return obj
    return (await _convert(core, res, hook, wanted, [obj]))[0]


async def tell(core: Core, a: Attributes, row: Resource) -> None:
    """Has the objects of a write ready for admission in the version of `row`. Raises StatusError."""
    hook = webhook(core, row)
    if hook is None:
        return
    for obj in (a.obj, a.old):
        if obj is None or obj.get("kind") != row.kind or obj.get("apiVersion") == row.api_version:
            continue
        key = (id(obj), row.api_version)
        if key not in a.forms:
            a.forms[key] = (obj, (await _convert(core, row, hook, row.api_version, [obj]))[0])


async def told(core: Core, a: Attributes, row: Resource, obj: Obj) -> Obj:
    """What admission made of an object in the version of `row`, in the version of the write. Raises StatusError."""
    hook = webhook(core, row)
    wanted = a.obj["apiVersion"] if a.obj is not None else row.api_version
    if hook is None or obj.get("kind") != row.kind or wanted == row.api_version:
        return obj
    return (await _convert(core, row, hook, wanted, [obj]))[0]


def remember(entry: Entry, obj: Obj) -> None:
    """After a write: the object as it was before it was converted is its form in that version."""
    if obj.get("apiVersion") != entry.obj.get("apiVersion"):
        form = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(entry.revision)}}
        entry.forms = {**(entry.forms or {}), obj["apiVersion"]: form}


async def _convert(core: Core, res: Resource, hook: Obj, wanted: str, objects: list[Obj]) -> list[Obj]:
    uid = str(uuid.uuid4())
    version = next((v for v in hook.get("conversionReviewVersions") or () if v in ("v1", "v1beta1")), "v1")
    review = {
        "kind": "ConversionReview",
        "apiVersion": f"apiextensions.k8s.io/{version}",
        "request": {"uid": uid, "desiredAPIVersion": wanted, "objects": objects},
    }
    try:
        raw = await core.outbound.post(target(hook.get("clientConfig") or {}), orjson.dumps(review), _TIMEOUT)
        response = (orjson.loads(raw) or {}).get("response") or {}
    except (CallFailed, orjson.JSONDecodeError, AttributeError) as e:
        raise _failed(objects[0], str(e)) from e
    result = response.get("result") or {}
    if response.get("uid") != uid:
        raise _failed(objects[0], f'expected response.uid="{uid}", got "{response.get("uid") or ""}"')
    if result.get("status") != "Success":
        raise _failed(objects[0], result.get("message") or "no message")
    converted = response.get("convertedObjects") or []
    if len(converted) != len(objects):
        raise _failed(objects[0], f"webhook returned {len(converted)} objects, expected {len(objects)}")
    return [_checked(old, new, wanted) for old, new in zip(objects, converted, strict=True)]


def _checked(old: Obj, new: Obj, wanted: str) -> Obj:
    """A webhook may change labels and annotations, and nothing else of metadata."""
    if new.get("apiVersion") != wanted or new.get("kind") != old.get("kind"):
        raise _failed(old, f"webhook returned {new.get('apiVersion')}, Kind={new.get('kind')}")
    meta, before = new.get("metadata") or {}, old["metadata"]
    for field in ("name", "namespace", "uid"):
        if meta.get(field) != before.get(field):
            raise _failed(old, f"must have the same {field}: {meta.get(field)} != {before.get(field)}")
    kept = dict(before)
    for field in ("labels", "annotations"):
        if meta.get(field):
            kept[field] = meta[field]
        else:
            kept.pop(field, None)
    rest = {k: v for k, v in new.items() if k not in ("kind", "apiVersion", "metadata")}
    return {"kind": new["kind"], "apiVersion": wanted, "metadata": kept, **rest}


def _failed(obj: Obj, why: str) -> StatusError:
    return errors.internal(f"conversion webhook for {obj.get('apiVersion')}, Kind={obj.get('kind')} failed: {why}")
