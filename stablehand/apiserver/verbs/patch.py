"""patch: JSON patch, merge patch, strategic merge patch and server-side apply.

A patch is applied to the object in the version that was asked for, then goes the way of an update. Unless the patch
itself names a resourceVersion, a write that came between is not a conflict: the patch is applied again.
"""

from __future__ import annotations

from typing import Any

import orjson

from stablehand.apiserver import conversion, errors
from stablehand.apiserver.contract import Answer, Request, StatusError
from stablehand.apiserver.core import Core
from stablehand.apiserver.decode import check_applied, load_yaml, typed
from stablehand.apiserver.verbs import options, present, write
from stablehand.machinery import ownership, patch
from stablehand.machinery import schema as schemas
from stablehand.machinery.resources import Resource
from stablehand.machinery.types import Obj, copy_object
from stablehand.store.contract import RevisionMismatch

_TYPES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)


def _body(request: Request, content_type: str) -> Any:
    if request.obj is not None:
        return request.obj if isinstance(request.obj, list) else copy_object(request.obj)
    try:
        return load_yaml(request.raw) if content_type.endswith("yaml") else orjson.loads(request.raw)
    except Exception as e:
        raise errors.bad_request(f"error decoding patch: {e}") from e


async def handle(core: Core, request: Request) -> Answer:
    info = request.info
    res = info.resource
    assert res is not None
    content_type = request.content_type.partition(";")[0].strip()
    if content_type not in _TYPES:
        raise errors.unsupported_media_type(content_type, ", ".join(_TYPES))
    if res.custom and content_type == "application/strategic-merge-patch+json":
        raise errors.unsupported_media_type(content_type, ", ".join(t for t in _TYPES if "strategic" not in t))
    body = _body(request, content_type)
    options.check(request, "PatchOptions", applying=content_type == "application/apply-patch+yaml")
    if content_type == "application/apply-patch+yaml":
        return await _apply(core, request, res, body)
    collection = core.storage.collection(res)
    key = write.storage_key(res, info.namespace, info.name)
    for _ in range(write.RETRIES):
        old = collection.get(key)
        if old is None:
            raise errors.not_found(res, info.name)
        old = await conversion.as_asked(core, res, old)
        current = present.to_version(res, old.obj)
        try:
            patched = _patched(core, res, content_type, current, body)
        except patch.PatchError as e:
            raise _refusal(request, e) from e
        if patched is current or patched == current:
            return await write.respond(core, request, res, old)
        obj = copy_object(patched)
        version = obj["metadata"].get("resourceVersion")
        if version and version != str(old.revision):
            raise errors.conflict(res, info.name)
        if obj["metadata"].get("name") != info.name:
            raise errors.bad_request(
                f"the name of the object ({obj['metadata'].get('name')}) does not match the name on the URL ({info.name})"
            )
        obj = typed(obj, res.api_version, res.kind)
        warned = len(request.warnings)
        obj = write.decode_into_storage(core, request, res, obj)
        try:
            entry = await write.update_object(core, request, res, old, obj, subresource=info.subresource)
        except RevisionMismatch:
            if isinstance(body, dict) and (body.get("metadata") or {}).get("resourceVersion"):
                raise errors.conflict(res, info.name) from None
            del request.warnings[warned:]
            continue
        return await write.respond(core, request, res, entry)
    raise errors.conflict(res, info.name)


_REASONS = {400: "BadRequest", 413: "RequestEntityTooLarge"}


def _refusal(request: Request, error: patch.PatchError) -> StatusError:
    """Upstream says of no JSON patch that does not apply why; clients know its one text. The reason is a warning here."""
    if error.code == 422:
        request.warnings.append(error.message)
        return StatusError(422, "Invalid", "the server rejected our request due to an error in our request", {})
    return StatusError(error.code, _REASONS.get(error.code, ""), error.message)


def _patched(core: Core, res: Resource, content_type: str, current: Obj, body: Any) -> Obj:
    if content_type == "application/json-patch+json":
        return patch.json_patch(current, body)
    if not isinstance(body, dict):
        raise errors.bad_request("the patch must be an object")
    if content_type == "application/merge-patch+json":
        return patch.merge_patch(current, body)
    schema = write.schema_of(core, res)
    if schema is None:
        raise errors.bad_request("strategic merge patch needs a schema")
    return patch.strategic_merge_patch(current, body, schema)


def applied_over(
    core: Core, request: Request, row: Resource, live: Obj, applied: Obj, schema: schemas.Schema | None
) -> Obj:
    """The live object with a configuration applied to it; itself when that changes nothing. Raises StatusError."""
    subresource = request.info.subresource
    try:
        return ownership.apply(
            live,
            applied,
            request.query["fieldManager"],
            request.flag("force"),
            row.api_version,
            subresource,
            core.clock(),
            schema,
            ignore=write.unowned_fields(core, row, subresource),
        )
    except ownership.ApplyConflict as e:
        causes = [{"reason": "FieldManagerConflict", "message": m, "field": p} for m, p in e.causes]
        raise errors.apply_conflict(e.message, causes) from e
    except ownership.ApplyError as e:
        raise StatusError(e.code, "BadRequest" if e.code == 400 else "", e.message) from e


async def _apply(core: Core, request: Request, res: Resource, body: Any) -> Answer:
    info = request.info
    if not isinstance(body, dict):
        raise errors.bad_request("the applied configuration must be an object")
    if not body.get("apiVersion") or not body.get("kind"):
        raise errors.bad_request("invalid object type: apiVersion and kind must be set in the applied configuration")
    if body["apiVersion"] != res.api_version:
        text = f"Specified patch version: {body['apiVersion']}, expected: {res.api_version}"
        raise errors.bad_request(f"Incorrect version specified in apply patch. {text}")
    applied = typed(body, res.api_version, res.kind)
    meta = applied["metadata"]
    if meta.get("managedFields"):
        raise errors.bad_request("metadata.managedFields must be nil")
    if meta.get("name", info.name) != info.name:
        raise errors.bad_request(
            f"the name of the object ({meta['name']}) does not match the name on the URL ({info.name})"
        )
    meta["name"] = info.name
    if res.namespaced:
        if meta.get("namespace", info.namespace) != info.namespace:
            raise errors.bad_request("the namespace of the object does not match the namespace on the request")
        meta["namespace"] = info.namespace
    else:
        meta.pop("namespace", None)
    schema = write.schema_of(core, res)
    check_applied(request, schema, applied, res)
    row, _ = write.stored_strategy(core, res)
    if res.storage[1] and not res.custom:
        # Applied in an old version: converted first, so that ownership is kept in one version only.
        from stablehand.apiserver import legacy

        applied = legacy.to_storage(res, applied)
        schema = write.schema_of(core, row)
    manager, ignored = request.query["fieldManager"], write.unowned_fields(core, row, info.subresource)
    collection = core.storage.collection(res)
    key = write.storage_key(res, info.namespace, info.name)
    for _ in range(write.RETRIES):
        old = collection.get(key)
        warned = len(request.warnings)
        if old is None:
            if info.subresource:
                raise errors.not_found(res, info.name)
            if meta.get("uid"):
                text = (
                    f"uid mismatch: the provided object specified uid {meta['uid']}, and no existing object was found"
                )
                raise errors.conflict(res, info.name, text)
            if meta.get("resourceVersion"):
                raise errors.conflict(res, info.name, "the object was not found, and a resourceVersion was given")
            obj = ownership.apply(
                None, applied, manager, True, row.api_version, "", core.clock(), schema, ignore=ignored
            )
            core.registry.strategy(row).default(obj)
            try:
                entry = await write.create_object(core, request, row, obj, applied=True)
            except StatusError as e:
                if e.reason == "AlreadyExists":
                    continue
                raise
            return await write.respond(core, request, res, entry, 201)
        if meta.get("resourceVersion") and meta["resourceVersion"] != str(old.revision):
            raise errors.conflict(res, info.name)
        old = await conversion.as_asked(core, res, old)
        obj = applied_over(core, request, row, old.obj, applied, schema)
        if obj is old.obj:
            return await write.respond(core, request, res, old)
        obj = copy_object(obj)
        core.registry.strategy(row).default(obj)
        try:
            entry = await write.update_object(
                core, request, row, old, obj, subresource=info.subresource, operation="Apply"
            )
        except RevisionMismatch:
            del request.warnings[warned:]
            continue
        return await write.respond(core, request, res, entry)
    raise errors.conflict(res, info.name)
