"""Supervises Stablehand's own containerd: configuration, start, adoption of a running one, readiness, stop.

containerd and its shims run in a session of their own, so that pods outlive Stablehand. What runs in containerd is
the worker's business; images are `images`', the pod network `network`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from stablehand.node.config import PAUSE_IMAGE, NodeConfig, NodeError
from stablehand.node.files import filesystem_type, write_atomic, write_if_changed

log = logging.getLogger("stablehand.node.containerd")

_OVERLAY, _TMPFS = 0x794C7630, 0x01021994
_DISABLED = (
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.internal.v1.opt",
    "io.containerd.internal.v1.restart",
    "io.containerd.internal.v1.tracing",
    "io.containerd.tracing.processor.v1.otlp",
    "io.containerd.monitor.v1.cgroups",
    "io.containerd.nri.v1.nri",
)
_LOG_LIMIT = 8 << 20
_START_SECONDS = 30
_PLUGINS = ("ptp", "host-local", "loopback")


def find_plugins(config: NodeConfig) -> Path:
    """The folder of CNI plugins."""
    places = [config.cni_bin_dir] if config.cni_bin_dir else [Path("/usr/lib/cni"), Path("/opt/cni/bin")]
    for place in places:
        if place and all((place / name).exists() for name in _PLUGINS):
            return place
    raise NodeError(
        f"CNI plugins not found in {' or '.join(str(p) for p in places)}: apt-get install containernetworking-plugins"
    )


def find_programs() -> str:
    """The path of containerd. Raises NodeError for what is missing."""
    for name, package in (("containerd", "containerd"), ("runc", "runc"), ("ctr", "containerd"), ("ip", "iproute2")):
        if shutil.which(name) is None:
            raise NodeError(f"{name} not found on the PATH: apt-get install {package}")
    if os.geteuid() != 0:
        raise NodeError("running containers needs root: start Stablehand with sudo, or with --no-node")
    return str(shutil.which("containerd"))


def render_config(config: NodeConfig, plugins: Path, snapshotter: str) -> str:
    """containerd's configuration (version 2, for 1.6 and 1.7; 2.x reads it too). JSON strings are valid TOML."""
    q = json.dumps
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    return f"""version = 2
root = {q(str(config.data_dir / "containerd"))}
state = {q(str(config.run_dir / "containerd"))}
oom_score = 0
disabled_plugins = {q(list(_DISABLED))}

[debug]
  level = "warn"

[grpc]
  address = {q(str(config.socket))}

[{cri}]
  sandbox_image = {q(PAUSE_IMAGE)}
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  stream_idle_timeout = "4h0m0s"
  stats_collect_period = 600
  netns_mounts_under_state_dir = true
  tolerate_missing_hugetlb_controller = true
  disable_hugetlb_controller = true
  max_concurrent_downloads = 5
  enable_unprivileged_ports = true
  enable_unprivileged_icmp = true

  [{cri}.cni]
    bin_dir = {q(str(plugins))}
    conf_dir = {q(str(config.data_dir / "cni" / "net.d"))}

  [{cri}.containerd]
    snapshotter = {q(snapshotter)}
    default_runtime_name = "runc"
    disable_snapshot_annotations = true

    [{cri}.containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"

      [{cri}.containerd.runtimes.runc.options]
        SystemdCgroup = false
        Root = {q(str(config.run_dir / "runc"))}

  [{cri}.registry]
    config_path = {q(str(config.data_dir / "certs.d"))}
"""


def registry_hosts(config: NodeConfig) -> dict[str, str]:
    """hosts.toml by registry, for mirrors and for registries spoken to over plain HTTP."""
    files: dict[str, str] = {}
    for registry, urls in config.mirrors.items():
        server = "https://registry-1.docker.io" if registry == "docker.io" else f"https://{registry}"
        lines = [f"server = {json.dumps(server)}"]
        for url in urls:
            lines += [f"[host.{json.dumps(url)}]", '  capabilities = ["pull", "resolve"]']
            if url.startswith("https://") and url.removeprefix("https://").split("/")[0] in config.insecure_registries:
                lines.append("  skip_verify = true")
        files[registry] = "\n".join(lines) + "\n"
    for registry in config.insecure_registries:
        if registry not in files:
            url = json.dumps(f"http://{registry}")
            files[registry] = f'server = {url}\n[host.{url}]\n  capabilities = ["pull", "resolve"]\n'
    return files


@dataclass(slots=True)
class _Running:
    """What the state file remembers of the containerd that was started."""

    pid: int
    start: str
    config: str
    binary: str

    def alive(self) -> bool:
        return self.start != "" and process_start(self.pid) == self.start


def process_start(pid: int) -> str:
    """The start time of a process in clock ticks, "" when there is none: with the pid it names a process for good."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    fields = stat[stat.rindex(")") + 2 :].split()
    return "" if fields[0] in "ZX" else fields[19]


def find_running(config: Path, proc: Path = Path("/proc")) -> _Running | None:
    """A containerd that runs with that configuration file, though nobody wrote it down: who started it was killed at
    that moment. Two on one folder would wait for each other."""
    for entry in proc.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                if Path(words[0]).name == "containerd" and words[1:3] == ["--config", str(config)]:
                    found = _Running(int(entry.name), process_start(int(entry.name)), "", "")
                    if found.alive():
                        return found
    return None


class Containerd:
    """One supervised containerd. `start` adopts or starts it, `watch` restarts it should it die, `stop` ends it."""

    def __init__(self, config: NodeConfig) -> None:
        self._config = config
        self._state = config.run_dir / "containerd.json"
        self._running: _Running | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.started_fresh = False

    @property
    def started(self) -> bool:
        """Whether `start` has been called, and not `stop` since."""
        return self._running is not None

    async def start(self) -> None:
        """Returns once the process runs; `ready` waits for its socket. Raises NodeError."""
        config = self._config
        binary = find_programs()
        text = render_config(config, find_plugins(config), self._snapshotter())
        for directory in (config.data_dir, config.data_dir / "containerd", config.run_dir, config.data_dir / "certs.d"):
            directory.mkdir(parents=True, exist_ok=True, mode=0o711)
        for registry, hosts in registry_hosts(config).items():
            write_if_changed(config.data_dir / "certs.d" / registry / "hosts.toml", hosts)
        path = config.data_dir / "containerd.toml"
        write_if_changed(path, text)
        stat = os.stat(binary)
        identity = f"{stat.st_size}-{stat.st_mtime_ns}"
        digest = hashlib.sha256(text.encode()).hexdigest()
        found = self._read_state()
        if found is None or not found.alive():
            found = find_running(path)
        if found is not None:
            if found.config == digest and found.binary == identity:
                log.info("containerd runs already (pid %s)", found.pid)
                self._running = found
                return
            log.info("containerd's configuration or program changed: restarting it, its containers go on")
            await self._end(found.pid, found.start)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(config.socket)
        self._spawn(binary, path, digest, identity)

    def _snapshotter(self) -> str:
        # overlayfs cannot have its upper directory on another overlay; tmpfs works from Linux 6.6 on only.
        return "native" if filesystem_type(self._config.data_dir) in (_OVERLAY, _TMPFS) else "overlayfs"

    def _read_state(self) -> _Running | None:
        try:
            return _Running(**json.loads(self._state.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def _spawn(self, binary: str, path: Path, digest: str, identity: str) -> None:
        log_path = self._config.data_dir / "containerd.log"
        if log_path.exists() and log_path.stat().st_size > _LOG_LIMIT:
            os.replace(log_path, f"{log_path}.1")
        with open(log_path, "ab") as out:
            self._process = subprocess.Popen(
                [binary, "--config", str(path)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                cwd="/",
            )
        pid = self._process.pid
        self._running = _Running(pid, process_start(pid), digest, identity)
        self.started_fresh = True
        write_atomic(self._state, json.dumps({k: getattr(self._running, k) for k in _Running.__slots__}).encode())
        log.info("started containerd (pid %s)", pid)

    @property
    def began(self) -> int:
        """When the process started, in clock ticks."""
        return int(self._running.start or 0) if self._running is not None else 0

    @property
    def alive(self) -> bool:
        return self._running is not None and self._running.alive()

    async def ready(self) -> None:
        """Returns when the socket answers. Raises NodeError with the end of containerd's log when it does not."""
        deadline = asyncio.get_running_loop().time() + _START_SECONDS
        delay = 0.002
        while True:
            try:
                with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                    probe.connect(str(self._config.socket))
                    return
            except OSError:
                pass
            if not self.alive:
                raise NodeError(f"containerd ended while starting: {self._log_tail()}")
            if asyncio.get_running_loop().time() > deadline:
                raise NodeError(f"containerd did not answer within {_START_SECONDS} s: {self._log_tail()}")
            await asyncio.sleep(delay)
            delay = min(delay * 1.2, 0.05)

    def _log_tail(self) -> str:
        try:
            lines = (self._config.data_dir / "containerd.log").read_text(errors="replace").splitlines()
        except OSError:
            lines = []
        worst = [
            line for line in lines[-40:] if "level=fatal" in line or "level=error" in line or "containerd:" in line
        ]
        return "; ".join((worst or lines)[-3:]) + f" (see {self._config.data_dir / 'containerd.log'})"

    async def died(self) -> None:
        """Returns when the supervised process has ended."""
        if self._running is None:
            return
        await wait_for_exit(self._running.pid, self._running.start)
        if self._process is not None:
            self._process.poll()

    async def stop(self) -> None:
        """Ends containerd (its shims, and so the pods, go on)."""
        running = self._running or self._read_state()
        if running is not None and running.alive():
            await self._end(running.pid, running.start)
        self._running = None
        with contextlib.suppress(FileNotFoundError):
            self._state.unlink()

    async def _end(self, pid: int, start: str) -> None:
        os.kill(pid, signal.SIGTERM)
        try:
            await asyncio.wait_for(wait_for_exit(pid, start), 10)
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            await wait_for_exit(pid, start)
        if self._process is not None:
            self._process.poll()


async def wait_for_exit(pid: int, start: str) -> None:
    """Waits, without polling, for a process that need not be a child."""
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return
    try:
        if process_start(pid) != start:
            return
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        loop.add_reader(fd, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(fd)
    finally:
        os.close(fd)
