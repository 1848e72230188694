"""update: PUT of a whole object, or of its status and other subresources that hold the same kind."""

from __future__ import annotations

from stablehand.apiserver import conversion, errors
from stablehand.apiserver.contract import Answer, Request
from stablehand.apiserver.core import Core
from stablehand.apiserver.decode import body_object
from stablehand.apiserver.verbs import options, write
from stablehand.store.contract import RevisionMismatch


async def handle(core: Core, request: Request) -> Answer:
    info = request.info
    res = info.resource
    assert res is not None
    options.check(request, "UpdateOptions")
    obj = body_object(request, res)
    meta = obj["metadata"]
    if meta.get("name") and meta["name"] != info.name:
        raise errors.bad_request(
            f"the name of the object ({meta['name']}) does not match the name on the URL ({info.name})"
        )
    if res.namespaced and meta.get("namespace") and meta["namespace"] != info.namespace:
        raise errors.bad_request("the namespace of the object does not match the namespace on the request")
    meta["name"] = info.name
    obj = write.decode_into_storage(core, request, res, obj)
    meta = obj["metadata"]
    collection = core.storage.collection(res)
    key = write.storage_key(res, info.namespace, info.name)
    for _ in range(write.RETRIES):
        old = collection.get(key)
        if old is None:
            if res.key in write.CREATE_ON_UPDATE and not info.subresource and not meta.get("resourceVersion"):
                entry = await write.create_object(core, request, res, obj)
                return await write.respond(core, request, res, entry, 201)
            raise errors.not_found(res, info.name)
        old = await conversion.as_asked(core, res, old)
        version = meta.get("resourceVersion")
        if version and version != str(old.revision):
            raise errors.conflict(res, info.name)
        if not version and res.custom:
            raise errors.invalid(
                res.group,
                res.kind,
                info.name,
                f'{res.key} "{info.name}" is invalid: metadata.resourceVersion: Invalid value: 0: must be specified for an update',
                [
                    {
                        "reason": "FieldValueInvalid",
                        "message": "Invalid value: 0: must be specified for an update",
                        "field": "metadata.resourceVersion",
                    }
                ],
            )
        try:
            fresh = {**obj, "metadata": dict(meta)} if not version else obj
            entry = await write.update_object(core, request, res, old, fresh, subresource=info.subresource)
        except RevisionMismatch:
            if version:
                raise errors.conflict(res, info.name) from None
            continue
        return await write.respond(core, request, res, entry)
    raise errors.conflict(res, info.name)
