"""Host ports' UDP connections, and forwarding that several Stablehands on one machine share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stablehand.node import network
from stablehand.node.config import NodeConfig
from stablehand.node.network import HostPort, Network, udp_ends

OWN = ("127.0.0.1", "10.0.0.1")


def entries(address: str, *ports: HostPort) -> dict[tuple[str, str], str]:
    return {("hairpin", f"{address} . {address}"): ""} | {p.element(): f"{address} . {p.inner}" for p in ports}


def test_udp_connections_are_led_as_the_entries_are_now() -> None:
    everywhere = entries("10.244.0.5", HostPort("udp", "", 53, 5353), HostPort("tcp", "", 80, 8080))
    there = entries("10.244.0.6", HostPort("udp", "10.0.0.1", 53, 53))
    a, b = ("10.244.0.5", 5353), ("10.244.0.6", 53)
    assert udp_ends(everywhere, [everywhere], OWN) == {(o, 53): frozenset({a}) for o in OWN}
    # An entry for one address goes before that for all; when it goes, the other has that address too.
    assert udp_ends(everywhere, [everywhere, there], OWN)["10.0.0.1", 53] == frozenset({b})
    assert udp_ends(there, [everywhere, there], OWN) == {("10.0.0.1", 53): frozenset({b})}
    assert udp_ends(there, [everywhere], OWN) == {("10.0.0.1", 53): frozenset({a})}
    assert udp_ends(everywhere, [], OWN) == {(o, 53): frozenset() for o in OWN}


async def test_forwarding_is_put_back_by_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forward, before = tmp_path / "ip_forward", tmp_path / "before"
    forward.write_text("0")
    tables: set[str] = set()

    async def program(*command: str, stdin: str = "") -> tuple[int, str]:
        words = stdin.split()
        if "list" in command:
            return 0, "\n".join(f"table ip {t}" for t in sorted(tables))
        if words[:2] == ["add", "table"]:
            (tables.discard if "table" not in stdin.partition("delete")[2].partition("\n")[2] else tables.add)(words[3])
        return 0, ""

    monkeypatch.setattr(network, "_FORWARD", forward)
    monkeypatch.setattr(network, "_FORWARD_BEFORE", before)
    monkeypatch.setattr(network, "run_program", program)
    made = []
    for name in ("b0", "b1"):
        config: Any = NodeConfig(
            client=None,  # type: ignore[arg-type]
            data_dir=tmp_path / name,
            run_dir=tmp_path / f"r{name}",
            bridge=name,
        )
        one = Network(config)
        one._nft = "nft"
        await one.setup()
        made.append(one)
    assert forward.read_text() == "1" and tables == {"b0_node", "b1_node"}
    await made[0].teardown()
    assert forward.read_text() == "1" and before.exists()
    await made[1].teardown()
    assert forward.read_text() == "0" and not before.exists()


async def test_a_pod_that_comes_before_its_predecessor_is_gone_has_the_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel: dict[str, str] = {}

    async def program(*_: str, stdin: str = "") -> tuple[int, str]:
        for line in stdin.splitlines():
            verb, _, rest = line.partition(" element ip ")
            key, _, value = rest.partition("{ ")[2].removesuffix(" }").partition(" : ")
            if (verb == "add") == (key in kernel):
                return 1, "File exists" if verb == "add" else "No such file or directory"
            kernel[key] = value
            if verb == "delete":
                del kernel[key]
        return 0, ""

    monkeypatch.setattr(network, "run_program", program)
    monkeypatch.setattr(network, "clear_udp", lambda _wanted: 0)
    config = NodeConfig(client=None, data_dir=tmp_path, run_dir=tmp_path, bridge="b")  # type: ignore[arg-type]
    one = Network(config)
    one._nft = "nft"
    port = HostPort("udp", "", 53, 5353)
    await one.open_ports("old", "10.244.0.5", [port, HostPort("tcp", "", 80, 80)])
    await one.open_ports("new", "10.244.0.6", [port])
    assert kernel["udp . 53"] == "10.244.0.6 . 5353"
    await one.close_ports("old")
    assert kernel == {"10.244.0.6 . 10.244.0.6": "", "udp . 53": "10.244.0.6 . 5353"}
    await one.close_ports("new")
    assert kernel == {}
