"""DaemonSets: a pod for every suitable node; rolling updates within their limits."""

from __future__ import annotations

from typing import Any

import pytest

from stablehand.controllers.daemonset import DaemonSetController, placing
from stablehand.machinery.resources import resource
from tests.unit.controllers.fakes import FakeServer, Kubelet, settle
from tests.unit.controllers.harness import running

SETS, NODES, PODS = resource("daemonsets.apps"), resource("nodes"), resource("pods")


class NodeKubelet(Kubelet):
    def node_for(self, pod: dict[str, Any]) -> str:
        return placing.node_of(pod)


class World:
    def __init__(self) -> None:
        self.server = FakeServer()
        self.client = self.server.client()
        self.kubelet = NodeKubelet(self.server)

    def run(self) -> Any:
        return running(self.server, DaemonSetController, kubelet=self.kubelet)

    def places(self) -> list[str]:
        return sorted(placing.node_of(p) for p in self.server.objects.get("pods", {}).values())

    def status(self) -> dict[str, Any]:
        return self.server.objects["daemonsets.apps"][("ns", "ds")].get("status") or {}

    async def node(self, name: str, **spec: Any) -> None:
        await self.client.create(NODES, {"metadata": {"name": name, "labels": {"disk": name}}, "spec": spec})


def make(strategy: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "ds", "namespace": "ns"},
        "spec": {
            "selector": {"matchLabels": {"app": "d"}},
            "updateStrategy": strategy or {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}},
            "template": {
                "metadata": {"labels": {"app": "d"}},
                "spec": {"containers": [{"name": "c", "image": "i:1"}], **spec},
            },
        },
    }


async def test_every_suitable_node() -> None:
    world = World()
    async with world.run():
        for name in ("a", "b"):
            await world.node(name)
        await world.node("tainted", taints=[{"key": "k", "effect": "NoSchedule"}])
        await world.client.create(SETS, make())
        await settle(lambda: world.status().get("numberAvailable") == 2)
        assert world.places() == ["a", "b"]
        await world.node("c", unschedulable=True)
        await settle(lambda: world.status().get("numberReady") == 3)
        await world.client.patch(NODES, "a", {"spec": {"taints": [{"key": "k", "effect": "NoExecute"}]}})
        await settle(lambda: world.places() == ["b", "c"])


@pytest.mark.parametrize("rolling", [{"maxUnavailable": 1}, {"maxSurge": 1, "maxUnavailable": 0}])
async def test_rolling_update(rolling: dict[str, Any]) -> None:
    world = World()
    async with world.run():
        for name in ("a", "b", "c"):
            await world.node(name)
        await world.client.create(SETS, make({"type": "RollingUpdate", "rollingUpdate": rolling}))
        await settle(lambda: world.status().get("numberAvailable") == 3)
        patch = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "i:2"}]}}}}
        await world.client.patch(SETS, "ds", patch, "ns")
        await settle(
            lambda: (
                world.status().get("observedGeneration") == 2
                and world.status().get("updatedNumberScheduled") == 3
                and world.status().get("numberAvailable") == 3
                and len(world.places()) == 3
            )
        )
    assert {p["spec"]["containers"][0]["image"] for p in world.server.objects["pods"].values()} == {"i:2"}
    assert len(world.server.objects["controllerrevisions.apps"]) == 2


async def test_failed_pod_is_replaced() -> None:
    world = World()
    async with world.run():
        await world.node("a")
        await world.client.create(SETS, make())
        await settle(lambda: world.status().get("numberAvailable") == 1)
        ((namespace, name),) = world.server.objects["pods"]
        world.kubelet.make_ready(namespace, name, ready=False, phase="Failed")
        await settle(
            lambda: world.status().get("numberAvailable") == 1 and name not in dict(world.server.objects["pods"])
        )
