import copy
from typing import Any

from stablehand.apiserver.legacy import from_storage, to_storage
from stablehand.apiserver.strategies import strategy_for
from stablehand.machinery.resources import resource, resource_for


def workload(api_version: str, kind: str, spec: dict[str, Any] | None = None) -> dict[str, Any]:
    res = resource_for(api_version, kind)
    assert res is not None
    obj = {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"name": "x"},
        "spec": {"template": {"metadata": {"labels": {"a": "b"}}}, **(spec or {})},
    }
    stored = to_storage(res, obj)
    strategy_for(resource(f"{res.plural}.apps")).default(stored)
    return stored


def test_extensions_deployment() -> None:
    stored = workload("extensions/v1beta1", "Deployment", {"rollbackTo": {"revision": 3}})
    spec = stored["spec"]
    assert stored["apiVersion"] == "apps/v1"
    assert spec["selector"] == {"matchLabels": {"a": "b"}}
    assert stored["metadata"]["labels"] == {"a": "b"}
    assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 1, "maxSurge": 1}
    assert (spec["revisionHistoryLimit"], spec["progressDeadlineSeconds"]) == (2**31 - 1, 2**31 - 1)
    res = resource_for("extensions/v1beta1", "Deployment")
    assert res is not None
    before = copy.deepcopy(stored)
    back = from_storage(res, stored)
    assert stored == before
    assert back["apiVersion"] == "extensions/v1beta1"
    assert back["spec"]["rollbackTo"] == {"revision": 3}
    assert "annotations" not in back["metadata"]


def test_apps_v1beta1() -> None:
    spec = workload("apps/v1beta1", "Deployment")["spec"]
    assert (spec["revisionHistoryLimit"], spec["progressDeadlineSeconds"]) == (2, 600)
    assert spec["strategy"]["rollingUpdate"]["maxSurge"] == "25%"
    sts = workload("apps/v1beta1", "StatefulSet")["spec"]
    assert sts["updateStrategy"] == {"type": "OnDelete"}
    assert sts["selector"] == {"matchLabels": {"a": "b"}}


def test_apps_v1beta2_has_the_defaults_of_v1() -> None:
    sts = workload("apps/v1beta2", "StatefulSet")["spec"]
    assert sts["updateStrategy"] == {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}
    assert "selector" not in sts


def test_autoscalers() -> None:
    res = resource_for("autoscaling/v1", "HorizontalPodAutoscaler")
    assert res is not None
    v1 = {
        "apiVersion": "autoscaling/v1",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "h"},
        "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 50},
    }
    stored = to_storage(res, v1)
    target = {"type": "Utilization", "averageUtilization": 50}
    assert stored["spec"]["metrics"] == [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    memory = {"type": "Resource", "resource": {"name": "memory", "target": {"type": "Value"}}}
    stored["spec"]["metrics"].append(memory)
    back = from_storage(res, stored)
    assert back["spec"] == {"maxReplicas": 3, "targetCPUUtilizationPercentage": 50}
    again = to_storage(res, copy.deepcopy(back))
    assert sorted(str(m) for m in again["spec"]["metrics"]) == sorted(str(m) for m in stored["spec"]["metrics"])
    assert "annotations" not in again["metadata"]


def test_events() -> None:
    res = resource_for("events.k8s.io/v1", "Event")
    assert res is not None
    event = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": "e"},
        "note": "n",
        "regarding": {"kind": "Pod"},
        "reportingController": "c",
    }
    core = to_storage(res, copy.deepcopy(event))
    assert (core["message"], core["involvedObject"], core["reportingComponent"]) == ("n", {"kind": "Pod"}, "c")
    assert core["apiVersion"] == "v1"
    assert from_storage(res, core) == event
