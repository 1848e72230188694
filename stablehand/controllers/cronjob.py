"""CronJobs: makes a Job whenever the schedule says so, and forgets old ones."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from stablehand.client import AlreadyExists, ApiError, Client, NotFound
from stablehand.machinery import cron, meta
from stablehand.machinery.conditions import get_condition
from stablehand.machinery.resources import resource
from stablehand.machinery.times import format_time, parse_time
from stablehand.machinery.types import Obj, copy_object
from stablehand.runtime import Controller, EventRecorder, Informers, Result, writes
from stablehand.runtime.claims import controlled_by, index_by_controller

log = logging.getLogger("stablehand.cronjob")

CRONJOBS, JOBS = resource("cronjobs.batch"), resource("jobs.batch")
_TOO_MANY_MISSED = 100
_SCHEDULED = "batch.kubernetes.io/cronjob-scheduled-timestamp"


class CronJobController(Controller):
    name = "cronjob"

    def __init__(self, client: Client, informers: Informers, *, clock: Callable[[], float] = time.time) -> None:
        super().__init__(workers=5)
        self._client = client = client.with_manager("cronjob-controller")
        self._clock = clock
        self._cronjobs = informers.get(CRONJOBS)
        self._jobs = informers.get(JOBS)
        index_by_controller(self._jobs)
        self.wait_for = [self._cronjobs, self._jobs]
        self.events = EventRecorder(client, "cronjob-controller")
        self._cronjobs.on_change(lambda event, old, new: self.enqueue(meta.key(new)))
        self._jobs.on_change(self._job_changed)

    def _job_changed(self, event: str, old: Obj | None, new: Obj) -> None:
        owner = meta.controller_of(new)
        if owner is not None and owner.get("kind") == CRONJOBS.kind:
            self.enqueue((meta.namespace(new), owner["name"]))

    async def reconcile(self, key: tuple[str, str]) -> Result | None:
        cached = self._cronjobs.cached(*key)
        if cached is None:
            return None
        cronjob = {**cached, "status": copy_object(cached.get("status") or {})}
        jobs = controlled_by(self._jobs, cronjob)
        self._settle_active(cronjob, jobs)
        await self._forget_old(cronjob, jobs)
        after: float | None = None
        if not meta.deletion_timestamp(cronjob) and not cronjob["spec"].get("suspend"):
            try:
                schedule = cron.parse(cronjob["spec"].get("schedule") or "", cronjob["spec"].get("timeZone"))
            except cron.CronError as e:
                text = f'unparseable schedule: "{cronjob["spec"].get("schedule")}" : {e}'
                self.events.event(cronjob, "Warning", "UnparseableSchedule", text)
            else:
                after = await self._start_due(cronjob, schedule)
        if cronjob["status"] != (cached.get("status") or {}):
            try:
                await writes.update(self._client, self._cronjobs, cronjob, subresource="status")
            except NotFound:
                return None
        return Result(after=after) if after is not None else None

    # -- what runs and what is over

    def _settle_active(self, cronjob: Obj, jobs: list[Obj]) -> None:
        """The status lists the jobs that run; what ended is noted once."""
        status, by_uid = cronjob["status"], {meta.uid(job): job for job in jobs}
        active: list[Obj] = []
        known = {ref.get("uid") for ref in status.get("active") or ()}
        for child in jobs:
            finished = _finished(child)
            if finished is None and meta.uid(child) not in known:
                text = f"Saw a job that the controller did not create or forgot: {meta.name(child)}"
                self.events.event(cronjob, "Warning", "UnexpectedJob", text)
            done = (child.get("status") or {}).get("completionTime")
            if finished == "Complete" and done and done > (status.get("lastSuccessfulTime") or ""):
                status["lastSuccessfulTime"] = done
        for ref in status.get("active") or ():
            job = by_uid.get(ref.get("uid") or "")
            if job is None:
                text = f"Active job went missing: {ref.get('name')}"
                self.events.event(cronjob, "Normal", "MissingJob", text)
                continue
            finished = _finished(job)
            if finished is None:
                active.append(ref)
                continue
            text = f"Saw completed job: {meta.name(job)}, condition: {finished}"
            self.events.event(cronjob, "Normal", "SawCompletedJob", text)
        if active:
            status["active"] = active
        else:
            status.pop("active", None)

    async def _forget_old(self, cronjob: Obj, jobs: list[Obj]) -> None:
        for kind, field, default in (
            ("Complete", "successfulJobsHistoryLimit", 3),
            ("Failed", "failedJobsHistoryLimit", 1),
        ):
            limit = cronjob["spec"].get(field)
            over = [job for job in jobs if _finished(job) == kind and not meta.deletion_timestamp(job)]
            over.sort(key=lambda j: ((j.get("status") or {}).get("startTime") or "", meta.name(j)))
            for job in over[: max(0, len(over) - (default if limit is None else int(limit)))]:
                await writes.delete(self._client, self._jobs, job, propagation="Background")
                self.events.event(cronjob, "Normal", "SuccessfulDelete", f"Deleted job {meta.name(job)}")

    # -- what is due

    async def _start_due(self, cronjob: Obj, schedule: cron.Schedule) -> float | None:
        """Starts the latest run that is due; returns the seconds until the next."""
        now, spec, status = self._clock(), cronjob["spec"], cronjob["status"]
        earliest = parse_time(status.get("lastScheduleTime") or cronjob["metadata"]["creationTimestamp"])
        deadline = spec.get("startingDeadlineSeconds")
        if deadline is not None:
            earliest = max(earliest, now - float(deadline))
        due: float | None = None
        missed, upcoming = 0, schedule.next(earliest)
        while upcoming is not None and upcoming <= now:
            due, missed = upcoming, missed + 1
            if missed > _TOO_MANY_MISSED:
                text = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew"
                self.events.event(cronjob, "Warning", "TooManyMissedTimes", text)
                due, upcoming = self._latest(schedule, earliest, now), schedule.next(now)
                break
            upcoming = schedule.next(upcoming)
        after = None if upcoming is None else max(0.01, upcoming - now) + 0.1
        if due is None:
            return after
        if any(ref.get("name") == _job_name(cronjob, due) for ref in status.get("active") or ()):
            return after
        if status.get("lastScheduleTime") and parse_time(status["lastScheduleTime"]) >= due:
            return after
        policy = spec.get("concurrencyPolicy") or "Allow"
        if policy == "Forbid" and status.get("active"):
            text = "Not starting job because prior execution is running and concurrency policy is Forbid"
            self.events.event(cronjob, "Normal", "JobAlreadyActive", text)
            return after
        if policy == "Replace":
            for ref in status.pop("active", ()):
                job = self._jobs.cached(meta.namespace(cronjob), ref.get("name") or "")
                if job is not None:
                    await writes.delete(self._client, self._jobs, job, propagation="Background")
                    self.events.event(cronjob, "Normal", "SuccessfulDelete", f"Deleted job {meta.name(job)}")
        await self._start(cronjob, due)
        return after

    @staticmethod
    def _latest(schedule: cron.Schedule, earliest: float, now: float) -> float | None:
        """The last time of the schedule up to now, without walking all of them."""
        span = 60.0
        while now - span > earliest:
            due = schedule.next(now - span)
            if due is not None and due <= now:
                following = schedule.next(due)
                while following is not None and following <= now:
                    due, following = following, schedule.next(following)
                return due
            span *= 4
        return schedule.next(earliest)

    async def _start(self, cronjob: Obj, due: float) -> None:
        template = cronjob["spec"]["jobTemplate"]
        source = template.get("metadata") or {}
        metadata: Obj = {
            "name": _job_name(cronjob, due),
            "namespace": meta.namespace(cronjob),
            "labels": dict(source.get("labels") or {}),
            "annotations": {
                **(source.get("annotations") or {}),
                _SCHEDULED: cron.local_time(due, cronjob["spec"].get("timeZone")),
            },
            "ownerReferences": [meta.owner_reference(cronjob)],
        }
        job: Obj = {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata}
        job["spec"] = copy_object(template.get("spec") or {})
        try:
            created = await writes.create(self._client, self._jobs, job)
        except AlreadyExists:
            created = await self._client.get(JOBS, metadata["name"], meta.namespace(cronjob))
            if not meta.is_controlled_by(created, cronjob):
                return
        except ApiError as e:
            self.events.event(cronjob, "Warning", "FailedCreate", f"Error creating job: {e}")
            raise
        else:
            self.events.event(cronjob, "Normal", "SuccessfulCreate", f"Created job {meta.name(created)}")
        reference = meta.object_reference({**created, "apiVersion": "batch/v1", "kind": "Job"})
        cronjob["status"].setdefault("active", []).append(reference)
        cronjob["status"]["lastScheduleTime"] = format_time(due)


def _job_name(cronjob: Obj, due: float) -> str:
    return f"{meta.name(cronjob)}-{int(due) // 60}"


def _finished(job: Obj) -> str | None:
    for kind in ("Complete", "Failed"):
        condition = get_condition(job.get("status"), kind)
        if condition is not None and condition.get("status") == "True":
            return kind
    return None
