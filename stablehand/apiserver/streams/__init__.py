"""The subresources that are connections: exec, attach, portforward, log and proxy. Dispatch only."""

from __future__ import annotations

from stablehand.apiserver import errors
from stablehand.apiserver.contract import Answer, Request
from stablehand.apiserver.core import Core
from stablehand.apiserver.streams import commands, logs, proxy


async def handle(core: Core, request: Request) -> Answer:
    """Raises StatusError for what is refused before a connection is made."""
    info = request.info
    assert info.resource is not None
    name, kind = info.subresource, info.resource.key
    if name == "proxy":
        return await proxy.handle(core, request)
    if kind != "pods":
        raise errors.no_such_path()
    if name == "log":
        if request.method != "GET":
            raise errors.method_not_allowed(info.verb)
        return await logs.handle(core, request)
    if request.method not in ("GET", "POST"):
        raise errors.method_not_allowed(info.verb)
    if name == "portforward":
        return await commands.port_forward(core, request)
    return await commands.remote_command(core, request)
