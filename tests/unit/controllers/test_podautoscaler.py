"""Autoscalers: counts from measured values, windows and rates, and the loop around them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stablehand.client import error_for
from stablehand.controllers.podautoscaler import PodAutoscalerController, behavior, replicas
from stablehand.controllers.podautoscaler.behavior import History, decide
from stablehand.controllers.podautoscaler.replicas import Measured, Tolerances, Uncountable
from stablehand.machinery.conditions import get_condition
from stablehand.machinery.resources import RESOURCES, Resource, resource
from stablehand.machinery.times import format_time
from stablehand.machinery.types import Obj, copy_object
from tests.unit.controllers.fakes import FakeServer, settle
from tests.unit.controllers.harness import running

NOW = 1_800_000_000.0
HPAS, DEPLOYMENTS, PODS = (
    resource("horizontalpodautoscalers.autoscaling"),
    resource("deployments.apps"),
    resource("pods"),
)
EVEN = Tolerances()


def pod(name: str, *, phase: str = "Running", ready: bool = True, age: float = 3600.0, **meta: Any) -> Obj:
    condition = {
        "type": "Ready",
        "status": "True" if ready else "False",
        "lastTransitionTime": format_time(NOW - age + (10 if ready else 0)),
    }
    container = {"name": "c", "resources": {"requests": {"cpu": "100m"}}}
    return {
        "metadata": {"name": name, "namespace": "ns", "labels": {"app": "x"}, **meta},
        "spec": {"containers": [container]},
        "status": {"phase": phase, "startTime": format_time(NOW - age), "conditions": [condition]},
    }


def utilization(current: int, target: int, pods: list[Obj], **used: int) -> int:
    measures = {name: Measured(value, NOW, 15.0) for name, value in used.items()}
    asked = replicas.requests(pods, "cpu")
    return replicas.by_utilization(current, target, measures, pods, asked, EVEN, is_cpu=True, now=NOW).replicas


def test_utilization() -> None:
    pods = [pod("a"), pod("b")]
    assert utilization(2, 50, pods, a=100, b=100) == 4
    assert utilization(2, 100, pods, a=109, b=109) == 2  # within a tenth
    assert utilization(2, 100, pods, a=10, b=10) == 1
    assert utilization(2, 100, pods, a=0, b=0) == 0  # bounds are behavior's


def test_pods_without_values() -> None:
    pods = [pod("a"), pod("b"), pod("c")]
    # Upwards a missing pod uses nothing, downwards all that it requests.
    assert utilization(3, 50, pods, a=200, b=200) == 8
    assert utilization(3, 50, pods, a=10, b=10) == 3
    assert utilization(3, 50, [pod("a"), pod("b", phase="Pending")], a=300) == 6
    gone = pod("b", deletionTimestamp=format_time(NOW))
    assert utilization(2, 50, [pod("a"), gone], a=100, b=900) == 2
    with pytest.raises(Uncountable, match="pods might be unready"):
        utilization(1, 50, [pod("a", phase="Pending")], a=10)
    with pytest.raises(Uncountable, match="no pods returned by selector"):
        utilization(1, 50, [])


def test_starting_pods() -> None:
    fresh, waiting = pod("b", age=60.0), pod("b", age=60.0, ready=False)
    assert utilization(2, 50, [pod("a"), fresh], a=100, b=100) == 4
    assert utilization(2, 50, [pod("a"), waiting], a=100, b=900) == 2  # one unready pod might take half of it
    just = pod("b", age=12.0)  # ready for 2 s, while its value is over 15
    assert replicas.group([just], {"b": Measured(1, NOW, 15.0)}, True, NOW).unready == {"b"}
    assert not replicas.group([just], {"b": Measured(1, NOW, 15.0)}, False, NOW).unready
    never = pod("b", ready=False)
    assert replicas.group([never], {"b": Measured(1, NOW, 15.0)}, True, NOW).unready == {"b"}


def test_requests() -> None:
    bare = pod("a")
    del bare["spec"]["containers"][0]["resources"]
    with pytest.raises(Uncountable, match="missing request for cpu in container c of Pod a"):
        replicas.requests([bare], "cpu")
    two = pod("a")
    two["spec"]["containers"].append({"name": "d", "resources": {"requests": {"cpu": "1"}}})
    two["spec"]["initContainers"] = [{"name": "i"}]
    assert replicas.requests([two], "cpu") == {"a": 1100}
    assert replicas.requests([two], "cpu", "d") == {"a": 1000}
    two["spec"]["resources"] = {"requests": {"cpu": "3"}}
    assert replicas.requests([two], "cpu") == {"a": 3000}


def test_values_of_the_whole() -> None:
    pods = [pod("a"), pod("b")]
    assert replicas.by_total(2, 100, 200, pods, EVEN).replicas == 4
    assert replicas.by_total(2, 100, 105, pods, EVEN).replicas == 2
    assert replicas.by_total(0, 100, 150, [], EVEN).replicas == 2
    assert replicas.by_share(2, 100, 500, EVEN).replicas == 5
    assert replicas.by_share(2, 100, 205, EVEN) == replicas.Count(2, 103)
    measures = {"a": Measured(300), "b": Measured(100)}
    assert replicas.by_value(2, 100, measures, pods, EVEN, now=NOW).replicas == 4


def test_a_falling_recommendation_waits() -> None:
    history = History(recommended=[(NOW - 200, 8)])
    made = decide(8, 2, 1, 10, None, history, NOW)
    assert (made.replicas, made.stable[0]) == (8, "ScaleDownStabilized")
    assert decide(8, 2, 1, 10, None, history, NOW + 301).replicas == 2


def test_bounds() -> None:
    def bound(current: int, recommended: int, least: int = 1, most: int = 10) -> tuple[int, bool, str]:
        made = decide(current, recommended, least, most, None, History(), NOW)
        return made.replicas, made.limited, made.bound[0]

    assert bound(3, 4) == (4, False, "DesiredWithinRange")
    assert bound(3, 9) == (6, True, "ScaleUpLimit")
    assert bound(1, 9) == (4, True, "ScaleUpLimit")
    assert bound(6, 12) == (10, True, "TooManyReplicas")
    assert bound(3, 1, least=2) == (2, True, "TooFewReplicas")


def rules(up: Obj | None = None, down: Obj | None = None) -> Obj:
    every = [{"type": "Percent", "value": 100, "periodSeconds": 15}]
    return {
        "scaleUp": {"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": every, **(up or {})},
        "scaleDown": {"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": every, **(down or {})},
    }


def test_policies() -> None:
    pods = {"type": "Pods", "value": 2, "periodSeconds": 60}
    percent = {"type": "Percent", "value": 50, "periodSeconds": 60}
    up = rules(up={"policies": [pods, percent]})
    assert decide(10, 30, 1, 50, up, History(), NOW).replicas == 15
    assert decide(10, 30, 1, 50, up, History(ups=[(NOW - 30, 3)]), NOW).replicas == 11  # of 7 a minute ago
    least = rules(up={"policies": [pods, percent], "selectPolicy": "Min"})
    assert decide(10, 30, 1, 50, least, History(), NOW).replicas == 12
    never = rules(down={"selectPolicy": "Disabled"})
    assert decide(10, 3, 1, 50, never, History(), NOW).replicas == 10
    down = rules(down={"policies": [pods, percent]})
    made = decide(10, 1, 1, 50, down, History(), NOW)
    assert (made.replicas, made.bound[0]) == (5, "ScaleDownLimit")
    assert decide(10, 1, 1, 50, rules(down={"policies": [pods, percent], "selectPolicy": "Min"}), History(), NOW).replicas == 8  # fmt: skip
    assert decide(10, 1, 1, 50, down, History(downs=[(NOW - 59, 4)]), NOW).replicas == 7


def test_windows() -> None:
    history = History(recommended=[(NOW - 30, 4)])
    slow = rules(up={"stabilizationWindowSeconds": 60})
    made = decide(3, 9, 1, 50, slow, history, NOW)
    assert (made.replicas, made.stable[0]) == (4, "ScaleUpStabilized")
    assert behavior.tolerances({"scaleUp": {"tolerance": "0.25"}}) == Tolerances(0.1, 0.25)


@given(
    current=st.integers(1, 100),
    recommended=st.integers(0, 300),
    least=st.integers(1, 20),
    extra=st.integers(0, 100),
    seen=st.lists(st.tuples(st.floats(NOW - 400, NOW), st.integers(0, 300)), max_size=5),
    ruled=st.booleans(),
)
def test_a_decision_never_leaves_its_bounds(
    current: int, recommended: int, least: int, extra: int, seen: list[tuple[float, int]], ruled: bool
) -> None:
    """The loop brings a count into the bounds first; from there no decision leaves them, nor turns round."""
    most = least + extra
    current = min(max(current, least), most)
    made = decide(current, recommended, least, most, rules() if ruled else None, History(recommended=list(seen)), NOW)
    assert least <= made.replicas <= most
    if recommended >= current:
        assert made.replicas >= current
    counts = [recommended, *(c for _, c in seen)]
    if min(counts) <= current:
        assert made.replicas <= max(current, *counts)


@given(st.lists(st.integers(0, 500), min_size=1, max_size=6), st.integers(1, 200), st.integers(0, 3), st.integers(0, 3))
def test_missing_pods_never_turn_the_direction(values: list[int], target: int, missing: int, pending: int) -> None:
    names = [f"p{i}" for i in range(len(values))]
    pods = [pod(n) for n in names]
    pods += [pod(f"m{i}") for i in range(missing)] + [pod(f"u{i}", phase="Pending") for i in range(pending)]
    current = len(pods)
    got = utilization(current, target, pods, **dict(zip(names, values, strict=True)))
    ratio = (sum(values) * 100 // (100 * len(values))) / target
    if missing or pending:
        assert got >= current if ratio > 1.0 else True
        assert got <= current if ratio < 1.0 and missing else True


class Catalog:
    def __init__(self) -> None:
        self.loaded = asyncio.Event()
        self.loaded.set()

    def by_kind(self, api_version: str, kind: str) -> Resource | None:
        return next((r for r in RESOURCES if (r.api_version, r.kind) == (api_version, kind)), None)


class World:
    """A fake server with a Scale and PodMetrics of `use` (thousandths of a core)."""

    def __init__(self, count: int, **spec: Any) -> None:
        self.server = FakeServer()
        self.client = self.server.client()
        self.use: dict[str, int] = {}
        self.spec = spec
        self.count = count
        self.fail = False
        send = self.server.send

        async def answering(request: Any) -> Obj:
            if request.path.endswith("/scale"):
                if request.method == "PUT":
                    if self.fail:
                        raise error_for({"kind": "Status", "message": "no"}, 403)
                    self.count = request.body["spec"]["replicas"]
                metadata = {"name": "d", "namespace": "ns"}
                status = {"replicas": self.count, "selector": "app=x"}
                return {"kind": "Scale", "metadata": metadata, "spec": {"replicas": self.count}, "status": status}
            if "/metrics.k8s.io/" in request.path:
                items = [
                    {
                        "metadata": {"name": n},
                        "timestamp": format_time(NOW),
                        "window": "15s",
                        "containers": [{"name": "c", "usage": {"cpu": f"{v}m"}}],
                    }
                    for n, v in self.use.items()
                ]
                return {"items": items}
            if "metrics.k8s.io" in request.path:
                raise error_for({"kind": "Status", "message": "not found"}, 404)
            return await send(request)

        self.server.send = answering  # type: ignore[method-assign]

    async def make(self) -> None:
        for name in self.use:
            made = await self.client.create(PODS, copy_object(pod(name)))
            await self.client.update(PODS, {**made, "status": pod(name)["status"]}, subresource="status")
        metric = {
            "type": "Resource",
            "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}},
        }
        spec = {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"},
            "minReplicas": 1,
            "maxReplicas": 10,
            "metrics": [metric],
            **self.spec,
        }
        hpa = {"metadata": {"name": "h", "namespace": "ns"}, "spec": spec, "status": {}}
        await self.client.create(HPAS, hpa)

    def run(self) -> Any:
        def controller(client: Any, informers: Any) -> PodAutoscalerController:
            return PodAutoscalerController(client, informers, Catalog(), clock=lambda: NOW)  # type: ignore[arg-type]

        return running(self.server, controller)

    def status(self) -> Obj:
        return self.server.objects[HPAS.key][("ns", "h")].get("status") or {}

    def reason(self, kind: str) -> str:
        return (get_condition(self.status(), kind) or {}).get("reason", "")

    def events(self) -> list[tuple[str, str]]:
        return [(e["reason"], e["message"]) for e in self.server.objects.get("events", {}).values()]


async def test_the_loop_scales_and_tells() -> None:
    world = World(2)
    world.use = {"a": 100, "b": 100}
    await world.make()
    async with world.run():
        await settle(lambda: world.status().get("desiredReplicas") == 4 and bool(world.events()))
    assert world.count == 4
    assert world.status()["lastScaleTime"] == format_time(NOW)
    assert world.reason("AbleToScale") == "SucceededRescale"
    assert ("SuccessfulRescale", "New size: 4; reason: cpu resource utilization (percentage of request) above target") in world.events()  # fmt: skip
    current = {"averageUtilization": 100, "averageValue": "100m"}
    assert world.status()["currentMetrics"] == [{"type": "Resource", "resource": {"name": "cpu", "current": current}}]


async def test_out_of_bounds_first() -> None:
    world = World(20)
    await world.make()
    async with world.run():
        await settle(lambda: world.status().get("desiredReplicas") == 10 and bool(world.events()))
    assert world.events()[0][1] == "New size: 10; reason: Current number of replicas above Spec.MaxReplicas"


async def test_disabled_at_zero() -> None:
    world = World(0)
    await world.make()
    async with world.run():
        await settle(lambda: world.reason("ScalingActive") == "ScalingDisabled")
    assert world.status()["desiredReplicas"] == 0


async def test_no_metrics_no_change() -> None:
    external = {"type": "External", "external": {"metric": {"name": "q"}, "target": {"type": "Value", "value": "1"}}}
    world = World(2, metrics=[external])
    world.use = {"a": 1}
    await world.make()
    async with world.run():
        await settle(lambda: world.reason("ScalingActive") == "FailedGetExternalMetric" and len(world.events()) == 2)
    message = (get_condition(world.status(), "ScalingActive") or {})["message"]
    assert message == (
        "the HPA was unable to compute the replica count: failed to get q external metric value: unable to get external "
        "metric ns/q/nil: unable to fetch metrics from external metrics API: no known available metric versions found"
    )
    assert world.count == 2


async def test_a_missing_metric_takes_nothing_away() -> None:
    external = {"type": "External", "external": {"metric": {"name": "q"}, "target": {"type": "Value", "value": "1"}}}
    cpu = {"type": "Resource", "resource": {"name": "cpu", "target": {"averageUtilization": 50}}}
    for use, count in ((1, 2), (100, 4)):
        world = World(2, metrics=[external, cpu])
        world.use = {"a": use, "b": use}
        await world.make()
        async with world.run():
            await settle(lambda world=world: bool(world.status().get("currentMetrics")))
        assert world.count == count


async def test_a_scale_that_is_refused() -> None:
    world = World(2)
    world.fail, world.use = True, {"a": 100, "b": 100}
    await world.make()
    async with world.run():
        await settle(lambda: world.reason("AbleToScale") == "FailedUpdateScale")
    assert world.status().get("lastScaleTime") is None
