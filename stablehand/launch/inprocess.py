"""The transport of parts that share a process with the API server: the same chain, no sockets, no TLS, no encoding.

The caller's identity is fixed when the transport is made; authorization and admission apply as to anyone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from stablehand.apiserver.app import ApiServer
from stablehand.apiserver.contract import Request as ServerRequest
from stablehand.apiserver.contract import Response, User, WatchResponse
from stablehand.client import Client, Request, WatchEvent, error_for
from stablehand.machinery.types import Obj


class InProcessTransport:
    """Objects it returns are the server's own: shared, not to be changed."""

    def __init__(self, server: ApiServer, user: User, user_agent: str) -> None:
        self._server = server
        self._user = user
        self._headers = {"User-Agent": user_agent, "Accept": "application/json"}

    async def _answer(self, request: Request) -> Any:
        return await self._server.handle(
            ServerRequest(
                request.method,
                request.path,
                request.query,
                self._headers,
                b"",
                request.body,
                request.content_type,
                self._user,
                in_process=True,
            )
        )

    async def send(self, request: Request) -> Obj:
        answer = await self._answer(request)
        if not isinstance(answer, Response):
            raise TypeError(f"{request.method} {request.path} cannot be answered within the process")
        if answer.code >= 400:
            raise error_for(answer.obj, answer.code)
        return answer.obj

    async def watch(self, request: Request) -> AsyncIterator[WatchEvent]:
        answer = await self._answer(request)
        if isinstance(answer, Response):
            raise error_for(answer.obj, answer.code)
        assert isinstance(answer, WatchResponse)
        watcher, shape = answer.watcher, answer.shape
        try:
            while batch := await watcher.next():
                if answer.prepare is not None:
                    await answer.prepare([event.entry for kind, event in batch if kind != "BOOKMARK"])
                for kind, event in batch:
                    shaped = shape is not None and kind != "BOOKMARK"
                    yield WatchEvent(kind, shape(event.entry) if shape is not None and shaped else event.entry.obj)
            if watcher.failure is not None:
                raise error_for(watcher.failure.status(), watcher.failure.code)
        finally:
            watcher.close()

    async def close(self) -> None:
        return None


def in_process_client(server: ApiServer, user: str, groups: tuple[str, ...] = (), *, manager: str) -> Client:
    """A client for one part; `user` is who RBAC sees, `manager` its field manager."""
    return Client(InProcessTransport(server, User(user, (*groups, "system:authenticated")), manager), manager)
