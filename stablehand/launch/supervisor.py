"""Starts the parts in order, keeps them running, stops them. What the parts are is `parts`'s.

Parts are imported when they start: what answers the first request does not wait for what runs pods.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import importlib
import json
import logging
import os
import signal
import socket
import ssl
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from stablehand import __version__
from stablehand.aiokit.sockets import open_socket
from stablehand.launch.config import Paths, UpConfig
from stablehand.launch.errors import LaunchError, cause, is_expected, one_line
from stablehand.launch.pki import Pki, write_kubeconfig
from stablehand.launch.state import make_root, process_start, remember_network, unusable
from stablehand.launch.stores import make_backend, store_text

log = logging.getLogger("stablehand.launch")

_STOP_SECONDS, _STOP_PODS_SECONDS = 10, 120

T = TypeVar("T")
Progress = Callable[[str], None]


def take_lock(path: Path) -> int:
    """An exclusive lock on the data directory, held until the process ends. Raises LaunchError when one runs already."""
    make_root(Paths(path.parent))
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as e:
        raise unusable(path.parent, e) from e
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        pid = os.read(fd, 32).decode().strip()
        os.close(fd)
        raise LaunchError(
            f"Stablehand runs already on {path.parent} (process {pid}): `stablehand status` shows it, `stablehand down` stops it"
        ) from None
    os.ftruncate(fd, 0)
    os.write(fd, str(os.getpid()).encode())
    return fd


def listen(host: str, port: int, *, free: bool = False) -> socket.socket:
    """A bound TCP socket; `free` for the bridge's address, before the bridge exists. Raises LaunchError with the address
    in its text."""
    try:
        return open_socket(socket.SOCK_STREAM, host, port, "the API server", free=free)
    except OSError as e:
        way = "stop what uses it (`ss -ltnp` shows it) or give" if e.errno == errno.EADDRINUSE else "give another"
        raise LaunchError(f"{e.strerror}; {way} --listen") from e


class Supervisor:
    def __init__(self, config: UpConfig, progress: Progress = lambda line: None, *, alone: bool = False) -> None:
        """`alone`: the API server and nothing else."""
        self.config = config
        self._alone = alone
        self._progress = progress
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._started = time.monotonic()
        self.stopping = asyncio.Event()
        self.node_ready = asyncio.Event()
        self._exported = asyncio.Event()
        self.parts: list[str] = []

    def _say(self, line: str) -> None:
        self._progress(f"{time.monotonic() - self._started:6.2f} s  {line}")

    async def run(self, on_ready: Callable[[], None] = lambda: None) -> None:
        """Runs everything until `stopping` is set. Raises LaunchError, or the error of a part that cannot go on."""
        lock = take_lock(self.config.paths.lock)
        try:
            await self._run(on_ready)
        finally:
            with contextlib.suppress(FileNotFoundError):
                self.config.paths.state.unlink()
            os.close(lock)

    async def _run(self, on_ready: Callable[[], None]) -> None:
        config = self.config
        if config.node:
            remember_network(config)
        pki = open_pki(config.paths.pki)
        sockets = [listen(*config.listen)]
        port = sockets[0].getsockname()[1]
        reachable = config.node and config.listen[0] not in ("0.0.0.0", "::")
        if reachable:
            sockets.append(listen(config.gateway, port, free=True))
        containerd = await self._start_containerd(pki) if config.node else None
        answering = None
        try:
            answering = await self._unless_stopped(self._api_server(pki, sockets, port))
        finally:
            if answering is None and containerd is not None and containerd.started_fresh:
                await containerd.stop()
        if answering is None:
            return
        server, front = answering
        self._write_kubeconfig(pki, port)
        self._say(f"API server answers on https://{_shown(config.listen[0])}:{port}")
        try:
            if not self._alone:
                await self._start_parts(server, pki, containerd)
            self._write_state(port)
            if config.node:
                await self._until(self.node_ready)
                if self.node_ready.is_set():
                    self._say(f"node {config.node_name} is Ready")
                if config.nfs is not None:
                    await self._until(self._exported)
                    if self._exported.is_set():
                        self._say(f"{config.nfs} is exported on {config.gateway}")
            if not self.stopping.is_set():
                on_ready()
            stop = asyncio.create_task(self.stopping.wait())
            while not stop.done():
                await asyncio.wait([stop, *self._tasks.values()], return_when="FIRST_COMPLETED")
                self._raise_failed()
        finally:
            await self._stop_parts()
            await front.stop()
            await server.stop()

    async def _unless_stopped(self, work: Coroutine[Any, Any, T]) -> T | None:
        """What `work` gives; None where `stopping` came first (a store may take its time to answer)."""
        task, stop = asyncio.create_task(work), asyncio.create_task(self.stopping.wait())
        await asyncio.wait([task, stop], return_when="FIRST_COMPLETED")
        stop.cancel()
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            return None
        return task.result()

    async def _until(self, event: asyncio.Event) -> None:
        """Waits for the event, or `stopping`. Raises what ended a part meanwhile."""
        waits = [asyncio.create_task(e.wait()) for e in (event, self.stopping)]
        try:
            await asyncio.wait([*waits, *self._tasks.values()], return_when="FIRST_COMPLETED")
        finally:
            for wait in waits:
                wait.cancel()
        self._raise_failed()

    async def _api_server(self, pki: Pki, sockets: list[socket.socket], port: int) -> tuple[Any, Any]:
        from stablehand.apiserver.app import ApiServer
        from stablehand.apiserver.core import ServerConfig
        from stablehand.apiserver.front import HttpFront
        from stablehand.store.contract import StoreError

        config = self.config
        # An authority of its own: what it certifies may speak in anybody's name.
        front_proxy = open_pki(config.paths.pki / "front-proxy")
        proxy_crt, proxy_key = front_proxy.certificate("front-proxy-client", "front-proxy-client")
        kubelet_crt, kubelet_key = pki.certificate("apiserver-kubelet-client", "kube-apiserver-kubelet-client")
        settings = ServerConfig(
            service_cidr=config.service_cidr,
            cluster_domain=config.cluster_domain,
            issuer=f"https://kubernetes.default.svc.{config.cluster_domain}",
            advertise_address=config.gateway if config.node else reachable_address(config.listen[0]),
            advertise_port=port,
            ca_pem=pki.ca_pem,
            kubelet_cert=str(kubelet_crt),
            kubelet_key=str(kubelet_key),
            proxy_cert=str(proxy_crt),
            proxy_key=str(proxy_key),
            proxy_ca_pem=front_proxy.ca_pem,
        )
        server = ApiServer(make_backend(config.store, config.paths.database), settings, pki.signing_key())
        try:
            await server.start()
        except StoreError as e:
            await server.stop()
            raise LaunchError(str(e)) from e
        front = HttpFront(server, serving_context(pki, config))
        await front.start(sockets)
        self.parts.append("apiserver")
        return server, front

    def _write_kubeconfig(self, pki: Pki, port: int) -> None:
        crt, key = pki.certificate("admin", "kubernetes-admin", ("system:masters",))
        host = _shown(self.config.listen[0])
        write_kubeconfig(self.config.paths.kubeconfig, f"https://{host}:{port}", pki.ca_file, crt, key)

    async def _start_containerd(self, pki: Pki) -> Any:
        """Ahead of everything that has to be loaded, which it takes as long to get ready as."""
        from stablehand.launch.nodeconfig import node_config
        from stablehand.node import NodeError, start_containerd

        try:
            return await start_containerd(node_config(self.config, pki, None))
        except NodeError as e:
            raise LaunchError(f"node failed: {one_line(e)}") from e

    async def _start_parts(self, server: Any, pki: Pki, containerd: Any) -> None:
        from stablehand.launch import parts

        events = parts.Milestones(self.node_ready, self._exported)
        # What is imported aside gives way to the loop at once, or each of its many short steps waits for 5 ms.
        interval = sys.getswitchinterval()
        sys.setswitchinterval(0.0002)
        try:
            for part in parts.all_parts(self.config, server, pki, events, containerd):
                await asyncio.to_thread(importlib.import_module, part.module)
                self._spawn(part.name, part.run())
        finally:
            sys.setswitchinterval(interval)

    def _spawn(self, name: str, work: Awaitable[None]) -> None:
        self._tasks[name] = asyncio.ensure_future(work)
        self._tasks[name].set_name(name)
        self.parts.append(name)

    def _raise_failed(self) -> None:
        for name, task in self._tasks.items():
            if task.done() and not task.cancelled():
                error = task.exception()
                if error is None:
                    raise LaunchError(f"{name} ended unexpectedly")
                error = cause(error)
                if isinstance(error, LaunchError):
                    raise error
                if not is_expected(error):
                    log.error("%s failed", name, exc_info=error)
                raise LaunchError(f"{name} failed: {one_line(error)}") from error

    async def _stop_parts(self) -> None:
        """All at once, but the storage last: the node may still have to unmount what it serves."""
        seconds = _STOP_PODS_SECONDS if self.config.stop_pods else _STOP_SECONDS
        last = {name: task for name, task in self._tasks.items() if name == "provisioner"}
        for tasks in ({n: t for n, t in self._tasks.items() if n not in last}, last):
            for task in tasks.values():
                task.cancel()
            if tasks:
                ended, late = await asyncio.wait(tasks.values(), timeout=seconds)
                for task in late:
                    log.warning("%s did not stop within %s s", task.get_name(), seconds)
                for task in ended:
                    if not task.cancelled() and (error := task.exception()) is not None:
                        log.debug("%s ended with an error", task.get_name(), exc_info=error)

    def _write_state(self, port: int) -> None:
        state = {
            "pid": os.getpid(),
            "process_start": process_start(os.getpid()),
            "version": __version__,
            "listen": f"{self.config.listen[0]}:{port}",
            "parts": self.parts,
            "store": store_text(self.config.store),
            "node": self.config.node_name if self.config.node else None,
            "kubelet_port": self.config.kubelet_port if self.config.node else None,
            "dns": f"{self.config.gateway}:53" if self.config.node else None,
            "node_dir": str(self.config.paths.node) if self.config.node else None,
            "run_dir": str(self.config.run_dir) if self.config.node else None,
            "nfs": str(self.config.nfs) if self.config.nfs else None,
            "nfs_dir": str(self.config.paths.nfs) if self.config.nfs else None,
            "started": time.time(),
        }
        fresh = self.config.paths.state.with_suffix(".new")
        fresh.write_text(json.dumps(state))
        fresh.replace(self.config.paths.state)


def _shown(host: str) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{host}]" if ":" in host else host


def open_pki(folder: Path) -> Pki:
    """An authority and its certificates; what is missing is made. Raises LaunchError for damaged keys."""
    try:
        return Pki(folder)
    except (OSError, ValueError) as e:
        raise LaunchError(
            f"the authority in {folder} cannot be read ({one_line(e)}): restore ca.crt, ca.key and sa.key, or remove "
            "them to have new ones made (what they certified is then void)"
        ) from e


def reachable_address(host: str) -> str:
    """Where clients find a server that listens on `host`: for all addresses, the one that the default route uses."""
    if host not in ("0.0.0.0", "::"):
        return host
    family, far = (socket.AF_INET6, "2001:db8::1") if host == "::" else (socket.AF_INET, "192.0.2.1")
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((far, 9))  # UDP: nothing is sent
        except OSError:
            return "::1" if host == "::" else "127.0.0.1"
        return str(probe.getsockname()[0])


def serving_context(pki: Pki, config: UpConfig) -> ssl.SSLContext:
    """TLS of the API server: its own certificate, client certificates asked for and checked."""
    hosts = (
        "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
        f"kubernetes.default.svc.{config.cluster_domain}", config.node_name, "127.0.0.1", "::1",
        config.kubernetes_ip, config.gateway,
        *((config.listen[0],) if config.listen[0] not in ("0.0.0.0", "::") else local_addresses()),
    )  # fmt: skip
    crt, key = pki.certificate("apiserver", "kube-apiserver", hosts=hosts, server=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(crt, key)
    context.load_verify_locations(pki.ca_file)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.set_alpn_protocols(["http/1.1"])
    return context


def local_addresses() -> tuple[str, ...]:
    """This machine's own addresses, for certificates of servers that listen on all of them."""
    found = set()
    with contextlib.suppress(OSError):
        for _, _, _, _, address in socket.getaddrinfo(socket.gethostname(), None):
            found.add(str(address[0]).partition("%")[0])
    return tuple(sorted(found))


def stop_on_signals(supervisor: Supervisor) -> None:
    """SIGINT and SIGTERM set `stopping`; a second one ends the process at once."""
    loop = asyncio.get_running_loop()

    def stop() -> None:
        if supervisor.stopping.is_set():
            os._exit(130)
        supervisor.stopping.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
