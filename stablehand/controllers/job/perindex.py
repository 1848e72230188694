"""Failures counted for each completion index by itself (backoffLimitPerIndex, KEP-3850). Pure: `now` is given.

How often an index has failed is written on its pods: a replacement's annotation counts those before it. So the last
failed pod of an index keeps its finalizer until the replacement is there.
"""

from __future__ import annotations

from stablehand.controllers.job import indexes
from stablehand.controllers.job.counting import FINALIZER, finished_at, has_failed, retry_delay
from stablehand.controllers.job.policies import failure_action
from stablehand.machinery import meta
from stablehand.machinery.types import Obj

FAILURES = "batch.kubernetes.io/job-index-failure-count"
IGNORED = "batch.kubernetes.io/job-index-ignored-failure-count"


def is_used(job: Obj) -> bool:
    return job["spec"].get("backoffLimitPerIndex") is not None


def _count(pod: Obj, annotation: str) -> int:
    value = meta.annotations(pod).get(annotation) or ""
    return int(value) if value.isdigit() else 0


def _all_failures(pod: Obj) -> int:
    return _count(pod, FAILURES) + _count(pod, IGNORED)


def _failed_with_finalizer(job: Obj, pods: list[Obj]) -> list[tuple[int, Obj]]:
    completions = int(job["spec"].get("completions") or 0)
    found = []
    for pod in pods:
        index = indexes.of(pod)
        if index is None or index >= completions or FINALIZER not in (pod["metadata"].get("finalizers") or ()):
            continue
        if has_failed(job, pod):
            found.append((index, pod))
    return found


def failed_indexes(job: Obj, pods: list[Obj]) -> set[int]:
    """The indexes that are given up: those of the status, and those whose failed pods say so."""
    completions, limit = int(job["spec"].get("completions") or 0), int(job["spec"].get("backoffLimitPerIndex") or 0)
    out = {i for i in indexes.parse((job.get("status") or {}).get("failedIndexes")) if i < completions}
    for index, pod in _failed_with_finalizer(job, pods):
        action, _ = failure_action(job, pod)
        if action == "FailIndex" or (action != "Ignore" and _count(pod, FAILURES) >= limit):
            out.add(index)
    return out


def waiting_for_replacement(job: Obj, pods: list[Obj], active: list[Obj], settled: set[int]) -> dict[int, Obj]:
    """By index, the last failed pod that its replacement will count from. `settled` indexes get none."""
    busy = {indexes.of(pod) for pod in active}
    out: dict[int, Obj] = {}
    for index, pod in _failed_with_finalizer(job, pods):
        if index in settled or index in busy:
            continue
        known = out.get(index)
        if known is None or (_all_failures(known), finished_at(known)) <= (_all_failures(pod), finished_at(pod)):
            out[index] = pod
    return out


def may_start(wanted: list[int], waiting: dict[int, Obj], now: float) -> tuple[list[int], float]:
    """Of the wanted indexes those whose back-off is over, and the seconds until the next one's is (0: none waits)."""
    ready, waits = [], []
    for index in wanted:
        pod = waiting.get(index)
        left = finished_at(pod) + retry_delay(_all_failures(pod) + 1) - now if pod is not None else 0.0
        if left > 0:
            waits.append(left)
        else:
            ready.append(index)
    return ready, min(waits, default=0.0)


def failures_before(job: Obj, replaced: Obj | None) -> dict[str, str]:
    """What a new pod says of the failures before it."""
    failures = _count(replaced, FAILURES) if replaced is not None else 0
    ignored = _count(replaced, IGNORED) if replaced is not None else 0
    if replaced is not None:
        if failure_action(job, replaced)[0] == "Ignore":
            ignored += 1
        else:
            failures += 1
    return {FAILURES: str(failures), **({IGNORED: str(ignored)} if ignored else {})}
