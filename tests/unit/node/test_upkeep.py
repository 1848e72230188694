"""What is put right when somebody takes parts of the pods' network away, and whose links are removed at the end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stablehand.node import network as module
from stablehand.node import upkeep
from stablehand.node.config import NodeConfig
from stablehand.node.network import HostPort, Network
from stablehand.node.state import Sandbox
from stablehand.node.upkeep import Upkeep
from tests.unit.node.pods import make_pod, observed, record, settled

Answer = Callable[[tuple[str, ...], str], str]


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Programs and what they were fed, in order; there are no nft tables."""
    found: list[str] = []

    async def run_program(*command: str, stdin: str = "") -> tuple[int, str]:
        found.append(f"{' '.join(command[1:])} {stdin}")
        return 0, "table ip others"

    monkeypatch.setattr(module, "run_program", run_program)
    monkeypatch.setattr(module.shutil, "which", lambda name: name)
    return found


def make_network(tmp_path: Path) -> Network:
    config: Any = NodeConfig(client=None, data_dir=tmp_path / "d", run_dir=tmp_path / "r", bridge="b0")  # type: ignore[arg-type]
    return Network(config)


async def test_a_deleted_table_comes_back_with_its_host_ports(tmp_path: Path, ran: list[str]) -> None:
    network = make_network(tmp_path)
    await network.open_ports("u1", "10.0.0.5", [HostPort("tcp", "", 8080, 80)])
    await network.mend_table()
    written = ran[-1]
    assert "table ip b0_node {" in written
    assert "add element ip b0_node hostports { tcp . 8080 : 10.0.0.5 . 80 }" in written
    assert "add element ip b0_node hairpin { 10.0.0.5 . 10.0.0.5 }" in written


async def test_only_links_of_addresses_that_we_lent_are_removed(
    tmp_path: Path, ran: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another Stablehand on this machine may use the same network."""
    network = make_network(tmp_path)
    monkeypatch.setattr(module, "routes", lambda: {"10.244.0.2": "veth1", "10.244.0.3": "veth2", "10.244.0.4": "eth0"})
    leases = tmp_path / "d" / "cni" / "addresses" / "stablehand"
    leases.mkdir(parents=True)
    for address in ("10.244.0.2", "10.244.0.4"):
        (leases / address).touch()
    await network.teardown()
    assert "link del veth1\n" in ran[0] and "veth2" not in ran[0] and "eth0" not in ran[0]


@pytest.mark.parametrize(("veth", "mended"), [("lo", True), ("gone0", False), ("", False)])
async def test_a_pod_gets_its_route_again_or_another_sandbox(
    tmp_path: Path, ran: list[str], monkeypatch: pytest.MonkeyPatch, veth: str, mended: bool
) -> None:
    async def link(_: str) -> str:
        return veth

    monkeypatch.setattr(upkeep, "routes", dict)
    told: list[str] = []
    node = SimpleNamespace(
        network=make_network(tmp_path),
        runtime=SimpleNamespace(sandbox_link=link),
        event=lambda pod, kind, reason, text: told.append(reason),
    )
    worker: Any = SimpleNamespace(
        node=node,
        pod=make_pod(),
        observed=observed(record("c")),
        memory=settled(),
        key=("ns", "web-0"),
        gone=False,
        finished=False,
        wake=lambda: None,
    )
    await Upkeep(SimpleNamespace(node=node, workers={}))._mend_pod(worker)  # type: ignore[arg-type]
    assert worker.observed.sandbox.ready is mended
    assert told == ([] if mended else ["PodNetworkLost"])
    assert ("route replace 10.0.0.5 dev lo scope host" in "".join(ran)) is mended


def test_pods_that_have_no_network_of_their_own_now_are_left_alone() -> None:
    def has(box: Sandbox, **memory: Any) -> bool:
        worker: Any = SimpleNamespace(observed=observed(), memory=settled(**memory), gone=False, finished=False)
        worker.observed.sandboxes = [box]
        return upkeep._has_network(worker)

    ready = Sandbox("s0", 0, True, 0.0, "10.0.0.5")
    assert has(ready)
    assert not has(ready, terminating=True) and not has(ready, sandbox_busy=True)
    assert not has(Sandbox("s0", 0, False, 0.0, "10.0.0.5")) and not has(Sandbox("s0", 0, True, 0.0))
