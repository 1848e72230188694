"""The node's HTTPS server, as kubelet's: logs, exec, attach, port-forward, pods, stats. The API server is its client.

Who may ask is `access`'s business, carrying upgraded connections `streams`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

from stablehand.machinery.times import parse_time
from stablehand.machinery.types import Obj
from stablehand.node import exposition, logs, stats
from stablehand.node.access import Access, AccessDenied
from stablehand.node.configz import configuration
from stablehand.node.cri.client import CriError
from stablehand.node.cri.pb import cri_pb2 as pb
from stablehand.node.plan import find_container
from stablehand.node.sandbox import log_directory
from stablehand.node.state import Record
from stablehand.node.streams import proxy_upgrade, require_upgrade
from stablehand.node.worker import PodWorker

if TYPE_CHECKING:
    from stablehand.node.agent import Agent

log = logging.getLogger("stablehand.node.server")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class KubeletServer:
    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._config = agent.config
        self._access = Access(agent.config)
        self._rates = stats.CpuRates()
        self._requests: set[asyncio.Task[Any]] = set()

    async def run(self) -> None:
        """Serves until cancelled. Without a certificate there is nothing to serve."""
        config = self._config
        if config.tls_cert is None or config.tls_key is None:
            log.info("no certificate for the node's server: logs and exec are not served")
            await asyncio.Event().wait()
            return
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(config.tls_cert, config.tls_key)
        if config.client_ca is not None:
            context.load_verify_locations(config.client_ca)
            context.verify_mode = ssl.CERT_OPTIONAL

        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._guard(request, handler)

        app = web.Application(middlewares=[guard])
        app.add_routes(self._routes())
        runner = web.AppRunner(
            app, access_log=None, handle_signals=False, handler_cancellation=True, shutdown_timeout=1
        )
        await runner.setup()
        try:
            for host in config.listen_addresses:
                await self._listen(runner, host, context)
            await asyncio.Event().wait()
        finally:
            # exec and logs -f end when their client does: the runner would wait for them in vain, twice its timeout.
            for task in tuple(self._requests):
                task.cancel()
            await runner.cleanup()

    async def _listen(self, runner: web.AppRunner, host: str, context: ssl.SSLContext) -> None:
        delay = 0.01
        while True:
            try:
                await web.TCPSite(runner, host, self._config.port, ssl_context=context).start()
                return
            except OSError as e:
                # The gateway address appears with the pod network, a few ms from now.
                if delay > 3:
                    log.error("cannot listen on %s:%s: %s", host, self._config.port, e.strerror)
                    return
            await asyncio.sleep(delay)
            delay *= 2

    def _routes(self) -> list[web.AbstractRouteDef]:
        pod, container = "/{namespace}/{pod}", "/{namespace}/{pod}/{container}"
        routes: list[web.AbstractRouteDef] = [
            web.get("/healthz", self._healthz),
            web.get("/healthz/ping", self._healthz),
            web.get("/pods", self._pods),
            web.get("/runningpods/", self._running_pods),
            web.get("/configz", self._configz),
            web.static("/logs", "/var/log", show_index=True),
            web.get("/stats/summary", self._stats),
            web.get("/metrics/resource", self._metrics),
            web.get("/metrics/cadvisor", self._cadvisor),
            web.get("/metrics/probes", self._probes),
            web.get("/metrics", self._own_metrics),
            web.get("/containerLogs" + container, self._logs),
            web.post("/run" + container, self._run),
            web.post("/run" + pod + "/{uid}/{container}", self._run),
        ]
        for method in ("GET", "POST"):
            for name, handler in (("exec", self._exec), ("attach", self._attach)):
                routes.append(web.route(method, f"/{name}{container}", handler))
                routes.append(web.route(method, f"/{name}{pod}/{{uid}}/{{container}}", handler))
            routes.append(web.route(method, "/portForward" + pod, self._port_forward))
            routes.append(web.route(method, "/portForward" + pod + "/{uid}", self._port_forward))
        return routes

    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        self._requests.add(task)
        try:
            await self._access.check(request)
            return await handler(request)
        except AccessDenied as e:
            return web.Response(status=e.code, text=str(e))
        except CriError as e:
            return web.Response(status=404 if e.code == "NOT_FOUND" else 500, text=e.message)
        finally:
            self._requests.discard(task)

    # -- finding

    def _worker(self, request: web.Request) -> PodWorker:
        info = request.match_info
        worker = self._agent.find(info["namespace"], info["pod"])
        if worker is None or info.get("uid", worker.uid) != worker.uid:
            raise web.HTTPNotFound(text=f'pod "{info["pod"]}" not found')
        return worker

    def _running(self, request: web.Request) -> Record:
        worker = self._worker(request)
        name = request.match_info["container"]
        if find_container(worker.pod, name) is None:
            raise web.HTTPNotFound(text=f'container "{name}" not found in pod "{request.match_info["pod"]}"')
        record = worker.observed.latest(name)
        if record is None or not record.running:
            raise web.HTTPNotFound(text=f"container not found ({name!r})".replace("'", '"'))
        return record

    # -- plain answers

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _configz(self, request: web.Request) -> web.Response:
        return web.Response(body=orjson.dumps(configuration(self._config)), content_type="application/json")

    async def _running_pods(self, request: web.Request) -> web.Response:
        """As the runtime has them: names, ids and images only."""
        items = []
        for worker in self._agent.workers.values():
            records = worker.observed.running()
            if not records:
                continue
            meta = {k: worker.pod["metadata"][k] for k in ("name", "namespace", "uid")}
            containers = [{"name": r.name, "image": r.image_id, "resources": {}} for r in records]
            items.append({"metadata": meta, "spec": {"containers": containers}, "status": {}})
        return web.Response(body=orjson.dumps(_pod_list(items)), content_type="application/json")

    async def _pods(self, request: web.Request) -> web.Response:
        items = [worker.pod for worker in self._agent.workers.values()]
        return web.Response(body=orjson.dumps(_pod_list(items)), content_type="application/json")

    async def _stats(self, request: web.Request) -> web.Response:
        summary = stats.summary(self._agent, await self._agent.runtime.container_stats(), self._rates)
        return web.Response(body=orjson.dumps(summary), content_type="application/json")

    async def _metrics(self, request: web.Request) -> web.Response:
        return _exposed(stats.metrics(self._agent, await self._agent.runtime.container_stats()))

    async def _cadvisor(self, request: web.Request) -> web.Response:
        return _exposed(exposition.cadvisor(self._agent, await self._agent.runtime.container_stats()))

    async def _probes(self, request: web.Request) -> web.Response:
        return _exposed(exposition.probes(self._agent))

    async def _own_metrics(self, request: web.Request) -> web.Response:
        return _exposed(exposition.kubelet(self._agent))

    # -- logs

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        worker, name = self._worker(request), request.match_info["container"]
        if find_container(worker.pod, name) is None:
            raise web.HTTPNotFound(text=f'container "{name}" not found in pod "{worker.key[1]}"')
        options = log_options(request, time.time())
        record = self._log_record(worker, name, _flag(request, "previous"))
        path = log_directory(self._config, worker.pod) / name / f"{record.attempt}.log"
        if not path.exists():
            raise web.HTTPNotFound(text=f"the log of container {name} is gone: {path}")
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        if options.follow and record.state in ("running", "created"):
            ended = asyncio.Event()
            waiter = asyncio.ensure_future(worker.exit_of(record))
            # The last lines reach the log a moment after the exit is told.
            loop = asyncio.get_running_loop()
            waiter.add_done_callback(lambda _: loop.call_later(0.1, ended.set))
            try:
                async for chunk in logs.follow_log(path, options, ended):
                    await response.write(chunk)
            except ConnectionError:
                pass
            finally:
                waiter.cancel()
        else:
            for chunk in logs.read_log(path, options):
                await response.write(chunk)
        with contextlib.suppress(ConnectionError):
            await response.write_eof()
        return response

    @staticmethod
    def _log_record(worker: PodWorker, name: str, previous: bool) -> Record:
        pod_name = worker.key[1]
        record = worker.observed.latest(name)
        if previous:
            # While the newest one has ended and waits for its restart, it is the previous one.
            trouble = worker.memory.waiting.get(name)
            if record is not None and not (record.state == "exited" and trouble is not None):
                record = worker.observed.previous(name)
            if record is None:
                raise web.HTTPBadRequest(text=f'previous terminated container "{name}" in pod "{pod_name}" not found')
            return record
        if record is None or record.state == "created":
            trouble = worker.memory.waiting.get(name)
            reason = trouble.reason if trouble is not None else "ContainerCreating"
            raise web.HTTPBadRequest(
                text=f'container "{name}" in pod "{pod_name}" is waiting to start: {_waiting_words(reason)}'
            )
        return record

    # -- streams

    async def _exec(self, request: web.Request) -> web.StreamResponse:
        require_upgrade(request)
        record, query = self._running(request), request.query
        demand = pb.ExecRequest(
            container_id=record.id,
            cmd=query.getall("command", []),
            tty=_flag(request, "tty"),
            stdin=_flag(request, "input", "stdin"),
            stdout=_flag(request, "output", "stdout"),
            stderr=_flag(request, "error", "stderr") and not _flag(request, "tty"),
        )
        return await proxy_upgrade(request, await self._agent.runtime.exec_url(demand))

    async def _attach(self, request: web.Request) -> web.StreamResponse:
        require_upgrade(request)
        record = self._running(request)
        demand = pb.AttachRequest(
            container_id=record.id,
            tty=_flag(request, "tty"),
            stdin=_flag(request, "input", "stdin"),
            stdout=_flag(request, "output", "stdout"),
            stderr=_flag(request, "error", "stderr") and not _flag(request, "tty"),
        )
        return await proxy_upgrade(request, await self._agent.runtime.attach_url(demand))

    async def _port_forward(self, request: web.Request) -> web.StreamResponse:
        require_upgrade(request)
        worker = self._worker(request)
        sandbox = worker.observed.sandbox
        if sandbox is None or not sandbox.ready:
            raise web.HTTPNotFound(text=f'pod "{worker.key[1]}" is not running')
        ports = [int(p) for value in request.query.getall("port", []) for p in value.split(",") if p.isdigit()]
        return await proxy_upgrade(request, await self._agent.runtime.port_forward_url(sandbox.id, ports))

    async def _run(self, request: web.Request) -> web.StreamResponse:
        record = self._running(request)
        command = request.query.getall("cmd", [])
        if not command:
            form = await request.post()
            command = [str(value) for value in form.getall("cmd", [])]
        words = command[0].split() if len(command) == 1 else command
        answer = await self._agent.runtime.exec_sync(record.id, words, 600)
        return web.Response(body=answer.stdout + answer.stderr, status=200 if answer.exit_code == 0 else 500)


def _pod_list(items: list[Obj]) -> Obj:
    return {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}


def _exposed(text: str) -> web.Response:
    return web.Response(body=text.encode(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


def _flag(request: web.Request, *names: str) -> bool:
    return any(request.query.get(name, "").lower() in ("1", "true") for name in names)


def _waiting_words(reason: str) -> str:
    words = {
        "ImagePullBackOff": "trying and failing to pull image",
        "ErrImagePull": "image can't be pulled",
        "ContainerCreating": "ContainerCreating",
    }
    return words.get(reason, reason)


def log_options(request: web.Request, now: float) -> logs.LogOptions:
    """Raises HTTPBadRequest for values that are none."""
    query = request.query
    try:
        since = 0.0
        if query.get("sinceTime"):
            since = parse_time(query["sinceTime"])
        elif query.get("sinceSeconds"):
            since = now - int(query["sinceSeconds"])
        return logs.LogOptions(
            follow=_flag(request, "follow"),
            tail_lines=int(query["tailLines"]) if query.get("tailLines") else -1,
            since=since,
            timestamps=_flag(request, "timestamps"),
            limit_bytes=int(query["limitBytes"]) if query.get("limitBytes") else -1,
            stream=query.get("stream") or "All",
        )
    except ValueError as e:
        raise web.HTTPBadRequest(text=f"invalid log options: {e}") from None
