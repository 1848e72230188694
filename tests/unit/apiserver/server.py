"""The real API server on the memory store, called in this process; for tests of what needs the whole chain."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from stablehand.apiserver.app import ApiServer
from stablehand.apiserver.contract import Request, Response, User
from stablehand.apiserver.core import ServerConfig
from stablehand.store.memory import MemoryBackend

ADMIN = User("admin", ("system:masters", "system:authenticated"))


@cache
def key() -> bytes:
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


class Server:
    """`warnings` are those of the last call."""

    def __init__(self, api: ApiServer) -> None:
        self.api = api
        self.warnings: list[str] = []

    async def call(
        self,
        method: str,
        path: str,
        obj: Any = None,
        *,
        content_type: str = "application/json",
        user: User = ADMIN,
        query: dict[str, str] | None = None,
    ) -> tuple[int, dict[str, Any]]:
        """The status code and the object of the answer."""
        request = Request(
            method, path, query or {}, {"User-Agent": "test"}, b"", obj, content_type, user, in_process=True
        )
        answer = await self.api.handle(request)
        assert isinstance(answer, Response)
        self.warnings = request.warnings
        return answer.code, answer.obj

    async def made(self, path: str, obj: dict[str, Any]) -> dict[str, Any]:
        code, out = await self.call("POST", path, obj)
        assert code == 201, out
        return out

    async def refused(self, method: str, path: str, obj: Any = None, **more: Any) -> dict[str, Any]:
        code, out = await self.call(method, path, obj, **more)
        assert code >= 400, out
        return out


@asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    api = ApiServer(MemoryBackend(), ServerConfig(), key())
    await api.start()
    try:
        yield Server(api)
    finally:
        await api.stop()
