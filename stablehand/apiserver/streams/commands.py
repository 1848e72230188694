"""exec, attach and portforward: which way a client speaks, and what the kubelet is asked."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlencode

from stablehand.apiserver import errors
from stablehand.apiserver.contract import Answer, Request, Upgrade
from stablehand.apiserver.core import Core
from stablehand.apiserver.streams import channels, kubelet, pipe, targets

_REMOTE = ["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"]
_PORT_FORWARD = "portforward.k8s.io"
_TUNNEL = "SPDY/3.1+portforward.k8s.io"


def _upgrade(request: Request) -> str:
    """`websocket` or `spdy`. Raises StatusError when the request is no upgrade."""
    asked = request.headers.get("Upgrade", "").lower()
    if request.http is not None and "upgrade" in request.headers.get("Connection", "").lower():
        if "websocket" in asked:
            return "websocket"
        if asked.startswith("spdy/"):
            return "spdy"
    raise errors.bad_request("Upgrade request required")


def _offered(request: Request) -> list[str]:
    values = request.http.headers.getall("Sec-WebSocket-Protocol", [])
    return [p.strip() for value in values for p in value.split(",") if p.strip()]


def _raw(core: Core, address: str, port: int, path: str) -> Upgrade:
    async def run(http: Any) -> Any:
        return await pipe.proxy_upgrade(http, address, port, path, kubelet.context(core))

    return Upgrade(run)


async def remote_command(core: Core, request: Request) -> Answer:
    info = request.info
    pod = targets.find(core, "pods", info.namespace, info.name)
    container = targets.container_of(pod, request.query.get("container", ""))
    address, port = targets.kubelet_address(core, targets.host_of(pod))
    # pods/attach without options attaches to the output, as PodAttachOptions' defaults say.
    default = info.subresource in ("attach", "exec")
    wanted = channels.Wanted(
        stdin=request.flag("stdin"),
        stdout=request.flag("stdout") or (default and "stdout" not in request.query),
        stderr=request.flag("stderr") or (default and "stderr" not in request.query),
        tty=request.flag("tty"),
    )
    wanted.stderr = wanted.stderr and not wanted.tty
    query = [("command", word) for word in request.multi_query("command")] if info.subresource == "exec" else []
    if info.subresource == "exec" and not query:
        raise errors.bad_request("you must specify at least 1 command for the container")
    way = _upgrade(request)
    names = (("input", wanted.stdin), ("output", wanted.stdout), ("error", wanted.stderr), ("tty", wanted.tty))
    query += [(name, "1") for name, yes in names if yes]
    path = f"/{info.subresource}/{info.namespace}/{info.name}/{quote(container)}?{urlencode(query)}"
    if way == "spdy":
        return _raw(core, address, port, path)
    upgraded = await kubelet.upgrade_spdy(core, address, port, path, _REMOTE)

    async def run(http: Any) -> Any:
        return await channels.translate(http, upgraded, wanted)

    return Upgrade(run)


async def port_forward(core: Core, request: Request) -> Answer:
    info = request.info
    pod = targets.find(core, "pods", info.namespace, info.name)
    address, port = targets.kubelet_address(core, targets.host_of(pod))
    ports = [("port", p) for p in request.multi_query("ports") or request.multi_query("port")]
    path = f"/portForward/{info.namespace}/{info.name}" + (f"?{urlencode(ports)}" if ports else "")
    if _upgrade(request) == "spdy" or _TUNNEL not in _offered(request):
        return _raw(core, address, port, path)
    upgraded = await kubelet.upgrade_spdy(core, address, port, path, [_PORT_FORWARD])

    async def run(http: Any) -> Any:
        return await pipe.tunnel(http, upgraded, _TUNNEL)

    return Upgrade(run)
