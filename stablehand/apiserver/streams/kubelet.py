"""Connections to kubelets: TLS with the API server's client certificate, plain requests and upgrades."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from weakref import WeakKeyDictionary

import aiohttp

from stablehand.apiserver import errors
from stablehand.apiserver.contract import StatusError
from stablehand.apiserver.core import Core

_REASONS = {400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 503: "ServiceUnavailable"}
_MAX_HEAD = 64 * 1024
_sessions: WeakKeyDictionary[Core, aiohttp.ClientSession] = WeakKeyDictionary()


@lru_cache(maxsize=4)
def _context(cert: str, key: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # as upstream without --kubelet-certificate-authority
    if cert:
        context.load_cert_chain(cert, key)
    return context


def context(core: Core) -> ssl.SSLContext:
    return _context(core.config.kubelet_cert, core.config.kubelet_key)


def anonymous() -> ssl.SSLContext:
    """For servers that are no kubelets: our certificate is none of their business."""
    return _context("", "")


def session(core: Core) -> aiohttp.ClientSession:
    """The one HTTP client of this server, closed when the server stops."""
    found = _sessions.get(core)
    if found is None or found.closed:
        found = _sessions[core] = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        ending = found
        loop = asyncio.get_running_loop()
        tasks: list[asyncio.Task[None]] = []
        core.stopping.append(lambda: tasks.append(loop.create_task(ending.close())))
    return found


def refusal(code: int, text: str) -> StatusError:
    """The Status of an answer of the kubelet's that is a failure."""
    text = text.strip() or f"the kubelet answered {code}"
    if code in _REASONS:
        return StatusError(code, _REASONS[code], text)
    return errors.internal(text)


@dataclass(slots=True)
class Upgraded:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    headers: Mapping[str, str]


def host(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


async def connect(core: Core, address: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Raises StatusError."""
    try:
        async with asyncio.timeout(10):
            return await asyncio.open_connection(address, port, ssl=context(core), limit=1 << 18)
    except (OSError, TimeoutError) as e:
        raise errors.internal(f"error dialing backend: dial tcp {host(address, port)}: {e or 'i/o timeout'}") from None


async def upgrade_spdy(core: Core, address: str, port: int, path: str, protocols: list[str]) -> Upgraded:
    """Asks for SPDY/3.1 and answers the connection after the switch. Raises StatusError."""
    reader, writer = await connect(core, address, port)
    lines = [f"POST {path} HTTP/1.1", f"Host: {host(address, port)}", "Connection: Upgrade", "Upgrade: SPDY/3.1"]
    lines += [f"X-Stream-Protocol-Version: {p}" for p in protocols]
    lines += ["Content-Length: 0", "User-Agent: stablehand"]
    try:
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        async with asyncio.timeout(30):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            code = int(head[0].split(" ")[1])
            headers = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:])}
            if code == 101:
                return Upgraded(reader, writer, headers)
            body = await _body(reader, headers)
    except (OSError, EOFError, ValueError, IndexError, asyncio.LimitOverrunError, TimeoutError) as e:
        writer.close()
        raise errors.internal(f"error dialing backend: {e or type(e).__name__}") from None
    except BaseException:
        writer.close()
        raise
    writer.close()
    raise refusal(code, body.decode(errors="replace"))


async def _body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    with contextlib.suppress(asyncio.IncompleteReadError):
        return await reader.readexactly(min(int(headers.get("content-length", "0")), _MAX_HEAD))
    return b""
