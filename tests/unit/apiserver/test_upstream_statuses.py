"""What upstream's validation of statuses refuses: Jobs above all, and load balancers, budgets, nodes, pods."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from stablehand.apiserver.strategies import strategy_for
from stablehand.machinery.resources import resource

from .test_strategies import CONTAINER, made
from .test_upstream_rules import ingress, pod, service


def status_errors(key: str, obj: Any, before: Any, after: Any) -> list[str]:
    old, _ = made(key, obj)
    old["status"] = before
    new = {**copy.deepcopy(old), "status": after}
    return [e.message() for e in strategy_for(resource(key)).validate_status_update(new, old)]


def condition(kind: str) -> dict[str, str]:
    return {"type": kind, "status": "True"}


JOB = {"spec": {"managedBy": "a.b/c", "template": {"spec": {"containers": [CONTAINER], "restartPolicy": "Never"}}}}
BEGUN, ENDED = "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"
DONE = {
    "startTime": BEGUN, "completionTime": ENDED, "succeeded": 1,
    "conditions": [condition("SuccessCriteriaMet"), condition("Complete")],
}  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        ({}, DONE, ""),
        (DONE, {**DONE, "succeeded": 0}, "cannot decrease the succeeded counter"),
        (DONE, {**DONE, "conditions": []}, "cannot disable the terminal Complete=True condition"),
        ({}, {**DONE, "conditions": [condition("Complete")]}, "without the SuccessCriteriaMet=true condition"),
        ({}, {"startTime": BEGUN, "conditions": [condition("Failed")]}, "without the FailureTarget=true condition"),
        ({}, {**DONE, "completionTime": None}, "completionTime is required for Complete jobs"),
        ({}, {**DONE, "startTime": None}, "startTime is required for finished job"),
        ({}, {**DONE, "completionTime": "2025-01-01T00:00:00Z"}, "must be equal to or after `startTime`"),
        ({}, {**DONE, "active": 1}, "active>0 is invalid for finished job"),
        ({}, {**DONE, "terminating": 1}, "terminating>0 is invalid for finished job"),
        ({}, {**DONE, "uncountedTerminatedPods": {"succeeded": ["u"]}}, "must be empty for finished job"),
        ({}, {"active": 1, "ready": 2}, "cannot set more ready pods than active"),
        ({}, {"completedIndexes": "0"}, "cannot set non-empty completedIndexes when non-indexed completion mode"),
        ({}, {"failedIndexes": "0"}, "cannot set non-null failedIndexes when backoffLimitPerIndex is null"),
        ({"startTime": BEGUN}, {"startTime": ENDED}, "startTime cannot be removed for unsuspended job"),
        ({}, {"completionTime": ENDED}, "cannot set completionTime when there is no Complete=True condition"),
        ({}, {"uncountedTerminatedPods": {"failed": ["a", "a"]}}, "Duplicate value"),
    ],
)
def test_a_jobs_status_fits_together(before: Any, after: Any, text: str) -> None:
    errors = status_errors("jobs.batch", JOB, before, {k: v for k, v in after.items() if v is not None})
    assert (not errors) if not text else any(text in e for e in errors), errors


def test_indexes_of_an_indexed_job() -> None:
    job = {"spec": {**JOB["spec"], "completionMode": "Indexed", "completions": 5, "backoffLimitPerIndex": 1}}
    assert status_errors("jobs.batch", job, {}, {"completedIndexes": "0,2-3", "failedIndexes": "1"}) == []
    for status, text in (
        ({"completedIndexes": "3,1"}, "error parsing completedIndexes: non-increasing order, previous: 3, current: 1"),
        ({"completedIndexes": "7"}, "too large index"),
        ({"completedIndexes": "a"}, "cannot convert string to integer"),
        ({"completedIndexes": "0-3", "failedIndexes": "2"}, "failedIndexes and completedIndexes overlap at index: 2"),
    ):
        assert any(text in e for e in status_errors("jobs.batch", job, {}, status)), text


def test_other_statuses() -> None:
    points = {"loadBalancer": {"ingress": [{"ip": "1.2.3.4", "ipMode": "VIP"}]}}
    assert "may only be used when `spec.type` is 'LoadBalancer'" in status_errors("services", service(), {}, points)[0]
    balanced = service(type="LoadBalancer")
    assert status_errors("services", balanced, {}, points) == []
    points = {"loadBalancer": {"ingress": [{"hostname": "1.2.3.4"}]}}
    assert "must be a DNS name, not an IP address" in str(status_errors("services", balanced, {}, points))
    assert "must be a DNS name" in str(status_errors("ingresses.networking.k8s.io", ingress(), {}, points))
    budget = {"conditions": [{"type": "A", "status": "True", "lastTransitionTime": BEGUN}], "currentHealthy": -1}
    errors = status_errors("poddisruptionbudgets.policy", {}, {}, budget)
    assert [e.split(":")[0] for e in errors] == ["status.conditions[0].reason", "status.currentHealthy"]
    twice = {"addresses": [{"type": "InternalIP", "address": "1.2.3.4"}] * 2}
    assert "status.addresses[1]: Duplicate value" in str(status_errors("nodes", {}, {}, twice))


def test_a_pods_status() -> None:
    def state(kind: str, **more: Any) -> Any:
        return {"containerStatuses": [{"name": "c", "state": {kind: more}}]}

    ended, failed = state("terminated", exitCode=0), state("terminated", exitCode=1)
    never, retried = pod(restartPolicy="Never"), pod(restartPolicy="OnFailure")
    text = "status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"
    assert status_errors("pods", never, ended, state("running")) == [text]
    assert status_errors("pods", retried, ended, state("waiting")) == [text]
    assert status_errors("pods", retried, failed, state("running")) == []
    assert status_errors("pods", pod(), ended, state("running")) == []
    rule = {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [7]}}
    source = {**CONTAINER, "name": "d", "restartPolicy": "Never", "restartPolicyRules": [rule]}
    assert (
        status_errors("pods", pod(restartPolicy="Never", containers=[CONTAINER, source]), ended, state("running")) == []
    )
    assert status_errors("pods", never, state("running"), ended) == []
    two = {"podIPs": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]}
    assert "may specify no more than one IP for each IP family" in str(status_errors("pods", pod(), {}, two))
    assert status_errors("pods", pod(), {}, {"podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}) == []
    assert "status.qosClass" in str(status_errors("pods", pod(), {"qosClass": "BestEffort"}, {"qosClass": "Burstable"}))
