"""What an autoscaler's metrics may say."""

from __future__ import annotations

from typing import Any

import pytest

from stablehand.apiserver.strategies.autoscaling import AutoscalerStrategy
from stablehand.machinery.resources import resource


def refused(kind: str, key: str, **source: Any) -> list[str]:
    target = {"kind": "Deployment", "name": "d"}
    spec = {"maxReplicas": 2, "scaleTargetRef": target, "metrics": [{"type": kind, key: source}]}
    strategy = AutoscalerStrategy(resource("horizontalpodautoscalers.autoscaling"))
    return [
        e.field.removeprefix("spec.metrics[0].") for e in strategy.validate({"metadata": {"name": "h"}, "spec": spec})
    ]


METRIC = {"name": "m"}
OBJECT = {"kind": "Service", "name": "s"}


@pytest.mark.parametrize(
    ("kind", "key", "source", "fields"),
    [
        ("Pods", "pods", {"metric": METRIC, "target": {"averageValue": "1"}}, []),
        ("Pods", "pods", {"metric": {}, "target": {"averageValue": "0"}}, ["pods.metric.name", "pods.target.averageValue"]),
        ("Object", "object", {"metric": METRIC, "describedObject": OBJECT, "target": {"value": "1"}}, []),
        ("Object", "object", {"metric": METRIC, "target": {"value": "-1"}}, ["object.describedObject.kind", "object.describedObject.name", "object.target.value"]),
        ("External", "external", {"metric": METRIC, "target": {}}, ["external.target.averageValue"]),
        ("External", "external", {"metric": METRIC, "target": {"value": "1", "averageValue": "1"}}, ["external.target.value"]),
        ("Resource", "resource", {"name": "cpu", "target": {"averageValue": "1", "averageUtilization": 5}}, ["resource.target.averageValue"]),
        ("ContainerResource", "containerResource", {"name": "cpu", "target": {"averageUtilization": 5}}, ["containerResource.container"]),
    ],
)  # fmt: skip
def test_metrics(kind: str, key: str, source: dict[str, Any], fields: list[str]) -> None:
    assert refused(kind, key, **source) == fields
