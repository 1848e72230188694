"""The command `stablehand` as a user runs it: real processes, their exit status and the lines they print."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.integration.conftest import ROOT, free_port

_AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="a node needs root")
_NODE = ("--bridge", "shcli0", "--pod-cidr", "10.243.9.0/24", "--kubelet-port", "10284")


def stablehand(*args: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stablehand", *args],
        capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **(env or {})},
    )  # fmt: skip


def fails(done: subprocess.CompletedProcess[str], says: str, code: int = 1) -> None:
    """Asserts one clear line on stderr and the exit status."""
    assert done.returncode == code, done.stdout + done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert says in done.stderr


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    """(data directory, port) of a control plane started with --detach."""
    data, port = tmp_path_factory.mktemp("cli") / "data", free_port()
    done = stablehand("up", "--no-node", "--detach", "--data-dir", str(data), "--listen", f"127.0.0.1:{port}")
    assert done.returncode == 0, done.stderr
    assert "API server answers on" in done.stdout
    assert "ready in" in done.stdout
    assert "export KUBECONFIG=" in done.stdout
    try:
        yield data, port
    finally:
        down = stablehand("down", "--data-dir", str(data))
        assert (down.returncode, down.stdout) == (0, "stopped\n")
        assert stablehand("down", "--data-dir", str(data)).stdout == "it was not running\n"
        assert stablehand("status", "--data-dir", str(data)).returncode == 1


def test_a_second_up_says_that_one_runs(running: tuple[Path, int]) -> None:
    data, _ = running
    for more in ([], ["--detach"]):
        done = stablehand("up", "--no-node", "--data-dir", str(data), "--listen", f"127.0.0.1:{free_port()}", *more)
        fails(done, "runs already")
        assert "stablehand down" in done.stderr


def test_status(running: tuple[Path, int]) -> None:
    data, port = running
    done = stablehand("status", "--data-dir", str(data))
    assert done.returncode == 0, done.stderr
    shown = dict(line.split(None, 1) for line in done.stdout.splitlines())
    assert shown["parts"] == "apiserver, controllers, scheduler"
    assert shown["ports"] == f"API server 127.0.0.1:{port}"
    assert shown["kubernetes"].startswith("v1.36")
    assert shown["store"] == "sqlite"
    assert (shown["node"], shown["pods"]) == ("none", "none")
    assert " MB (stablehand " in shown["memory"]


def test_status_of_a_stale_or_damaged_data_directory(running: tuple[Path, int], tmp_path: Path) -> None:
    data, _ = running
    (tmp_path / "kubeconfig.yaml").write_bytes((data / "kubeconfig.yaml").read_bytes())
    state = json.loads((data / "state.json").read_text())
    (tmp_path / "state.json").write_text(json.dumps({**state, "process_start": 1}))
    assert "does not run" in stablehand("status", "--data-dir", str(tmp_path)).stdout  # the pid is another's
    (tmp_path / "state.json").write_text(json.dumps(state))
    (tmp_path / "kubeconfig.yaml").write_text("127.0.0.1")
    fails(stablehand("status", "--data-dir", str(tmp_path)), "no kubeconfig")


def test_merged_kubeconfig_works_with_kubectl(running: tuple[Path, int], tmp_path: Path) -> None:
    data, _ = running
    target = tmp_path / ".kube" / "config"
    target.parent.mkdir()
    target.write_text(yaml.safe_dump({"users": [{"name": "admin", "user": {"token": "theirs"}}]}))
    env = {"HOME": str(tmp_path), "KUBECONFIG": ""}
    done = stablehand("kubeconfig", "--merge", "--data-dir", str(data), env=env)
    assert done.stdout == f"context stablehand is now the current one in {target}\n", done.stderr
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert yaml.safe_load(target.read_text())["users"][0] == {"name": "admin", "user": {"token": "theirs"}}
    from kubectl import kubectl  # type: ignore[import-not-found]

    asked = subprocess.run(
        [kubectl(ROOT / ".cache" / "bin"), "auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"],
        capture_output=True, text=True, env={**os.environ, **env}, timeout=30, check=False,
    )  # fmt: skip
    assert asked.stdout == "kubernetes-admin", asked.stderr
    printed = stablehand("kubeconfig", "--data-dir", str(data))
    assert printed.stdout == (data / "kubeconfig.yaml").read_text()


def test_a_damaged_users_kubeconfig_is_left_alone(running: tuple[Path, int], tmp_path: Path) -> None:
    target = tmp_path / "config"
    target.write_text("{[")
    done = stablehand("kubeconfig", "--merge", "--data-dir", str(running[0]), env={"KUBECONFIG": str(target)})
    fails(done, str(target))
    assert target.read_text() == "{["


def test_what_up_refuses(running: tuple[Path, int], tmp_path: Path) -> None:
    _, port = running
    data = tmp_path / "data"
    fails(_up(data, port), f"cannot listen for the API server on 127.0.0.1 port {port}: Address already in use")
    fails(stablehand("up", "--no-node", "--data-dir", "/dev/null/x"), "cannot use the data directory /dev/null/x")
    fails(stablehand("up", "--no-node", "--nfs", "/srv", "--data-dir", str(data)), "leave out --no-node")
    (data / "state.db").write_bytes(b"no database" * 1000)
    fails(_up(data), "state.db cannot be read as Stablehand's database")
    assert (data / "state.db").read_bytes() == b"no database" * 1000
    (data / "state.db").unlink()
    with contextlib.closing(sqlite3.connect(data / "state.db")) as db, db:
        db.execute("CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID")
        db.execute("INSERT INTO meta VALUES ('format', 99)")
    fails(_up(data), "use the newer Stablehand")
    (data / "state.db").unlink()
    for key in ("ca.key", "sa.key", "front-proxy/ca.key"):
        whole = (data / "pki" / key).read_bytes()
        (data / "pki" / key).write_text("not a key")
        fails(_up(data), "the authority in")
        (data / "pki" / key).write_bytes(whole)
    # What the authority can make anew is made anew.
    (data / "pki" / "apiserver.crt").write_text("not a certificate")
    (data / "pki" / "admin.key").write_text("not a key")
    started = _up(data, None, "--detach")
    assert stablehand("down", "--data-dir", str(data)).stdout == "stopped\n", started.stderr


def _up(data: Path, port: int | None = None, *more: str) -> subprocess.CompletedProcess[str]:
    return stablehand("up", "--no-node", "--data-dir", str(data), "--listen", f"127.0.0.1:{port or free_port()}", *more)


def test_clients_without_a_server_or_a_kubeconfig(tmp_path: Path) -> None:
    for command in (["status"], ["down"], ["kubeconfig"], ["kubeconfig", "--part", "dns"]):
        done = stablehand(*command, "--data-dir", str(tmp_path / "none"))
        assert (done.returncode, "Traceback" in done.stderr) == (1, False)
        assert "none" in done.stderr + done.stdout
    (tmp_path / "bad").write_text("x: [")
    for part in ("controllers", "scheduler", "dns"):
        fails(stablehand(part, "--kubeconfig", str(tmp_path / "absent")), "No such file")
        fails(stablehand(part, "--kubeconfig", str(tmp_path / "bad")), "not YAML")
    fails(stablehand("controllers", "--controllers", "unicorn"), "there is no 'unicorn'")
    fails(stablehand("image", "load", str(tmp_path / "absent.tar"), "--data-dir", str(tmp_path)), "no such file")


def test_version_and_doctor(tmp_path: Path) -> None:
    assert "(Kubernetes v1.36" in stablehand("version").stdout
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = stablehand("doctor", "--listen", f"127.0.0.1:{port}", "--data-dir", str(tmp_path))
    assert done.returncode == 1
    assert f"({os.getpid()}) on 127.0.0.1" in done.stdout
    assert f"sudo kill {os.getpid()}" in done.stdout
    bare = stablehand("doctor", "--data-dir", str(tmp_path), env={"PATH": "/nonexistent"})
    assert "optional" in bare.stdout or "ok        mmdebstrap" in bare.stdout


def test_sigterm_ends_up_at_once_though_a_client_watches(tmp_path: Path) -> None:
    data, port = tmp_path / "data", free_port()
    assert _up(data, port, "--detach").returncode == 0
    pid = json.loads((data / "state.json").read_text())["pid"]
    from kubectl import kubectl

    watch = subprocess.Popen(
        [kubectl(ROOT / ".cache" / "bin"), "get", "namespaces", "-w", "-o", "name", "--kubeconfig", data / "kubeconfig.yaml"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert watch.stdout is not None
    watch.stdout.readline()
    handle = os.pidfd_open(pid)
    began = time.monotonic()
    signal.pidfd_send_signal(handle, signal.SIGTERM)
    import select

    assert select.select([handle], [], [], 10)[0]
    took = time.monotonic() - began
    os.close(handle)
    watch.communicate(timeout=10)
    assert took < 1.0
    assert not (data / "state.json").exists()


@_AS_ROOT
def test_a_node_that_cannot_start_says_why(tmp_path: Path) -> None:
    data = tmp_path / "data"
    command = ("up", "--data-dir", str(data), "--listen", f"127.0.0.1:{free_port()}", *_NODE)
    try:
        fails(stablehand(*command, env={"PATH": "/nonexistent"}), "node failed: containerd not found")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            taken.setsockopt(socket.SOL_IP, 15, 1)  # IP_FREEBIND: the bridge is not there yet
            taken.bind(("10.243.9.1", 53))
            done = stablehand(*command)
        fails(done, "dns failed: cannot listen for DNS on 10.243.9.1 port 53: Address already in use")
    finally:
        down = stablehand("down", "--pods", "--data-dir", str(data))
    assert down.returncode == 0, down.stderr
    assert subprocess.run(["ip", "link", "show", "shcli0"], capture_output=True, check=False).returncode != 0


@_AS_ROOT
def test_down_ends_a_node_agent_that_runs_alone(running: tuple[Path, int], tmp_path: Path) -> None:
    data = tmp_path / "node"
    kubeconfig = stablehand("kubeconfig", "--part", "node", "--data-dir", str(running[0])).stdout.strip()
    command = ("node", "--kubeconfig", kubeconfig, "--data-dir", str(data), *_NODE)
    agent = subprocess.Popen([sys.executable, "-m", "stablehand", *command], stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 20
        while not (data / "network.json").exists():
            assert agent.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert str(agent.pid) in stablehand("status", "--data-dir", str(data)).stdout
        fails(stablehand(*command), "runs already")
    finally:
        down = stablehand("down", "--pods", "--data-dir", str(data))  # knows the bridge by itself
    assert (down.returncode, down.stdout) == (0, "stopped; pods and their network are gone\n"), down.stderr
    assert agent.wait(10) == 0
    assert subprocess.run(["ip", "link", "show", "shcli0"], capture_output=True, check=False).returncode != 0


def test_without_root_a_node_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stablehand.cli.main import main

    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for argv in (["up", "--data-dir", str(tmp_path)], ["node", "--data-dir", str(tmp_path)]):
        with pytest.raises(SystemExit) as end:
            main(argv)
        assert end.value.code == 1
