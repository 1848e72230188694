"""Jobs and cron jobs."""

from __future__ import annotations

from stablehand.apiserver.strategies import checks
from stablehand.apiserver.strategies.base import Strategy
from stablehand.apiserver.strategies.jobpolicies import validate_policies
from stablehand.apiserver.strategies.jobstatus import validate_status
from stablehand.apiserver.strategies.metadata import immutable, validate_labels
from stablehand.apiserver.strategies.poddefaults import default_template
from stablehand.apiserver.strategies.podspec import template_labels_match, validate_template
from stablehand.apiserver.strategies.workloads import LABELS_MISMATCH
from stablehand.machinery import cron
from stablehand.machinery.fielderrors import FieldError, invalid, not_supported, required
from stablehand.machinery.types import Obj

UID_LABEL = "batch.kubernetes.io/controller-uid"
NAME_LABEL = "batch.kubernetes.io/job-name"
_OLD_UID, _OLD_NAME = "controller-uid", "job-name"
_RESTARTS = 'valid values: "OnFailure", "Never"'
_MAX_INT32 = 2**31 - 1


class JobStrategy(Strategy):
    def default(self, obj: Obj) -> None:
        spec = obj.setdefault("spec", {})
        template = spec.setdefault("template", {})
        default_template(template)
        if spec.get("completions") is None and spec.get("parallelism") is None:
            spec["completions"] = 1
        spec.setdefault("parallelism", 1)
        spec.setdefault("backoffLimit", _MAX_INT32 if spec.get("backoffLimitPerIndex") is not None else 6)
        spec.setdefault("completionMode", "NonIndexed")
        spec.setdefault("suspend", False)
        policy = "Failed" if spec.get("podFailurePolicy") is not None else "TerminatingOrFailed"
        spec.setdefault("podReplacementPolicy", policy)
        labels = (template.get("metadata") or {}).get("labels")
        if labels and not obj["metadata"].get("labels"):
            obj["metadata"]["labels"] = dict(labels)

    def initial_status(self, obj: Obj) -> None:
        obj["status"] = {}

    def prepare_create(self, obj: Obj) -> None:
        super().prepare_create(obj)
        spec, meta = obj["spec"], obj["metadata"]
        if spec.get("manualSelector"):
            return
        labels = spec["template"].setdefault("metadata", {}).setdefault("labels", {})
        uid, name = meta.get("uid", ""), meta.get("name", "")
        for key, value in ((_OLD_UID, uid), (UID_LABEL, uid), (_OLD_NAME, name), (NAME_LABEL, name)):
            labels.setdefault(key, value)
        selector = spec.setdefault("selector", {})
        selector.setdefault("matchLabels", {}).setdefault(UID_LABEL, uid)
        if not meta.get("labels"):
            meta["labels"] = dict(labels)  # what the default makes of the stored template

    def validate(self, obj: Obj) -> list[FieldError]:
        spec = obj["spec"]
        errors = validate_job_spec(spec, "spec")
        if spec.get("selector") is None:
            errors.append(required("spec.selector"))
        else:
            errors.extend(checks.label_selector(spec["selector"], "spec.selector"))
            if not template_labels_match(spec["selector"], spec["template"]):
                labels = (spec["template"].get("metadata") or {}).get("labels")
                errors.append(invalid("spec.template.metadata.labels", labels, LABELS_MISMATCH))
        return errors

    def validate_change(self, new: Obj, old: Obj) -> list[FieldError]:
        spec, before = new["spec"], old["spec"]
        errors = self.validate(new)
        completions = spec.get("completions")
        if spec.get("completionMode") != "Indexed":
            errors.extend(immutable(completions, before.get("completions"), "spec.completions"))
        elif completions not in (None, before.get("completions")) and completions != spec.get("parallelism"):
            text = "can only be modified in tandem with spec.parallelism"
            errors.append(invalid("spec.completions", completions, text))
        keys = ("selector", "completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy")
        for key in keys:
            errors.extend(immutable(spec.get(key), before.get(key), f"spec.{key}"))
        template, old_template = spec["template"], before["template"]
        started = (old.get("status") or {}).get("startTime") is not None
        if before.get("suspend") and not started:
            template = _without_directives(template)
            old_template = _without_directives(old_template)
        errors.extend(immutable(template, old_template, "spec.template"))
        return errors

    def validate_status(self, new: Obj, old: Obj) -> list[FieldError]:
        return validate_status(new, old)


def _without_directives(template: Obj) -> Obj:
    """What may change while a job is suspended and never started: where its pods go."""
    drop = ("nodeSelector", "affinity", "tolerations", "schedulingGates")
    spec = {k: v for k, v in (template.get("spec") or {}).items() if k not in drop}
    return {"spec": spec}


def validate_job_spec(spec: Obj, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for key in (
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ):
        errors.extend(checks.not_negative(spec.get(key), f"{path}.{key}"))
    mode = spec.get("completionMode")
    if mode is not None:
        errors.extend(checks.optional_one_of(mode, ("NonIndexed", "Indexed"), f"{path}.completionMode"))
        if mode == "Indexed" and spec.get("completions") is None:
            errors.append(required(f"{path}.completions", "when completion mode is Indexed"))
    template = spec.get("template") or {}
    errors.extend(validate_template(template, f"{path}.template"))
    if (template.get("spec") or {}).get("restartPolicy") not in ("OnFailure", "Never"):
        errors.append(required(f"{path}.template.spec.restartPolicy", _RESTARTS))
    policies = ("Failed", "TerminatingOrFailed")
    policy = spec.get("podReplacementPolicy")
    errors.extend(checks.optional_one_of(policy, policies, f"{path}.podReplacementPolicy"))
    return errors + validate_policies(spec, path)


class CronJobStrategy(Strategy):
    def default(self, obj: Obj) -> None:
        spec = obj.setdefault("spec", {})
        if not spec.get("concurrencyPolicy"):
            spec["concurrencyPolicy"] = "Allow"
        spec.setdefault("suspend", False)
        spec.setdefault("successfulJobsHistoryLimit", 3)
        spec.setdefault("failedJobsHistoryLimit", 1)
        default_template(spec.setdefault("jobTemplate", {}).setdefault("spec", {}).setdefault("template", {}))

    def initial_status(self, obj: Obj) -> None:
        obj["status"] = {}

    def validate_create(self, obj: Obj) -> list[FieldError]:
        errors = super().validate_create(obj)
        name = obj["metadata"].get("name") or ""
        if len(name) > 52:
            errors.append(invalid("metadata.name", name, "must be no more than 52 characters"))
        return errors

    def validate(self, obj: Obj) -> list[FieldError]:
        spec = obj["spec"]
        errors: list[FieldError] = []
        schedule = spec.get("schedule") or ""
        if not schedule:
            errors.append(required("spec.schedule"))
        else:
            errors.extend(_schedule(schedule))
        zone = spec.get("timeZone")
        if zone is not None:
            errors.extend(_zone(zone))
        for key in ("startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"):
            errors.extend(checks.not_negative(spec.get(key), f"spec.{key}"))
        allowed = ("Allow", "Forbid", "Replace")
        errors.extend(checks.one_of(spec.get("concurrencyPolicy"), allowed, "spec.concurrencyPolicy"))
        job = spec["jobTemplate"]
        labels = (job.get("metadata") or {}).get("labels") or {}
        errors.extend(validate_labels(labels, "spec.jobTemplate.metadata.labels"))
        if (job["spec"] or {}).get("manualSelector"):
            where = "spec.jobTemplate.spec.manualSelector"
            errors.append(not_supported(where, True, ("nil", "false")))
        if job["spec"].get("selector") is not None:
            text = "`selector` will be auto-generated"
            errors.append(invalid("spec.jobTemplate.spec.selector", job["spec"]["selector"], text))
        return errors + validate_job_spec(job["spec"], "spec.jobTemplate.spec")


_MACROS = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")


def _schedule(text: str) -> list[FieldError]:
    if "TZ" in text:
        return [invalid("spec.schedule", text, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead")]
    if text.startswith("@"):
        if text in _MACROS or text.startswith("@every "):
            return []
        return [invalid("spec.schedule", text, f"unrecognized descriptor: {text}")]
    try:
        cron.parse(text)
    except cron.CronError as e:
        return [invalid("spec.schedule", text, str(e))]
    return []


def _zone(zone: str) -> list[FieldError]:
    if not zone:
        return [invalid("spec.timeZone", zone, "timeZone must be nil or non-empty string")]
    if zone.lower() == "local":
        return [
            invalid(
                "spec.timeZone",
                zone,
                "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones",
            )
        ]
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError):
        return [invalid("spec.timeZone", zone, f"unknown time zone {zone}")]
    return []


STRATEGIES = {"jobs.batch": JobStrategy, "cronjobs.batch": CronJobStrategy}
