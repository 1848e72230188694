"""Cluster addresses and node ports: nobody gets what another has, and what is not used comes back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stablehand.apiserver.allocation import ServiceAllocator
from stablehand.apiserver.allocation.addresses import ADDRESSES, SERVICES, held
from stablehand.apiserver.contract import StatusError
from stablehand.apiserver.core import Core, ServerConfig
from stablehand.apiserver.registry import Registry
from stablehand.apiserver.storage.storage import Storage
from stablehand.store.memory import MemoryBackend


def service(name: str, **spec: Any) -> dict[str, Any]:
    spec.setdefault("type", "ClusterIP")
    spec.setdefault("ports", [{"port": 80, "protocol": "TCP"}])
    return {"metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}"}, "spec": spec}


@pytest.fixture
async def core() -> Core:
    made = Core(Storage(MemoryBackend()), Registry(), ServerConfig(service_cidr="10.9.0.0/28"))
    await made.storage.open()
    made.allocator = ServiceAllocator(made)
    return made


async def create(core: Core, obj: dict[str, Any]) -> dict[str, Any]:
    given = await core.allocator.allocate(SERVICES, obj, None, False)
    await core.storage.put(core.storage.collection(SERVICES), ("default", obj["metadata"]["name"]), obj, 0)
    assert given is not None
    await given.keep()
    return obj


def addresses(core: Core) -> set[str]:
    return {name for _, name in core.storage.collection(ADDRESSES).entries}


async def test_many_at_a_time_get_addresses_of_their_own(core: Core) -> None:
    made = await asyncio.gather(*(create(core, service(f"s{i}")) for i in range(14)))
    ips = [s["spec"]["clusterIP"] for s in made]
    assert len(set(ips)) == 14 and addresses(core) == set(ips)
    with pytest.raises(StatusError, match="range is full"):
        await create(core, service("one-too-many"))


async def test_an_undone_write_frees_only_its_own(core: Core) -> None:
    first = service("a", type="NodePort")
    given = await core.allocator.allocate(SERVICES, first, None, False)
    kept = await create(core, service("b", type="NodePort"))
    assert given is not None
    await given.undo()
    assert addresses(core) == {kept["spec"]["clusterIP"]}
    again = service("c", type="NodePort", ports=[{"port": 1, "nodePort": first["spec"]["ports"][0]["nodePort"]}])
    await create(core, again)
    taken = kept["spec"]["ports"][0]["nodePort"]
    with pytest.raises(StatusError, match="provided port is already allocated"):
        await create(core, service("d", type="NodePort", ports=[{"port": 1, "nodePort": taken}]))


async def test_protocols_of_one_port_share_a_node_port(core: Core) -> None:
    """In a new Service; a port that is added later gets one of its own."""

    def ports(*protocols: str) -> list[dict[str, Any]]:
        return [{"port": 53, "name": p.lower(), "protocol": p} for p in protocols]

    made = await create(core, service("a", type="NodePort", ports=[*ports("TCP", "UDP"), {"port": 80, "name": "http"}]))
    tcp, udp, http = (p["nodePort"] for p in made["spec"]["ports"])
    assert tcp == udp != http
    old = await create(core, service("b", type="NodePort", ports=ports("TCP")))
    new = {**old, "spec": {**old["spec"], "ports": [*old["spec"]["ports"], *ports("UDP")]}}
    assert await core.allocator.allocate(SERVICES, new, old, False) is not None
    first, second = (p["nodePort"] for p in new["spec"]["ports"])
    assert first != second


async def test_a_dry_run_holds_nothing(core: Core) -> None:
    obj = service("a", type="NodePort")
    assert await core.allocator.allocate(SERVICES, obj, None, True) is None
    assert obj["spec"]["clusterIP"] and obj["spec"]["ports"][0]["nodePort"] and not addresses(core)


@pytest.mark.parametrize(
    ("ip", "why"),
    [
        ("10.8.0.1", "the provided network does not match the current range"),
        ("10.9.0.5", "provided IP is already allocated"),
        ("nonsense", "not valid"),
    ],
)
async def test_an_address_asked_for(core: Core, ip: str, why: str) -> None:
    await create(core, service("a", clusterIP="10.9.0.5"))
    with pytest.raises(StatusError, match=why) as refused:
        await create(core, service("b", clusterIP=ip))
    assert refused.value.details and refused.value.details["causes"][0]["field"] == "spec.clusterIPs"


async def test_becoming_external_frees_the_address(core: Core) -> None:
    old = await create(core, service("a"))
    new = service("a", type="ExternalName", externalName="x", clusterIP=old["spec"]["clusterIP"])
    given = await core.allocator.allocate(SERVICES, new, old, False)
    assert given is not None and not held(new)
    await given.keep()
    assert not addresses(core)


async def test_repair_after_a_crash(core: Core) -> None:
    kept = await create(core, service("a"))
    lost = await create(core, service("b"))
    await core.storage.delete(
        core.storage.collection(SERVICES),
        ("default", "b"),
        core.storage.collection(SERVICES).revision(("default", "b")),
    )
    ip = kept["spec"]["clusterIP"]
    await core.allocator.addresses.give_back(ip, {"resource": "services", "namespace": "default", "name": "a"})
    assert addresses(core) == {lost["spec"]["clusterIP"]}
    await core.allocator.addresses.repair()
    assert addresses(core) == {ip}
