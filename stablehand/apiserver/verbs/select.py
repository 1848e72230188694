"""Label and field selectors of list, watch and deletecollection, as one predicate."""

from __future__ import annotations

from collections.abc import Callable

from stablehand.apiserver import errors
from stablehand.apiserver.contract import Request
from stablehand.machinery import selectors
from stablehand.machinery.resources import Resource
from stablehand.machinery.types import Obj

Match = Callable[[Obj], bool]

_COMMON = ("metadata.name", "metadata.namespace")
_FIELDS: dict[str, tuple[str, ...]] = {
    "pods": (
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    ),
    "events": (
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ),
    "events.events.k8s.io": (
        "regarding.kind",
        "regarding.namespace",
        "regarding.name",
        "regarding.uid",
        "regarding.apiVersion",
        "regarding.resourceVersion",
        "regarding.fieldPath",
        "reportingController",
        "reason",
        "type",
    ),
    "secrets": ("type",),
    "namespaces": ("status.phase", "name"),
    "nodes": ("spec.unschedulable",),
    "replicationcontrollers": ("status.replicas",),
    "replicasets.apps": ("status.replicas",),
    "jobs.batch": ("status.successful",),
    "services": ("spec.clusterIP", "spec.type"),
    "certificatesigningrequests.certificates.k8s.io": ("spec.signerName",),
    "resourceslices.resource.k8s.io": ("spec.nodeName", "spec.driver"),
    "ipaddresses.networking.k8s.io": ("ipAddress.spec.parentRef",),
}
_ALIASES = {"regarding": "involvedObject", "reportingController": "reportingComponent"}


def _value(obj: Obj, path: str) -> str:
    if path == "source":
        return str((obj.get("source") or {}).get("component") or obj.get("reportingComponent") or "")
    if path == "name":
        path = "metadata.name"
    if path == "status.successful":
        path = "status.succeeded"
    value: object = obj
    for step in path.split("."):
        step = _ALIASES.get(step, step)
        value = value.get(step) if isinstance(value, dict) else None
        if value is None:
            return {"spec.unschedulable": "false", "spec.hostNetwork": "false"}.get(path, "")
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def matcher(request: Request, res: Resource, selectable: tuple[str, ...] = ()) -> Match | None:
    """The predicate of a request's selectors, or None when it selects everything. Raises StatusError 400."""
    tests: list[Match] = []
    label_text = request.query.get("labelSelector", "")
    if label_text:
        try:
            selector = selectors.parse_selector(label_text)
        except ValueError as e:
            raise errors.bad_request(f"unable to parse requirement: {e}") from e
        tests.append(lambda obj: selector.matches(obj["metadata"].get("labels")))
    field_text = request.query.get("fieldSelector", "")
    if field_text:
        try:
            terms = selectors.parse_field_selector(field_text)
        except ValueError as e:
            raise errors.bad_request(str(e)) from e
        allowed = _COMMON + _FIELDS.get(res.key, ()) + selectable
        for path, op, value in terms:
            if path not in allowed:
                raise errors.bad_request(f"field label not supported: {path}")
            tests.append(_field_test(path, op, value))
    if not tests:
        return None
    if len(tests) == 1:
        return tests[0]
    return lambda obj: all(test(obj) for test in tests)


def _field_test(path: str, op: str, value: str) -> Match:
    if op == "!=":
        return lambda obj: _value(obj, path) != value
    return lambda obj: _value(obj, path) == value
