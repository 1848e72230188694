"""The state file, what is remembered of the pods' network, and the memory that all of it takes."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest

from stablehand.launch import state
from stablehand.launch.config import Paths, UpConfig
from stablehand.launch.errors import LaunchError
from stablehand.launch.supervisor import take_lock


def test_only_the_process_that_wrote_it_counts(tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    assert state.read_state(paths) is None
    mine = {"pid": os.getpid(), "process_start": state.process_start(os.getpid())}
    paths.state.write_text(json.dumps(mine))
    assert state.read_state(paths) == mine
    paths.state.write_text(json.dumps({**mine, "process_start": 1}))
    assert state.read_state(paths) is None
    for damaged in ("", "[]", "{}", '{"pid": "x"}'):
        paths.state.write_text(damaged)
        assert state.read_state(paths) is None


def test_a_network_with_pods_is_not_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = UpConfig(paths=Paths(tmp_path / "data"), bridge="shone", pod_cidr="10.1.0.0/24")
    monkeypatch.setattr(UpConfig, "run_dir", property(lambda c: tmp_path / c.bridge))
    state.make_root(config.paths)
    assert state.remembered_network(config.paths) == {}
    state.remember_network(config)
    assert state.remembered_network(config.paths) == {"bridge": "shone", "pod_cidr": "10.1.0.0/24"}
    other = dataclasses.replace(config, bridge="shtwo")
    (tmp_path / "shone").mkdir()
    config.containerd_socket.touch()
    state.remember_network(config)
    with pytest.raises(LaunchError, match="--bridge shone"):
        state.remember_network(other)
    config.containerd_socket.unlink()
    state.remember_network(other)
    assert state.remembered_network(config.paths)["bridge"] == "shtwo"


def test_who_holds_a_lock(tmp_path: Path) -> None:
    path = tmp_path / "data" / "lock"
    assert state.lock_holder(path) is None
    fd = take_lock(path)
    try:
        assert state.lock_holder(path) == os.getpid()
        with pytest.raises(LaunchError, match=f"process {os.getpid()}"):
            take_lock(path)
    finally:
        os.close(fd)
    assert state.lock_holder(path) is None  # what a killed process leaves behind is no lock


def test_memory_counts_only_our_own_processes(tmp_path: Path) -> None:
    for pid, words, size in (
        (1, "python3 -m stablehand up", 60),
        (2, "/usr/bin/containerd --config /data/node/containerd.toml", 40),
        (3, "/usr/bin/containerd-shim-runc-v2 -address /run/sh/containerd.sock", 10),
        (4, "/usr/bin/containerd-shim-runc-v2 -address /run/sh/containerd.sock", 11),
        (5, "/usr/bin/containerd --config /etc/containerd/config.toml", 99),
        (6, "/usr/bin/containerd-shim-runc-v2 -address /run/containerd/containerd.sock", 99),
    ):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "cmdline").write_bytes(words.replace(" ", "\0").encode())
        (tmp_path / str(pid) / "status").write_text(f"Name: x\nVmRSS:\t{size * 1024} kB\n")
    found = state.memory({"pid": 1, "node_dir": "/data/node", "run_dir": "/run/sh", "nfs_dir": None}, tmp_path)
    assert found == {"stablehand": 60.0, "containerd": 40.0, "containerd-shim": 21.0}
