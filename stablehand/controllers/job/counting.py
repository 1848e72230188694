"""Which pods of a job count as what, when it is over, and what is missing. Pure: `now` is given."""

from __future__ import annotations

from dataclasses import dataclass, field

from stablehand.controllers.job import indexes
from stablehand.machinery import meta
from stablehand.machinery.conditions import get_condition, is_pod_ready
from stablehand.machinery.pods import is_over, phase
from stablehand.machinery.times import parse_time
from stablehand.machinery.types import Obj

FINALIZER = "batch.kubernetes.io/job-tracking"
_FIRST_BACKOFF, _LONGEST_BACKOFF = 10.0, 600.0


def is_indexed(job: Obj) -> bool:
    return job["spec"].get("completionMode") == "Indexed"


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


@dataclass(slots=True)
class Tally:
    """The pods of one look. `fresh_*` are not in the status yet; `settled` are counted there and may lose their
    finalizer."""

    active: list[Obj] = field(default_factory=list)
    terminating: int = 0
    ready: int = 0
    fresh_succeeded: list[Obj] = field(default_factory=list)
    fresh_failed: list[Obj] = field(default_factory=list)
    last_failure: float = 0.0
    ignored: list[Obj] = field(default_factory=list)
    fail_message: str | None = None  # a pod failure policy rule says that the job has failed


def tally(job: Obj, pods: list[Obj]) -> Tally:
    out = Tally()
    uncounted = (job.get("status") or {}).get("uncountedTerminatedPods") or {}
    known = {*(uncounted.get("succeeded") or ()), *(uncounted.get("failed") or ())}
    for pod in pods:
        if has_failed(job, pod):
            out.last_failure = max(out.last_failure, _finished_at(pod))
        if meta.deletion_timestamp(pod) and not is_over(pod):
            out.terminating += 1
        if not is_over(pod) and not meta.deletion_timestamp(pod):
            out.active.append(pod)
            out.ready += 1 if is_pod_ready(pod) else 0
            continue
        if FINALIZER not in (pod["metadata"].get("finalizers") or ()) or meta.uid(pod) in known:
            continue
        if has_succeeded(pod):
            out.fresh_succeeded.append(pod)
        elif has_failed(job, pod):
            action, message = failure_policy(job, pod)
            if action == "FailJob":
                out.fail_message = out.fail_message or message
            (out.ignored if action == "Ignore" else out.fresh_failed).append(pod)
    return out


def _finished_at(pod: Obj) -> float:
    times = [
        ((c.get("state") or {}).get("terminated") or {}).get("finishedAt")
        for c in (pod.get("status") or {}).get("containerStatuses") or ()
    ]
    known = [parse_time(t) for t in times if t]
    fallback = meta.deletion_timestamp(pod) or pod["metadata"].get("creationTimestamp")
    return max(known) if known else parse_time(fallback) if fallback else 0.0


def failure_policy(job: Obj, pod: Obj) -> tuple[str, str]:
    """What the job's podFailurePolicy says about a failed pod: FailJob, Ignore or Count."""
    status = pod.get("status") or {}
    for number, rule in enumerate((job["spec"].get("podFailurePolicy") or {}).get("rules") or ()):
        where = f"Pod {meta.namespace(pod)}/{meta.name(pod)}"
        codes = rule.get("onExitCodes")
        if codes:
            for container in [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]:
                if codes.get("containerName") and codes["containerName"] != container.get("name"):
                    continue
                code = ((container.get("state") or {}).get("terminated") or {}).get("exitCode") or 0
                if code and (code in (codes.get("values") or ())) == (codes.get("operator") == "In"):
                    text = (
                        f"Container {container.get('name')} for pod {meta.namespace(pod)}/{meta.name(pod)} failed with "
                        f"exit code {code} matching {rule.get('action')} rule at index {number}"
                    )
                    return rule.get("action") or "Count", text
        for pattern in rule.get("onPodConditions") or ():
            condition = get_condition(status, pattern.get("type") or "")
            if condition is not None and condition.get("status") == (pattern.get("status") or "True"):
                text = (
                    f"{where} has condition {pattern.get('type')} matching {rule.get('action')} rule at index {number}"
                )
                return rule.get("action") or "Count", text
    return "Count", ""


@dataclass(slots=True)
class Verdict:
    """Why a job is over."""

    kind: str  # "Complete" or "Failed"
    reason: str
    message: str


def verdict(job: Obj, status: Obj, tally_: Tally, now: float) -> Verdict | None:
    """Is the job over, given a status that counts everything?"""
    succeeded, failed = int(status.get("succeeded") or 0), int(status.get("failed") or 0)
    if tally_.fail_message is not None:
        return Verdict("Failed", "PodFailurePolicy", tally_.fail_message)
    if failed > backoff_limit(job) or _restarts_exceed(job, tally_.active):
        return Verdict("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
    if past_deadline(job, status, now):
        return Verdict("Failed", "DeadlineExceeded", "Job was active longer than specified deadline")
    completions = job["spec"].get("completions")
    if completions is None:
        done = succeeded > 0 and not tally_.active
    else:
        done = succeeded >= int(completions) and not (is_indexed(job) is False and tally_.active)
    return Verdict("Complete", "CompletionsReached", "Reached expected number of succeeded pods") if done else None


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


def wanted_active(job: Obj, status: Obj, active: int) -> int:
    """How many pods should run now."""
    if job["spec"].get("suspend"):
        return 0
    completions, succeeded = job["spec"].get("completions"), int(status.get("succeeded") or 0)
    if completions is None:
        return active if succeeded > 0 else parallelism(job)
    return min(max(0, int(completions) - succeeded), parallelism(job))


def missing_indexes(job: Obj, status: Obj, active: list[Obj], count: int) -> list[int]:
    """The lowest indexes that are neither done nor being worked on."""
    done = indexes.parse(status.get("completedIndexes"))
    busy = {indexes.of(pod) for pod in active}
    free = (i for i in range(int(job["spec"].get("completions") or 0)) if i not in done and i not in busy)
    return [index for index, _ in zip(free, range(count))]


def retry_delay(failures: int) -> float:
    return 0.0 if failures <= 0 else min(_LONGEST_BACKOFF, _FIRST_BACKOFF * 2.0 ** min(failures - 1, 20))
