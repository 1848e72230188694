"""Stateful sets (shared/behaviours.md, section 1).

maxUnavailable is dropped on write, as with upstream's gate MaxUnavailableStatefulSet off, unless the old object
already has it.
"""

from __future__ import annotations

from stablehand.apiserver.strategies import checks
from stablehand.apiserver.strategies.base import keep_metadata
from stablehand.apiserver.strategies.claims import default_claim, validate_claim_spec
from stablehand.apiserver.strategies.metadata import label_name
from stablehand.apiserver.strategies.podspec import template_labels_match, validate_template
from stablehand.apiserver.strategies.workloads import LABELS_MISMATCH, WorkloadStrategy, counters
from stablehand.machinery import names
from stablehand.machinery.fielderrors import FieldError, forbidden, invalid, not_supported, required
from stablehand.machinery.types import Obj

_UPDATABLE = (
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
)
_FORBIDDEN = (
    "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', "
    "'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
)
_COUNTERS = ("replicas", "readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas")


class StatefulSetStrategy(WorkloadStrategy):
    name_rule = staticmethod(label_name)
    empty_selector = "statefulset"

    def default_spec(self, obj: Obj, spec: Obj) -> None:
        spec.setdefault("replicas", 1)
        if not spec.get("podManagementPolicy"):
            spec["podManagementPolicy"] = "OrderedReady"
        strategy = spec.setdefault("updateStrategy", {})
        if not strategy.get("type"):
            strategy["type"] = "RollingUpdate"
            strategy.setdefault("rollingUpdate", {})
        rolling = strategy.get("rollingUpdate")
        if rolling is not None and strategy["type"] == "RollingUpdate":
            rolling.setdefault("partition", 0)
        spec.setdefault("revisionHistoryLimit", 10)
        retention = spec.setdefault("persistentVolumeClaimRetentionPolicy", {})
        for key in ("whenDeleted", "whenScaled"):
            if not retention.get(key):
                retention[key] = "Retain"
        spec.setdefault("serviceName", "")
        if not spec.get("minReadySeconds"):
            spec.pop("minReadySeconds", None)
        for claim in spec.get("volumeClaimTemplates") or ():
            claim["apiVersion"], claim["kind"] = "v1", "PersistentVolumeClaim"
            default_claim(claim)
            claim["status"] = {"phase": "Pending"}

    def initial_status(self, obj: Obj) -> None:
        obj["status"] = {"replicas": 0, "availableReplicas": 0}

    def prepare_create(self, obj: Obj) -> None:
        super().prepare_create(obj)
        _drop_max_unavailable(obj, None)

    def prepare_update(self, new: Obj, old: Obj) -> None:
        _drop_max_unavailable(new, old)
        super().prepare_update(new, old)

    def prepare_status_update(self, new: Obj, old: Obj) -> None:
        super().prepare_status_update(new, old)
        keep_metadata(new, old, True)
        status = new.setdefault("status", {})
        status.setdefault("replicas", 0)
        status.setdefault("availableReplicas", 0)

    def validate(self, obj: Obj) -> list[FieldError]:
        errors = self._common(obj)
        spec = obj["spec"]
        if service := spec.get("serviceName"):
            errors.extend(checks.named(service, names.dns1123_label, "spec.serviceName"))
        for index, claim in enumerate(spec.get("volumeClaimTemplates") or ()):
            path = f"spec.volumeClaimTemplates[{index}].spec"
            errors.extend(validate_claim_spec(claim.get("spec") or {}, path))
        return errors

    def _common(self, obj: Obj) -> list[FieldError]:
        spec = obj["spec"]
        errors = _policies(spec)
        for key in ("replicas", "minReadySeconds"):
            errors.extend(checks.not_negative(spec.get(key), f"spec.{key}"))
        if ordinals := spec.get("ordinals"):
            errors.extend(checks.not_negative(ordinals.get("start"), "spec.ordinals.start"))
        selector = spec.get("selector")
        if selector is None:
            errors.append(required("spec.selector"))
        else:
            errors.extend(checks.label_selector(selector, "spec.selector"))
            if checks.empty_selector(selector):
                errors.append(invalid("spec.selector", selector, "empty selector is invalid for statefulset"))
            elif not template_labels_match(selector, spec["template"]):
                labels = (spec["template"].get("metadata") or {}).get("labels")
                errors.append(invalid("spec.template.metadata.labels", labels, LABELS_MISMATCH))
        template = spec["template"]
        pod = template.get("spec") or {}
        # Hostname and subdomain are overwritten for each pod, and claims come as volumes: neither is looked at here.
        claims = [
            {"name": (c.get("metadata") or {}).get("name") or "", "persistentVolumeClaim": {"claimName": "x"}}
            for c in spec.get("volumeClaimTemplates") or ()
        ]
        own = {c["name"] for c in claims}
        looked_at = {k: v for k, v in pod.items() if k not in ("hostname", "subdomain")}
        looked_at["volumes"] = [*(v for v in pod.get("volumes") or () if v.get("name") not in own), *claims]
        errors.extend(validate_template({**template, "spec": looked_at}, "spec.template"))
        if pod.get("restartPolicy") not in ("Always", None):
            errors.append(not_supported("spec.template.spec.restartPolicy", pod["restartPolicy"], ("Always",)))
        if pod.get("activeDeadlineSeconds") is not None:
            text = "activeDeadlineSeconds in StatefulSet is not Supported"
            errors.append(forbidden("spec.template.spec.activeDeadlineSeconds", text))
        return errors

    def validate_change(self, new: Obj, old: Obj) -> list[FieldError]:
        errors = self._common(new)
        spec, before = new["spec"], old["spec"]
        if any(spec.get(key) != before.get(key) for key in {*spec, *before} if key not in _UPDATABLE):
            errors.append(forbidden("spec", _FORBIDDEN))
        return errors

    def validate_status(self, new: Obj, old: Obj) -> list[FieldError]:
        status, before = new.get("status") or {}, old.get("status") or {}
        errors = counters(status, (*_COUNTERS, "observedGeneration", "collisionCount"))
        replicas = status.get("replicas") or 0
        for name in _COUNTERS[1:]:
            if (status.get(name) or 0) > replicas:
                errors.append(invalid(f"status.{name}", status[name], "cannot be greater than status.replicas"))
        if (status.get("availableReplicas") or 0) > (status.get("readyReplicas") or 0):
            text = "cannot be greater than status.readyReplicas"
            errors.append(invalid("status.availableReplicas", status["availableReplicas"], text))
        count, previous = status.get("collisionCount"), before.get("collisionCount")
        if previous is not None and (count or 0) < previous:
            errors.append(invalid("status.collisionCount", count or 0, "cannot be decremented"))
        return errors

    def warnings(self, obj: Obj) -> list[str]:
        limit = obj["spec"].get("revisionHistoryLimit")
        if isinstance(limit, int) and limit < 0:
            text = "a negative value retains all historical revisions; a value >= 0 is recommended"
            return [f"spec.revisionHistoryLimit: {text}"]
        return []


def _drop_max_unavailable(new: Obj, old: Obj | None) -> None:
    if old is not None:
        rolling = (old["spec"].get("updateStrategy") or {}).get("rollingUpdate") or {}
        if "maxUnavailable" in rolling:
            return
    rolling = (new["spec"].get("updateStrategy") or {}).get("rollingUpdate")
    if rolling:
        rolling.pop("maxUnavailable", None)


def _policies(spec: Obj) -> list[FieldError]:
    errors: list[FieldError] = []
    policy = spec.get("podManagementPolicy")
    if policy not in ("OrderedReady", "Parallel"):
        text = "must be 'OrderedReady' or 'Parallel'"
        errors.append(invalid("spec.podManagementPolicy", policy, text))
    strategy = spec.get("updateStrategy") or {}
    kind, rolling = strategy.get("type"), strategy.get("rollingUpdate")
    path = "spec.updateStrategy"
    if kind == "OnDelete":
        if rolling is not None:
            text = "only allowed for updateStrategy 'RollingUpdate'"
            errors.append(invalid(f"{path}.rollingUpdate", rolling, text))
    elif kind == "RollingUpdate":
        if rolling is not None:
            errors.extend(checks.not_negative(rolling.get("partition"), f"{path}.rollingUpdate.partition"))
            value = rolling.get("maxUnavailable")
            if value is not None:
                where = f"{path}.rollingUpdate.maxUnavailable"
                errors.extend(checks.int_or_percent(value, where))
                if value == 0 or checks.percent_value(value) == 0:
                    errors.append(invalid(where, value, "cannot be 0"))
                errors.extend(checks.at_most_100_percent(value, where))
    else:
        errors.append(invalid(path, strategy, "must be 'RollingUpdate' or 'OnDelete'"))
    retention = spec.get("persistentVolumeClaimRetentionPolicy") or {}
    for key in ("whenDeleted", "whenScaled"):
        value = retention.get(key)
        if value not in ("Retain", "Delete"):
            where = f"spec.persistentVolumeClaimRetentionPolicy.{key}"
            errors.append(not_supported(where, value, ("Retain", "Delete")))
    return errors


STRATEGIES = {"statefulsets.apps": StatefulSetStrategy}
