"""Versions other than the stored one: removed workload versions, autoscaling/v1, events.k8s.io/v1.

`to_storage` applies the defaults of the version that was written, before it converts; the defaults of the stored
version come afterwards, from its strategy. `from_storage` shares subtrees with the stored object.
"""

from __future__ import annotations

from typing import Any

import orjson

from stablehand.machinery.resources import Resource
from stablehand.machinery.types import Obj

_MAX_INT32 = 2**31 - 1
_SELECTOR_DEFAULTED = frozenset({"extensions/v1beta1", "apps/v1beta1"})
ROLLBACK = "deployment.kubernetes.io/rollback-to"
TEMPLATE_GENERATION = "deprecated.daemonset.template.generation"


def to_storage(res: Resource, obj: Obj) -> Obj:
    """The object in its stored version; takes `obj` over (it may be changed)."""
    if res.legacy:
        _workload_to_v1(res, obj)
    elif res.group == "autoscaling":
        _hpa_to_v2(obj)
    elif res.group == "events.k8s.io":
        obj = event_to_core(obj)
    group, version = res.storage_gv
    obj["apiVersion"] = f"{group}/{version}" if group else version
    return obj


def from_storage(res: Resource, obj: Obj) -> Obj:
    """The stored object in the version of `res`; `obj` is not changed."""
    if res.legacy:
        return _workload_from_v1(res, obj)
    if res.group == "autoscaling":
        return _hpa_to_v1(obj)
    if res.group == "events.k8s.io":
        return _event_from_core(obj)
    return {**obj, "apiVersion": res.api_version}


# --- workloads --------------------------------------------------------------------------------------------------


def _workload_to_v1(res: Resource, obj: Obj) -> None:
    spec = obj.get("spec")
    if spec is None and res.kind != "ControllerRevision":
        spec = obj["spec"] = {}
    if not isinstance(spec, dict):
        return
    meta = obj.setdefault("metadata", {})
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels")
    if res.api_version in _SELECTOR_DEFAULTED and labels:
        if not spec.get("selector"):
            spec["selector"] = {"matchLabels": dict(labels)}
        if not meta.get("labels"):
            meta["labels"] = dict(labels)
    if res.kind == "Deployment":
        _deployment_defaults(res, spec)
        rollback = spec.pop("rollbackTo", None)
        if isinstance(rollback, dict):
            notes = meta.setdefault("annotations", {})
            notes[ROLLBACK] = str(rollback.get("revision") or 0)
    elif res.kind == "DaemonSet":
        if res.api_version == "extensions/v1beta1":
            spec.setdefault("updateStrategy", {}).setdefault("type", "OnDelete")
        generation = spec.pop("templateGeneration", None)
        if generation is not None:
            meta.setdefault("annotations", {})[TEMPLATE_GENERATION] = str(generation)
    elif res.kind == "StatefulSet" and res.api_version == "apps/v1beta1":
        strategy = spec.setdefault("updateStrategy", {})
        strategy.setdefault("type", "OnDelete")


def _deployment_defaults(res: Resource, spec: Obj) -> None:
    strategy = spec.setdefault("strategy", {})
    kind = strategy.setdefault("type", "RollingUpdate")
    if res.api_version == "extensions/v1beta1":
        spec.setdefault("revisionHistoryLimit", _MAX_INT32)
        spec.setdefault("progressDeadlineSeconds", _MAX_INT32)
        if kind == "RollingUpdate":
            rolling = strategy.setdefault("rollingUpdate", {})
            rolling.setdefault("maxUnavailable", 1)
            rolling.setdefault("maxSurge", 1)
    elif res.api_version == "apps/v1beta1":
        spec.setdefault("revisionHistoryLimit", 2)


def _workload_from_v1(res: Resource, obj: Obj) -> Obj:
    result = {**obj, "apiVersion": res.api_version}
    notes = obj.get("metadata", {}).get("annotations") or {}
    field, note = ("templateGeneration", TEMPLATE_GENERATION) if res.kind == "DaemonSet" else ("rollbackTo", ROLLBACK)
    value = notes.get(note)
    if value is not None and value.lstrip("-").isdigit() and res.kind in ("DaemonSet", "Deployment"):
        if res.kind == "DaemonSet" or res.api_version != "apps/v1beta2":
            number: Any = int(value)
            result["spec"] = {**obj.get("spec", {}), field: number if res.kind == "DaemonSet" else {"revision": number}}
            left = {k: v for k, v in notes.items() if k != note}
            result["metadata"] = {**obj["metadata"], "annotations": left}
            if not left:
                del result["metadata"]["annotations"]
    return result


# --- horizontal pod autoscalers ---------------------------------------------------------------------------------

_METRICS = "autoscaling.alpha.kubernetes.io/metrics"
_CURRENT = "autoscaling.alpha.kubernetes.io/current-metrics"
_CONDITIONS = "autoscaling.alpha.kubernetes.io/conditions"
_BEHAVIOR = "autoscaling.alpha.kubernetes.io/behavior"
_HPA_NOTES = (_METRICS, _CURRENT, _CONDITIONS, _BEHAVIOR)


def _is_cpu(metric: Obj) -> bool:
    resource = metric.get("resource") or {}
    return metric.get("type") == "Resource" and resource.get("name") == "cpu"


def _load(notes: Obj, key: str) -> Any:
    try:
        return orjson.loads(notes[key]) if key in notes else None
    except orjson.JSONDecodeError:
        return None


def _hpa_to_v2(obj: Obj) -> None:
    """v1 knows one CPU target; the rest of v2 travels in annotations."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    meta = obj.get("metadata") or {}
    notes = dict(meta.get("annotations") or {})
    metrics = [m for m in _load(notes, _METRICS) or () if isinstance(m, dict)]
    target = spec.pop("targetCPUUtilizationPercentage", None)
    if target is None and not metrics:
        target = 80  # the v1 default
    if target is not None:
        utilization = {"type": "Utilization", "averageUtilization": target}
        metrics = [*metrics, {"type": "Resource", "resource": {"name": "cpu", "target": utilization}}]
    spec["metrics"] = metrics
    behavior = _load(notes, _BEHAVIOR)
    if isinstance(behavior, dict):
        spec["behavior"] = behavior
    current = [m for m in _load(notes, _CURRENT) or () if isinstance(m, dict)]
    used = status.pop("currentCPUUtilizationPercentage", None)
    if used is not None:
        current.append({"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": used}}})
    conditions = _load(notes, _CONDITIONS)
    if current:
        status["currentMetrics"] = current
    if isinstance(conditions, list):
        status["conditions"] = conditions
    obj["spec"] = spec
    if status:
        obj["status"] = status
    for key in _HPA_NOTES:
        notes.pop(key, None)
    if notes:
        meta["annotations"] = notes
    else:
        meta.pop("annotations", None)
    obj["metadata"] = meta


def _hpa_to_v1(obj: Obj) -> Obj:
    spec, status = dict(obj.get("spec") or {}), dict(obj.get("status") or {})
    notes = dict(obj["metadata"].get("annotations") or {})
    others = []
    for metric in spec.pop("metrics", None) or ():
        target = (metric.get("resource") or {}).get("target") or {}
        if _is_cpu(metric) and target.get("averageUtilization") is not None:
            spec["targetCPUUtilizationPercentage"] = target["averageUtilization"]
        else:
            others.append(metric)
    current = []
    for metric in status.pop("currentMetrics", None) or ():
        used = ((metric.get("resource") or {}).get("current") or {}).get("averageUtilization")
        if _is_cpu(metric) and used is not None:
            status["currentCPUUtilizationPercentage"] = used
        current.append(metric)
    for key, value in (
        (_METRICS, others),
        (_CURRENT, current),
        (_CONDITIONS, status.pop("conditions", None)),
        (_BEHAVIOR, spec.pop("behavior", None)),
    ):
        if value:
            notes[key] = orjson.dumps(value).decode()
    meta = dict(obj["metadata"])
    if notes:
        meta["annotations"] = notes
    return {**obj, "apiVersion": "autoscaling/v1", "metadata": meta, "spec": spec, "status": status}


# --- events -----------------------------------------------------------------------------------------------------

# events.k8s.io/v1 name -> core/v1 name; both keep action, reason, type, series, eventTime, related.
_EVENT_FIELDS = {
    "note": "message",
    "regarding": "involvedObject",
    "reportingController": "reportingComponent",
    "deprecatedSource": "source",
    "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp",
    "deprecatedCount": "count",
}
_EVENT_BACK = {core: new for new, core in _EVENT_FIELDS.items()}


def event_to_core(obj: Obj) -> Obj:
    return {_EVENT_FIELDS.get(key, key): value for key, value in obj.items()}


def _event_from_core(obj: Obj) -> Obj:
    result = {_EVENT_BACK.get(key, key): value for key, value in obj.items()}
    result["apiVersion"] = "events.k8s.io/v1"
    return result
