"""Pods get nodes: filters and their messages, waiting for changes, claims, priorities, preemption."""

from __future__ import annotations

from typing import Any

import pytest

from stablehand.machinery.resources import resource
from stablehand.machinery.volumes import BIND_COMPLETED, SELECTED_NODE
from stablehand.scheduler import Scheduler
from tests.unit.controllers.fakes import FakeServer, settle
from tests.unit.controllers.harness import running

PODS, NODES = resource("pods"), resource("nodes")
CLAIMS, CLASSES = resource("persistentvolumeclaims"), resource("storageclasses.storage.k8s.io")


def node(name: str, cpu: str = "2", labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    allocatable = {"cpu": cpu, "memory": "4Gi", "pods": "110"}
    labels = {"kubernetes.io/hostname": name, **(labels or {})}
    return {"metadata": {"name": name, "labels": labels}, "spec": spec, "status": {"allocatable": allocatable}}


def pod(name: str, cpu: str = "100m", labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}
    return {
        "metadata": {"name": name, "namespace": "ns", "labels": labels or {}},
        "spec": {"containers": [container], **spec},
    }


class World:
    def __init__(self) -> None:
        self.server = FakeServer()
        self.client = self.server.client()

    def run(self) -> Any:
        return running(self.server, Scheduler)

    def where(self, name: str) -> str | None:
        found = self.server.objects.get("pods", {}).get(("ns", name))
        return found["spec"].get("nodeName") if found else None

    def why(self, name: str) -> str:
        found = self.server.objects["pods"][("ns", name)]
        conditions = (found.get("status") or {}).get("conditions") or [{}]
        return str(conditions[0].get("message") or "")


@pytest.fixture
def world() -> World:
    return World()


async def test_binds_and_spreads(world: World) -> None:
    async with world.run() as (scheduler,):
        for name in ("a", "b"):
            await world.client.create(NODES, node(name))
        for i in range(4):
            await world.client.create(PODS, pod(f"p{i}"))
        await settle(lambda: all(world.where(f"p{i}") for i in range(4)))
        await scheduler.events.flush()
    places = sorted(str(world.where(f"p{i}")) for i in range(4))
    assert places == ["a", "a", "b", "b"]
    messages = {e["note"] for e in world.server.objects["events.events.k8s.io"].values()}
    assert f"Successfully assigned ns/p0 to {world.where('p0')}" in messages


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"nodeSelector": {"disk": "ssd"}},
            "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.",
        ),
        ({"cpu": "3"}, "0/1 nodes are available: 1 Insufficient cpu."),
        (
            {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]},
            'nodes are available: persistentvolumeclaim "c" not found.',
        ),
    ],
)
async def test_says_why_not(world: World, spec: dict[str, Any], message: str) -> None:
    async with world.run():
        await world.client.create(NODES, node("a"))
        await world.client.create(PODS, pod("p", **spec))
        await settle(lambda: bool(world.why("p")))
    assert message in world.why("p")


async def test_taint_and_toleration(world: World) -> None:
    taint = {"key": "k", "value": "v", "effect": "NoSchedule"}
    async with world.run():
        await world.client.create(NODES, node("a", taints=[taint]))
        await world.client.create(PODS, pod("p"))
        await world.client.create(PODS, pod("q", tolerations=[{"operator": "Exists"}]))
        await settle(lambda: world.where("q") == "a" and bool(world.why("p")))
        assert "1 node(s) had untolerated taint {k: v}" in world.why("p")


async def test_no_nodes_then_one(world: World) -> None:
    async with world.run():
        await world.client.create(PODS, pod("p"))
        await settle(lambda: world.why("p") == "no nodes available to schedule pods")
        await world.client.create(NODES, node("a"))
        await settle(lambda: world.where("p") == "a")


async def test_never_more_than_fits(world: World) -> None:
    async with world.run():
        await world.client.create(NODES, node("a", cpu="1"))
        for i in range(15):
            await world.client.create(PODS, pod(f"p{i}"))
        await settle(lambda: sum(1 for i in range(15) if world.where(f"p{i}")) == 10)
        await settle(lambda: sum(1 for i in range(15) if world.why(f"p{i}")) == 5)
        gone = next(i for i in range(15) if world.where(f"p{i}"))
        await world.client.delete(PODS, f"p{gone}", "ns", grace=0)
        await settle(lambda: sum(1 for i in range(15) if world.where(f"p{i}")) == 10)


async def test_anti_affinity(world: World) -> None:
    rule = {"labelSelector": {"matchLabels": {"app": "x"}}, "topologyKey": "kubernetes.io/hostname"}
    affinity = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [rule]}}
    async with world.run():
        for name in ("a", "b"):
            await world.client.create(NODES, node(name))
        for i in range(3):
            await world.client.create(PODS, pod(f"p{i}", labels={"app": "x"}, affinity=affinity))
        await settle(lambda: sum(1 for i in range(3) if world.where(f"p{i}")) == 2)
        left = next(f"p{i}" for i in range(3) if not world.where(f"p{i}"))
        await settle(lambda: "2 node(s) didn't match pod anti-affinity rules" in world.why(left))
        assert {world.where(f"p{i}") for i in range(3)} == {"a", "b", None}


async def test_topology_spread(world: World) -> None:
    rule = {
        "maxSkew": 1,
        "topologyKey": "zone",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "x"}},
    }
    async with world.run():
        for name, zone in (("a", "1"), ("b", "1"), ("c", "2")):
            await world.client.create(NODES, node(name, labels={"zone": zone}))
        for i in range(4):
            await world.client.create(PODS, pod(f"p{i}", labels={"app": "x"}, topologySpreadConstraints=[rule]))
        await settle(lambda: all(world.where(f"p{i}") for i in range(4)))
    assert sum(1 for i in range(4) if world.where(f"p{i}") == "c") == 2


async def test_waits_for_first_consumer(world: World) -> None:
    claim = {
        "metadata": {"name": "c", "namespace": "ns"},
        "spec": {"storageClassName": "local", "accessModes": ["RWO"]},
    }
    kind = {"metadata": {"name": "local"}, "provisioner": "x/y", "volumeBindingMode": "WaitForFirstConsumer"}
    async with world.run():
        await world.client.create(NODES, node("a"))
        await world.client.create(CLASSES, kind)
        await world.client.create(CLAIMS, claim)
        await world.client.create(PODS, pod("p", volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]))

        def selected() -> str | None:
            got = world.server.objects["persistentvolumeclaims"][("ns", "c")]
            return (got["metadata"].get("annotations") or {}).get(SELECTED_NODE)

        await settle(lambda: selected() == "a")
        assert world.where("p") is None
        volume = {"metadata": {"name": "v1"}, "spec": {"capacity": {"storage": "1Gi"}}}
        await world.client.create(resource("persistentvolumes"), volume)
        patch = {"metadata": {"annotations": {BIND_COMPLETED: "yes"}}, "spec": {"volumeName": "v1"}}
        await world.client.patch(CLAIMS, "c", patch, "ns")
        await settle(lambda: world.where("p") == "a")


async def test_immediate_claim_must_be_bound(world: World) -> None:
    claim = {"metadata": {"name": "c", "namespace": "ns"}, "spec": {"accessModes": ["RWO"]}}
    async with world.run():
        await world.client.create(NODES, node("a"))
        await world.client.create(CLAIMS, claim)
        await world.client.create(PODS, pod("p", volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]))
        await settle(lambda: "pod has unbound immediate PersistentVolumeClaims" in world.why("p"))


async def test_a_claim_for_one_pod_alone(world: World) -> None:
    spec = {"accessModes": ["ReadWriteOncePod"], "volumeName": "v1"}
    claim = {"metadata": {"name": "c", "namespace": "ns", "annotations": {BIND_COMPLETED: "yes"}}, "spec": spec}
    uses = [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]
    async with world.run():
        await world.client.create(NODES, node("a"))
        volume = {"metadata": {"name": "v1"}, "spec": {"capacity": {"storage": "1Gi"}}}
        await world.client.create(resource("persistentvolumes"), volume)
        await world.client.create(CLAIMS, claim)
        await world.client.create(PODS, pod("p", volumes=uses))
        await settle(lambda: world.where("p") == "a")
        await world.client.create(PODS, pod("q", volumes=uses))
        await settle(lambda: "ReadWriteOncePod access mode" in world.why("q"))
        await world.client.delete(PODS, "p", "ns", grace=0)
        await settle(lambda: world.where("q") == "a")


async def test_preemption(world: World) -> None:
    async with world.run():
        await world.client.create(NODES, node("a", cpu="1"))
        await world.client.create(PODS, pod("low", cpu="800m", terminationGracePeriodSeconds=0))
        await settle(lambda: world.where("low") == "a")
        await world.client.create(PODS, pod("high", cpu="800m", priority=100))
        await settle(lambda: ("ns", "low") not in world.server.objects["pods"])
        await settle(lambda: world.where("high") == "a")


async def test_a_pod_larger_than_any_node_is_not_helped_by_preemption(world: World) -> None:
    async with world.run():
        await world.client.create(NODES, node("a", cpu="1"))
        await world.client.create(PODS, pod("low", cpu="800m"))
        await settle(lambda: world.where("low") == "a")
        await world.client.create(PODS, pod("huge", cpu="2", priority=100))
        await settle(lambda: "Insufficient cpu" in world.why("huge"))
        assert world.why("huge").endswith("1 Preemption is not helpful for scheduling.")


async def test_gates_and_other_schedulers_are_left_alone(world: World) -> None:
    async with world.run():
        await world.client.create(NODES, node("a"))
        await world.client.create(PODS, pod("gated", schedulingGates=[{"name": "x"}]))
        await world.client.create(PODS, pod("other", schedulerName="mine"))
        await world.client.create(PODS, pod("p"))
        await settle(lambda: world.where("p") == "a")
        assert world.where("gated") is None and world.where("other") is None
        await world.client.patch(PODS, "gated", {"spec": {"schedulingGates": None}}, "ns")
        await settle(lambda: world.where("gated") == "a")
