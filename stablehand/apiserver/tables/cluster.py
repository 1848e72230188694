"""Cells of nodes, namespaces, events, configuration and the other kinds of the core group."""

from __future__ import annotations

from typing import Any

from stablehand.apiserver.tables.columns import printer
from stablehand.apiserver.tables.format import NONE, UNKNOWN, UNSET, age, condition, since
from stablehand.machinery.types import Obj

_ROLE = "node-role.kubernetes.io/"


def _name(obj: Obj) -> str:
    name: str = obj["metadata"].get("name", "")
    return name


def _node(obj: Obj, now: float) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    ready = condition(obj, "Ready")
    state = "Unknown" if ready is None else "Ready" if ready.get("status") == "True" else "NotReady"
    if spec.get("unschedulable"):
        state += ",SchedulingDisabled"
    labels = obj["metadata"].get("labels") or {}
    roles = {key[len(_ROLE) :] for key in labels if key.startswith(_ROLE)} - {""}
    if labels.get("kubernetes.io/role"):
        roles.add(labels["kubernetes.io/role"])
    addresses = {a.get("type"): a.get("address") for a in reversed(status.get("addresses") or ())}
    info = status.get("nodeInfo") or {}
    return [
        _name(obj),
        state,
        ",".join(sorted(roles)) or NONE,
        age(obj, now),
        info.get("kubeletVersion") or "",
        addresses.get("InternalIP") or NONE,
        addresses.get("ExternalIP") or NONE,
        info.get("osImage") or UNKNOWN,
        info.get("kernelVersion") or UNKNOWN,
        info.get("containerRuntimeVersion") or UNKNOWN,
    ]


def _namespace(obj: Obj, now: float) -> list[Any]:
    return [_name(obj), (obj.get("status") or {}).get("phase") or "", age(obj, now)]


def _event(obj: Obj, now: float) -> list[Any]:
    if obj.get("apiVersion") == "events.k8s.io/v1":
        from stablehand.apiserver.legacy import event_to_core

        obj = event_to_core(obj)
    first = since(obj.get("firstTimestamp") or obj.get("eventTime"), now)
    last = since(obj["lastTimestamp"], now) if obj.get("lastTimestamp") else first
    count = obj.get("count") or 1
    series = obj.get("series")
    if series:
        last = since(series.get("lastObservedTime"), now)
        count = series.get("count") or 0
    target = obj.get("involvedObject") or {}
    kind = (target.get("kind") or "").lower()
    source = obj.get("source") or {}
    component = source.get("component") or obj.get("reportingComponent") or ""
    instance = source.get("host") or obj.get("reportingInstance") or ""
    return [
        last,
        obj.get("type") or "",
        obj.get("reason") or "",
        f"{kind}/{target['name']}" if target.get("name") else kind,
        target.get("fieldPath") or "",
        f"{component}, {instance}" if instance else component,
        (obj.get("message") or "").strip(),
        first,
        count,
        _name(obj),
    ]


def _secret(obj: Obj, now: float) -> list[Any]:
    return [_name(obj), obj.get("type") or "", len(obj.get("data") or ()), age(obj, now)]


def _config_map(obj: Obj, now: float) -> list[Any]:
    return [_name(obj), len(obj.get("data") or ()) + len(obj.get("binaryData") or ()), age(obj, now)]


def _service_account(obj: Obj, now: float) -> list[Any]:
    return [_name(obj), len(obj.get("secrets") or ()), age(obj, now)]


def _component(obj: Obj, now: float) -> list[Any]:
    state, message, error = "Unknown", "", ""
    for one in obj.get("conditions") or ():
        if one.get("type") == "Healthy":
            state = "Healthy" if one.get("status") == "True" else "Unhealthy"
            message, error = one.get("message") or "", one.get("error") or ""
    return [_name(obj), state, message, error]


def _quota(obj: Obj, now: float) -> list[Any]:
    status = obj.get("status") or {}
    hard, used = status.get("hard") or {}, status.get("used") or {}
    requests = [f"{k}: {used.get(k, '0')}/{hard[k]}" for k in sorted(hard) if not k.startswith("limits.")]
    limits = [f"{k}: {used.get(k, '0')}/{hard[k]}" for k in sorted(hard) if k.startswith("limits.")]
    return [_name(obj), ", ".join(requests), ", ".join(limits), age(obj, now)]


def _created(obj: Obj, now: float) -> list[Any]:
    return [_name(obj), obj["metadata"].get("creationTimestamp") or ""]


def _lease(obj: Obj, now: float) -> list[Any]:
    return [_name(obj), (obj.get("spec") or {}).get("holderIdentity") or "", age(obj, now)]


def _priority_class(obj: Obj, now: float) -> list[Any]:
    policy = obj.get("preemptionPolicy") or "PreemptLowerPriority"
    return [_name(obj), obj.get("value") or 0, bool(obj.get("globalDefault")), age(obj, now), policy]


def _runtime_class(obj: Obj, now: float) -> list[Any]:
    return [_name(obj), obj.get("handler") or "", age(obj, now)]


def _claim(obj: Obj, now: float) -> list[Any]:
    status = obj.get("status") or {}
    states = ["deleted"] if obj["metadata"].get("deletionTimestamp") else []
    states.append("allocated" if status.get("allocation") else "pending")
    if status.get("reservedFor"):
        states.append("reserved")
    return [_name(obj), ",".join(states), age(obj, now)]


def _slice(obj: Obj, now: float) -> list[Any]:
    spec = obj.get("spec") or {}
    pool = (spec.get("pool") or {}).get("name") or ""
    return [_name(obj), spec.get("nodeName") or UNSET, spec.get("driver") or "", pool, age(obj, now)]


PRINTERS = {
    "nodes": printer(
        "Name,Status,Roles,Age,Version,*Internal-IP,*External-IP,*OS-Image,*Kernel-Version,*Container-Runtime", _node
    ),
    "namespaces": printer("Name,Status,Age", _namespace),
    "events": printer("Last Seen,Type,Reason,Object,*Subobject,*Source,Message,*First Seen,*#Count,*Name", _event),
    "events.events.k8s.io": printer(
        "Last Seen,Type,Reason,Object,*Subobject,*Source,Message,*First Seen,*#Count,*Name", _event
    ),
    "secrets": printer("Name,Type,#Data,Age", _secret),
    "configmaps": printer("Name,#Data,Age", _config_map),
    "serviceaccounts": printer("Name,#Secrets,Age", _service_account),
    "componentstatuses": printer("Name,Status,Message,Error", _component),
    "resourcequotas": printer("Name,Request,Limit,Age", _quota),
    "limitranges": printer("Name,@Created At", _created),
    "leases.coordination.k8s.io": printer("Name,Holder,Age", _lease),
    "priorityclasses.scheduling.k8s.io": printer("Name,#Value,?Global-Default,Age,PreemptionPolicy", _priority_class),
    "runtimeclasses.node.k8s.io": printer("Name,Handler,Age", _runtime_class),
    "resourceclaims.resource.k8s.io": printer("Name,State,Age", _claim),
    "resourceslices.resource.k8s.io": printer("Name,Node,Driver,Pool,Age", _slice),
}
