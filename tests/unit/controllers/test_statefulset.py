"""Scenarios of a StatefulSet against invariants: order, one pod in flight, convergence after any failed write."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stablehand.client import error_for
from stablehand.controllers.statefulset import StatefulSetController
from stablehand.machinery.resources import resource
from tests.unit.controllers.fakes import FakeServer, Kubelet, settle
from tests.unit.controllers.harness import running

SETS, PODS, CLAIMS = resource("statefulsets.apps"), resource("pods"), resource("persistentvolumeclaims")


def make_set(replicas: int, policy: str = "OrderedReady", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "web", "namespace": "ns"},
        "spec": {
            "replicas": replicas,
            "serviceName": "web",
            "podManagementPolicy": policy,
            "selector": {"matchLabels": {"app": "web"}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "i:1"}], "terminationGracePeriodSeconds": 5},
            },
            **spec,
        },
    }


class World:
    def __init__(self) -> None:
        self.server = FakeServer()
        self.kubelet = Kubelet(self.server)
        self.client = self.server.client()

    def status(self) -> dict[str, Any]:
        return self.server.objects["statefulsets.apps"][("ns", "web")].get("status") or {}

    def pods(self) -> dict[str, dict[str, Any]]:
        return {name: pod for (_, name), pod in self.server.objects.get("pods", {}).items()}

    def ready(self, count: int) -> bool:
        status = self.status()
        return (
            status.get("readyReplicas", 0) == count == status.get("replicas")
            and status.get("updateRevision") == status.get("currentRevision")
            and status.get("observedGeneration")
            == self.server.objects["statefulsets.apps"][("ns", "web")]["metadata"]["generation"]
        )

    def run(self) -> Any:
        return running(self.server, StatefulSetController, kubelet=self.kubelet)

    async def patch(self, patch: dict[str, Any]) -> None:
        await self.client.patch(SETS, "web", patch, "ns")

    def created(self) -> list[str]:
        return [name for method, key, name in self.server.writes if (method, key) == ("POST", "pods")]

    def deleted(self) -> list[str]:
        return [name for method, key, name in self.server.writes if (method, key) == ("DELETE", "pods")]


@pytest.fixture
def world() -> World:
    return World()


def watch_order(world: World) -> list[str]:
    """Breaches of the OrderedReady promise: a pod made while a lower one is not ready; two deletions at once."""
    breaches: list[str] = []

    def check(method: str, key: str, name: str) -> None:
        if key != "pods":
            return
        pods = world.pods()
        ready = {
            n
            for n, p in pods.items()
            if p["status"].get("phase") == "Running" and not p["metadata"].get("deletionTimestamp")
        }
        if method == "POST":
            ordinal = int(name.rpartition("-")[2])
            breaches.extend(f"{name} before web-{i}" for i in range(ordinal) if f"web-{i}" not in ready)
        if method == "DELETE" and any(p["metadata"].get("deletionTimestamp") for p in pods.values()):
            breaches.append(f"{name} while another terminates")

    world.server.on_write.append(check)
    return breaches


async def test_ordered_up_update_down(world: World) -> None:
    breaches = watch_order(world)
    async with world.run():
        await world.client.create(SETS, make_set(4))
        await settle(lambda: world.ready(4))
        assert world.created() == ["web-0", "web-1", "web-2", "web-3"]
        first = world.status()["currentRevision"]
        world.server.writes.clear()
        await world.patch({"spec": {"template": {"metadata": {"annotations": {"v": "2"}}}}})
        await settle(lambda: world.ready(4) and world.status()["currentRevision"] != first)
        assert world.deleted() == ["web-3", "web-2", "web-1", "web-0"]
        assert {p["metadata"]["labels"]["controller-revision-hash"] for p in world.pods().values()} == {
            world.status()["updateRevision"]
        }
        world.server.writes.clear()
        await world.patch({"spec": {"replicas": 1}})
        await settle(lambda: world.ready(1))
        assert world.deleted() == ["web-3", "web-2", "web-1"]
        # Rolling back reuses the old revision's name.
        await world.patch({"spec": {"template": {"metadata": {"annotations": None}}}})
        await settle(lambda: world.ready(1) and world.status()["currentRevision"] == first)
    assert breaches == []


async def test_few_writes_per_pod(world: World) -> None:
    async with world.run():
        await world.client.create(SETS, make_set(50))
        await settle(lambda: world.ready(50))
    status_writes = [w for w in world.server.writes if w[1] == "statefulsets.apps/status"]
    assert len(world.created()) == 50
    assert len(status_writes) <= 50


async def test_pod_identity(world: World) -> None:
    template = {"metadata": {"name": "www", "labels": {"x": "y"}}, "spec": {"accessModes": ["ReadWriteOnce"]}}
    async with world.run():
        await world.client.create(SETS, make_set(1, volumeClaimTemplates=[template]))
        await settle(lambda: world.ready(1))
    pod = world.pods()["web-0"]
    assert pod["metadata"]["generateName"] == "web-"
    assert pod["metadata"]["labels"]["statefulset.kubernetes.io/pod-name"] == "web-0"
    assert pod["metadata"]["labels"]["apps.kubernetes.io/pod-index"] == "0"
    assert (pod["spec"]["hostname"], pod["spec"]["subdomain"]) == ("web-0", "web")
    assert pod["spec"]["volumes"] == [{"name": "www", "persistentVolumeClaim": {"claimName": "www-web-0"}}]
    claim = world.server.objects["persistentvolumeclaims"][("ns", "www-web-0")]
    assert claim["metadata"]["labels"] == {"x": "y", "app": "web"}
    assert "ownerReferences" not in claim["metadata"]


async def test_claims_stay_and_are_taken_up_again(world: World) -> None:
    template = {"metadata": {"name": "www"}, "spec": {"accessModes": ["ReadWriteOnce"]}}
    async with world.run():
        await world.client.create(SETS, make_set(2, volumeClaimTemplates=[template]))
        await settle(lambda: world.ready(2))
        uids = {k: c["metadata"]["uid"] for k, c in world.server.objects["persistentvolumeclaims"].items()}
        await world.patch({"spec": {"replicas": 0}})
        await settle(lambda: world.ready(0))
        await world.patch({"spec": {"replicas": 2}})
        await settle(lambda: world.ready(2))
    assert {k: c["metadata"]["uid"] for k, c in world.server.objects["persistentvolumeclaims"].items()} == uids


@pytest.mark.parametrize("deleted", ["Retain", "Delete"])
@pytest.mark.parametrize("scaled", ["Retain", "Delete"])
async def test_claim_owners(world: World, deleted: str, scaled: str) -> None:
    template = {"metadata": {"name": "www"}, "spec": {"accessModes": ["ReadWriteOnce"]}}
    policy = {"whenDeleted": deleted, "whenScaled": scaled}
    kubelet = world.kubelet
    async with world.run():
        await world.client.create(
            SETS, make_set(2, volumeClaimTemplates=[template], persistentVolumeClaimRetentionPolicy=policy)
        )
        await settle(lambda: world.ready(2))
        kubelet.hold.add("web-1")
        await world.patch({"spec": {"replicas": 1}})
        await settle(lambda: bool(world.pods()["web-1"]["metadata"].get("deletionTimestamp")))

    def owners(name: str) -> list[str]:
        claim = world.server.objects["persistentvolumeclaims"][("ns", name)]
        return [r["kind"] for r in claim["metadata"].get("ownerReferences") or ()]

    assert owners("www-web-0") == (["StatefulSet"] if deleted == "Delete" else [])
    assert owners("www-web-1") == (["Pod"] if scaled == "Delete" else ["StatefulSet"] if deleted == "Delete" else [])


async def test_parallel(world: World) -> None:
    async with world.run():
        world.kubelet.hold = {f"web-{i}" for i in range(30)}
        await world.client.create(SETS, make_set(30, "Parallel"))
        await settle(lambda: len(world.pods()) == 30)
        for name in sorted(world.kubelet.hold):
            world.kubelet.make_ready("ns", name)
        world.kubelet.hold.clear()
        await settle(lambda: world.ready(30))
        await world.patch({"spec": {"replicas": 3}})
        await settle(lambda: world.ready(3))
    assert sorted(world.pods()) == ["web-0", "web-1", "web-2"]


async def test_partition_and_start_ordinal(world: World) -> None:
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}
    async with world.run():
        await world.client.create(SETS, make_set(4, updateStrategy=strategy, ordinals={"start": 10}))
        await settle(lambda: world.ready(4))
        old = world.status()["currentRevision"]
        await world.patch({"spec": {"template": {"metadata": {"annotations": {"v": "2"}}}}})
        await settle(lambda: world.status().get("updatedReplicas") == 2 and world.status()["readyReplicas"] == 4)
        assert world.status()["currentRevision"] == old
        # A pod below the partition comes back at the old revision.
        await world.client.delete(PODS, "web-10", "ns", grace=0)
        await settle(lambda: "web-10" in world.pods() and world.status().get("readyReplicas") == 4)
    revisions = {n: p["metadata"]["labels"]["controller-revision-hash"] for n, p in world.pods().items()}
    assert [revisions[f"web-{i}"] == old for i in (10, 11, 12, 13)] == [True, True, False, False]


async def test_on_delete(world: World) -> None:
    async with world.run():
        await world.client.create(SETS, make_set(2, updateStrategy={"type": "OnDelete"}))
        await settle(lambda: world.ready(2))
        old = world.status()["currentRevision"]
        await world.patch({"spec": {"template": {"metadata": {"annotations": {"v": "2"}}}}})
        await settle(lambda: world.status()["updateRevision"] != old)
        assert world.deleted() == []
        await world.client.delete(PODS, "web-0", "ns", grace=0)
        await settle(lambda: world.status().get("updatedReplicas") == 1 and world.status().get("readyReplicas") == 2)
        assert world.status()["currentRevision"] == old


@pytest.mark.parametrize("heal", [False, True])
async def test_broken_rollout(world: World, heal: bool) -> None:
    web = make_set(2)
    if heal:
        web["metadata"]["annotations"] = {"stablehand.dev/heal-rollout": "true"}
    async with world.run():
        await world.client.create(SETS, web)
        await settle(lambda: world.ready(2))
        world.kubelet.hold.add("web-1")
        await world.patch({"spec": {"template": {"metadata": {"annotations": {"v": "bad"}}}}})
        await settle(lambda: bool(world.pods()["web-1"]["metadata"].get("deletionTimestamp")))
        world.server._delete(PODS, "ns", "web-1", {"gracePeriodSeconds": 0})
        await settle(lambda: "web-1" in world.pods())  # at the bad revision, and never ready
        bad = world.pods()["web-1"]["metadata"]["uid"]
        world.kubelet.hold.clear() if heal else None
        world.kubelet.make_ready("ns", "web-1", ready=False)
        await world.patch({"spec": {"template": {"metadata": {"annotations": {"v": "good"}}}}})
        if heal:
            await settle(lambda: world.ready(2))
        else:
            await settle(lambda: world.status().get("observedGeneration") == 3)
            assert world.pods()["web-1"]["metadata"]["uid"] == bad


@pytest.mark.parametrize("policy", ["OrderedReady", "Parallel"])
@pytest.mark.parametrize("nth", range(1, 14))
async def test_any_failed_write_is_made_good(world: World, policy: str, nth: int) -> None:
    template = {"metadata": {"name": "www"}, "spec": {"accessModes": ["ReadWriteOnce"]}}
    count = 0

    def fail(method: str, key: str, name: str) -> None:
        nonlocal count
        count += 1
        if count == nth:
            raise error_for({"kind": "Status", "code": 500, "message": "no"}, 500)

    async with world.run():
        await world.client.create(SETS, make_set(3, policy, volumeClaimTemplates=[template]))
        world.server.on_write.append(fail)
        await settle(lambda: world.ready(3))
        count = nth - 5 if count < nth else count  # where nothing failed on the way up, a write on the way down does
        world.server.on_write.remove(fail)
        await world.patch({"spec": {"replicas": 1}})
        world.server.on_write.append(fail)
        await settle(lambda: world.ready(1))
    assert sorted(world.pods()) == ["web-0"]


async def test_adoption_and_release(world: World) -> None:
    orphan = {"metadata": {"name": "web-0", "namespace": "ns", "labels": {"app": "web"}}, "spec": {"containers": []}}
    await world.client.create(PODS, orphan)
    async with world.run():
        await world.client.create(SETS, make_set(1))
        await settle(lambda: world.status().get("readyReplicas") == 1)
        owner = world.pods()["web-0"]["metadata"]["ownerReferences"][0]
        assert owner["kind"] == "StatefulSet" and owner["controller"]
    assert world.pods()["web-0"]["metadata"]["labels"]["statefulset.kubernetes.io/pod-name"] == "web-0"


async def test_failed_pod_is_replaced(world: World) -> None:
    async with world.run():
        await world.client.create(SETS, make_set(2))
        await settle(lambda: world.ready(2))
        uid = world.pods()["web-0"]["metadata"]["uid"]
        world.kubelet.make_ready("ns", "web-0", ready=False, phase="Failed")
        await settle(lambda: world.pods().get("web-0", {}).get("metadata", {}).get("uid", uid) != uid)
        await settle(lambda: world.ready(2))


async def test_events(world: World) -> None:
    async with world.run() as (controller,):
        await world.client.create(SETS, make_set(1))
        await settle(lambda: world.ready(1))
        await controller.events.flush()
        await asyncio.sleep(0)
    messages = [e["message"] for e in world.server.objects["events"].values()]
    assert messages == ["Create Pod web-0 in StatefulSet web successful"]


async def test_min_ready_seconds_wakes_itself(world: World) -> None:
    async with world.run():
        await world.client.create(SETS, make_set(2, minReadySeconds=1))
        await settle(lambda: world.status().get("readyReplicas") == 1)
        assert world.status()["availableReplicas"] == 0
        await settle(lambda: world.status().get("availableReplicas") == 2)
