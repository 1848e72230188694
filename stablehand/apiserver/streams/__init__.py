"""The subresources that are connections: exec, attach, portforward, log and proxy. Dispatch only."""

from __future__ import annotations

from dataclasses import replace

from stablehand.apiserver import errors
from stablehand.apiserver.contract import Answer, Request
from stablehand.apiserver.core import Attributes, Core
from stablehand.apiserver.streams import commands, logs, proxy
from stablehand.machinery.types import Obj

_OPTIONS = {
    "exec": "PodExecOptions", "attach": "PodAttachOptions", "portforward": "PodPortForwardOptions",
    "proxy": "ProxyOptions",
}  # fmt: skip


async def _admit(core: Core, request: Request) -> None:
    """A connection is admitted like a write: operation CONNECT of the options that its query spells."""
    info = request.info
    assert info.resource is not None
    kind = _OPTIONS[info.subresource]
    options: Obj = {"kind": info.resource.kind + kind if kind == "ProxyOptions" else kind, "apiVersion": "v1"}
    if info.subresource == "proxy":
        options["path"] = info.rest
    elif info.subresource == "portforward":
        options["ports"] = [int(p) for p in request.multi_query("ports") if p.isdigit()]
    else:
        options |= {flag: True for flag in ("stdin", "stdout", "stderr", "tty") if request.flag(flag)}
        if request.query.get("container"):
            options["container"] = request.query["container"]
        if info.subresource == "exec":
            options["command"] = request.multi_query("command")
    connection = Attributes(
        request, info.resource, "CONNECT", info.namespace, info.name, options, None, info.subresource
    )
    await core.admission.mutate(connection)
    await core.admission.validate(connection)


async def _may_create(core: Core, request: Request) -> None:
    """A WebSocket begins as a GET: whoever may only read must not run commands by it. Raises StatusError 403."""
    writing = replace(request.info, verb="create")
    allowed, why = await core.authorize(request.user, writing)
    if not allowed:
        raise errors.denied(writing, request.user.name, why)


async def handle(core: Core, request: Request) -> Answer:
    """Raises StatusError for what is refused before a connection is made."""
    info = request.info
    assert info.resource is not None
    name, kind = info.subresource, info.resource.key
    if name in ("exec", "attach", "portforward") and request.method == "GET":
        await _may_create(core, request)
    if name != "log":
        await _admit(core, request)
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
