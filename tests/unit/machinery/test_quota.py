"""What objects count for under quotas, and which quotas are about them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from stablehand.machinery import quota
from stablehand.machinery.resources import resource

PODS, SERVICES, CLAIMS = resource("pods"), resource("services"), resource("persistentvolumeclaims")


def container(name: str = "c", **resources: dict[str, str]) -> dict[str, Any]:
    return {"name": name, "resources": resources}


def pod(*containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p"}, "spec": {"containers": list(containers), **spec}}


def scoped(name: str, operator: str = "Exists", *values: str) -> dict[str, Any]:
    term = {"scopeName": name, "operator": operator, "values": list(values)}
    return {"spec": {"scopeSelector": {"matchExpressions": [term]}}}


def test_a_pod_counts_the_larger_of_its_containers_and_its_init_containers() -> None:
    init = container("i", requests={"cpu": "2"}, limits={"memory": "1Gi"})
    sidecar = {**container("s", requests={"cpu": "500m"}), "restartPolicy": "Always"}
    found = quota.usage(PODS, pod(container(requests={"cpu": "1"}), initContainers=[sidecar, init]), 0.0)
    assert found["pods"] == found["count/pods"] == 1
    assert found["cpu"] == found["requests.cpu"] == Decimal("2.5")
    assert found["limits.memory"] == 2**30


def test_a_pod_that_is_over_counts_as_an_object_only() -> None:
    over = {**pod(container(requests={"cpu": "1"})), "status": {"phase": "Succeeded"}}
    assert quota.usage(PODS, over, 0.0) == {"count/pods": 1}
    left = pod(container())
    left["metadata"] |= {"deletionTimestamp": "1970-01-01T00:01:00Z", "deletionGracePeriodSeconds": 10}
    assert "pods" in quota.usage(PODS, left, 60.0) and "pods" not in quota.usage(PODS, left, 71.0)


def test_services_and_claims() -> None:
    spec = {"type": "LoadBalancer", "ports": [{"port": 1}, {"port": 2}]}
    found = quota.usage(SERVICES, {"metadata": {}, "spec": spec}, 0.0)
    assert (found["services"], found["services.loadbalancers"], found["services.nodeports"]) == (1, 1, 2)
    claim = {"storageClassName": "fast", "resources": {"requests": {"storage": "1Gi"}}}
    found = quota.usage(CLAIMS, {"metadata": {}, "spec": claim}, 0.0)
    assert found["fast.storageclass.storage.k8s.io/requests.storage"] == found["requests.storage"] == 2**30
    assert found["fast.storageclass.storage.k8s.io/persistentvolumeclaims"] == 1


@pytest.mark.parametrize(
    ("scope", "obj", "inside"),
    [
        (scoped("Terminating"), pod(activeDeadlineSeconds=5), True),
        (scoped("NotTerminating"), pod(activeDeadlineSeconds=5), False),
        (scoped("BestEffort"), pod(container()), True),
        (scoped("BestEffort"), pod(container(limits={"cpu": "1"})), False),
        (scoped("NotBestEffort"), pod(container(limits={"cpu": "1"})), True),
        (scoped("PriorityClass", "In", "high"), pod(priorityClassName="high"), True),
        (scoped("PriorityClass", "NotIn", "high"), pod(priorityClassName="high"), False),
        (scoped("PriorityClass", "DoesNotExist"), pod(), True),
        (scoped("CrossNamespacePodAffinity"), pod(), False),
        ({"spec": {"scopes": ["BestEffort"]}}, pod(container()), True),
        ({"spec": {}}, pod(), True),
    ],
)
def test_scopes(scope: dict[str, Any], obj: dict[str, Any], inside: bool) -> None:
    assert quota.in_scope(scope, PODS, obj) is inside


def test_a_scoped_quota_is_not_about_other_kinds() -> None:
    assert not quota.in_scope(scoped("BestEffort"), SERVICES, {"metadata": {}, "spec": {}})


def test_what_a_pod_must_set() -> None:
    found = quota.unset({"limits.cpu": "1", "memory": "1Gi", "pods": "1"}, pod(container("b"), container("a")))
    assert found == {"limits.cpu": ["a", "b"], "memory": ["a", "b"]}


def test_texts() -> None:
    assert quota.text("requests.cpu", Decimal("0.3")) == "300m"
    assert quota.text("memory", Decimal(2**30)) == "1Gi"
    assert quota.text("count/deployments.apps", Decimal(3)) == "3"
