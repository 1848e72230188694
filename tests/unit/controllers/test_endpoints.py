"""Endpoints and EndpointSlices of Services."""

from __future__ import annotations

from typing import Any

import pytest

from stablehand.controllers.endpoints import EndpointsController
from stablehand.controllers.endpointslice import EndpointSliceController, EndpointSliceMirroringController
from stablehand.machinery import endpoints as rules
from stablehand.machinery.resources import resource
from stablehand.machinery.types import copy_object
from tests.unit.controllers.fakes import FakeServer, settle
from tests.unit.controllers.harness import running

PODS, SERVICES, NODES = resource("pods"), resource("services"), resource("nodes")


def service(**spec: Any) -> dict[str, Any]:
    spec = {
        "selector": {"app": "web"},
        "clusterIP": "None",
        "ports": [{"name": "http", "port": 80, "targetPort": "web"}],
        **spec,
    }
    return {"metadata": {"name": "web", "namespace": "ns", "labels": {"team": "a"}}, "spec": spec}


class World:
    def __init__(self) -> None:
        self.server = FakeServer()
        self.client = self.server.client()
        self.count = 0

    def run(self) -> Any:
        return running(self.server, EndpointsController, EndpointSliceController, EndpointSliceMirroringController)

    async def pod(self, name: str, *, ready: bool = True, node: str = "n") -> None:
        self.count += 1
        container = {"name": "c", "ports": [{"name": "web", "containerPort": 8080}]}
        spec = {"containers": [container], "hostname": name, "subdomain": "web", "nodeName": node}
        await self.client.create(
            PODS, {"metadata": {"name": name, "namespace": "ns", "labels": {"app": "web"}}, "spec": spec}
        )
        self.set(name, ready=ready)

    def set(self, name: str, *, ready: bool = True, phase: str = "Running") -> None:
        pod = copy_object(self.server.objects["pods"][("ns", name)])
        conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
        ip = (
            f"10.0.{self.count // 200}.{self.count % 200}" if not pod["status"].get("podIP") else pod["status"]["podIP"]
        )
        pod["status"] = {"phase": phase, "podIP": ip, "conditions": conditions}
        self.server._store("MODIFIED", PODS, pod)

    def subsets(self) -> list[dict[str, Any]]:
        found = self.server.objects.get("endpoints", {}).get(("ns", "web")) or {}
        return found.get("subsets") or []

    def addresses(self, field: str = "addresses") -> list[str]:
        return [a["hostname"] for s in self.subsets() for a in s.get(field) or ()]

    def slices(self) -> list[dict[str, Any]]:
        return list(self.server.objects.get("endpointslices.discovery.k8s.io", {}).values())

    def endpoints(self) -> dict[str, dict[str, bool]]:
        return {e["hostname"]: e["conditions"] for s in self.slices() for e in s["endpoints"]}


@pytest.fixture
async def world() -> World:
    world = World()
    await world.client.create(NODES, {"metadata": {"name": "n"}, "spec": {}})
    return world


async def test_ready_and_not(world: World) -> None:
    async with world.run():
        await world.client.create(SERVICES, service())
        await world.pod("web-0")
        await world.pod("web-1", ready=False)
        await settle(lambda: world.addresses() == ["web-0"] and world.addresses("notReadyAddresses") == ["web-1"])
        assert world.subsets()[0]["ports"] == [{"name": "http", "port": 8080, "protocol": "TCP"}]
        await settle(lambda: len(world.endpoints()) == 2)
        assert world.endpoints()["web-0"] == {"ready": True, "serving": True, "terminating": False}
        assert not world.endpoints()["web-1"]["ready"]
        labels = world.slices()[0]["metadata"]["labels"]
        assert labels["kubernetes.io/service-name"] == "web" and labels["service.kubernetes.io/headless"] == ""
        world.set("web-0", phase="Failed")
        await settle(lambda: world.addresses() == [] and list(world.endpoints()) == ["web-1"])
        await world.client.delete(SERVICES, "web", "ns")
        await settle(lambda: not world.server.objects["endpoints"])


async def test_unready_published(world: World) -> None:
    async with world.run():
        await world.client.create(SERVICES, service(publishNotReadyAddresses=True, ports=[]))
        await world.pod("web-0", ready=False, node="missing")
        await settle(lambda: world.addresses() == ["web-0"] and "web-0" in world.endpoints())
        assert world.endpoints()["web-0"] == {"ready": True, "serving": False, "terminating": False}
        assert "ports" not in world.subsets()[0]


async def test_terminating_stay_in_slices_only(world: World) -> None:
    async with world.run():
        await world.client.create(SERVICES, service())
        await world.pod("web-0")
        await settle(lambda: world.addresses() == ["web-0"])
        await world.client.delete(PODS, "web-0", "ns")
        await settle(lambda: world.addresses() == [] and world.endpoints()["web-0"]["terminating"])
        assert world.endpoints()["web-0"] == {"ready": False, "serving": True, "terminating": True}


async def test_slices_of_a_hundred_and_placeholder(world: World) -> None:
    async with world.run():
        await world.client.create(SERVICES, service())
        await settle(lambda: len(world.slices()) == 1)
        assert world.slices()[0]["endpoints"] == [] and world.slices()[0]["ports"] == []
        for i in range(120):
            await world.pod(f"web-{i}")
        await settle(lambda: len(world.endpoints()) == 120)
        assert max(len(s["endpoints"]) for s in world.slices()) <= 100


async def test_hints_for_near_traffic(world: World) -> None:
    node = copy_object(world.server.objects["nodes"][("", "n")])
    node["metadata"]["labels"] = {"topology.kubernetes.io/zone": "z"}
    world.server._store("MODIFIED", NODES, node)
    async with world.run():
        for wanted in (None, "PreferClose", "PreferSameNode"):
            made = service(**({"trafficDistribution": wanted} if wanted else {}))
            if wanted is None:
                await world.client.create(SERVICES, made)
                await world.pod("a")
                await world.pod("b", ready=False)
            else:
                old = world.server.objects["services"][("ns", "web")]
                world.server._store("MODIFIED", SERVICES, copy_object({**old, "spec": made["spec"]}))
            zones, nodes = {"forZones": [{"name": "z"}]}, {"forNodes": [{"name": "n"}]}
            near = {None: None, "PreferClose": zones, "PreferSameNode": zones | nodes}[wanted]

            def is_told(near: Any = near) -> bool:
                hints = {e["hostname"]: e.get("hints") for s in world.slices() for e in s["endpoints"]}
                return hints == {"a": near, "b": None}

            await settle(is_told)


async def test_mirrored(world: World) -> None:
    async with world.run():
        await world.client.create(SERVICES, service(selector=None))
        subset = {"addresses": [{"ip": "192.0.2.1"}], "ports": [{"port": 5, "protocol": "TCP"}]}
        last = "kubectl.kubernetes.io/last-applied-configuration"
        metadata = {"name": "web", "namespace": "ns", "annotations": {last: "x", "note": "y"}}
        endpoints = {"metadata": metadata, "subsets": [subset]}
        await world.client.create(resource("endpoints"), endpoints)
        await settle(lambda: [e["addresses"] for s in world.slices() for e in s["endpoints"]] == [["192.0.2.1"]])
        assert world.slices()[0]["metadata"]["annotations"] == {"note": "y"}


async def test_the_change_that_was_waited_for_is_told(world: World) -> None:
    key = rules.LAST_CHANGE
    made, ready = "2026-01-01T00:00:00Z", "2026-01-01T00:00:09Z"

    def told() -> list[str | None]:
        found = [*world.server.objects.get("endpoints", {}).values(), *world.slices()]
        return [(o["metadata"].get("annotations") or {}).get(key) for o in found]

    async with world.run():
        new = service()
        new["metadata"]["creationTimestamp"] = made
        await world.client.create(SERVICES, new)
        await settle(lambda: len(told()) == 2)
        assert (
            world.server.objects["services"][("ns", "web")]["metadata"]["creationTimestamp"] == told()[0] == told()[1]
        )
        await world.pod("web-0", ready=False)
        await settle(lambda: world.addresses("notReadyAddresses") == ["web-0"] and "web-0" in world.endpoints())
        await settle(lambda: told() == [None, None])  # nothing was waited for
        pod = copy_object(world.server.objects["pods"][("ns", "web-0")])
        pod["status"]["conditions"] = [{"type": "Ready", "status": "True", "lastTransitionTime": ready}]
        world.server._store("MODIFIED", PODS, pod)
        await settle(lambda: told() == [ready, ready])


def test_earliest_news_is_told_once() -> None:
    def pod(name: str, since: str) -> dict[str, Any]:
        conditions = [{"type": "Ready", "status": "True", "lastTransitionTime": since}]
        return {"metadata": {"name": name}, "status": {"conditions": conditions}}

    times, one = rules.TriggerTimes(), {"metadata": {"name": "s", "namespace": "n", "creationTimestamp": "2"}}
    assert times.next(one, [pod("a", "4"), pod("b", "3")]) == "2"
    assert times.next(one, [pod("a", "4"), pod("b", "3")]) == ""
    assert times.next(one, [pod("a", "6"), pod("b", "5"), pod("c", "7")]) == "5"
    times.forget(("n", "s"))
    assert times.next(one, []) == "2"
