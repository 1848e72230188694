"""Jobs and CronJobs: counted once, retried, indexed, suspended, given up; schedules."""

from __future__ import annotations

import calendar
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stablehand.controllers.cronjob import CronJobController
from stablehand.controllers.job import JobController, indexes
from stablehand.controllers.ttlafterfinished import TtlAfterFinishedController
from stablehand.machinery import cron
from stablehand.machinery.conditions import get_condition
from stablehand.machinery.meta import owner_reference
from stablehand.machinery.resources import resource
from stablehand.machinery.times import format_time, parse_time
from tests.unit.controllers.fakes import FakeServer, Kubelet, settle
from tests.unit.controllers.harness import running

JOBS, CRONJOBS, PODS = resource("jobs.batch"), resource("cronjobs.batch"), resource("pods")


class Runner(Kubelet):
    """Pods end at once: as `outcome` says for each."""

    outcome = staticmethod(lambda pod: "Succeeded")

    def make_ready(self, namespace: str, name: str, *, ready: bool = True, phase: str = "Running") -> None:
        pod = self.server.objects["pods"][(namespace, name)]
        super().make_ready(namespace, name, ready=False, phase=self.outcome(pod))


def make(**spec: Any) -> dict[str, Any]:
    labels = {"job-name": "j"}
    template = {"metadata": {"labels": labels}, "spec": {"restartPolicy": "Never", "containers": [{"name": "c"}]}}
    spec = {"selector": {"matchLabels": labels}, "completions": 1, "parallelism": 1, "template": template, **spec}
    return {"metadata": {"name": "j", "namespace": "ns"}, "spec": spec}


class World:
    def __init__(self) -> None:
        self.server = FakeServer()
        self.client = self.server.client()
        self.kubelet = Runner(self.server)

    def run(self, *more: Any) -> Any:
        return running(self.server, JobController, *more, kubelet=self.kubelet)

    def status(self) -> dict[str, Any]:
        return self.server.objects["jobs.batch"][("ns", "j")].get("status") or {}

    def is_(self, kind: str) -> bool:
        condition = get_condition(self.status(), kind)
        return condition is not None and condition["status"] == "True"


async def test_completes() -> None:
    world = World()
    async with world.run():
        await world.client.create(JOBS, make(completions=5, parallelism=2))
        await settle(lambda: world.is_("Complete"))
    assert world.status()["succeeded"] == 5
    assert world.status()["uncountedTerminatedPods"] == {}
    assert all(not p["metadata"].get("finalizers") for p in world.server.objects["pods"].values())


async def test_indexed() -> None:
    world = World()
    async with world.run():
        await world.client.create(JOBS, make(completions=5, parallelism=3, completionMode="Indexed"))
        await settle(lambda: world.is_("Complete"))
    assert (world.status()["completedIndexes"], world.status()["succeeded"]) == ("0-4", 5)
    assert len(world.server.objects["pods"]) == 5
    pod = next(p for p in world.server.objects["pods"].values() if indexes.of(p) == 3)
    assert pod["spec"]["hostname"] == "j-3" and pod["metadata"]["name"].startswith("j-3-")


async def test_gives_up() -> None:
    world = World()
    world.kubelet.outcome = lambda pod: "Failed"  # type: ignore[method-assign]
    async with world.run():
        await world.client.create(JOBS, make(backoffLimit=0))
        await settle(lambda: world.is_("Failed"))
    condition = get_condition(world.status(), "Failed")
    assert condition is not None
    assert (condition["reason"], condition["message"]) == (
        "BackoffLimitExceeded",
        "Job has reached the specified backoff limit",
    )
    assert world.status()["failed"] == 1


async def test_suspend_and_deadline() -> None:
    world = World()
    world.kubelet.outcome = lambda pod: "Running"  # type: ignore[method-assign]
    async with world.run():
        await world.client.create(JOBS, make(suspend=True, parallelism=2, completions=2))
        await settle(lambda: world.is_("Suspended"))
        assert not world.server.objects.get("pods")
        await world.client.patch(JOBS, "j", {"spec": {"suspend": False}}, "ns")
        await settle(lambda: world.status().get("active") == 2 and not world.is_("Suspended"))
        await world.client.patch(JOBS, "j", {"spec": {"activeDeadlineSeconds": 0}}, "ns")
        await settle(lambda: world.is_("Failed"))
        assert get_condition(world.status(), "Failed")["reason"] == "DeadlineExceeded"  # type: ignore[index]
        await settle(lambda: not world.server.objects["pods"])


async def test_failure_policy_and_ttl() -> None:
    world = World()
    world.kubelet.outcome = lambda pod: "Failed"  # type: ignore[method-assign]
    rules = [{"action": "FailJob", "onPodConditions": [{"type": "Ready", "status": "False"}]}]
    async with world.run(TtlAfterFinishedController):
        await world.client.create(JOBS, make(podFailurePolicy={"rules": rules}, ttlSecondsAfterFinished=0))
        await settle(lambda: bool(world.server.objects["jobs.batch"][("ns", "j")]["metadata"].get("deletionTimestamp")))


@pytest.mark.parametrize("nth", range(1, 10))
async def test_counted_once_whatever_fails(nth: int) -> None:
    from stablehand.client import error_for

    world = World()
    count = 0

    def fail(method: str, key: str, name: str) -> None:
        nonlocal count
        count += 1
        if count == nth:
            raise error_for({"kind": "Status", "code": 500, "message": "no"}, 500)

    async with world.run():
        await world.client.create(JOBS, make(completions=3, parallelism=3))
        world.server.on_write.append(fail)
        await settle(lambda: world.is_("Complete"))
    assert world.status()["succeeded"] == 3


async def test_cronjob() -> None:
    server = FakeServer()
    now = parse_time("2026-01-01T10:00:30Z")
    server.now = lambda: now
    client = server.client()
    async with running(server, lambda c, i: CronJobController(c, i, clock=lambda: now)) as (controller,):
        spec = {"schedule": "*/5 * * * *", "jobTemplate": {"spec": make()["spec"]}, "concurrencyPolicy": "Forbid"}
        await client.create(CRONJOBS, {"metadata": {"name": "cj", "namespace": "ns"}, "spec": spec})
        await settle(lambda: len(controller.queue._timers) == 1)
        assert not server.objects.get("jobs.batch")
        now = parse_time("2026-01-01T10:05:01Z")
        controller.enqueue(("ns", "cj"))
        await settle(lambda: bool(server.objects.get("jobs.batch")))
        ((_, name),) = server.objects["jobs.batch"]
        assert name == f"cj-{int(parse_time('2026-01-01T10:05:00Z')) // 60}"

        def status() -> dict[str, Any]:
            return server.objects["cronjobs.batch"][("ns", "cj")].get("status") or {}

        await settle(lambda: status().get("lastScheduleTime") == "2026-01-01T10:05:00Z")
        now = parse_time("2026-01-01T10:10:01Z")
        controller.enqueue(("ns", "cj"))
        await settle(lambda: any(e["reason"] == "JobAlreadyActive" for e in server.objects.get("events", {}).values()))
        assert len(server.objects["jobs.batch"]) == 1


async def test_cron_in_a_time_zone_and_jobs_of_others() -> None:
    server = FakeServer()
    now = parse_time("2026-01-01T10:00:30Z")
    server.now = lambda: now
    client = server.client()
    async with running(server, lambda c, i: CronJobController(c, i, clock=lambda: now)) as (controller,):
        spec = {"schedule": "0 * * * *", "timeZone": "America/New_York", "jobTemplate": {"spec": make()["spec"]}}
        made = await client.create(CRONJOBS, {"metadata": {"name": "cj", "namespace": "ns"}, "spec": spec})
        stranger = make()
        stranger["metadata"]["ownerReferences"] = [
            owner_reference({**made, "apiVersion": "batch/v1", "kind": "CronJob"})
        ]
        stranger["status"] = {
            "completionTime": "2026-01-01T10:00:31Z",
            "conditions": [{"type": "Complete", "status": "True"}],
        }
        await client.create(JOBS, {**stranger, "status": {}})
        events = server.objects.setdefault("events", {})
        await settle(lambda: any(e["reason"] == "UnexpectedJob" for e in events.values()))
        await client.patch(JOBS, "j", {"status": stranger["status"]}, "ns", subresource="status")

        def status() -> dict[str, Any]:
            return server.objects["cronjobs.batch"][("ns", "cj")].get("status") or {}

        await settle(lambda: status().get("lastSuccessfulTime") == "2026-01-01T10:00:31Z")
        now = parse_time("2026-01-01T11:00:01Z")
        controller.enqueue(("ns", "cj"))
        await settle(lambda: len(server.objects["jobs.batch"]) == 2)
        (job,) = [j for j in server.objects["jobs.batch"].values() if j["metadata"]["name"] != "j"]
        noted = job["metadata"]["annotations"]["batch.kubernetes.io/cronjob-scheduled-timestamp"]
        assert noted == "2026-01-01T06:00:00-05:00"


@given(st.sets(st.integers(0, 60)))
def test_indexes_round_trip(numbers: set[int]) -> None:
    assert indexes.parse(indexes.write(numbers)) == numbers


@pytest.mark.parametrize(
    ("text", "after", "expected"),
    [
        ("*/15 * * * *", "2026-01-01T10:00:00Z", "2026-01-01T10:15:00Z"),
        ("0 0 29 2 *", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"),
        ("30 4 1,15 * 5", "2026-01-01T04:30:00Z", "2026-01-02T04:30:00Z"),
        ("@hourly", "2026-01-01T10:00:00Z", "2026-01-01T11:00:00Z"),
        ("0 9-17/4 * jan mon", "2026-01-01T00:00:00Z", "2026-01-05T09:00:00Z"),
    ],
)
def test_schedules(text: str, after: str, expected: str) -> None:
    following = cron.parse(text).next(parse_time(after))
    assert following is not None and format_time(following) == expected


def test_time_zone() -> None:
    following = cron.parse("0 9 * * *", "Europe/Berlin").next(calendar.timegm((2026, 7, 1, 0, 0, 0)))
    assert following is not None and format_time(following) == "2026-07-01T07:00:00Z"


@pytest.mark.parametrize("text", ["", "* * * *", "60 * * * *", "a * * * *", "5-1 * * * *", "*/0 * * * *"])
def test_bad_schedules(text: str) -> None:
    with pytest.raises(cron.CronError):
        cron.parse(text)
