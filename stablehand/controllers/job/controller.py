"""Runs the pods of jobs, and counts each that ends exactly once, whatever crashes in between.

A pod keeps a finalizer until its end is counted: first its uid goes into status.uncountedTerminatedPods, then the
finalizer goes, then the uid becomes a number.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from stablehand.client import ApiError, Client, Conflict, NotFound
from stablehand.controllers.job import counting, indexes
from stablehand.controllers.job.counting import FINALIZER, Tally, Verdict
from stablehand.machinery import meta
from stablehand.machinery.conditions import get_condition, set_condition
from stablehand.machinery.hashing import random_suffix
from stablehand.machinery.pods import change_matters, deletion_order
from stablehand.machinery.podtemplates import pod_from_template
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
        over = counting.is_finished(job)
        if over:
            for pod in pods:
                if FINALIZER in (pod["metadata"].get("finalizers") or ()):
                    await self._drop_finalizer(pod)
            return None
        status = copy_object(job.get("status") or {})
        self._note_suspension(job, status, now)
        if not status.get("startTime") and not job["spec"].get("suspend"):
            status["startTime"] = format_time(now)
        tally = counting.tally(job, pods)
        job, status = await self._count(job, status, pods, tally)
        verdict = counting.verdict(job, status, tally, now)
        error: Exception | None = None
        after: float | None = None
        active = tally.active
        if verdict is not None:
            if verdict.kind == "Failed" or counting.is_indexed(job):
                await self._delete(job, active)
                status["terminating"] = tally.terminating + len(active)
                active = []
            self._conclude(job, status, verdict, now)
        else:
            active, error, after = await self._manage(job, status, tally, now)
        status["active"], status["ready"] = len(active), tally.ready if verdict is None else 0
        status.setdefault("terminating", 0)
        if verdict is None:
            status["terminating"] = tally.terminating
        status.pop("active", None) if not status["active"] else None
        await self._write(job, status)
        if verdict is not None:
            self.events.event(
                job,
                "Normal" if verdict.kind == "Complete" else "Warning",
                "Completed" if verdict.kind == "Complete" else verdict.reason,
                "Job completed" if verdict.kind == "Complete" else verdict.message,
            )
        if error is not None:
            raise error
        limit, start = job["spec"].get("activeDeadlineSeconds"), status.get("startTime")
        if limit is not None and start and verdict is None and not job["spec"].get("suspend"):
            left = max(0.01, parse_time(start) + limit - now)
            after = left if after is None else min(after, left)
        return Result(after=after) if after is not None else None

    async def _count(self, job: Obj, status: Obj, pods: list[Obj], tally: Tally) -> tuple[Obj, Obj]:
        """Turns pods that ended into numbers, in two steps that survive a crash between them."""
        uncounted = {k: list(v) for k, v in (status.get("uncountedTerminatedPods") or {}).items()}
        room = _MAX_UNCOUNTED
        by_uid = {meta.uid(pod): pod for pod in pods}
        for field, fresh in (("succeeded", tally.fresh_succeeded), ("failed", tally.fresh_failed)):
            for pod in fresh[:room]:
                uncounted.setdefault(field, []).append(meta.uid(pod))
        done = indexes.parse(status.get("completedIndexes"))
        if counting.is_indexed(job):
            for pod in tally.fresh_succeeded:
                index = indexes.of(pod)
                if index is not None and index < int(job["spec"].get("completions") or 0):
                    done.add(index)
            if done:
                status["completedIndexes"] = indexes.write(done)
        if any(uncounted.values()):
            status["uncountedTerminatedPods"] = {k: v for k, v in uncounted.items() if v}
            job = await self._write(job, status)
            status = copy_object(job.get("status") or {})
            marked = [by_uid[uid] for uids in uncounted.values() for uid in uids if uid in by_uid]
            await asyncio.gather(*(self._drop_finalizer(pod) for pod in marked))
            if not counting.is_indexed(job):
                status["succeeded"] = int(status.get("succeeded") or 0) + len(uncounted.get("succeeded", ()))
            status["failed"] = int(status.get("failed") or 0) + len(uncounted.get("failed", ()))
            for field in ("succeeded", "failed"):
                if not status.get(field):
                    status.pop(field, None)
        status["uncountedTerminatedPods"] = {}
        if counting.is_indexed(job) and done:
            status["succeeded"] = len(done)
        await asyncio.gather(*(self._drop_finalizer(pod) for pod in tally.ignored))
        return job, status

    def _note_suspension(self, job: Obj, status: Obj, now: float) -> None:
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

    def _conclude(self, job: Obj, status: Obj, verdict: Verdict, now: float) -> None:
        first = "SuccessCriteriaMet" if verdict.kind == "Complete" else "FailureTarget"
        for kind in (first, verdict.kind):
            set_condition(status, kind, "True", verdict.reason, verdict.message, now)
            condition = get_condition(status, kind)
            if condition is not None:
                condition["lastProbeTime"] = format_time(now)
        if verdict.kind == "Complete":
            status["completionTime"] = format_time(now)
        self._failures.pop(meta.uid(job), None)

    # -- pods

    async def _manage(
        self, job: Obj, status: Obj, tally: Tally, now: float
    ) -> tuple[list[Obj], Exception | None, float | None]:
        active = tally.active
        wanted = counting.wanted_active(job, status, len(active))
        if len(active) > wanted:
            doomed = deletion_order(active, {}, now)[: len(active) - wanted]
            await self._delete(job, doomed)
            gone = {meta.uid(pod) for pod in doomed}
            return [pod for pod in active if meta.uid(pod) not in gone], None, None
        missing = wanted - len(active)
        if job["spec"].get("podReplacementPolicy") == "Failed":
            missing -= tally.terminating
        if missing <= 0:
            return active, None, None
        wait = self._backoff(job, status, tally, now)
        if wait > 0:
            return active, None, wait
        made: list[Obj] = []
        chosen = counting.missing_indexes(job, status, active, missing) if counting.is_indexed(job) else None
        count = missing if chosen is None else len(chosen)

        async def create(number: int) -> None:
            made.append(await self._create(job, chosen[number] if chosen is not None else None))

        _, error = await slow_start(count, create)
        return [*active, *made], error, None

    def _backoff(self, job: Obj, status: Obj, tally: Tally, now: float) -> float:
        """Seconds to wait before a pod is made: ever longer after pods that failed in a row."""
        uid = meta.uid(job)
        failures, last = self._failures.get(uid, (0, 0.0))
        if tally.fresh_succeeded:
            failures = 0
        if tally.fresh_failed:
            failures, last = failures + len(tally.fresh_failed), tally.last_failure or now
        self._failures[uid] = (failures, last)
        return last + counting.retry_delay(failures) - now if failures else 0.0

    async def _create(self, job: Obj, index: int | None) -> Obj:
        pod = pod_from_template(job["spec"]["template"], job)
        metadata = pod["metadata"]
        metadata["finalizers"] = [*metadata.get("finalizers", ()), FINALIZER]
        if index is not None:
            metadata.setdefault("annotations", {})[indexes.INDEX] = str(index)
            metadata["labels"][indexes.INDEX] = str(index)
            base = f"{meta.name(job)}-{index}"
            metadata["name"] = f"{base[:57]}-{random_suffix()}"
            metadata["generateName"] = f"{base}-"
            pod["spec"].setdefault("hostname", base)
            field = {"fieldRef": {"fieldPath": f"metadata.labels['{indexes.INDEX}']"}}
            for container in [*(pod["spec"].get("containers") or ()), *(pod["spec"].get("initContainers") or ())]:
                env = container.setdefault("env", []) or []
                container["env"] = env
                if not any(e.get("name") == "JOB_COMPLETION_INDEX" for e in env):
                    env.append({"name": "JOB_COMPLETION_INDEX", "valueFrom": field})
        try:
            created = await writes.create(self._client, self._pods, pod)
        except ApiError as e:
            self.events.event(job, "Warning", "FailedCreate", f"Error creating: {e}")
            raise
        self.events.event(job, "Normal", "SuccessfulCreate", f"Created pod: {meta.name(created)}")
        return created

    async def _delete(self, job: Obj, pods: list[Obj]) -> None:
        async def one(pod: Obj) -> None:
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
