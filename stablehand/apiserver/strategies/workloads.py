"""Replica sets, replication controllers, pod templates and controller revisions, and what all workloads share."""

from __future__ import annotations

from stablehand.apiserver.strategies import checks
from stablehand.apiserver.strategies.base import Strategy
from stablehand.apiserver.strategies.metadata import immutable
from stablehand.apiserver.strategies.poddefaults import default_template
from stablehand.apiserver.strategies.podspec import template_labels_match, validate_template
from stablehand.machinery.fielderrors import FieldError, forbidden, invalid, not_supported, required
from stablehand.machinery.types import Obj

LABELS_MISMATCH = "`selector` does not match template `labels`"


class WorkloadStrategy(Strategy):
    """A kind with spec.template."""

    empty_selector = "deployment"  # what "empty selector is invalid for" names

    def default(self, obj: Obj) -> None:
        spec = obj.setdefault("spec", {})
        default_template(spec.setdefault("template", {}))
        self.default_spec(obj, spec)

    def default_spec(self, obj: Obj, spec: Obj) -> None:
        """The kind's own fields."""

    def selector_errors(self, spec: Obj) -> list[FieldError]:
        selector = spec.get("selector")
        if selector is None:
            return [required("spec.selector")]
        errors = checks.label_selector(selector, "spec.selector")
        if checks.empty_selector(selector):
            text = f"empty selector is invalid for {self.empty_selector}"
            errors.append(invalid("spec.selector", selector, text))
        elif not template_labels_match(selector, spec["template"]):
            labels = (spec["template"].get("metadata") or {}).get("labels")
            errors.append(invalid("spec.template.metadata.labels", labels, LABELS_MISMATCH))
        return errors

    def template_errors(self, spec: Obj, kind: str) -> list[FieldError]:
        errors = validate_template(spec["template"], "spec.template")
        errors.extend(always_running(spec["template"], kind))
        return errors


def always_running(template: Obj, kind: str) -> list[FieldError]:
    """Pods that must run for ever."""
    pod = template.get("spec") or {}
    errors = []
    policy = pod.get("restartPolicy")
    if policy not in ("Always", None):
        errors.append(not_supported("spec.template.spec.restartPolicy", policy, ("Always",)))
    if pod.get("activeDeadlineSeconds") is not None:
        text = f"activeDeadlineSeconds in {kind} is not Supported"
        errors.append(forbidden("spec.template.spec.activeDeadlineSeconds", text))
    return errors


def counters(status: Obj, names: tuple[str, ...]) -> list[FieldError]:
    """Status counters: none negative."""
    return [error for name in names for error in checks.not_negative(status.get(name), f"status.{name}")]


def bounded(status: Obj, pairs: tuple[tuple[str, str], ...]) -> list[FieldError]:
    """Status counters: the first of each pair is at most the second."""
    errors = []
    for low, high in pairs:
        if (status.get(low) or 0) > (status.get(high) or 0):
            text = f"cannot be greater than {'status.' if high == 'replicas' else ''}{high}"
            errors.append(invalid(f"status.{low}", status[low], text))
    return errors


_REPLICA_PAIRS = (
    ("fullyLabeledReplicas", "replicas"),
    ("readyReplicas", "replicas"),
    ("availableReplicas", "replicas"),
    ("availableReplicas", "readyReplicas"),
)
_REPLICA_COUNTERS = ("replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas", "observedGeneration")


class ReplicaSetStrategy(WorkloadStrategy):
    def default_spec(self, obj: Obj, spec: Obj) -> None:
        spec.setdefault("replicas", 1)

    def initial_status(self, obj: Obj) -> None:
        obj["status"] = {"replicas": 0}

    def validate(self, obj: Obj) -> list[FieldError]:
        spec = obj["spec"]
        errors = checks.not_negative(spec.get("replicas"), "spec.replicas")
        errors.extend(checks.not_negative(spec.get("minReadySeconds"), "spec.minReadySeconds"))
        errors.extend(self.selector_errors(spec))
        errors.extend(self.template_errors(spec, "ReplicaSet"))
        return errors

    def validate_change(self, new: Obj, old: Obj) -> list[FieldError]:
        selector = new["spec"].get("selector")
        return self.validate(new) + immutable(selector, old["spec"].get("selector"), "spec.selector")

    def validate_status(self, new: Obj, old: Obj) -> list[FieldError]:
        status = new.get("status") or {}
        return counters(status, _REPLICA_COUNTERS) + bounded(status, _REPLICA_PAIRS)


class ReplicationControllerStrategy(WorkloadStrategy):
    def default_spec(self, obj: Obj, spec: Obj) -> None:
        spec.setdefault("replicas", 1)
        labels = (spec["template"].get("metadata") or {}).get("labels")
        if labels:
            if not spec.get("selector"):
                spec["selector"] = dict(labels)
            if not obj["metadata"].get("labels"):
                obj["metadata"]["labels"] = dict(labels)

    def initial_status(self, obj: Obj) -> None:
        obj["status"] = {"replicas": 0}

    def validate(self, obj: Obj) -> list[FieldError]:
        spec = obj["spec"]
        errors = checks.not_negative(spec.get("minReadySeconds"), "spec.minReadySeconds")
        selector = spec.get("selector")
        if not selector:
            errors.append(required("spec.selector"))
        errors.extend(checks.not_negative(spec.get("replicas"), "spec.replicas"))
        labels = (spec["template"].get("metadata") or {}).get("labels") or {}
        if selector and any(labels.get(k) != v for k, v in selector.items()):
            errors.append(invalid("spec.template.metadata.labels", labels, LABELS_MISMATCH))
        return errors + self.template_errors(spec, "ReplicationController")

    def validate_status(self, new: Obj, old: Obj) -> list[FieldError]:
        status = new.get("status") or {}
        return counters(status, _REPLICA_COUNTERS) + bounded(status, _REPLICA_PAIRS)


class PodTemplateStrategy(Strategy):
    def default(self, obj: Obj) -> None:
        default_template(obj.setdefault("template", {}))

    def prepare_create(self, obj: Obj) -> None:
        obj["metadata"]["generation"] = 1

    def prepare_update(self, new: Obj, old: Obj) -> None:
        generation = old["metadata"].get("generation") or 1
        new["metadata"]["generation"] = generation + (new.get("template") != old.get("template"))

    def validate(self, obj: Obj) -> list[FieldError]:
        return validate_template(obj["template"], "template")


class ControllerRevisionStrategy(Strategy):
    def validate(self, obj: Obj) -> list[FieldError]:
        errors = []
        if obj.get("data") is None:
            errors.append(required("data", "data is mandatory"))
        return errors + checks.not_negative(obj.get("revision"), "revision")

    def validate_change(self, new: Obj, old: Obj) -> list[FieldError]:
        return self.validate(new) + immutable(new.get("data"), old.get("data"), "data")


STRATEGIES = {
    "replicasets.apps": ReplicaSetStrategy,
    "replicationcontrollers": ReplicationControllerStrategy,
    "podtemplates": PodTemplateStrategy,
    "controllerrevisions.apps": ControllerRevisionStrategy,
}
