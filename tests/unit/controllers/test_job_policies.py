"""Jobs that decide by index, by rule, or leave it to another controller; and when the end is told."""

from __future__ import annotations

import time
from typing import Any

import pytest

from stablehand.controllers.job import JobController, counting, indexes, perindex, policies
from stablehand.controllers.job.podmaking import make_pod
from stablehand.machinery.conditions import get_condition
from stablehand.machinery.resources import resource
from stablehand.machinery.types import Obj, copy_object
from tests.unit.controllers.fakes import FakeServer, settle
from tests.unit.controllers.harness import running
from tests.unit.controllers.test_job import Runner, make

JOBS = resource("jobs.batch")


class World:
    """The clock is an hour ahead of the pods: no back-off holds anything up."""

    def __init__(self) -> None:
        self.server = FakeServer()
        self.client = self.server.client()
        self.kubelet = Runner(self.server)
        self.ahead = 3600.0

    def run(self) -> Any:
        def controller(client: Any, informers: Any) -> JobController:
            return JobController(client, informers, clock=lambda: time.time() + self.ahead)

        return running(self.server, controller, kubelet=self.kubelet)

    def job(self) -> Obj:
        return self.server.objects["jobs.batch"][("ns", "j")]

    def status(self) -> Obj:
        return self.job().get("status") or {}

    def reason(self, kind: str) -> str:
        return (get_condition(self.status(), kind) or {}).get("reason", "")

    def pods(self) -> list[Obj]:
        return list(self.server.objects.get("pods", {}).values())


def indexed(**spec: Any) -> Obj:
    return make(**{"completionMode": "Indexed", "completions": 3, "parallelism": 3, "backoffLimit": 2**31 - 1, **spec})


async def test_each_index_has_its_own_limit() -> None:
    world = World()
    world.kubelet.outcome = lambda pod: "Failed" if indexes.of(pod) == 1 else "Succeeded"  # type: ignore[method-assign]
    async with world.run():
        await world.client.create(JOBS, indexed(backoffLimitPerIndex=2))
        await settle(lambda: world.reason("Failed") == "FailedIndexes")
    status = world.status()
    assert (status["completedIndexes"], status["failedIndexes"]) == ("0,2", "1")
    assert (status["succeeded"], status["failed"]) == (2, 3)
    failed = [p for p in world.pods() if indexes.of(p) == 1]
    assert sorted(p["metadata"]["annotations"][perindex.FAILURES] for p in failed) == ["0", "1", "2"]
    assert not any(p["metadata"].get("finalizers") for p in world.pods())


async def test_too_many_failed_indexes() -> None:
    world = World()
    world.kubelet.outcome = lambda pod: "Failed" if indexes.of(pod) else "Running"  # type: ignore[method-assign]
    async with world.run():
        await world.client.create(JOBS, indexed(backoffLimitPerIndex=0, maxFailedIndexes=1))
        await settle(lambda: world.reason("Failed") == "MaxFailedIndexesExceeded")
    assert world.reason("FailureTarget") == "MaxFailedIndexesExceeded"
    assert world.status()["failedIndexes"] == "1,2"
    assert world.status()["failed"] == 3  # what still ran when the job failed counts as failed


async def test_an_index_waits_for_its_back_off() -> None:
    world = World()
    world.ahead = 0.0
    world.kubelet.outcome = lambda pod: "Failed"  # type: ignore[method-assign]
    async with world.run() as (controller,):
        await world.client.create(JOBS, indexed(backoffLimitPerIndex=1, completions=1, parallelism=1))
        await settle(lambda: bool(controller.queue._timers) and bool(world.pods()))
        assert len(world.pods()) == 1 and counting.has_finalizer(world.pods()[0])
        assert not world.status().get("failed")  # counted when it is replaced


async def test_fail_index() -> None:
    world = World()
    world.kubelet.outcome = lambda pod: "Failed" if indexes.of(pod) == 0 else "Succeeded"  # type: ignore[method-assign]
    rules = [{"action": "FailIndex", "onPodConditions": [{"type": "Ready", "status": "False"}]}]
    async with world.run():
        await world.client.create(
            JOBS, indexed(backoffLimitPerIndex=5, podFailurePolicy={"rules": rules}, podReplacementPolicy="Failed")
        )
        await settle(lambda: world.reason("Failed") == "FailedIndexes")
    assert world.status()["failedIndexes"] == "0" and world.status()["failed"] == 1


async def test_success_policy() -> None:
    world = World()
    world.kubelet.outcome = lambda pod: "Succeeded" if indexes.of(pod) == 0 else "Running"  # type: ignore[method-assign]
    policy = {"rules": [{"succeededIndexes": "1-2"}, {"succeededIndexes": "0-1", "succeededCount": 1}]}
    async with world.run():
        await world.client.create(JOBS, indexed(successPolicy=policy))
        await settle(lambda: world.reason("Complete") == "SuccessPolicy")
    met = get_condition(world.status(), "SuccessCriteriaMet")
    assert met is not None and met["message"] == "Matched rules at index 1"
    assert (world.status()["succeeded"], world.status().get("failed")) == (1, None)
    await settle(lambda: len(world.pods()) == 1)


async def test_the_end_is_told_when_nothing_runs_any_more() -> None:
    world = World()
    world.kubelet.outcome = lambda pod: "Running"  # type: ignore[method-assign]
    async with world.run():
        await world.client.create(JOBS, make(completions=2, parallelism=2, backoffLimit=0))
        await settle(lambda: world.status().get("active") == 2)
        stays, fails = sorted(p["metadata"]["name"] for p in world.pods())
        world.kubelet.hold.add(stays)
        Runner.make_ready(world.kubelet, "ns", fails)
        world.kubelet.outcome = lambda pod: "Failed"  # type: ignore[method-assign]
        world.kubelet.make_ready("ns", fails)
        await settle(lambda: world.reason("FailureTarget") == "BackoffLimitExceeded")
        assert world.reason("Failed") == "" and world.status()["terminating"] == 1
        world.kubelet.hold.clear()
        pods = resource("pods")
        await world.client.delete(pods, stays, "ns", grace=0)
        await settle(lambda: world.reason("Failed") == "BackoffLimitExceeded")
    assert (world.status()["failed"], world.status()["terminating"]) == (2, 0)


async def test_another_controllers_job_is_left_alone() -> None:
    world = World()
    async with world.run():
        await world.client.create(JOBS, make(managedBy="example.com/other"))
        await world.client.create(JOBS, {**make(), "metadata": {"name": "own", "namespace": "ns"}})
        await settle(lambda: bool(world.pods()))
        assert not world.status()
        assert all(p["metadata"]["ownerReferences"][0]["name"] == "own" for p in world.pods())


async def test_fewer_completions_take_pods_away() -> None:
    world = World()
    world.kubelet.outcome = lambda pod: "Running"  # type: ignore[method-assign]
    async with world.run():
        await world.client.create(JOBS, indexed())
        await settle(lambda: world.status().get("active") == 3)
        await world.client.patch(JOBS, "j", {"spec": {"completions": 1, "parallelism": 1}}, "ns")
        await settle(lambda: [indexes.of(p) for p in world.pods()] == [0])
        await settle(lambda: (world.status().get("terminating"), world.status().get("active")) == (0, 1))
    assert not world.status().get("failed")


def failed_pod(code: int = 1, **annotations: str) -> Obj:
    terminated = {"exitCode": code, "finishedAt": "2026-01-01T00:00:00Z"}
    return {
        "metadata": {"name": "p", "namespace": "ns", "uid": "u", "annotations": annotations},
        "status": {"phase": "Failed", "containerStatuses": [{"name": "c", "state": {"terminated": terminated}}]},
    }


@pytest.mark.parametrize(
    ("requirement", "code", "action"),
    [
        ({"operator": "In", "values": [1, 2]}, 1, "Ignore"),
        ({"operator": "In", "values": [2]}, 1, "Count"),
        ({"operator": "NotIn", "values": [2]}, 1, "Ignore"),
        ({"operator": "NotIn", "values": [2]}, 0, "Count"),
        ({"operator": "In", "values": [1], "containerName": "d"}, 1, "Count"),
    ],
)
def test_exit_codes(requirement: Obj, code: int, action: str) -> None:
    job = {"spec": {"podFailurePolicy": {"rules": [{"action": "Ignore", "onExitCodes": requirement}]}}}
    found, message = policies.failure_action(job, failed_pod(code))
    assert found == action
    if found == "Ignore":
        assert message == "Container c for pod ns/p failed with exit code 1 matching Ignore rule at index 0"


def test_failures_before() -> None:
    job = {
        "spec": {
            "podFailurePolicy": {"rules": [{"action": "Ignore", "onExitCodes": {"operator": "In", "values": [7]}}]}
        }
    }
    assert perindex.failures_before(job, None) == {perindex.FAILURES: "0"}
    assert perindex.failures_before(job, failed_pod(**{perindex.FAILURES: "2"})) == {perindex.FAILURES: "3"}
    ignored = failed_pod(7, **{perindex.FAILURES: "2", perindex.IGNORED: "1"})
    assert perindex.failures_before(job, ignored) == {perindex.FAILURES: "2", perindex.IGNORED: "2"}


def test_names_of_indexed_pods() -> None:
    job = copy_object(indexed())
    job["metadata"] |= {"name": "j" * 63, "uid": "u"}
    job |= {"apiVersion": "batch/v1", "kind": "Job"}
    pod = make_pod(job, 123, {"a": "b"})
    assert len(pod["metadata"]["name"]) == 63 and pod["metadata"]["name"][-11:-5] == "j-123-"
    assert pod["metadata"]["annotations"] == {indexes.INDEX: "123", "a": "b"}
    env = pod["spec"]["containers"][0]["env"]
    assert env[0]["name"] == "JOB_COMPLETION_INDEX"
