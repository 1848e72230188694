"""Which pods of a job count as what, when it is over, and what is missing. Pure: `now` is given."""

from __future__ import annotations

from dataclasses import dataclass, field

from stablehand.controllers.job import indexes
from stablehand.controllers.job.policies import failure_action, success_met
from stablehand.machinery import meta
from stablehand.machinery.conditions import get_condition, is_pod_ready
from stablehand.machinery.pods import is_over, phase
from stablehand.machinery.times import parse_time
from stablehand.machinery.types import Obj

FINALIZER = "batch.kubernetes.io/job-tracking"
_FIRST_BACKOFF, _LONGEST_BACKOFF = 10.0, 600.0
# The interim condition that says how a job will end -> the condition that says that it has.
ENDS = {"SuccessCriteriaMet": "Complete", "FailureTarget": "Failed"}


def is_indexed(job: Obj) -> bool:
    return bool(job["spec"].get("completionMode") == "Indexed")


def parallelism(job: Obj) -> int:
    value = job["spec"].get("parallelism")
    return 1 if value is None else int(value)


def backoff_limit(job: Obj) -> int:
    value = job["spec"].get("backoffLimit")
    return 6 if value is None else int(value)


def is_finished(job: Obj) -> str | None:
    """ "Complete" or "Failed" once that is so."""
    for kind in ("Complete", "Failed"):
        condition = get_condition(job.get("status"), kind)
        if condition is not None and condition.get("status") == "True":
            return kind
    return None


def has_succeeded(pod: Obj) -> bool:
    return phase(pod) == "Succeeded"


def has_failed(job: Obj, pod: Obj) -> bool:
    """Failed, or being deleted before it succeeded (unless the job replaces only what has failed)."""
    if phase(pod) == "Failed":
        return True
    if job["spec"].get("podReplacementPolicy") == "Failed":
        return False
    return bool(meta.deletion_timestamp(pod)) and not has_succeeded(pod)


def has_finalizer(pod: Obj) -> bool:
    return FINALIZER in (pod["metadata"].get("finalizers") or ())


@dataclass(slots=True)
class Tally:
    """The pods of one look. `fresh_*` carry the finalizer and are in no number of the status yet; of those that failed,
    a failure policy may have some not count."""

    active: list[Obj] = field(default_factory=list)
    terminating: list[Obj] = field(default_factory=list)
    ready: int = 0
    fresh_succeeded: list[Obj] = field(default_factory=list)
    fresh_failed: list[Obj] = field(default_factory=list)
    ignored: list[Obj] = field(default_factory=list)
    last_failure: float = 0.0
    fail_message: str | None = None  # a pod failure policy rule says that the job has failed
    succeeded: int = 0  # all, fresh ones included
    failed: int = 0
    done: set[int] = field(default_factory=set)  # completed indexes


def tally(job: Obj, pods: list[Obj]) -> Tally:
    out = Tally()
    status = job.get("status") or {}
    uncounted = status.get("uncountedTerminatedPods") or {}
    counted_good, counted_bad = set(uncounted.get("succeeded") or ()), set(uncounted.get("failed") or ())
    completions = int(job["spec"].get("completions") or 0)
    out.done = {i for i in indexes.parse(status.get("completedIndexes")) if i < completions}
    for pod in pods:
        failed = has_failed(job, pod)
        if failed:
            out.last_failure = max(out.last_failure, finished_at(pod))
            action, message = failure_action(job, pod)
            if action == "FailJob":
                out.fail_message = out.fail_message or message
        if meta.deletion_timestamp(pod) and not is_over(pod):
            out.terminating.append(pod)
        elif not is_over(pod):
            out.active.append(pod)
            out.ready += 1 if is_pod_ready(pod) else 0
        if not has_finalizer(pod) or meta.uid(pod) in counted_bad:
            continue
        if has_succeeded(pod):
            if is_indexed(job) and (index := indexes.of(pod)) is not None and index < completions:
                out.done.add(index)
            if meta.uid(pod) not in counted_good:
                out.fresh_succeeded.append(pod)
        elif failed:
            (out.ignored if action == "Ignore" else out.fresh_failed).append(pod)
    out.failed = int(status.get("failed") or 0) + len(counted_bad) + len(out.fresh_failed)
    if is_indexed(job):
        out.succeeded = len(out.done)
    else:
        out.succeeded = int(status.get("succeeded") or 0) + len(counted_good) + len(out.fresh_succeeded)
    return out


def finished_at(pod: Obj) -> float:
    """When a pod ended, in Unix seconds: its last container, or its deletion."""
    times = [
        ((c.get("state") or {}).get("terminated") or {}).get("finishedAt")
        for c in (pod.get("status") or {}).get("containerStatuses") or ()
    ]
    known = [parse_time(t) for t in times if t]
    fallback = meta.deletion_timestamp(pod) or pod["metadata"].get("creationTimestamp")
    return max(known) if known else parse_time(fallback) if fallback else 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a job will end, and why: `interim` is "SuccessCriteriaMet" or "FailureTarget"."""

    interim: str
    reason: str
    message: str

    @property
    def is_success(self) -> bool:
        return self.interim == "SuccessCriteriaMet"


def verdict(job: Obj, tally_: Tally, failed_indexes: set[int], now: float) -> Verdict | None:
    """Is the outcome known, before its pods are looked after? That all work is done, `completed` tells afterwards."""
    status, spec = job.get("status") or {}, job["spec"]
    for interim in ENDS:
        condition = get_condition(status, interim)
        if condition is not None and condition.get("status") == "True":
            return Verdict(interim, condition.get("reason") or "", condition.get("message") or "")
    if tally_.fail_message is not None:
        return Verdict("FailureTarget", "PodFailurePolicy", tally_.fail_message)
    if tally_.failed > backoff_limit(job) or _restarts_exceed(job, tally_.active):
        return Verdict("FailureTarget", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
    if past_deadline(job, status, now):
        return Verdict("FailureTarget", "DeadlineExceeded", "Job was active longer than specified deadline")
    if failed_indexes:
        most = spec.get("maxFailedIndexes")
        if most is not None and len(failed_indexes) > int(most):
            text = "Job has exceeded the specified maximal number of failed indexes"
            return Verdict("FailureTarget", "MaxFailedIndexesExceeded", text)
        if len(failed_indexes) + len(tally_.done) >= int(spec.get("completions") or 0):
            return Verdict("FailureTarget", "FailedIndexes", "Job has failed indexes")
    if is_indexed(job) and (text_ := success_met(job, tally_.done)) is not None:
        return Verdict("SuccessCriteriaMet", "SuccessPolicy", text_)
    return None


def completed(job: Obj, succeeded: int, active: int) -> Verdict | None:
    """Is all done, with nothing running any more?"""
    completions = job["spec"].get("completions")
    enough = succeeded > 0 if completions is None else succeeded >= int(completions)
    if not enough or active:
        return None
    return Verdict("SuccessCriteriaMet", "CompletionsReached", "Reached expected number of succeeded pods")


def _restarts_exceed(job: Obj, active: list[Obj]) -> bool:
    """With restartPolicy OnFailure, restarts of containers count against the limit."""
    if (job["spec"]["template"].get("spec") or {}).get("restartPolicy") != "OnFailure":
        return False
    total = 0
    for pod in active:
        status = pod.get("status") or {}
        for field_ in ("initContainerStatuses", "containerStatuses"):
            total += sum(int(c.get("restartCount") or 0) for c in status.get(field_) or ())
    limit = backoff_limit(job)
    return total > 0 if limit == 0 else total >= limit


def past_deadline(job: Obj, status: Obj, now: float) -> bool:
    limit, start = job["spec"].get("activeDeadlineSeconds"), status.get("startTime")
    if limit is None or not start or job["spec"].get("suspend"):
        return False
    return now >= parse_time(start) + float(limit)


def wanted_active(job: Obj, succeeded: int, active: int) -> int:
    """How many pods should run now."""
    if job["spec"].get("suspend"):
        return 0
    completions = job["spec"].get("completions")
    if completions is None:
        return active if succeeded > 0 else parallelism(job)
    return min(max(0, int(completions) - succeeded), parallelism(job))


def superfluous(job: Obj, active: list[Obj]) -> list[Obj]:
    """Of an Indexed job's running pods those without a task of their own: beyond the completions, or second of an index."""
    if not is_indexed(job):
        return []
    completions, seen, out = int(job["spec"].get("completions") or 0), set(), []
    for pod in sorted(active, key=lambda p: (not is_pod_ready(p), p["metadata"].get("creationTimestamp") or "")):
        index = indexes.of(pod)
        if index is None or index >= completions or index in seen:
            out.append(pod)
        seen.add(index)
    return out


def missing_indexes(job: Obj, done: set[int], busy: list[Obj], count: int) -> list[int]:
    """The lowest indexes that are neither done (or given up) nor being worked on."""
    taken = {indexes.of(pod) for pod in busy}
    free = (i for i in range(int(job["spec"].get("completions") or 0)) if i not in done and i not in taken)
    return [index for index, _ in zip(free, range(count))]


def retry_delay(failures: int) -> float:
    return 0.0 if failures <= 0 else min(_LONGEST_BACKOFF, _FIRST_BACKOFF * 2.0 ** min(failures - 1, 20))
