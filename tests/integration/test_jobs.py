"""Jobs' policies through the real kubectl; the test plays the kubelet."""

from __future__ import annotations

import json
from typing import Any

from stablehand.machinery.conditions import get_condition
from tests.integration.conftest import Cluster

INDEX = "batch.kubernetes.io/job-completion-index"


def job(c: Cluster, name: str, **spec: Any) -> str:
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "x"}]}}
    spec = {"completionMode": "Indexed", "completions": 3, "parallelism": 3, "template": template, **spec}
    obj = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}
    done = c.kubectl("create", "-f", "-", stdin=json.dumps(obj), check=False)
    return done.stderr


def play(c: Cluster, name: str, phases: dict[int, str], code: int = 1) -> None:
    """Ends the pods of the given indexes."""
    c.until(lambda: len(c.get("pods", "-l", f"job-name={name}")["items"]) == 3)
    for pod in c.get("pods", "-l", f"job-name={name}")["items"]:
        phase = phases.get(int(pod["metadata"]["annotations"][INDEX]))
        if phase is None:
            continue
        ended = {"exitCode": 0 if phase == "Succeeded" else code, "finishedAt": "2026-01-01T00:00:00Z"}
        container = {"name": "c", "image": "x", "imageID": "", "ready": False, "restartCount": 0}
        statuses = [{**container, "state": {"terminated": ended}}]
        patch = {"status": {"phase": phase, "containerStatuses": statuses}}
        c.kubectl("patch", "pod", pod["metadata"]["name"], "--subresource", "status", "-p", json.dumps(patch))


def reason(c: Cluster, name: str, kind: str) -> str:
    return (get_condition(c.get("job", name).get("status"), kind) or {}).get("reason", "")


def test_indexes_fail_on_their_own(control_plane: Cluster) -> None:
    c = control_plane
    rules = [{"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [7]}}]
    assert not job(c, "split", backoffLimitPerIndex=3, podFailurePolicy={"rules": rules})
    play(c, "split", {0: "Succeeded", 1: "Failed", 2: "Succeeded"}, code=7)
    c.until(lambda: reason(c, "split", "Failed") == "FailedIndexes")
    status = c.get("job", "split")["status"]
    assert (status["completedIndexes"], status["failedIndexes"], status["failed"]) == ("0,2", "1", 1)
    assert c.kubectl("get", "job", "split", "--no-headers").stdout.split()[1:3] == ["Failed", "2/3"]


def test_a_rule_makes_success(control_plane: Cluster) -> None:
    c = control_plane
    assert not job(c, "led", successPolicy={"rules": [{"succeededIndexes": "0"}]})
    play(c, "led", {0: "Succeeded"})
    c.until(lambda: reason(c, "led", "Complete") == "SuccessPolicy")
    assert reason(c, "led", "SuccessCriteriaMet") == "SuccessPolicy"
    c.until(lambda: len(c.get("pods", "-l", "job-name=led")["items"]) == 1)


def test_policies_are_checked(control_plane: Cluster) -> None:
    c = control_plane
    assert "when maxFailedIndexes is specified" in job(c, "a", maxFailedIndexes=1)
    assert "must be a domain-prefixed path" in job(c, "b", managedBy="me")
    assert not job(c, "elsewhere", managedBy="example.com/mine")
    assert not job(c, "here")
    c.until(lambda: len(c.get("pods", "-l", "job-name=here")["items"]) == 3)
    assert not c.get("pods", "-l", "job-name=elsewhere")["items"]
