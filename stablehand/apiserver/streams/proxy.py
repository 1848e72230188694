"""pods/proxy, services/proxy and nodes/proxy: plain HTTP to what the name means, upgrades included."""

from __future__ import annotations

import contextlib
import ipaddress
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp import web
from yarl import URL

from stablehand.apiserver import errors
from stablehand.apiserver.contract import Answer, Request, Upgrade
from stablehand.apiserver.core import Core
from stablehand.apiserver.streams import kubelet, pipe, rewrite, targets
from stablehand.machinery.meta import nested
from stablehand.machinery.types import Obj

_HOP = {"connection", "keep-alive", "transfer-encoding", "upgrade", "te", "trailer", "proxy-authorization"}
_IDENTITY = ("x-remote-", "impersonate-")
_DROPPED = _HOP | {"host", "authorization", "content-length"}


@dataclass(slots=True)
class _Target:
    scheme: str
    address: str
    port: int


def split_name(text: str) -> tuple[str, str, str]:
    """(scheme, name, port) of `name`, `name:port` or `scheme:name:port`."""
    parts = text.split(":")
    if len(parts) == 1:
        return "", text, ""
    if len(parts) == 2:
        return "", parts[0], parts[1]
    if len(parts) == 3 and parts[0] in ("http", "https", ""):
        return parts[0], parts[1], parts[2]
    raise errors.bad_request(f'invalid proxy request "{text}"')


async def handle(core: Core, request: Request) -> Answer:
    if request.http is None:
        raise errors.bad_request("proxy needs a connection")
    target = _target(core, request)
    prefix, path = split_path(request.http.rel_url.raw_path, bool(request.info.namespace))
    if not path and request.http.method in ("GET", "HEAD") and "Upgrade" not in request.http.headers:
        # So that the links of what is there, relative to it, lead to the proxy too.
        return Upgrade(_slash)
    path = path or "/"
    url = URL(f"{target.scheme}://{kubelet.host(target.address, target.port)}{path}", encoded=True)
    if query := request.http.rel_url.raw_query_string:
        url = URL(f"{url}?{query}", encoded=True)
    to_kubelet = request.info.resource is not None and request.info.resource.key == "nodes"
    context = (kubelet.context(core) if to_kubelet else kubelet.anonymous()) if target.scheme == "https" else None

    async def run(http: Any) -> web.StreamResponse:
        if "Upgrade" in http.headers:
            return await pipe.proxy_upgrade(http, target.address, target.port, url.raw_path_qs, context)
        return await forward(kubelet.session(core), http, request.raw, url, context, prefix=prefix)

    return Upgrade(run)


def split_path(path: str, namespaced: bool) -> tuple[str, str]:
    """(up to and with /proxy, what is asked of the server). A namespace may be called proxy, too."""
    parts = path.split("/")
    end = 8 if namespaced else 6  # /api/v1/namespaces/NS/pods/NAME/proxy, /api/v1/nodes/NAME/proxy
    return "/".join(parts[:end]), "".join(f"/{part}" for part in parts[end:])


async def _slash(http: Any) -> web.StreamResponse:
    query = f"?{http.rel_url.raw_query_string}" if http.rel_url.raw_query_string else ""
    return web.Response(status=301, headers={"Location": f"{http.rel_url.raw_path}/{query}"})


def _target(core: Core, request: Request) -> _Target:
    info = request.info
    assert info.resource is not None
    scheme, name, port = split_name(info.name)
    if info.resource.key == "nodes":
        address, number = targets.kubelet_address(core, name)
        return _Target("https", address, int(port) if port.isdigit() else number)
    if info.resource.key == "services":
        return _service(core, targets.find(core, "services", info.namespace, name), scheme, port)
    pod = targets.find(core, "pods", info.namespace, name)
    address = str(nested(pod, "status", "podIP") or "")
    check_address(address)
    if not port:
        declared = [p for c in pod["spec"]["containers"] for p in c.get("ports") or ()]
        port = str(declared[0]["containerPort"]) if declared else "80"
    if not port.isdigit():
        raise errors.bad_request(f'invalid pod request "{info.name}"')
    return _Target(scheme or "http", address, int(port))


def check_address(address: str) -> None:
    """An address that a pod's status or somebody's Endpoints claim must not be this machine's own inside."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        raise errors.bad_request("address not allowed") from None
    if ip.is_loopback or ip.is_link_local or ip.is_unspecified or ip.is_multicast:
        raise errors.bad_request("address not allowed")


def _service(core: Core, service: Obj, scheme: str, port: str) -> _Target:
    name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
    ports = service["spec"].get("ports") or []
    if not port and len(ports) == 1:
        chosen = ports[0]
    else:
        chosen = next((p for p in ports if port in (p.get("name", ""), str(p["port"]))), None)
    if chosen is None:
        raise errors.unavailable(f'no service port "{port}" found for service "{name}"')
    found = targets.service_addresses(core, namespace, name, chosen.get("name", ""))
    if not found:
        raise errors.unavailable(f'no endpoints available for service "{name}"')
    address, number = random.choice(found)
    check_address(address)
    return _Target(scheme or "http", address, number)


async def _page(
    http: Any, answer: aiohttp.ClientResponse, response: web.StreamResponse, prefix: str, own: tuple[str, ...]
) -> web.StreamResponse:
    """An HTML page, its links rewritten."""
    body = await answer.read()
    plain = rewrite.decoded(body, answer.headers.get("Content-Encoding", ""))
    if plain is not None:
        body = rewrite.rewrite_html(plain, prefix, own)
        response.headers.popall("Content-Encoding", None)
    response.headers["Content-Length"] = str(len(body))
    await response.prepare(http)
    await response.write(body)
    return response


async def forward(
    session: aiohttp.ClientSession,
    http: Any,
    body: bytes,
    url: URL,
    tls: Any,
    extra: Sequence[tuple[str, str]] = (),
    *,
    drop_identity: bool = False,
    prefix: str = "",
) -> web.StreamResponse:
    """Sends the request on and its answer back as it comes. `drop_identity`: what a client says in headers of who
    it is (to us, or in a front proxy's name) is not passed on; `extra` says it. `prefix`: the path under which the
    client sees the server, for links to its own paths."""
    headers = [
        (k, v)
        for k, v in http.headers.items()
        if k.lower() not in _DROPPED and not (drop_identity and k.lower().startswith(_IDENTITY))
    ]
    headers += extra
    own: tuple[str, ...] = ()
    if prefix:
        own = (f"{url.host}:{url.port}", url.host or "", http.host)
        headers += [("X-Forwarded-Uri", prefix + url.raw_path), ("X-Forwarded-Host", http.host)]
        headers += [("X-Forwarded-Proto", http.scheme)]
    response: web.StreamResponse
    try:
        with pipe.ended_by_client(http):
            async with session.request(
                http.method,
                url,
                headers=headers,
                data=body or None,
                ssl=tls if tls is not None else True,
                allow_redirects=False,
                skip_auto_headers=("Content-Type", "User-Agent"),
            ) as answer:
                response = web.StreamResponse(status=answer.status, reason=answer.reason)
                for key, value in answer.headers.items():
                    if key.lower() in _HOP or (prefix and key.lower() in rewrite.CORS_HEADERS):
                        continue
                    if prefix and key.lower() == "location":
                        value = rewrite.rewrite_url(value, prefix, own)
                    response.headers.add(key, value)
                if prefix and answer.content_type == "text/html" and http.method != "HEAD":
                    await _page(http, answer, response, prefix, own)
                else:
                    await response.prepare(http)
                    async for chunk in answer.content.iter_any():
                        await response.write(chunk)
    except (aiohttp.ClientError, TimeoutError) as e:
        if http.transport is None:
            raise ConnectionResetError from e
        status = errors.unavailable(f"error trying to reach service: {e or 'i/o timeout'}").status()
        return web.json_response(status, status=503)
    with contextlib.suppress(ConnectionError):
        await response.write_eof()
    return response
