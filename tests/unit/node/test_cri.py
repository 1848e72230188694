"""How calls to the runtime end; a real gRPC server that never answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from stablehand.node.cri.client import CriError, Runtime


class Silent(grpc.GenericRpcHandler):
    """Takes every call and answers none."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    def service(self, details: Any) -> Any:
        async def wait(request: bytes, context: Any) -> bytes:
            self.asked.set()
            await asyncio.Event().wait()
            return b""

        return grpc.unary_unary_rpc_method_handler(wait)


@pytest.fixture
async def asked(tmp_path: Path) -> AsyncIterator[tuple[Runtime, asyncio.Task[Any]]]:
    """A runtime and a call to it that is under way."""
    server, silent = grpc.aio.server(), Silent()
    server.add_generic_rpc_handlers((silent,))
    server.add_insecure_port(f"unix:{tmp_path}/s")
    await server.start()
    runtime = Runtime(tmp_path / "s")
    call = asyncio.create_task(runtime.exec_sync("c", ["true"], 60))
    async with asyncio.timeout(10):
        await silent.asked.wait()
    yield runtime, call
    await runtime.close()
    await server.stop(None)


async def test_closing_the_connection_does_not_cancel_who_waits_for_an_answer(
    asked: tuple[Runtime, asyncio.Task[Any]],
) -> None:
    """A probe, or a pod's worker, would end in silence, and the pod never be ready again or never be gone."""
    runtime, call = asked
    await runtime.close()
    with pytest.raises(CriError) as error:
        await call
    assert error.value.connection_lost


async def test_who_is_cancelled_is_cancelled(asked: tuple[Runtime, asyncio.Task[Any]]) -> None:
    _, call = asked
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
