"""Deployments with their ReplicaSets: rollouts within their fenceposts, undo, scaling, Recreate; arithmetic."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stablehand.controllers.deployment import DeploymentController, sizes
from stablehand.controllers.replicaset import ReplicaSetController, ReplicationControllerController
from stablehand.machinery.resources import resource
from tests.unit.controllers.fakes import FakeServer, Kubelet, settle
from tests.unit.controllers.harness import running

DEPLOYMENTS, PODS, RCS = resource("deployments.apps"), resource("pods"), resource("replicationcontrollers")


def make(replicas: int, strategy: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "ns"},
        "spec": {
            "replicas": replicas,
            "revisionHistoryLimit": 1,
            "progressDeadlineSeconds": 600,
            "strategy": strategy or {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}},
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "i:1"}]},
            },
        },
    }


class World:
    def __init__(self) -> None:
        self.server = FakeServer()
        self.kubelet = Kubelet(self.server)
        self.client = self.server.client()

    def run(self) -> Any:
        return running(self.server, DeploymentController, ReplicaSetController, kubelet=self.kubelet)

    def deployment(self) -> dict[str, Any]:
        return self.server.objects["deployments.apps"][("ns", "web")]

    def sets(self) -> list[dict[str, Any]]:
        return list(self.server.objects["replicasets.apps"].values())

    def pods(self) -> list[dict[str, Any]]:
        return list(self.server.objects.get("pods", {}).values())

    def done(self, replicas: int, revision: str) -> bool:
        d = self.deployment()
        status = d.get("status") or {}
        return (
            (d["metadata"].get("annotations") or {}).get(sizes.REVISION) == revision
            and all(status.get(f, 0) == replicas for f in ("replicas", "updatedReplicas", "availableReplicas"))
            and status.get("observedGeneration") == d["metadata"]["generation"]
            and any(c.get("reason") == "NewReplicaSetAvailable" for c in status["conditions"])
        )

    async def patch(self, patch: dict[str, Any]) -> None:
        await self.client.patch(DEPLOYMENTS, "web", patch, "ns")


def image(version: str) -> dict[str, Any]:
    return {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": version}]}}}}


@pytest.mark.parametrize("strategy", [None, {"type": "Recreate"}])
async def test_rollout_undo_scale(strategy: dict[str, Any] | None) -> None:
    world = World()
    most = 0

    def count(method: str, key: str, name: str) -> None:
        nonlocal most
        most = max(most, len([p for p in world.pods() if not p["metadata"].get("deletionTimestamp")]))

    world.server.on_write.append(count)
    async with world.run() as (controller, _):
        await world.client.create(DEPLOYMENTS, make(3, strategy))
        await settle(lambda: world.done(3, "1"))
        first = world.sets()[0]["metadata"]["name"]
        await world.patch(image("i:2"))
        await settle(lambda: world.done(3, "2"))
        assert {p["spec"]["containers"][0]["image"] for p in world.pods()} == {"i:2"}
        await world.patch(image("i:1"))
        await settle(lambda: world.done(3, "3"))
        reused = next(rs for rs in world.sets() if rs["metadata"]["name"] == first)
        assert reused["metadata"]["annotations"][sizes.REVISION] == "3"
        assert reused["metadata"]["annotations"][sizes.REVISION_HISTORY] == "1"
        await world.patch({"spec": {"replicas": 1}})
        await settle(lambda: world.done(1, "3"))
        await world.patch(image("i:3"))
        await settle(lambda: world.done(1, "4"))
        await settle(lambda: len(world.sets()) == 2)  # revisionHistoryLimit 1
        await controller.events.flush()
    assert most <= (3 if strategy else 4)
    messages = {e["message"] for e in world.server.objects["events"].values() if e["reason"] == "ScalingReplicaSet"}
    assert f"Scaled up replica set {first} from 0 to 3" in messages


async def test_bad_rollout_stalls_and_undo_heals() -> None:
    world = World()
    async with world.run():
        await world.client.create(DEPLOYMENTS, make(3))
        await settle(lambda: world.done(3, "1"))
        keep = world.kubelet.make_ready
        world.kubelet.make_ready = lambda ns, name, **kw: keep(ns, name, ready=False)  # type: ignore[method-assign]
        await world.patch(image("i:bad"))
        await settle(lambda: (world.deployment()["status"].get("updatedReplicas") or 0) == 2)
        assert world.deployment()["status"]["availableReplicas"] >= 2
        world.kubelet.make_ready = keep  # type: ignore[method-assign]
        await world.patch(image("i:1"))
        await settle(lambda: world.done(3, "3"))


async def test_paused_keeps_still() -> None:
    world = World()
    async with world.run():
        await world.client.create(DEPLOYMENTS, make(2))
        await settle(lambda: world.done(2, "1"))
        await world.patch({"spec": {"paused": True, **image("i:2")["spec"]}})
        await settle(lambda: any(c["reason"] == "DeploymentPaused" for c in world.deployment()["status"]["conditions"]))
        assert len(world.sets()) == 1
        await world.patch({"spec": {"paused": False}})
        await settle(lambda: world.done(2, "2"))


async def test_replication_controller() -> None:
    server = FakeServer()
    client = server.client()
    async with running(server, ReplicationControllerController, kubelet=Kubelet(server)):
        rc = {"metadata": {"name": "rc", "namespace": "ns"}, "spec": {**make(2)["spec"], "selector": {"app": "web"}}}
        await client.create(RCS, rc)
        get = lambda: server.objects["replicationcontrollers"][("ns", "rc")].get("status") or {}  # noqa: E731
        await settle(lambda: get().get("availableReplicas") == 2)
        await client.patch(RCS, "rc", {"spec": {"replicas": 0}}, "ns")
        await settle(lambda: get().get("replicas") == 0 and get().get("observedGeneration") == 2)


def rs(uid: str, replicas: int, available: int, **notes: str) -> dict[str, Any]:
    return {
        "metadata": {"name": uid, "uid": uid, "creationTimestamp": f"2026-01-01T00:00:0{uid}Z", "annotations": notes},
        "spec": {"replicas": replicas},
        "status": {"availableReplicas": available},
    }


@given(
    wanted=st.integers(0, 30),
    surge=st.one_of(st.integers(0, 5), st.integers(0, 100).map(lambda n: f"{n}%")),
    unavailable=st.one_of(st.integers(0, 5), st.integers(0, 100).map(lambda n: f"{n}%")),
    counts=st.lists(st.tuples(st.integers(0, 10), st.integers(0, 10)), min_size=1, max_size=4),
)
def test_sizes_keep_their_promises(wanted: int, surge: Any, unavailable: Any, counts: list[tuple[int, int]]) -> None:
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}
    deployment = make(wanted, strategy)
    sets = [rs(str(i), n, min(a, n)) for i, (n, a) in enumerate(counts)]
    new, old = sets[0], sets[1:]
    size = sizes.new_size(deployment, sets, sizes.replicas(new))
    if sizes.total(sets) <= wanted + sizes.max_surge(deployment) and sizes.replicas(new) <= wanted:
        assert sizes.replicas(new) <= size <= wanted
        assert sizes.total(old) + size <= wanted + sizes.max_surge(deployment)
    before = sum(sizes.available(s) for s in sets)
    plan = {s["metadata"]["uid"]: n for s, n in sizes.shrink_old(deployment, new, old)}
    lost = sum(max(0, sizes.available(s) - plan.get(s["metadata"]["uid"], sizes.replicas(s))) for s in old)
    if plan:
        assert before - lost >= min(before, wanted - sizes.max_unavailable(deployment))
    active = [s for s in sets if sizes.replicas(s)]
    if active and wanted:
        planned = sizes.proportional(deployment, active)
        assert all(n >= 0 for n in planned.values())


def test_proportional_example() -> None:
    """The example of the Kubernetes documentation: 10 replicas, surge 3, 8 old and 5 new, scaled to 15."""
    deployment = make(15, {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}})
    notes = {sizes.MAX: "13"}
    sizes_by_uid = sizes.proportional(deployment, [rs("1", 8, 8, **notes), rs("2", 5, 0, **notes)])
    assert sizes_by_uid == {"1": 11, "2": 7}


async def test_a_status_written_by_others_is_put_right() -> None:
    server = FakeServer()
    client, kubelet = server.client(), Kubelet(server)
    controllers = resource("replicationcontrollers")
    async with running(server, ReplicationControllerController, kubelet=kubelet):
        template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c"}]}}
        spec = {"replicas": 2, "selector": {"a": "b"}, "template": template}
        meta = {"name": "rc", "namespace": "ns", "generation": 1}
        await client.create(controllers, {"metadata": meta, "spec": spec})

        def ready() -> int:
            status = server.objects["replicationcontrollers"][("ns", "rc")].get("status") or {}
            return int(status.get("readyReplicas") or 0)

        await settle(lambda: ready() == 2)
        wrong = {"status": {"readyReplicas": 0, "availableReplicas": 0}}
        await client.patch(controllers, "rc", wrong, "ns", subresource="status")
        assert ready() == 0
        await settle(lambda: ready() == 2)
