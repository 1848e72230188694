"""A real `stablehand up` per module, and the real kubectl against it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.hollow import Api, Kubelet

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


class Cluster:
    """A running Stablehand; `kubectl` runs the real one against it."""

    def __init__(self, data_dir: Path, *flags: str) -> None:
        from kubectl import kubectl  # type: ignore[import-not-found]

        self.data_dir = data_dir
        self.kubectl_path = kubectl(ROOT / ".cache" / "bin")
        self.flags = flags
        self.port = free_port()
        self.start()

    def start(self) -> None:
        read_end, write_end = os.pipe()
        self.log = open(self.data_dir.with_suffix(".log"), "ab")  # noqa: SIM115
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "stablehand", "up", "--data-dir", str(self.data_dir)),
                *("--ready-fd", str(write_end), "--listen", f"127.0.0.1:{self.port}", *self.flags),
            ],
            pass_fds=(write_end,),
            stdout=self.log,
            stderr=self.log,
        )
        os.close(write_end)
        with os.fdopen(read_end, "rb") as pipe:
            if pipe.read() != b"ok\n":
                raise RuntimeError(self.data_dir.with_suffix(".log").read_text())

    def stop(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)
        self.process.wait(60)
        self.log.close()

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "KUBECONFIG": str(self.data_dir / "kubeconfig.yaml"), "HOME": str(self.data_dir.parent)}

    def kubectl(self, *args: str, check: bool = True, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [self.kubectl_path, *args],
            capture_output=True,
            text=True,
            env=self.environment,
            input=stdin,
            timeout=120,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"kubectl {' '.join(args)}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def start_kubectl(self, *args: str, **streams: Any) -> subprocess.Popen[bytes]:
        """A kubectl that goes on beside the test, which ends it."""
        return subprocess.Popen([self.kubectl_path, *args], env=self.environment, **streams)

    def get(self, *args: str) -> Any:
        return json.loads(self.kubectl("get", *args, "-o", "json").stdout)

    def until(self, condition: Callable[[], Any], seconds: float = 60.0) -> Any:
        """Waits for a condition on the cluster; its true value."""
        deadline = time.monotonic() + seconds
        while True:
            value = condition()
            if value:
                return value
            if time.monotonic() > deadline:
                raise AssertionError(
                    f"not within {seconds} s; events:\n{self.kubectl('get', 'events', '-A', check=False).stdout}"
                )
            time.sleep(0.05)


@pytest.fixture(scope="module")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Everything but a node."""
    cluster = Cluster(tmp_path_factory.mktemp("cp") / "data", "--no-node")
    try:
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope="module")
def api(request: pytest.FixtureRequest, control_plane: Cluster) -> Api:
    """Plain requests to the control plane; with the namespace that the module names as NAMESPACE."""
    made = Api(control_plane.data_dir / "kubeconfig.yaml")
    if namespace := getattr(request.module, "NAMESPACE", ""):
        made.namespace(namespace)
    return made


@pytest.fixture(scope="module")
def kubelet(api: Api) -> Iterator[Kubelet]:
    """Plays two nodes."""
    made = Kubelet(api, "one", "two")
    yield made
    made.close()


@pytest.fixture(scope="module")
def node_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """All parts, with containers; torn down to the last mount and rule, also when a test fails."""
    if os.geteuid() != 0:
        pytest.skip("running containers needs root")
    cache = ROOT / ".cache" / "images"
    if not (cache / "httpd.tar").exists():
        from stablehand.launch.imagebuild import build

        cache.mkdir(parents=True, exist_ok=True)
        build("httpd", cache)
    data = tmp_path_factory.mktemp("n") / "data"
    (data / "node" / "images").mkdir(parents=True)
    os.link(cache / "httpd.tar", data / "node" / "images" / "httpd.tar")
    where = ["--bridge", "shtest0", "--pod-cidr", "10.246.0.0/24"]
    try:
        yield Cluster(data, *where, "--kubelet-port", "10270")
    finally:
        command = [sys.executable, "-m", "stablehand", "down", "--pods", "--data-dir", str(data), *where]
        subprocess.run(command, check=True, timeout=120)
