"""create: POST to a collection."""

from __future__ import annotations

from stablehand.apiserver.contract import Answer, Request
from stablehand.apiserver.core import Core
from stablehand.apiserver.decode import body_object
from stablehand.apiserver.verbs import options, write


async def handle(core: Core, request: Request) -> Answer:
    res = request.info.resource
    assert res is not None
    options.check(request, "CreateOptions")
    obj = body_object(request, res)
    obj = write.decode_into_storage(core, request, res, obj)
    entry = await write.create_object(core, request, res, obj)
    return await write.respond(core, request, res, entry, 201)
