"""What each type of metric asks of which API, and what its status says."""

from __future__ import annotations

from typing import Any

import pytest

from stablehand.client import error_for
from stablehand.controllers.podautoscaler.metrics import Evaluator, MetricFailed, Target
from stablehand.controllers.podautoscaler.replicas import Tolerances
from stablehand.controllers.podautoscaler.sources import Sources
from stablehand.machinery.types import Obj
from tests.unit.controllers.test_podautoscaler import NOW, Catalog, pod

CUSTOM, EXTERNAL = "/apis/custom.metrics.k8s.io", "/apis/external.metrics.k8s.io"
GROUPS: dict[str, Obj] = {
    CUSTOM: {"preferredVersion": {"groupVersion": "custom.metrics.k8s.io/v1beta2"}},
    EXTERNAL: {"preferredVersion": {"groupVersion": "external.metrics.k8s.io/v1beta1"}},
}


class Api:
    """Answers from a table of paths, and remembers what it was asked."""

    def __init__(self, **answers: list[Obj]) -> None:
        self.answers: dict[str, Obj] = {**GROUPS, **{p: {"items": items} for p, items in answers.items()}}
        self.asked: list[tuple[str, dict[str, str]]] = []

    async def request(self, method: str, path: str, params: dict[str, str] | None = None) -> Obj:
        self.asked.append((path, params or {}))
        if path not in self.answers:
            raise error_for({"kind": "Status", "message": "not found"}, 404)
        return self.answers[path]


async def evaluate(api: Api, spec: Obj) -> tuple[int, str, Obj]:
    pods = [pod("a"), pod("b")]
    evaluator = Evaluator(Sources(api), Catalog())  # type: ignore[arg-type]
    found = await evaluator.evaluate(spec, Target("ns", "app=x", pods, 2, 2), Tolerances(), NOW)
    return found.replicas, found.name, found.status


def value(name: str, text: str) -> Obj:
    return {"describedObject": {"name": name}, "value": text}


async def test_pods() -> None:
    path = f"{CUSTOM}/v1beta2/namespaces/ns/pods/*/rate"
    api = Api(**{path: [value("a", "300m"), value("b", "100m")]})
    metric = {"name": "rate", "selector": {"matchLabels": {"verb": "get"}}}
    target = {"type": "AverageValue", "averageValue": "100m"}
    count, name, status = await evaluate(api, {"type": "Pods", "pods": {"metric": metric, "target": target}})
    assert (count, name) == (4, "pods metric rate")
    assert status == {"type": "Pods", "pods": {"metric": metric, "current": {"averageValue": "200m"}}}
    assert api.asked[-1] == (path, {"labelSelector": "app=x", "metricLabelSelector": "verb=get"})


@pytest.mark.parametrize(
    ("target", "count", "current"),
    [
        ({"type": "Value", "value": "5"}, 4, {"value": "10"}),
        ({"type": "AverageValue", "averageValue": "2"}, 5, {"averageValue": "5"}),
    ],
)
async def test_object_and_external(target: Obj, count: int, current: Obj) -> None:
    path = f"{CUSTOM}/v1beta2/namespaces/ns/services/s/hits"
    of = {"apiVersion": "v1", "kind": "Service", "name": "s"}
    source = {"metric": {"name": "hits"}, "describedObject": of, "target": target}
    found = await evaluate(Api(**{path: [value("s", "10")]}), {"type": "Object", "object": source})
    assert found[:2] == (count, "Service metric hits")
    assert found[2]["object"] == {"metric": {"name": "hits"}, "describedObject": of, "current": current}
    path = f"{EXTERNAL}/v1beta1/namespaces/ns/queue"
    api = Api(**{path: [{"value": "4"}, {"value": "6"}]})
    found = await evaluate(api, {"type": "External", "external": {"metric": {"name": "queue"}, "target": target}})
    assert (found[0], found[2]["external"]["current"]) == (count, current)


async def test_one_container_of_each_pod() -> None:
    containers: list[Any] = [{"name": "c", "usage": {"cpu": "150m"}}, {"name": "sidecar", "usage": {"cpu": "9"}}]
    items = [{"metadata": {"name": n}, "containers": containers, "window": "15s"} for n in ("a", "b")]
    api = Api(**{"/apis/metrics.k8s.io/v1beta1/namespaces/ns/pods": items})
    source = {"name": "cpu", "container": "c", "target": {"type": "AverageValue", "averageValue": "100m"}}
    count, name, status = await evaluate(api, {"type": "ContainerResource", "containerResource": source})
    assert (count, name) == (3, "cpu resource")
    assert status["containerResource"]["current"] == {"averageValue": "150m"}


async def test_what_cannot_be_known() -> None:
    api = Api()
    del api.answers[CUSTOM]
    metric = {"type": "Pods", "pods": {"metric": {"name": "rate"}, "target": {"averageValue": "1"}}}
    with pytest.raises(MetricFailed) as e:
        await evaluate(api, metric)
    assert e.value.reason == "FailedGetPodsMetric"
    assert str(e.value) == (
        "failed to get pods metric value: unable to get metric rate: unable to fetch metrics from custom metrics API: "
        "no known available metric versions found"
    )
    with pytest.raises(MetricFailed, match="unknown metric source type") as e:
        await evaluate(api, {"type": "Stars"})
    assert e.value.reason == "InvalidMetricSourceType"
