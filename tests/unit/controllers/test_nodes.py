"""Silent nodes, evictions, stranded pods, budgets, quotas, aggregated roles."""

from __future__ import annotations

from typing import Any

from stablehand.controllers.clusterroles import ClusterRoleAggregationController
from stablehand.controllers.disruption import DisruptionController
from stablehand.controllers.nodelifecycle import NodeLifecycleController
from stablehand.controllers.podgc import PodCollector
from stablehand.controllers.resourcequota import ResourceQuotaController
from stablehand.controllers.tainteviction import TaintEvictionController, time_left
from stablehand.machinery.conditions import get_condition
from stablehand.machinery.resources import resource
from stablehand.machinery.times import format_time
from stablehand.runtime import Result
from stablehand.runtime.discovery import Catalog
from tests.unit.controllers.fakes import FakeServer, Kubelet, settle
from tests.unit.controllers.harness import running

NODES, PODS = resource("nodes"), resource("pods")


def node(name: str = "node", ready: str = "True") -> dict[str, Any]:
    return {
        "metadata": {"name": name},
        "spec": {},
        "status": {"conditions": [{"type": "Ready", "status": ready, "lastHeartbeatTime": "2026-01-01T00:00:00Z"}]},
    }


def pod(name: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "ns", "labels": {"app": "x"}}, "spec": {"containers": [], **spec}}


async def test_silent_node() -> None:
    server, now = FakeServer(), 0.0
    client, kubelet = server.client(), Kubelet(server)

    def lifecycle(c: Any, i: Any) -> NodeLifecycleController:
        return NodeLifecycleController(c, i, monotonic=lambda: now)

    async with running(server, lifecycle, TaintEvictionController, kubelet=kubelet) as (controller, _):
        await client.create(NODES, node())
        await client.create(PODS, pod("p", nodeName="node", terminationGracePeriodSeconds=0))
        tolerant = [{"operator": "Exists", "effect": "NoExecute"}]
        await client.create(PODS, pod("q", nodeName="node", tolerations=tolerant))
        await settle(lambda: len(kubelet.seen) >= 4)
        now = 41.0
        controller.enqueue("node")

        def taints() -> set[tuple[str, str]]:
            return {(t["key"], t["effect"]) for t in server.objects["nodes"][("", "node")]["spec"].get("taints") or ()}

        key = "node.kubernetes.io/unreachable"
        await settle(lambda: taints() == {(key, "NoSchedule"), (key, "NoExecute")})
        ready = get_condition(server.objects["nodes"][("", "node")]["status"], "Ready")
        assert ready is not None and (ready["status"], ready["reason"]) == ("Unknown", "NodeStatusUnknown")
        await settle(lambda: [name for _, name in server.objects["pods"]] == ["q"])
        q = server.objects["pods"][("ns", "q")]
        await settle(lambda: get_condition(server.objects["pods"][("ns", "q")]["status"], "Ready")["status"] == "False")  # type: ignore[index]
        assert q is not None
        await client.patch(NODES, "node", {"status": node()["status"]}, subresource="status")
        await settle(lambda: taints() == set())


def test_time_left() -> None:
    taint = {"key": "k", "effect": "NoExecute"}
    assert time_left([taint], [], 100, 100) == 0
    assert time_left([taint], [{"key": "k", "operator": "Exists"}], 100, 100) is None
    assert time_left([taint], [{"key": "k", "operator": "Exists", "tolerationSeconds": 300}], 100, 150) == 250


async def test_toleration_counts_from_when_the_taint_is_seen() -> None:
    server, now = FakeServer(), 1000.0

    def evicting(c: Any, i: Any) -> TaintEvictionController:
        return TaintEvictionController(c, i, clock=lambda: now)

    # The taint was there long before the pod, which gets its seconds all the same.
    taint = {"key": "k", "effect": "NoExecute", "timeAdded": format_time(100)}
    client = server.client()
    await client.create(NODES, {"metadata": {"name": "node"}, "spec": {"taints": [taint]}})
    async with running(server, evicting) as (controller,):
        tolerations = [{"key": "k", "operator": "Exists", "tolerationSeconds": 300}]
        made = await client.create(PODS, pod("p", nodeName="node", tolerations=tolerations))
        await settle(lambda: controller._since == {made["metadata"]["uid"]: 1000.0})
        now = 1299.0
        assert await controller.reconcile(("ns", "p")) == Result(after=1.0)
        now = 1300.0
        await controller.reconcile(("ns", "p"))
        await settle(
            lambda: not server.objects["pods"] or "deletionTimestamp" in server.objects["pods"][("ns", "p")]["metadata"]
        )


async def test_stranded_pods() -> None:
    server, now = FakeServer(), 0.0
    client = server.client()
    await client.create(PODS, pod("p", nodeName="gone"))

    def collector(c: Any, i: Any) -> PodCollector:
        return PodCollector(c, i, monotonic=lambda: now)

    async with running(server, collector) as (controller,):
        await settle(lambda: "gone" in controller._missing)
        now = 41.0
        controller.enqueue("round")
        await settle(lambda: not server.objects["pods"])


async def test_budget() -> None:
    server = FakeServer()
    client, kubelet = server.client(), Kubelet(server)
    async with running(server, DisruptionController, kubelet=kubelet):
        spec = {"minAvailable": 1, "selector": {"matchLabels": {"app": "x"}}}
        budget = {"metadata": {"name": "b", "namespace": "ns"}, "spec": spec}
        await client.create(resource("poddisruptionbudgets.policy"), budget)
        for i in range(3):
            await client.create(PODS, pod(f"p{i}"))
        get = lambda: server.objects["poddisruptionbudgets.policy"][("ns", "b")].get("status") or {}  # noqa: E731
        await settle(lambda: get().get("disruptionsAllowed") == 2)
        assert (get()["currentHealthy"], get()["desiredHealthy"], get()["expectedPods"]) == (3, 1, 3)


async def test_quota() -> None:
    server = FakeServer()
    client = server.client()
    catalog = Catalog(client)
    async with running(server, lambda c, i: ResourceQuotaController(c, i, catalog)):
        hard = {"pods": "5", "requests.cpu": "1", "requests.storage": "5Gi"}
        await client.create(
            resource("resourcequotas"), {"metadata": {"name": "q", "namespace": "ns"}, "spec": {"hard": hard}}
        )
        container = {"name": "c", "resources": {"requests": {"cpu": "300m"}}}
        for i in range(2):
            await client.create(PODS, pod(f"p{i}", containers=[container]))
        used = lambda: (server.objects["resourcequotas"][("ns", "q")].get("status") or {}).get("used") or {}  # noqa: E731
        await settle(lambda: used() == {"pods": "2", "requests.cpu": "600m", "requests.storage": "0"})


async def test_aggregated_roles() -> None:
    server, roles = FakeServer(), resource("clusterroles.rbac.authorization.k8s.io")
    client = server.client()
    async with running(server, ClusterRoleAggregationController):
        rule = {"clusterRoleSelectors": [{"matchLabels": {"to": "x"}}]}
        await client.create(roles, {"metadata": {"name": "x"}, "aggregationRule": rule, "rules": []})
        part = {"metadata": {"name": "y", "labels": {"to": "x"}}, "rules": [{"verbs": ["get"], "resources": ["pods"]}]}
        await client.create(roles, part)
        await settle(lambda: server.objects[roles.key][("", "x")]["rules"] == part["rules"])
