"""Cells of pods and of the controllers that make them."""

from __future__ import annotations

from typing import Any

from stablehand.apiserver.tables.columns import printer
from stablehand.apiserver.tables.format import (
    NONE,
    age,
    boolean,
    condition,
    containers,
    human_duration,
    label_selector,
    labels,
    since,
    template_spec,
)
from stablehand.machinery.times import parse_time
from stablehand.machinery.types import Obj

_TERMINAL = {
    "Succeeded": ("Succeeded", "The pod has completed successfully."),
    "Failed": ("Failed", "The pod failed."),
}


def _name(obj: Obj) -> str:
    name: str = obj["metadata"].get("name", "")
    return name


def _parts(obj: Obj) -> tuple[Obj, Obj]:
    return obj.get("spec") or {}, obj.get("status") or {}


class _Restarts:
    """A count of restarts and the time of the last one."""

    def __init__(self) -> None:
        self.count = 0
        self.last = ""

    def add(self, status: Obj) -> None:
        self.count += status.get("restartCount") or 0
        finished = ((status.get("lastState") or {}).get("terminated") or {}).get("finishedAt") or ""
        self.last = max(self.last, finished)

    def text(self, now: float) -> str:
        return f"{self.count} ({since(self.last, now)} ago)" if self.count and self.last else str(self.count)


def _ended(terminated: Obj) -> str:
    if terminated.get("reason"):
        return str(terminated["reason"])
    if terminated.get("signal"):
        return f"Signal:{terminated['signal']}"
    return f"ExitCode:{terminated.get('exitCode') or 0}"


def pod_status(pod: Obj) -> tuple[str, int, int, _Restarts]:
    """(the STATUS column, ready containers, all containers, restarts)."""
    spec, status = _parts(pod)
    phase = status.get("phase") or ""
    reason = status.get("reason") or phase
    conditions = status.get("conditions") or ()
    for one in conditions:
        if one.get("type") == "PodScheduled" and one.get("reason") == "SchedulingGated":
            reason = "SchedulingGated"
    init = spec.get("initContainers") or ()
    sidecars = {c.get("name") for c in init if c.get("restartPolicy") == "Always"}
    total = len(spec.get("containers") or ()) + len(sidecars)
    ready = 0
    restarts, sidecar_restarts = _Restarts(), _Restarts()
    initializing = False
    for index, one in enumerate(status.get("initContainerStatuses") or ()):
        state = one.get("state") or {}
        terminated, waiting = state.get("terminated"), state.get("waiting")
        restarts.add(one)
        if one.get("name") in sidecars:
            sidecar_restarts.add(one)
        if terminated is not None and not terminated.get("exitCode"):
            continue
        if one.get("name") in sidecars and one.get("started"):
            ready += 1 if one.get("ready") else 0
            continue
        if terminated is not None:
            reason = "Init:" + _ended(terminated)
        elif waiting and waiting.get("reason") and waiting["reason"] != "PodInitializing":
            reason = "Init:" + waiting["reason"]
        else:
            reason = f"Init:{index}/{len(init)}"
        initializing = True
        break
    if not initializing or any(c.get("type") == "Initialized" and c.get("status") == "True" for c in conditions):
        restarts = sidecar_restarts
        running = False
        for one in reversed(status.get("containerStatuses") or ()):
            state = one.get("state") or {}
            terminated, waiting = state.get("terminated"), state.get("waiting")
            restarts.add(one)
            if waiting and waiting.get("reason"):
                reason = waiting["reason"]
            elif terminated is not None:
                reason = _ended(terminated)
            elif one.get("ready") and state.get("running") is not None:
                running = True
                ready += 1
        if reason == "Completed" and running:
            is_ready = any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)
            reason = "Running" if is_ready else "NotReady"
    if pod["metadata"].get("deletionTimestamp"):
        if status.get("reason") == "NodeLost":
            reason = "Unknown"
        elif phase not in _TERMINAL:
            reason = "Terminating"
    return reason, ready, total, restarts


def _pod(pod: Obj, now: float) -> list[Any]:
    spec, status = _parts(pod)
    reason, ready, total, restarts = pod_status(pod)
    gates = spec.get("readinessGates") or ()
    shown_gates = NONE
    if gates:
        true = {c.get("type") for c in status.get("conditions") or () if c.get("status") == "True"}
        shown_gates = f"{sum(g.get('conditionType') in true for g in gates)}/{len(gates)}"
    ips = status.get("podIPs") or ()
    ip = (ips[0].get("ip") if ips else status.get("podIP")) or NONE
    return [
        _name(pod),
        f"{ready}/{total}",
        reason,
        restarts.text(now),
        age(pod, now),
        ip,
        spec.get("nodeName") or NONE,
        status.get("nominatedNodeName") or NONE,
        shown_gates,
    ]


def _pod_conditions(pod: Obj) -> list[Obj]:
    found = _TERMINAL.get((pod.get("status") or {}).get("phase", ""))
    if found is None:
        return []
    return [{"type": "Completed", "status": "True", "reason": found[0], "message": found[1]}]


def _pod_template(obj: Obj, now: float) -> list[Any]:
    template = obj.get("template") or {}
    names, images = containers(template.get("spec") or {})
    return [_name(obj), names, images, labels((template.get("metadata") or {}).get("labels"))]


def _deployment(obj: Obj, now: float) -> list[Any]:
    spec, status = _parts(obj)
    names, images = containers(template_spec(obj))
    return [
        _name(obj),
        f"{status.get('readyReplicas') or 0}/{spec.get('replicas') or 0}",
        status.get("updatedReplicas") or 0,
        status.get("availableReplicas") or 0,
        age(obj, now),
        names,
        images,
        label_selector(spec.get("selector")),
    ]


def _replicas(obj: Obj, now: float) -> list[Any]:
    spec, status = _parts(obj)
    names, images = containers(template_spec(obj))
    selector = spec.get("selector")
    shown = labels(selector) if obj.get("kind") == "ReplicationController" else label_selector(selector)
    return [
        _name(obj),
        spec.get("replicas") or 0,
        status.get("replicas") or 0,
        status.get("readyReplicas") or 0,
        age(obj, now),
        names,
        images,
        shown,
    ]


def _statefulset(obj: Obj, now: float) -> list[Any]:
    spec, status = _parts(obj)
    names, images = containers(template_spec(obj))
    ready = f"{status.get('readyReplicas') or 0}/{spec.get('replicas') or 0}"
    return [_name(obj), ready, age(obj, now), names, images]


def _daemonset(obj: Obj, now: float) -> list[Any]:
    spec, status = _parts(obj)
    pod = template_spec(obj)
    names, images = containers(pod)
    return [
        _name(obj),
        status.get("desiredNumberScheduled") or 0,
        status.get("currentNumberScheduled") or 0,
        status.get("numberReady") or 0,
        status.get("updatedNumberScheduled") or 0,
        status.get("numberAvailable") or 0,
        labels(pod.get("nodeSelector")),
        age(obj, now),
        names,
        images,
        label_selector(spec.get("selector")),
    ]


def job_status(obj: Obj) -> str:
    def holds(kind: str) -> bool:
        found = condition(obj, kind)
        return found is not None and found.get("status") == "True"

    if holds("Complete"):
        return "Complete"
    if holds("Failed"):
        return "Failed"
    if obj["metadata"].get("deletionTimestamp"):
        return "Terminating"
    for kind in ("Suspended", "FailureTarget", "SuccessCriteriaMet"):
        if holds(kind):
            return kind
    return "Running"


def _job(obj: Obj, now: float) -> list[Any]:
    spec, status = _parts(obj)
    succeeded = status.get("succeeded") or 0
    if spec.get("completions") is not None:
        done = f"{succeeded}/{spec['completions']}"
    else:
        parallel = spec.get("parallelism") or 0
        done = f"{succeeded}/1 of {parallel}" if parallel > 1 else f"{succeeded}/1"
    duration = ""
    if status.get("startTime"):
        end = parse_time(status["completionTime"]) if status.get("completionTime") else now
        duration = human_duration(end - parse_time(status["startTime"]))
    names, images = containers(template_spec(obj))
    selector = label_selector(spec.get("selector"))
    return [_name(obj), job_status(obj), done, duration, age(obj, now), names, images, selector]


def _cronjob(obj: Obj, now: float) -> list[Any]:
    spec, status = _parts(obj)
    job = (spec.get("jobTemplate") or {}).get("spec") or {}
    names, images = containers((job.get("template") or {}).get("spec") or {})
    return [
        _name(obj),
        spec.get("schedule") or "",
        spec.get("timeZone") or NONE,
        boolean(spec.get("suspend")),
        len(status.get("active") or ()),
        since(status["lastScheduleTime"], now) if status.get("lastScheduleTime") else NONE,
        age(obj, now),
        names,
        images,
        label_selector(job.get("selector")),
    ]


def _revision(obj: Obj, now: float) -> list[Any]:
    owner = next((o for o in obj["metadata"].get("ownerReferences") or () if o.get("controller")), None)
    shown = NONE
    if owner is not None:
        group = owner.get("apiVersion", "").rpartition("/")[0]
        kind = owner.get("kind", "").lower()
        shown = f"{kind}.{group}/{owner.get('name')}" if group else f"{kind}/{owner.get('name')}"
    return [_name(obj), shown, obj.get("revision") or 0, age(obj, now)]


def _hpa_target(metric: Obj, current: Obj) -> str:
    kind = metric.get("type", "")
    key = kind[:1].lower() + kind[1:]
    spec = metric.get(key) or {}
    target = spec.get("target") or {}
    have = (current.get(key) or {}).get("current") or {}
    if kind in ("Resource", "ContainerResource"):
        if target.get("averageValue") is not None:
            shown, wanted = have.get("averageValue") or "<unknown>", target["averageValue"]
        else:
            used = have.get("averageUtilization")
            shown = f"{used}%" if used is not None else "<unknown>"
            limit = target.get("averageUtilization")
            wanted = f"{limit}%" if limit is not None else "<auto>"
        return f"{spec.get('name')}: {shown}/{wanted}"
    if kind == "Pods" or target.get("averageValue") is None:
        name = "averageValue" if kind == "Pods" else "value"
        return f"{have.get(name) or '<unknown>'}/{target.get(name)}"
    return f"{have.get('averageValue') or '<unknown>'}/{target['averageValue']} (avg)"


def _hpa(obj: Obj, now: float) -> list[Any]:
    spec, status = _parts(obj)
    metrics = spec.get("metrics") or []
    if obj.get("apiVersion") == "autoscaling/v1" and spec.get("targetCPUUtilizationPercentage") is not None:
        used = status.get("currentCPUUtilizationPercentage")
        shown = "<unknown>" if used is None else f"{used}%"
        targets = f"cpu: {shown}/{spec['targetCPUUtilizationPercentage']}%"
    elif metrics:
        current = status.get("currentMetrics") or []
        texts = [_hpa_target(m, current[i] if i < len(current) else {}) for i, m in enumerate(metrics[:2])]
        targets = ", ".join(texts) + (f" + {len(metrics) - 2} more..." if len(metrics) > 2 else "")
    else:
        targets = NONE
    ref = spec.get("scaleTargetRef") or {}
    return [
        _name(obj),
        f"{ref.get('kind', '')}/{ref.get('name', '')}",
        targets,
        str(spec["minReplicas"]) if spec.get("minReplicas") is not None else "<unset>",
        spec.get("maxReplicas") or 0,
        status.get("currentReplicas") or 0,
        age(obj, now),
    ]


def _pdb(obj: Obj, now: float) -> list[Any]:
    spec, status = _parts(obj)

    def shown(key: str) -> str:
        return "N/A" if spec.get(key) is None else str(spec[key])

    allowed = status.get("disruptionsAllowed") or 0
    return [_name(obj), shown("minAvailable"), shown("maxUnavailable"), allowed, age(obj, now)]


def _scale(obj: Obj, now: float) -> list[Any]:
    spec, status = _parts(obj)
    return [_name(obj), spec.get("replicas") or 0, status.get("replicas") or 0, age(obj, now)]


_WIDE = "*Containers,*Images,*Selector"
PRINTERS = {
    "pods": printer("Name,Ready,Status,Restarts,Age,*IP,*Node,*Nominated Node,*Readiness Gates", _pod, _pod_conditions),
    "podtemplates": printer("Name,Containers,Images,Pod Labels", _pod_template),
    "deployments.apps": printer(f"Name,Ready,Up-to-date,Available,Age,{_WIDE}", _deployment),
    "deployments.extensions": printer(f"Name,Ready,Up-to-date,Available,Age,{_WIDE}", _deployment),
    "replicasets.apps": printer(f"Name,#Desired,#Current,#Ready,Age,{_WIDE}", _replicas),
    "replicasets.extensions": printer(f"Name,#Desired,#Current,#Ready,Age,{_WIDE}", _replicas),
    "replicationcontrollers": printer(f"Name,#Desired,#Current,#Ready,Age,{_WIDE}", _replicas),
    "statefulsets.apps": printer("Name,Ready,Age,*Containers,*Images", _statefulset),
    "daemonsets.apps": printer(
        f"Name,#Desired,#Current,#Ready,#Up-to-date,#Available,Node Selector,Age,{_WIDE}", _daemonset
    ),
    "daemonsets.extensions": printer(
        f"Name,#Desired,#Current,#Ready,#Up-to-date,#Available,Node Selector,Age,{_WIDE}", _daemonset
    ),
    "jobs.batch": printer(f"Name,Status,Completions,Duration,Age,{_WIDE}", _job),
    "cronjobs.batch": printer(f"Name,Schedule,Timezone,?Suspend,#Active,Last Schedule,Age,{_WIDE}", _cronjob),
    "controllerrevisions.apps": printer("Name,Controller,#Revision,Age", _revision),
    "horizontalpodautoscalers.autoscaling": printer("Name,Reference,Targets,MinPods,MaxPods,#Replicas,Age", _hpa),
    "scales.autoscaling": printer("Name,#Desired,#Available,Age", _scale),
    "poddisruptionbudgets.policy": printer("Name,Min Available,Max Unavailable,#Allowed Disruptions,Age", _pdb),
}
