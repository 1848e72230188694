"""The HTTP transport: requests and watches over one aiohttp session."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import orjson

from stablehand.client.contract import Request, WatchEvent
from stablehand.client.errors import ApiError, Unavailable, error_for
from stablehand.client.kubeconfig import Access
from stablehand.machinery.types import Obj

_TRANSPORT_ERRORS = (aiohttp.ClientError, asyncio.TimeoutError, OSError)


class HttpTransport:
    """Carries requests to a URL. Must be made inside a running event loop."""

    def __init__(self, access: Access, user_agent: str = "stablehand") -> None:
        self._access = access
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=access.ssl if access.ssl is not None else True, limit=0),
            headers={"User-Agent": user_agent, "Accept": "application/json"},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
            read_bufsize=2**20,
            auth=aiohttp.BasicAuth(*access.basic) if access.basic else None,
        )

    def _headers(self) -> dict[str, str]:
        token = self._access.token
        if self._access.token_file:
            # Bound tokens are rotated in place by the kubelet; a read costs less than a refused request.
            token = Path(self._access.token_file).read_text().strip()
        return {"Authorization": "Bearer " + token} if token else {}

    def _open(self, request: Request) -> aiohttp.client._RequestContextManager:
        headers = self._headers()
        data: bytes | None = None
        if request.body is not None:
            data = request.body if isinstance(request.body, bytes) else orjson.dumps(request.body)
            headers["Content-Type"] = request.content_type
        url = self._access.server + request.path
        return self._session.request(request.method, url, params=request.query, data=data, headers=headers)

    async def send(self, request: Request) -> Obj:
        try:
            async with self._open(request) as response:
                raw = await response.read()
        except _TRANSPORT_ERRORS as e:
            raise Unavailable(f"{request.method} {request.path}: {e or type(e).__name__}") from e
        if response.status >= 400:
            raise _failure(raw, response.status)
        try:
            answer = orjson.loads(raw) if raw else {}
        except orjson.JSONDecodeError:
            answer = raw.decode(errors="replace")
        return answer if isinstance(answer, dict) else {"body": answer}

    async def watch(self, request: Request) -> AsyncIterator[WatchEvent]:
        try:
            async with self._open(request) as response:
                if response.status >= 400:
                    raise _failure(await response.read(), response.status)
                buffer = b""
                async for chunk in response.content.iter_any():
                    *lines, buffer = (buffer + chunk).split(b"\n")
                    for line in lines:
                        if not line.strip():
                            continue
                        event = orjson.loads(line)
                        if event["type"] == "ERROR":
                            raise error_for(event["object"], event["object"].get("code") or 500)
                        yield WatchEvent(event["type"], event["object"])
        except _TRANSPORT_ERRORS as e:
            raise Unavailable(f"watch {request.path}: {e or type(e).__name__}") from e

    async def close(self) -> None:
        await self._session.close()


def _failure(raw: bytes, code: int) -> ApiError:
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        body = {"message": raw.decode(errors="replace")[:1000]}
    return error_for(body if isinstance(body, dict) else {"message": str(body)}, code)
