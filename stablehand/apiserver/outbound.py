"""Calls that the API server makes to other servers by a client config: webhooks and aggregated APIs.

A Service is reached at one of its ready endpoints (the network rules of a node need not be there), under the name
<service>.<namespace>.svc, which its certificate must hold. What is sent and what comes of it is the callers'.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import random
import socket
import ssl
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from stablehand.apiserver.core import Core
from stablehand.machinery.meta import nested
from stablehand.machinery.resources import resource
from stablehand.machinery.types import Obj

_SERVICES, _ENDPOINTS = resource("services"), resource("endpoints")
_CONTEXTS = 64


class CallFailed(Exception):
    """The other server was not reached, or did not answer as asked."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a client config leads: the URL, and the CA (PEM) its certificate is checked against ("": the system's)."""

    url: str
    ca: str = ""


def target(config: Obj) -> Target:
    """The target of a WebhookClientConfig. Raises CallFailed."""
    try:
        ca = base64.b64decode(config.get("caBundle") or "").decode()
    except (binascii.Error, UnicodeDecodeError) as e:
        raise CallFailed(f"caBundle is no base64 text: {e}") from e
    if config.get("url"):
        return Target(config["url"], ca)
    service = config.get("service") or {}
    host = f"{service.get('name')}.{service.get('namespace')}.svc"
    path = "/" + (service.get("path") or "").lstrip("/")
    return Target(f"https://{host}:{service.get('port') or 443}{path}", ca)


class _Services(AbstractResolver):
    """Resolves <service>.<namespace>.svc to the address and port of a ready endpoint."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[ResolveResult]:
        parts, at = host.split("."), host
        if len(parts) == 3 and parts[2] == "svc":
            at, port = endpoint(self._core, parts[1], parts[0], port)
        found = await asyncio.get_running_loop().getaddrinfo(at, port, type=socket.SOCK_STREAM)
        return [_result(host, str(sockaddr[0]), port) for *_, sockaddr in found]

    async def close(self) -> None:
        return None


def _result(name: str, address: str, port: int) -> ResolveResult:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return ResolveResult(hostname=name, host=address, port=port, family=family, proto=0, flags=socket.AI_NUMERICHOST)


def endpoint(core: Core, namespace: str, name: str, port: int) -> tuple[str, int]:
    """(address or name, port) behind a Service's port. Raises OSError, as a resolver must."""
    entry = core.storage.collection(_SERVICES).get((namespace, name))
    if entry is None:
        raise OSError(f'service "{name}" not found')
    spec = entry.obj["spec"]
    chosen = next((p for p in spec.get("ports") or () if p["port"] == port), None)
    if spec.get("type") == "ExternalName":
        return spec["externalName"], port
    if chosen is None:
        raise OSError(f'no service port {port} found for service "{name}"')
    endpoints = core.storage.collection(_ENDPOINTS).get((namespace, name))
    found = [
        (address["ip"], p["port"])
        for subset in nested(endpoints.obj if endpoints is not None else {}, "subsets") or ()
        for p in subset.get("ports") or ()
        if (p.get("name") or "") == (chosen.get("name") or "")
        for address in subset.get("addresses") or ()
    ]
    if not found:
        raise OSError(f'no endpoints available for service "{name}"')
    address, number = random.choice(found)
    return str(address), int(number)


class Outbound:
    """Keeps connections and TLS contexts. One for a server; `close` when it stops."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._session: aiohttp.ClientSession | None = None
        self._contexts: dict[tuple[str, bool, bool], ssl.SSLContext] = {}

    def session(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            connector = aiohttp.TCPConnector(resolver=_Services(self._core), ttl_dns_cache=None, use_dns_cache=False)
            self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        return self._session

    def context(self, ca: str, *, verify: bool = True, front_proxy: bool = False) -> ssl.SSLContext:
        """The TLS settings for servers certified by `ca`, shown the front proxy's certificate where it vouches for
        the user. Raises CallFailed for what is no certificate."""
        key = (ca, verify, front_proxy)
        found = self._contexts.get(key)
        if found is None:
            try:
                found = ssl.create_default_context(cadata=ca or None)
            except ssl.SSLError as e:
                raise CallFailed(f"unable to load root certificates: {e}") from e
            if not verify:
                found.check_hostname, found.verify_mode = False, ssl.CERT_NONE
            config = self._core.config
            if front_proxy and config.proxy_cert:
                found.load_cert_chain(config.proxy_cert, config.proxy_key)
            if len(self._contexts) >= _CONTEXTS:
                self._contexts.clear()
            self._contexts[key] = found
        return found

    async def post(self, to: Target, body: bytes, timeout: float) -> bytes:
        """POSTs JSON with the timeout in the query, as webhooks are called; the answer's body. Raises CallFailed."""
        separator = "&" if "?" in to.url else "?"
        url = f"{to.url}{separator}timeout={timeout:g}s"
        headers = {"Content-Type": "application/json", "Accept": "application/json, */*"}
        try:
            async with asyncio.timeout(timeout):
                async with self.session().post(
                    url, data=body, headers=headers, ssl=self.context(to.ca), allow_redirects=False
                ) as answer:
                    raw = await answer.read()
                    if answer.status >= 300:
                        text = raw.decode(errors="replace").strip() or answer.reason
                        raise CallFailed(f"an error on the server ({text!r}) has prevented the request from succeeding")
                    return raw
        except TimeoutError:
            raise CallFailed(f'Post "{url}": context deadline exceeded') from None
        except (aiohttp.ClientError, OSError, ValueError) as e:
            cause = e.os_error if isinstance(e, aiohttp.ClientConnectorError) else e
            raise CallFailed(f'Post "{url}": {cause}') from e

    async def close(self) -> None:
        if self._session is not None:
            with contextlib.suppress(aiohttp.ClientError):
                await self._session.close()
