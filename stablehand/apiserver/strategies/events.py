"""Events, stored as core/v1 whichever group wrote them (pkg/apis/core/validation/events.go).

What comes in as core/v1 is held to the old rules only; what comes in as events.k8s.io/v1 to the strict ones too.
"""

from __future__ import annotations

from stablehand.apiserver.strategies.base import Strategy
from stablehand.apiserver.strategies.metadata import immutable
from stablehand.machinery import names
from stablehand.machinery.fielderrors import FieldError, invalid, required
from stablehand.machinery.types import Obj

# The order is upstream's.
_FROZEN = (
    "involvedObject",
    "reason",
    "message",
    "source",
    "firstTimestamp",
    "lastTimestamp",
    "count",
    "type",
    "eventTime",
    "action",
    "related",
    "reportingComponent",
    "reportingInstance",
)
_LIMITS = {"reportingInstance": 128, "action": 128, "reason": 128}
_NOTE = 1024
_UNSET = "needs to be unset"


class EventStrategy(Strategy):
    def default(self, obj: Obj) -> None:
        source = obj.setdefault("source", {})
        obj.setdefault("involvedObject", {})
        obj.setdefault("reportingComponent", source.get("component") or "")
        obj.setdefault("reportingInstance", source.get("host") or "")

    def validate(self, obj: Obj) -> list[FieldError]:
        errors: list[FieldError] = []
        own = obj["metadata"].get("namespace") or ""
        namespace = (obj.get("involvedObject") or {}).get("namespace") or ""
        if obj.get("eventTime"):
            fits = bool(namespace) or own in ("default", "kube-system")
        else:
            fits = namespace == own if namespace else own in ("", "default")
        if not fits:
            errors.append(invalid("involvedObject.namespace", namespace, "does not match event.namespace"))
        if obj.get("eventTime"):
            errors.extend(_new_style(obj))
        return errors


def _new_style(obj: Obj) -> list[FieldError]:
    errors: list[FieldError] = []
    controller = obj.get("reportingComponent") or ""
    if not controller:
        errors.append(required("reportingController"))
    errors.extend(invalid("reportingController", controller, text) for text in names.qualified_name(controller))
    for key, limit in _LIMITS.items():
        value = obj.get(key) or ""
        if not value:
            errors.append(required(key))
        if len(value.encode()) > limit:
            errors.append(invalid(key, "", f"can have at most {limit} characters"))
    if len((obj.get("message") or "").encode()) > _NOTE:
        errors.append(invalid("message", "", f"can have at most {_NOTE} characters"))
    return errors


class NewEventStrategy(EventStrategy):
    """Requests to events.k8s.io; `obj` and `old` are in their stored form."""

    def validate_asked(self, obj: Obj, old: Obj | None) -> list[FieldError]:
        if old is not None:
            errors = _series(obj) if obj.get("series") != old.get("series") else []
            for key in _FROZEN:
                path = "reportingController" if key == "reportingComponent" else key
                errors.extend(immutable(obj.get(key), old.get(key), path))
            return errors
        errors = _series(obj)
        if not obj.get("eventTime"):
            errors.append(required("eventTime"))
        kind = obj.get("type") or ""
        if kind not in ("Normal", "Warning"):
            errors.append(invalid("type", "", f"has invalid value: {kind}"))
        errors.extend(invalid(key, "", _UNSET) for key in ("firstTimestamp", "lastTimestamp", "count") if obj.get(key))
        source = obj.get("source") or {}
        if source.get("component") or source.get("host"):
            errors.append(invalid("source", "", _UNSET))
        return errors


def _series(obj: Obj) -> list[FieldError]:
    series = obj.get("series")
    if series is None:
        return []
    errors: list[FieldError] = []
    if (series.get("count") or 0) < 2:
        errors.append(invalid("series.count", "", "should be at least 2"))
    if not series.get("lastObservedTime"):
        errors.append(required("series.lastObservedTime"))
    return errors


STRATEGIES = {"events": EventStrategy, "events.events.k8s.io": NewEventStrategy}
