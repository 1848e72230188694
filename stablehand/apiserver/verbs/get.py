"""get: one object, from memory."""

from __future__ import annotations

from stablehand.apiserver import conversion, errors
from stablehand.apiserver.contract import Answer, Request
from stablehand.apiserver.core import Core
from stablehand.apiserver.verbs import present
from stablehand.apiserver.verbs.freshness import reached, revision_of


async def handle(core: Core, request: Request) -> Answer:
    info = request.info
    res = info.resource
    assert res is not None
    minimum = request.query.get("resourceVersion", "")
    if minimum not in ("", "0"):
        await reached(core, revision_of(minimum))
    entry = core.storage.collection(res).get((info.namespace if res.namespaced else "", info.name))
    if entry is None:
        raise errors.not_found(res, info.name)
    await conversion.prepare(core, res, [entry])
    return present.one(core, request, res, entry)
