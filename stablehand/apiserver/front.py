"""The HTTP front: aiohttp's server under the handler chain. TLS, bodies, watches and upgrades; no API logic."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import logging
import socket
import ssl
import uuid
from typing import Any

import orjson
from aiohttp import web

from stablehand.apiserver import authn, errors, protobuf
from stablehand.apiserver.app import ApiServer
from stablehand.apiserver.contract import Request, Response, StatusError, Upgrade, User, WatchResponse
from stablehand.apiserver.verbs import present
from stablehand.apiserver.verbs.watch import bookmark

log = logging.getLogger("stablehand.http")

MAX_BODY = 3 * 1024 * 1024
BOOKMARK_EVERY = 60.0
_GZIP_FROM = 128 * 1024
# Request ids look like random UUIDs; making those would be a twentieth of a small request's time.
_PROCESS, _COUNT = str(uuid.uuid4())[:23], itertools.count(1)


class HttpFront:
    """Listens on one or more sockets. `start` returns once it accepts connections."""

    def __init__(self, server: ApiServer, context: ssl.SSLContext | None) -> None:
        self._server = server
        self._ssl = context
        self._runner = web.ServerRunner(
            web.Server(self._handle, access_log=None, tcp_keepalive=True, keepalive_timeout=3600.0),
            shutdown_timeout=1.0,
        )
        self._streams: set[asyncio.Task[Any]] = set()

    async def start(self, sockets: list[socket.socket]) -> None:
        await self._runner.setup()
        for sock in sockets:
            await web.SockSite(self._runner, sock, ssl_context=self._ssl, backlog=512).start()
        self._server.core.stopping.append(self._end_streams)

    def _end_streams(self) -> None:
        for task in tuple(self._streams):
            task.cancel()

    async def stop(self) -> None:
        self._end_streams()
        await self._runner.cleanup()

    async def _handle(self, http: web.BaseRequest) -> web.StreamResponse:
        try:
            request = await self._read(http)
            answer = await self._server.handle(request, _certificate_user(http))
        except StatusError as e:
            return web.Response(status=e.code, body=orjson.dumps(e.status()), content_type="application/json")
        except (asyncio.CancelledError, ConnectionResetError):
            raise
        except Exception as e:
            log.exception("%s %s failed", http.method, http.path)
            status = errors.internal(str(e) or type(e).__name__).status()
            return web.Response(status=500, body=orjson.dumps(status), content_type="application/json")
        if isinstance(answer, Response):
            return _plain(http, request, answer)
        task = asyncio.current_task()
        assert task is not None
        self._streams.add(task)
        self._server.metrics.streaming(request, 1)
        try:
            if isinstance(answer, Upgrade):
                result: web.StreamResponse = await answer.run(http)
                return result
            return await self._watch(http, request, answer)
        finally:
            self._streams.discard(task)
            self._server.metrics.streaming(request, -1)

    async def _read(self, http: web.BaseRequest) -> Request:
        raw = b""
        headers = http.headers
        if http.body_exists and "Upgrade" not in headers:
            if (http.content_length or 0) > MAX_BODY:
                raise errors.too_large()
            raw = await http.read()
            if len(raw) > MAX_BODY:
                raise errors.too_large()
        query = http.query
        return Request(
            http.method,
            http.path,
            query,
            headers,
            raw,
            None,
            headers.get("Content-Type", "application/json"),
            http=http,
            multi_query=lambda name: query.getall(name, []),
        )

    async def _watch(self, http: web.BaseRequest, request: Request, answer: WatchResponse) -> web.StreamResponse:
        core = self._server.core
        watcher, shape = answer.watcher, answer.shape
        res = request.info.resource
        packed = protobuf.wanted(http.headers.get("Accept", ""))
        if packed and res is not None and res.custom:
            packed = present.accepted(request)[0] == "PartialObjectMetadata"  # all that has a protobuf form of it
        media = protobuf.CONTENT_TYPE + ";stream=watch" if packed else "application/json"
        response = web.StreamResponse(headers={"Content-Type": media, **_headers(request)})
        response.enable_chunked_encoding()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + answer.timeout if answer.timeout else None
        bookmarks = request.flag("allowWatchBookmarks")
        websocket = None
        try:
            if http.headers.get("Upgrade", "").lower() == "websocket":
                websocket = web.WebSocketResponse(protocols=("binary.k8s.io",))
                await websocket.prepare(http)
            else:
                await response.prepare(http)
            while True:
                wait = BOOKMARK_EVERY if bookmarks else 3600.0
                if deadline is not None:
                    wait = min(wait, deadline - loop.time())
                    if wait <= 0:
                        break
                try:
                    async with asyncio.timeout(wait):
                        batch = await watcher.next()
                except TimeoutError:
                    if bookmarks and (deadline is None or deadline > loop.time()):
                        batch = [("BOOKMARK", bookmark(core, request))]
                    else:
                        continue
                if not batch:
                    if watcher.failure is None:
                        break
                    line = orjson.dumps({"type": "ERROR", "object": watcher.failure.status()}) + b"\n"
                    if websocket is not None:
                        await websocket.send_str(line.decode())
                    else:
                        await response.write(protobuf.frame(line) if packed else line)
                    break
                if answer.prepare is not None:
                    await answer.prepare([event.entry for kind, event in batch if kind != "BOOKMARK"])
                if shape is None:
                    lines = [event.line(kind) for kind, event in batch]
                else:
                    lines = [
                        event.line(kind)
                        if kind == "BOOKMARK"
                        else orjson.dumps({"type": kind, "object": shape(event.entry)}) + b"\n"
                        for kind, event in batch
                    ]
                if websocket is not None:
                    for line in lines:
                        await websocket.send_str(line.decode())
                else:
                    await response.write(b"".join(map(protobuf.frame, lines) if packed else lines))
        except (ConnectionResetError, ConnectionError):
            pass
        finally:
            watcher.close()
        if websocket is not None:
            await websocket.close()
            return websocket
        try:
            await response.write_eof()
        except (ConnectionResetError, ConnectionError):
            pass
        return response


def _certificate_user(http: web.BaseRequest) -> User | None:
    """The user of the connection's client certificate; read once a connection."""
    protocol: Any = http.protocol
    try:
        return protocol._stablehand_user
    except AttributeError:
        pass
    transport = http.transport
    user = authn.user_of_certificate(transport.get_extra_info("peercert")) if transport is not None else None
    try:
        protocol._stablehand_user = user
    except AttributeError:
        pass
    return user


def _headers(request: Request) -> dict[str, str]:
    headers = {"Cache-Control": "no-cache, private", "Audit-Id": _audit_id(request), **request.answer_headers}
    if request.warnings:
        headers["Warning"] = ", ".join(f'299 - "{_quoted(w)}"' for w in dict.fromkeys(request.warnings))
    return headers


def _audit_id(request: Request) -> str:
    """The request's id in logs on both sides: the client's own, or a new one."""
    return request.headers.get("Audit-ID", "")[:64] or f"{_PROCESS}-{next(_COUNT):012x}"


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")


def _plain(http: web.BaseRequest, request: Request, answer: Response) -> web.Response:
    headers = _headers(request)
    if answer.headers:
        headers.update(answer.headers)
    headers["Content-Type"] = answer.content_type
    body = answer.raw
    if answer.content_type == "application/json" and protobuf.wanted(http.headers.get("Accept", "")):
        packed = protobuf.encode(answer.obj)
        if packed is not None:
            body, headers["Content-Type"] = packed, protobuf.CONTENT_TYPE
    if (
        len(body) >= _GZIP_FROM
        and "Content-Encoding" not in headers
        and "gzip" in http.headers.get("Accept-Encoding", "")
    ):
        body = gzip.compress(body, 1)
        headers["Content-Encoding"] = "gzip"
    if http.method == "HEAD":
        body = b""
    response = web.Response(status=answer.code, body=body, headers=headers)
    if request.warnings and len(headers["Warning"]) > 4096:
        del response.headers["Warning"]
        for warning in dict.fromkeys(request.warnings):
            response.headers.add("Warning", f'299 - "{_quoted(warning)[:1024]}"')
    return response
