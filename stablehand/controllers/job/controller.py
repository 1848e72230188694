"""Runs the pods of jobs, and counts each that ends exactly once, whatever crashes in between.

A pod keeps a finalizer until its end is counted: first its uid goes into status.uncountedTerminatedPods, then the
finalizer goes, then the uid becomes a number. How a job will end is written (SuccessCriteriaMet, FailureTarget) before
its pods let go of it, that it has ended when none of them runs any more.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from stablehand.client import ApiError, Client, Conflict, NotFound
from stablehand.controllers.job import counting, indexes, perindex
from stablehand.controllers.job.counting import FINALIZER, Tally, Verdict
from stablehand.controllers.job.podmaking import make_pod
from stablehand.machinery import meta
from stablehand.machinery.conditions import get_condition, set_condition
from stablehand.machinery.pods import change_matters, deletion_order
from stablehand.machinery.resources import resource
from stablehand.machinery.selectors import SelectorError, from_label_selector
from stablehand.machinery.times import format_time, parse_time
from stablehand.machinery.types import Obj, copy_object
from stablehand.runtime import Controller, EventRecorder, Informers, Result, Terminal, writes
from stablehand.runtime.batches import slow_start
from stablehand.runtime.claims import CannotAdopt, claim, index_by_controller

log = logging.getLogger("stablehand.job")

JOBS = resource("jobs.batch")
_MAX_UNCOUNTED = 500


@dataclass(slots=True)
class _Work:
    """One look at one job. `active` is what runs after it, `ended` what it deleted."""

    job: Obj
    status: Obj
    pods: list[Obj]
    tally: Tally
    now: float
    active: list[Obj] = field(default_factory=list)
    ended: list[Obj] = field(default_factory=list)
    given_up: set[int] = field(default_factory=set)  # indexes that failed for good
    waiting: dict[int, Obj] = field(default_factory=dict)  # failed pods by index, until they are replaced
    after: float | None = None

    def again_after(self, seconds: float) -> None:
        self.after = seconds if self.after is None else min(self.after, seconds)


def _set_counts(status: Obj, active: int, ready: int, terminating: int) -> None:
    status["ready"], status["terminating"] = ready, terminating
    if active:
        status["active"] = active
    else:
        status.pop("active", None)


class JobController(Controller):
    name = "job"

    def __init__(self, client: Client, informers: Informers, *, clock: Callable[[], float] = time.time) -> None:
        super().__init__(workers=5)
        self._client = client = client.with_manager("job-controller")
        self._clock = clock
        self._jobs = informers.get(JOBS)
        self._pods = informers.get(resource("pods"))
        index_by_controller(self._pods)
        self.wait_for = [self._jobs, self._pods]
        self.events = EventRecorder(client, "job-controller")
        self._failures: dict[str, tuple[int, float]] = {}  # by job uid: failures seen in a row, time of the last
        self._jobs.on_change(self._job_changed)
        self._pods.on_change(self._pod_changed)

    def _job_changed(self, event: str, old: Obj | None, new: Obj) -> None:
        if event == "DELETED":
            self._failures.pop(meta.uid(new), None)
            for pod in self._pods.by_index("controller", meta.uid(new)):
                self.enqueue(("pod", *meta.key(pod)))
        else:
            self.enqueue(("job", *meta.key(new)))

    def _pod_changed(self, event: str, old: Obj | None, new: Obj) -> None:
        if event == "MODIFIED" and old is not None and not change_matters(old, new):
            return
        owner = meta.controller_of(new)
        if owner is None or owner.get("kind") != JOBS.kind:
            if event != "DELETED" and FINALIZER in (new["metadata"].get("finalizers") or ()):
                self.enqueue(("pod", *meta.key(new)))
            return
        job = self._jobs.cached(meta.namespace(new), owner["name"])
        if job is not None and meta.uid(job) == owner.get("uid"):
            self.enqueue(("job", *meta.key(job)))
        elif event != "DELETED":
            self.enqueue(("pod", *meta.key(new)))

    async def reconcile(self, key: tuple[str, str, str]) -> Result | None:
        what, namespace, name = key
        if what == "pod":
            await self._release_orphan(namespace, name)
            return None
        job = self._jobs.cached(namespace, name)
        if job is None or meta.deletion_timestamp(job):
            if job is not None:
                for pod in self._pods.by_index("controller", meta.uid(job)):
                    await self._drop_finalizer(pod)
            return None
        if job["spec"].get("managedBy") not in (None, "", "kubernetes.io/job-controller"):
            return None
        try:
            selector = from_label_selector(job["spec"].get("selector"))
        except SelectorError as e:
            raise Terminal(f"selector of {name}: {e}") from e
        try:
            pods = await claim(self._client, JOBS, job, self._pods, selector, finalizers=[FINALIZER])
        except CannotAdopt as e:
            log.info("%s/%s: %s", namespace, name, e)
            return Result(after=1.0)
        return await self._sync(job, pods)

    # -- one job

    async def _sync(self, job: Obj, pods: list[Obj]) -> Result | None:
        now = self._clock()
        if counting.is_finished(job):
            await asyncio.gather(*(self._drop_finalizer(pod) for pod in pods))
            return None
        status = copy_object(job.get("status") or {})
        if not status.get("startTime") and not job["spec"].get("suspend"):
            status["startTime"] = format_time(now)
        work = _Work(job, status, pods, counting.tally(job, pods), now)
        tally = work.tally
        if perindex.is_used(job):
            work.given_up = perindex.failed_indexes(job, pods)
            work.waiting = perindex.waiting_for_replacement(job, pods, tally.active, tally.done | work.given_up)
        verdict = counting.verdict(job, tally, work.given_up, now)
        error: Exception | None = None
        if verdict is not None:
            # Those that still run count as failed when the job has: their finalizers go once they are counted.
            work.active, work.ended = [], tally.active
            await self._delete(job, tally.active, release=False)
        else:
            error = await self._manage(work)
            verdict = counting.completed(job, tally.succeeded, len(work.active))
            if verdict is None:
                self._note_suspension(work)
        await self._track(work, verdict)
        if error is not None:
            raise error
        limit, start = job["spec"].get("activeDeadlineSeconds"), status.get("startTime")
        if limit is not None and start and verdict is None and not job["spec"].get("suspend"):
            work.again_after(max(0.01, parse_time(start) + limit - now))
        return Result(after=work.after) if work.after is not None else None

    async def _track(self, work: _Work, verdict: Verdict | None) -> None:
        """Writes what was found: first which pods are being counted and how the job will end, then, when their
        finalizers are gone, the numbers, and that it has ended once nothing runs any more."""
        job, status, tally = work.job, work.status, work.tally
        uncounted, release, complete = self._to_count(work, verdict)
        if tally.done or status.get("completedIndexes"):
            status["completedIndexes"] = indexes.write(tally.done)
        if perindex.is_used(job):
            status["failedIndexes"] = indexes.write(work.given_up)
        is_new = verdict is not None and self._note_condition(status, verdict.interim, verdict, work.now)
        terminating = len(tally.terminating) + len(work.ended)
        _set_counts(status, len(work.active), 0 if verdict is not None else tally.ready, terminating)
        if is_new or any(uncounted.values()):
            status["uncountedTerminatedPods"] = {k: v for k, v in uncounted.items() if v}
            job = work.job = await self._write(job, status)
            status = copy_object(job.get("status") or {})
        await asyncio.gather(*(self._drop_finalizer(pod) for pod in release))
        for outcome, uids in uncounted.items():
            if uids and not (outcome == "succeeded" and counting.is_indexed(job)):
                status[outcome] = int(status.get(outcome) or 0) + len(uids)
        if counting.is_indexed(job) and tally.done:
            status["succeeded"] = len(tally.done)
        status["uncountedTerminatedPods"] = {}
        over = verdict is not None and complete and not terminating
        if over and verdict is not None:
            self._note_condition(status, counting.ENDS[verdict.interim], verdict, work.now)
            if verdict.is_success:
                status["completionTime"] = format_time(work.now)
        await self._write(job, status)
        if over and verdict is not None:
            self._failures.pop(meta.uid(job), None)
            if verdict.is_success:
                self.events.event(job, "Normal", "Completed", "Job completed")
            else:
                self.events.event(job, "Warning", verdict.reason, verdict.message)

    def _to_count(self, work: _Work, verdict: Verdict | None) -> tuple[dict[str, list[str]], list[Obj], bool]:
        """(uids to count as succeeded and failed, pods that lose their finalizer, whether these are all)."""
        tally, job = work.tally, work.job
        uncounted = {k: list(v) for k, v in ((job.get("status") or {}).get("uncountedTerminatedPods") or {}).items()}
        known = {uid for uids in uncounted.values() for uid in uids}
        release = [pod for pod in work.pods if meta.uid(pod) in known and counting.has_finalizer(pod)]
        keep = set() if verdict is not None else {meta.uid(pod) for pod in work.waiting.values()}
        failed = [pod for pod in tally.fresh_failed if meta.uid(pod) not in keep]
        ignored = [pod for pod in tally.ignored if meta.uid(pod) not in keep]
        rest = []
        if verdict is not None:
            seen = known | {meta.uid(pod) for pod in (*failed, *ignored)}
            running = (*tally.active, *tally.terminating)
            rest = [p for p in running if counting.has_finalizer(p) and meta.uid(p) not in seen]
            if not verdict.is_success:
                failed, rest = [*failed, *rest], []
        fresh = [("succeeded", p) for p in tally.fresh_succeeded] + [("failed", p) for p in failed]
        for outcome, pod in fresh[:_MAX_UNCOUNTED]:
            release.append(pod)
            if outcome == "failed" or not counting.is_indexed(job):
                uncounted.setdefault(outcome, []).append(meta.uid(pod))
        return uncounted, [*release, *ignored, *rest], len(fresh) <= _MAX_UNCOUNTED

    def _note_condition(self, status: Obj, kind: str, verdict: Verdict, now: float) -> bool:
        changed = set_condition(status, kind, "True", verdict.reason, verdict.message, now)
        condition = get_condition(status, kind)
        if changed and condition is not None:
            condition["lastProbeTime"] = format_time(now)
        return changed

    def _note_suspension(self, work: _Work) -> None:
        job, status, now = work.job, work.status, work.now
        suspended = get_condition(status, "Suspended")
        if job["spec"].get("suspend"):
            if suspended is None or suspended.get("status") != "True":
                set_condition(status, "Suspended", "True", "JobSuspended", "Job suspended", now)
                status.pop("startTime", None)
                self.events.event(job, "Normal", "Suspended", "Job suspended")
        elif suspended is not None and suspended.get("status") == "True":
            set_condition(status, "Suspended", "False", "JobResumed", "Job resumed", now)
            status["startTime"] = format_time(now)
            self.events.event(job, "Normal", "Resumed", "Job resumed")

    # -- pods

    async def _manage(self, work: _Work) -> Exception | None:
        """Makes the pods that are missing, or takes away those too many; `work.active` is what runs then."""
        job, tally, now = work.job, work.tally, work.now
        active = work.active = tally.active
        wanted = counting.wanted_active(job, tally.succeeded, len(active))
        doomed = counting.superfluous(job, active)
        if (more := len(active) - len(doomed) - wanted) > 0:
            uids = {meta.uid(pod) for pod in doomed}
            rest = [pod for pod in active if meta.uid(pod) not in uids]
            doomed = [*doomed, *deletion_order(rest, {}, now)[:more]]
        if doomed:
            gone = {meta.uid(pod) for pod in doomed}
            work.active, work.ended = [pod for pod in active if meta.uid(pod) not in gone], doomed
            await self._delete(job, doomed, release=True)
            return None
        slow = job["spec"].get("podReplacementPolicy") == "Failed"
        missing = wanted - len(active) - (len(tally.terminating) if slow else 0)
        if missing <= 0:
            return None
        chosen: list[int] | None = None
        if not perindex.is_used(job):
            wait = self._backoff(job, tally, now)
            if wait > 0:
                work.again_after(wait)
                return None
        if counting.is_indexed(job):
            busy = [*active, *(tally.terminating if slow else ())]
            chosen = counting.missing_indexes(job, tally.done | work.given_up, busy, missing)
            if perindex.is_used(job):
                chosen, wait = perindex.may_start(chosen, work.waiting, now)
                if wait > 0:
                    work.again_after(wait)
        made: list[Obj] = []

        async def create(number: int) -> None:
            made.append(await self._create(work, chosen[number] if chosen is not None else None))

        _, error = await slow_start(missing if chosen is None else len(chosen), create)
        work.active = [*active, *made]
        return error

    def _backoff(self, job: Obj, tally: Tally, now: float) -> float:
        """Seconds to wait before a pod is made: ever longer after pods that failed in a row."""
        uid = meta.uid(job)
        failures, last = self._failures.get(uid, (0, 0.0))
        if tally.fresh_succeeded:
            failures = 0
        if tally.fresh_failed:
            failures, last = failures + len(tally.fresh_failed), tally.last_failure or now
        self._failures[uid] = (failures, last)
        return last + counting.retry_delay(failures) - now if failures else 0.0

    async def _create(self, work: _Work, index: int | None) -> Obj:
        job = work.job
        notes: dict[str, str] = {}
        if index is not None and perindex.is_used(job):
            notes = perindex.failures_before(job, work.waiting.get(index))
        try:
            created = await writes.create(self._client, self._pods, make_pod(job, index, notes))
        except ApiError as e:
            self.events.event(job, "Warning", "FailedCreate", f"Error creating: {e}")
            raise
        self.events.event(job, "Normal", "SuccessfulCreate", f"Created pod: {meta.name(created)}")
        return created

    async def _delete(self, job: Obj, pods: list[Obj], *, release: bool) -> None:
        """`release`: they count for nothing, so their finalizers go at once."""

        async def one(pod: Obj) -> None:
            if release:
                await self._drop_finalizer(pod)
            current = self._pods.cached(*meta.key(pod))
            if current is not None and meta.uid(current) == meta.uid(pod):
                await writes.delete(self._client, self._pods, current)
            self.events.event(job, "Normal", "SuccessfulDelete", f"Deleted pod: {meta.name(pod)}")

        await asyncio.gather(*(one(pod) for pod in pods))

    async def _drop_finalizer(self, pod: Obj) -> None:
        if FINALIZER not in (pod["metadata"].get("finalizers") or ()):
            return
        patch = {"metadata": {"uid": meta.uid(pod), "$deleteFromPrimitiveList/finalizers": [FINALIZER]}}
        try:
            new = await self._client.patch(
                self._pods.resource, meta.name(pod), patch, meta.namespace(pod), kind="strategic"
            )
        except (NotFound, Conflict):
            return
        rest = new["metadata"].get("finalizers") or meta.deletion_timestamp(new) is None
        graceful = int(new["metadata"].get("deletionGracePeriodSeconds") or 0) > 0
        if rest or graceful:
            self._pods.observe(new)
        else:
            self._pods.observe_delete(new)

    async def _release_orphan(self, namespace: str, name: str) -> None:
        """A pod whose job is gone has nobody to count it."""
        pod = self._pods.cached(namespace, name)
        if pod is None:
            return
        owner = meta.controller_of(pod)
        if owner is not None and owner.get("kind") == JOBS.kind:
            try:
                job = await self._client.get(JOBS, owner["name"], namespace)
            except NotFound:
                job = None
            if job is not None and meta.uid(job) == owner.get("uid") and not meta.deletion_timestamp(job):
                return
        await self._drop_finalizer(pod)

    async def _write(self, job: Obj, status: Obj) -> Obj:
        if status == (job.get("status") or {}):
            return job
        return await writes.update(self._client, self._jobs, {**job, "status": status}, subresource="status")
