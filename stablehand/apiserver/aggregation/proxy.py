"""The way to an aggregated API: who asks is told in X-Remote-* headers, under the front proxy's certificate.

Connections are carried through as they come (watches, upgrades); callers in this process get whole answers.
"""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

import aiohttp
from aiohttp import web
from yarl import URL

from stablehand.apiserver import errors
from stablehand.apiserver.contract import Answer, Request, Response, Upgrade, User
from stablehand.apiserver.core import Core
from stablehand.apiserver.outbound import CallFailed, Target, endpoint, target
from stablehand.apiserver.streams import pipe, proxy
from stablehand.machinery.conditions import get_condition
from stablehand.machinery.types import Obj

_TIMEOUT = 30.0


def destination(service: Obj, path: str) -> Target:
    """The URL of a path at an APIService. Raises CallFailed."""
    spec = service["spec"]
    reference = {**spec["service"], "path": path}
    return target({"service": reference, "caBundle": spec.get("caBundle")})


def context(core: Core, service: Obj, to: Target) -> Any:
    """TLS settings for an APIService, with the front proxy's certificate. Raises CallFailed."""
    return core.outbound.context(to.ca, verify=not service["spec"].get("insecureSkipTLSVerify"), front_proxy=True)


def identity(user: User) -> list[tuple[str, str]]:
    """The headers that name a user to an aggregated server (x509 request header authentication)."""
    headers = [("X-Remote-User", user.name), *(("X-Remote-Group", g) for g in user.groups)]
    if user.uid:
        headers.append(("X-Remote-Uid", user.uid))
    for key, values in user.extra.items():
        headers += [(f"X-Remote-Extra-{quote(key, safe='')}", v) for v in values]
    return headers


def check_available(service: Obj) -> None:
    """Raises StatusError 503 for a service known to be out of reach."""
    condition = get_condition(service.get("status"), "Available")
    if condition is not None and condition["status"] == "False" and condition.get("reason") != "FailedDiscoveryCheck":
        raise errors.unavailable("service unavailable")


async def handle(core: Core, request: Request, service: Obj) -> Answer:
    """Raises StatusError 503."""
    check_available(service)
    try:
        to = destination(service, request.path)
        tls = context(core, service, to)
    except CallFailed as e:
        raise errors.unavailable(str(e)) from e
    if request.http is None:
        return await fetch(core, request, to, tls)
    url = URL(to.url.removesuffix(request.path) + request.http.rel_url.raw_path_qs, encoded=True)

    who = identity(request.user)

    async def run(http: Any) -> web.StreamResponse:
        if "Upgrade" not in http.headers:
            return await proxy.forward(core.outbound.session(), http, request.raw, url, tls, who, drop_identity=True)
        reference = service["spec"]["service"]
        try:
            at = endpoint(core, reference["namespace"], reference["name"], reference.get("port") or 443)
        except OSError as e:
            status = errors.unavailable(f"error trying to reach service: {e}").status()
            return web.json_response(status, status=503)
        as_whom = pipe.Identity(url.host or "", tuple(who))
        return await pipe.proxy_upgrade(http, *at, url.raw_path_qs, tls, as_whom)

    return Upgrade(run)


async def fetch(core: Core, request: Request, to: Target, tls: Any) -> Response:
    """One request, its answer read to the end. Raises StatusError 503."""
    headers = [*identity(request.user), ("Accept", "application/json")]
    if request.raw or request.obj is not None:
        headers.append(("Content-Type", request.content_type))
    try:
        async with asyncio.timeout(_TIMEOUT):
            async with core.outbound.session().request(
                request.method, to.url, params=dict(request.query), headers=headers, ssl=tls, allow_redirects=False,
                data=request.raw or (Response(request.obj).raw if request.obj is not None else None),
            ) as answer:  # fmt: skip
                return Response(raw=await answer.read(), code=answer.status)
    except (aiohttp.ClientError, OSError, TimeoutError) as e:
        raise errors.unavailable(f"error trying to reach service: {e or 'i/o timeout'}") from e
