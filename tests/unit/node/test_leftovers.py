"""Which running tasks count as forgotten by the runtime."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stablehand.node import leftovers
from stablehand.node.config import NodeConfig
from stablehand.node.containerd import Containerd


@pytest.fixture
def config(tmp_path: Path) -> NodeConfig:
    return NodeConfig(client=None, data_dir=tmp_path / "d", run_dir=tmp_path / "r")  # type: ignore[arg-type]


async def test_only_what_the_runtime_cannot_be_making_is_forgotten(
    config: NodeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def boxes() -> Any:
        return [SimpleNamespace(id="box")]

    async def containers() -> Any:
        return [SimpleNamespace(id="inside")]

    killed: list[int] = []

    async def kill(pid: int) -> None:
        killed.append(pid)

    running = {
        "box": (10, 50),
        "inside": (0, 0),
        "stray": (0, 0),
        "old": (11, 99),
        "making": (12, 100),
        "hung": (13, 101),
    }
    monkeypatch.setattr(leftovers, "tasks", lambda _: running)
    monkeypatch.setattr(leftovers, "processes", lambda _, task: {1} if task == "stray" else set())
    monkeypatch.setattr(leftovers, "kill", kill)
    removed: list[str] = []
    monkeypatch.setattr(leftovers, "_remove_traces", lambda _, lost: removed.extend(sorted(lost)))
    runtime: Any = SimpleNamespace(sandboxes=boxes, containers=containers)
    assert await leftovers.clear(config, runtime, 100, {"hung"}) == {"making"}
    assert sorted(killed) == [1, 11, 13] and removed == ["hung", "old", "stray"]


async def test_addresses_of_forgotten_sandboxes_are_given_back(config: NodeConfig) -> None:
    async def boxes() -> Any:
        return [SimpleNamespace(id="box")]

    async def network(_: str) -> str:
        return str(places / "cni-used")

    places = config.run_dir / "containerd" / "io.containerd.grpc.v1.cri" / "netns"
    leases = config.data_dir / "cni" / "addresses" / "stablehand"
    for folder in (places, leases):
        folder.mkdir(parents=True)
    for name in ("cni-used", "cni-left"):
        (places / name).touch()
    for address, owner in (("10.0.0.2", "box"), ("10.0.0.3", "gone")):
        (leases / address).write_text(f"{owner}\r\neth0")
    (leases / "last_reserved_ip.0").write_text("10.0.0.3")
    runtime: Any = SimpleNamespace(sandboxes=boxes, sandbox_network=network)
    await leftovers.clear_networks(config, runtime)
    assert [p.name for p in places.iterdir()] == ["cni-used"]
    assert sorted(p.name for p in leases.iterdir()) == ["10.0.0.2", "last_reserved_ip.0"]


def test_a_containerd_that_nobody_wrote_down_is_found(config: NodeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who started it was killed before the state file was there: a second one would wait for the first for ever."""
    from stablehand.node import containerd

    proc = config.data_dir / "proc"
    (proc / "42").mkdir(parents=True)
    (proc / "42" / "cmdline").write_bytes(b"/usr/bin/containerd\0--config\0/etc/mine.toml\0")
    (proc / "self").mkdir()
    monkeypatch.setattr(containerd, "process_start", lambda pid: "7")
    found = containerd.find_running(Path("/etc/mine.toml"), proc)
    assert found is not None and (found.pid, found.start) == (42, "7")
    assert containerd.find_running(Path("/etc/others.toml"), proc) is None
    assert not Containerd(config).alive


def test_folders_are_told_by_their_pods(config: NodeConfig) -> None:
    from stablehand.node.agent import _pod_folders

    assert _pod_folders(config) == {}
    volumes, logs = config.pods_dir / "u1", config.logs_dir / "ns_web-0_u2"
    for folder in (volumes, logs):
        folder.mkdir(parents=True)
    assert _pod_folders(config) == {volumes: "u1", logs: "u2"}
