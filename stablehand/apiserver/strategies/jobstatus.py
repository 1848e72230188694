"""What a Job's status may say, and how it may change: whoever manages the Job (spec.managedBy), its parts must fit
together. Each rule holds where what it is about changed, as upstream has it (pkg/registry/batch/job/strategy.go)."""

from __future__ import annotations

from typing import Any

from stablehand.apiserver.strategies.workloads import counters
from stablehand.machinery.fielderrors import OMIT, FieldError, duplicate, invalid, required
from stablehand.machinery.times import parse_time
from stablehand.machinery.types import Obj

_COUNTERS = ("active", "succeeded", "failed", "ready", "terminating")
_CONDITIONS = "status.conditions"


def _true(status: Obj, kind: str) -> bool:
    return any(c.get("type") == kind and c.get("status") == "True" for c in status.get("conditions") or ())


class _Change:
    """One status update: `changed(...)` says whether any of these conditions or fields differ."""

    def __init__(self, new: Obj, old: Obj) -> None:
        self.spec = new.get("spec") or {}
        self.now, self.before = new.get("status") or {}, old.get("status") or {}

    def is_true(self, kind: str) -> bool:
        return _true(self.now, kind)

    def turned(self, *kinds: str) -> bool:
        return any(_true(self.now, kind) != _true(self.before, kind) for kind in kinds)

    def changed(self, *fields: str) -> bool:
        return any((self.now.get(f) or None) != (self.before.get(f) or None) for f in fields)

    @property
    def finished(self) -> bool:
        return self.is_true("Complete") or self.is_true("Failed")

    @property
    def finish_changed(self) -> bool:
        was = _true(self.before, "Complete") or _true(self.before, "Failed")
        return was != self.finished


def validate_status(new: Obj, old: Obj) -> list[FieldError]:
    change = _Change(new, old)
    errors = counters(change.now, _COUNTERS)
    errors.extend(_uncounted(change.now.get("uncountedTerminatedPods") or {}))
    errors.extend(_together(change))
    errors.extend(_times(change))
    errors.extend(_finished(change))
    errors.extend(_indexes(change))
    if change.changed("ready", "active"):
        ready = change.now.get("ready")
        if ready is not None and ready > (change.now.get("active") or 0):
            errors.append(invalid("status.ready", ready, "cannot set more ready pods than active"))
    return errors + _steps(change)


def _uncounted(pods: Obj) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for field in ("succeeded", "failed"):
        for index, uid in enumerate(pods.get(field) or ()):
            path = f"status.uncountedTerminatedPods.{field}[{index}]"
            if not uid:
                errors.append(invalid(path, uid, "must not be empty"))
            elif uid in seen:
                errors.append(duplicate(path, uid))
            seen.add(uid)
    return errors


def _together(change: _Change) -> list[FieldError]:
    """Conditions that exclude or need one another."""
    texts = []
    complete, failed = change.is_true("Complete"), change.is_true("Failed")
    target, met = change.is_true("FailureTarget"), change.is_true("SuccessCriteriaMet")
    if change.turned("Complete", "Failed") and complete and failed:
        texts.append("cannot set Complete=True and Failed=true conditions")
    if change.turned("Complete", "FailureTarget") and complete and target:
        texts.append("cannot set Complete=True and FailureTarget=true conditions")
    if (change.turned("Failed") or change.changed("failedIndexes")) and failed and not target:
        texts.append("cannot set Failed=True condition without the FailureTarget=true condition")
    if change.turned("Complete", "SuccessCriteriaMet") and complete and not met:
        texts.append("cannot set Complete=True condition without the SuccessCriteriaMet=true condition")
    if met and failed:
        texts.append("cannot set SuccessCriteriaMet=True and Failed=true conditions")
    if met and target:
        texts.append("cannot set SuccessCriteriaMet=True and FailureTarget=true conditions")
    if change.spec.get("successPolicy") is not None and complete and not met:
        texts.append("cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True")
    return [invalid(_CONDITIONS, OMIT, text) for text in texts]


def _times(change: _Change) -> list[FieldError]:
    errors: list[FieldError] = []
    path = "status.completionTime"
    ended, begun = change.now.get("completionTime"), change.now.get("startTime")
    complete = change.is_true("Complete")
    if change.turned("Complete") or change.changed("completionTime"):
        if ended and not complete:
            text = "cannot set completionTime when there is no Complete=True condition"
            errors.append(invalid(path, ended, text))
        if complete and not ended:
            errors.append(required(path, "completionTime is required for Complete jobs"))
    if change.changed("startTime", "completionTime") and ended and begun and parse_time(ended) < parse_time(begun):
        errors.append(invalid(path, ended, "must be equal to or after `startTime`"))
    return errors


def _finished(change: _Change) -> list[FieldError]:
    if not change.finished:
        return []
    errors: list[FieldError] = []
    now, turned = change.now, change.finish_changed
    if (turned or change.changed("active")) and (now.get("active") or 0) > 0:
        errors.append(invalid("status.active", now["active"], "active>0 is invalid for finished job"))
    never_ran = bool(change.spec.get("suspend")) and change.spec.get("completions") == 0
    if (turned or change.changed("startTime")) and not never_ran and not now.get("startTime"):
        errors.append(required("status.startTime", "startTime is required for finished job"))
    pods = now.get("uncountedTerminatedPods") or {}
    if (turned or change.changed("uncountedTerminatedPods")) and (pods.get("failed") or pods.get("succeeded")):
        errors.append(invalid("status.uncountedTerminatedPods", pods, "must be empty for finished job"))
    if (turned or change.changed("terminating")) and (now.get("terminating") or 0) > 0:
        errors.append(invalid("status.terminating", now["terminating"], "terminating>0 is invalid for finished job"))
    return errors


def _indexes(change: _Change) -> list[FieldError]:
    errors: list[FieldError] = []
    spec, now = change.spec, change.now
    completed, failed = now.get("completedIndexes") or "", now.get("failedIndexes")
    completions = spec.get("completions")
    completed_path, failed_path = "status.completedIndexes", "status.failedIndexes"
    if change.changed("completedIndexes"):
        if completions is not None and (why := parse_indexes(completed, completions)[1]):
            errors.append(invalid(completed_path, completed, f"error parsing completedIndexes: {why}"))
        if completed and spec.get("completionMode") != "Indexed":
            text = "cannot set non-empty completedIndexes when non-indexed completion mode"
            errors.append(invalid(completed_path, completed, text))
    per_index = spec.get("backoffLimitPerIndex")
    if change.changed("failedIndexes") and failed is not None:
        if completions is not None and per_index is not None and (why := parse_indexes(failed, completions)[1]):
            errors.append(invalid(failed_path, failed, f"error parsing failedIndexes: {why}"))
        if per_index is None:
            text = "cannot set non-null failedIndexes when backoffLimitPerIndex is null"
            errors.append(invalid(failed_path, failed, text))
    if change.changed("failedIndexes", "completedIndexes") and completions is not None and failed:
        if (
            at := _overlap(parse_indexes(completed, completions)[0], parse_indexes(failed, completions)[0])
        ) is not None:
            text = f"failedIndexes and completedIndexes overlap at index: {at}"
            errors.append(invalid(failed_path, failed, text))
    return errors


def parse_indexes(text: str, completions: int) -> tuple[list[tuple[int, int]], str]:
    """The intervals of "1,3-5", as far as they could be read, and what is wrong with them ("": nothing)."""
    found: list[tuple[int, int]] = []
    for piece in text.split(",") if text else ():
        parts = piece.split("-")
        if len(parts) > 2:
            return (
                found,
                f"the fragment \"{piece}\" violates the requirement that an index interval can have at most two parts separated by '-'",
            )
        numbers: list[int] = []
        for part in parts:
            if not part.isdigit():
                return found, f'cannot convert string to integer for index: "{part}"'
            if int(part) >= completions:
                return found, f'too large index: "{part}"'
            numbers.append(int(part))
        if len(numbers) == 2 and numbers[0] >= numbers[1]:
            return found, f"non-increasing order, previous: {numbers[0]}, current: {numbers[1]}"
        if found and found[-1][1] >= numbers[0]:
            return found, f"non-increasing order, previous: {found[-1][1]}, current: {numbers[0]}"
        found.append((numbers[0], numbers[-1]))
    return found, ""


def _overlap(one: list[tuple[int, int]], other: list[tuple[int, int]]) -> int | None:
    i = j = 0
    while i < len(one) and j < len(other):
        if one[i][0] <= other[j][1] and other[j][0] <= one[i][1]:
            return max(one[i][0], other[j][0])
        if one[i][0] <= other[j][0]:
            i += 1
        else:
            j += 1
    return None


def _steps(change: _Change) -> list[FieldError]:
    """What may not be taken back."""
    errors: list[FieldError] = []
    now, before, spec = change.now, change.before, change.spec
    for kind in ("Failed", "Complete", "FailureTarget"):
        if _true(before, kind) and not change.is_true(kind):
            errors.append(invalid(_CONDITIONS, OMIT, f"cannot disable the terminal {kind}=True condition"))
    if (now.get("failed") or 0) < (before.get("failed") or 0):
        errors.append(invalid("status.failed", now.get("failed") or 0, "cannot decrease the failed counter"))
    elastic = spec.get("completionMode") == "Indexed" and spec.get("completions") == spec.get("parallelism")
    if not elastic and (now.get("succeeded") or 0) < (before.get("succeeded") or 0):
        errors.append(invalid("status.succeeded", now.get("succeeded") or 0, "cannot decrease the succeeded counter"))
    ended: Any = before.get("completionTime")
    if ended and now.get("completionTime") and now["completionTime"] != ended:
        errors.append(invalid("status.completionTime", now["completionTime"], "field is immutable"))
    resumed = _true(before, "Suspended") and not change.is_true("Suspended")
    if before.get("startTime") and change.changed("startTime") and not resumed and not spec.get("suspend"):
        errors.append(required("status.startTime", "startTime cannot be removed for unsuspended job"))
    if _true(before, "SuccessCriteriaMet") and not change.is_true("SuccessCriteriaMet"):
        errors.append(invalid(_CONDITIONS, OMIT, "cannot disable the SuccessCriteriaMet=True condition"))
    if _true(before, "Complete") and not _true(before, "SuccessCriteriaMet") and change.is_true("SuccessCriteriaMet"):
        text = "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions"
        errors.append(invalid(_CONDITIONS, OMIT, text))
    return errors
