"""Events, stored as core/v1 whichever group wrote them."""

from __future__ import annotations

from stablehand.apiserver.strategies.base import Strategy
from stablehand.apiserver.strategies.metadata import immutable
from stablehand.machinery import names
from stablehand.machinery.fielderrors import FieldError, invalid, required
from stablehand.machinery.types import Obj

_FROZEN = (
    "involvedObject",
    "reason",
    "message",
    "source",
    "firstTimestamp",
    "lastTimestamp",
    "count",
    "eventTime",
    "related",
    "action",
    "reportingComponent",
    "reportingInstance",
    "type",
)


class EventStrategy(Strategy):
    def default(self, obj: Obj) -> None:
        source = obj.setdefault("source", {})
        obj.setdefault("involvedObject", {})
        obj.setdefault("reportingComponent", source.get("component") or "")
        obj.setdefault("reportingInstance", source.get("host") or "")

    def validate(self, obj: Obj) -> list[FieldError]:
        errors: list[FieldError] = []
        target = obj.get("involvedObject") or {}
        namespace, own = target.get("namespace") or "", obj["metadata"].get("namespace") or ""
        if (namespace and namespace != own) or (not namespace and own not in ("default", "kube-system")):
            errors.append(invalid("involvedObject.namespace", namespace, "does not match event.namespace"))
        if obj.get("eventTime"):  # the rules of events.k8s.io
            if not obj.get("reportingComponent"):
                errors.append(required("reportingController"))
            else:
                found = names.qualified_name(obj["reportingComponent"])
                errors.extend(invalid("reportingController", obj["reportingComponent"], text) for text in found)
            for key in ("reportingInstance", "action", "reason"):
                value = obj.get(key) or ""
                if not value:
                    errors.append(required(key))
                elif len(value) > 128:
                    errors.append(invalid(key, "", "can have at most 128 characters"))
            if len(obj.get("message") or "") > 1024:
                errors.append(invalid("message", "", "can have at most 1024 characters"))
        return errors

    def validate_change(self, new: Obj, old: Obj) -> list[FieldError]:
        if not new.get("eventTime") and not old.get("eventTime"):
            return self.validate(new)
        errors: list[FieldError] = []
        for key in _FROZEN:
            errors.extend(immutable(new.get(key), old.get(key), key))
        return errors


STRATEGIES = {"events": EventStrategy, "events.events.k8s.io": EventStrategy}
