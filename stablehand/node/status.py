"""The status of a pod, computed from what was observed: phase, conditions, container states. Pure.

`build` makes the whole status, `difference` the strategic merge patch that takes the stored one there. Conditions of
others (PodScheduled, readiness gates, DisruptionTarget) are left as they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from stablehand.machinery.conditions import get_condition
from stablehand.machinery.times import format_time
from stablehand.machinery.types import Obj
from stablehand.node.plan import ALL_RESTARTING, is_over, is_sidecar, may_restart_all, should_restart
from stablehand.node.resources import qos_class
from stablehand.node.state import Kind, Memory, Observed, Record, Trouble

_PASSING = ("PodResizePending", "PodResizeInProgress")  # taken away when they no longer hold
OWN_CONDITIONS = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")


def build(pod: Obj, observed: Observed, memory: Memory, host_ip: str, now: float) -> Obj:
    """The full status as it should be stored."""
    old: Obj = pod.get("status") or {}
    sandbox = observed.sandbox
    current = sandbox.id if sandbox is not None and sandbox.ready else ""
    spec = pod["spec"]
    inits = _statuses(pod, "init", spec.get("initContainers") or (), observed, memory, current, old)
    mains = _statuses(pod, "main", spec["containers"], observed, memory, current, old)
    ephemerals = _statuses(pod, "ephemeral", spec.get("ephemeralContainers") or (), observed, memory, current, old)
    status: Obj = {
        "phase": _phase(pod, observed, memory, current, old),
        "hostIP": host_ip,
        "hostIPs": [{"ip": host_ip}],
        "startTime": old.get("startTime") or format_time(memory.start_time or now),
        "qosClass": old.get("qosClass") or qos_class(pod),
        "observedGeneration": pod["metadata"].get("generation") or 1,
        "containerStatuses": mains,
    }
    if (whole := memory.allocated.get("")) is not None and sandbox is not None:
        status["resources"] = memory.whole or whole
        if whole.get("requests"):
            status["allocatedResources"] = whole["requests"]
    if inits:
        status["initContainerStatuses"] = inits
    if ephemerals:
        status["ephemeralContainerStatuses"] = ephemerals
    ip = host_ip if spec.get("hostNetwork") and sandbox is not None else sandbox.ip if sandbox is not None else ""
    ip = ip or old.get("podIP", "")
    if ip:
        status["podIP"] = ip
        status["podIPs"] = [{"ip": ip}]
    if (trouble := memory.failed or memory.blocked) is not None:
        status["reason"], status["message"] = trouble
    if memory.final:
        _finish(pod, status)
    status["conditions"] = _conditions(pod, observed, memory, status, current, old, now)
    return status


def _finish(pod: Obj, status: Obj) -> None:
    """A pod that is deleted ends as one that is over; containers that it never came to count as lost."""
    if status["phase"] not in ("Succeeded", "Failed"):
        status["phase"] = "Failed"
    inits = {c["name"] for c in pod["spec"].get("initContainers") or () if not is_sidecar(c)}
    if any(not s["ready"] for s in status.get("initContainerStatuses") or () if s["name"] in inits):
        return
    for container in status["containerStatuses"]:
        if "terminated" not in container["state"]:
            text = "The container could not be located when the pod was terminated"
            container["state"] = {"terminated": {"exitCode": 137, "reason": "ContainerStatusUnknown", "message": text}}


# -- containers


def _statuses(
    pod: Obj, kind: Kind, containers: Iterable[Obj], observed: Observed, memory: Memory, current: str, old: Obj
) -> list[Obj]:
    field = {"init": "initContainerStatuses", "main": "containerStatuses", "ephemeral": "ephemeralContainerStatuses"}
    before = {s["name"]: s for s in old.get(field[kind]) or ()}
    return [_container(pod, kind, c, observed, memory, current, before.get(c["name"])) for c in containers]


def _container(
    pod: Obj, kind: Kind, container: Obj, observed: Observed, memory: Memory, current: str, old: Obj | None
) -> Obj:
    name = container["name"]
    record = observed.latest(name)
    previous = observed.previous(name)
    status: Obj = {
        "name": name,
        "state": {},
        "lastState": {},
        "ready": False,
        "restartCount": record.attempt if record is not None else memory.restarts.get(name, 0),
        "image": (record.image if record is not None else "") or container.get("image", ""),
        "imageID": record.image_id if record is not None else "",
        "started": False,
    }
    if container.get("volumeMounts"):
        status["volumeMounts"] = [_volume_mount(m) for m in container["volumeMounts"]]
    granted = memory.allocated.get(name)
    if granted is not None and record is not None:
        if granted.get("requests"):
            status["allocatedResources"] = granted["requests"]
        status["resources"] = record.resources if record.running and record.resources is not None else granted
    if record is not None:
        status["containerID"] = f"containerd://{record.id}"
    if previous is not None and previous.state == "exited":
        status["lastState"] = {"terminated": terminated(previous)}
    elif record is None and old is not None:
        # The runtime has forgotten it (its data was lost): keep what was told.
        last = (old.get("state") or {}).get("terminated") or (old.get("lastState") or {}).get("terminated")
        if last:
            status["lastState"] = {"terminated": last}
    trouble = memory.waiting.get(name)
    if record is None or record.state == "created":
        initial = Trouble("Blocked" if memory.blocked is not None else _initial_reason(pod, kind, observed, current))
        status["state"] = {"waiting": _waiting(trouble or initial)}
        if kind != "main":
            status["started"] = False
        return status
    if record.running and record.sandbox == (current or record.sandbox):
        status["state"] = {"running": {"startedAt": format_time(record.started_at)}}
        status["started"] = record.id in memory.started
        if kind == "init" and not is_sidecar(container):
            status["started"] = True
        status["ready"] = _is_ready(kind, container, record, memory)
        return status
    if record.reset and not memory.terminating:
        status["state"] = {"waiting": _waiting(trouble or Trouble(_initial_reason(pod, kind, observed, current)))}
        status["lastState"] = {"terminated": terminated(record)}
        return status
    restart = should_restart(pod, container, record, init=kind == "init") and kind != "ephemeral"
    if trouble is not None and restart and not memory.terminating:
        status["state"] = {"waiting": _waiting(trouble)}
        status["lastState"] = {"terminated": terminated(record)}
    else:
        status["state"] = {"terminated": terminated(record)}
    if kind == "init" and not is_sidecar(container):
        status["ready"] = record.state == "exited" and record.exit_code == 0
    return status


def _volume_mount(mount: Obj) -> Obj:
    shown = {"name": mount["name"], "mountPath": mount["mountPath"]}
    return {**shown, "readOnly": True, "recursiveReadOnly": "Disabled"} if mount.get("readOnly") else shown


def _initial_reason(pod: Obj, kind: Kind, observed: Observed, current: str) -> str:
    """ContainerCreating; for main containers PodInitializing where init containers come first."""
    inits = pod["spec"].get("initContainers") or ()
    if not inits or kind == "ephemeral":
        return "ContainerCreating"
    return "PodInitializing"


def _waiting(trouble: Trouble) -> Obj:
    state = {"reason": trouble.reason}
    if trouble.message:
        state["message"] = trouble.message
    return state


def _is_ready(kind: Kind, container: Obj, record: Record, memory: Memory) -> bool:
    if kind == "ephemeral" or (kind == "init" and not is_sidecar(container)):
        return False
    if record.id not in memory.started:
        return False
    if container.get("readinessProbe"):
        return memory.ready.get(record.id, False)
    return True


def terminated(record: Record) -> Obj:
    """The terminated state of an ended container."""
    reason = record.reason
    if not reason:
        reason = "Completed" if record.exit_code == 0 else "Error"
    code = record.exit_code
    if record.state == "unknown" or (record.state == "running" and not record.finished_at):
        reason, code = "ContainerStatusUnknown", 137
    state: Obj = {"exitCode": code, "reason": reason}
    if record.message:
        state["message"] = record.message
    for field, at in (("startedAt", record.started_at), ("finishedAt", record.finished_at)):
        state[field] = format_time(at) if at else None
    state["containerID"] = f"containerd://{record.id}"
    return {k: v for k, v in state.items() if v is not None}


# -- the pod


def _phase(pod: Obj, observed: Observed, memory: Memory, current: str, old: Obj) -> str:
    if old.get("phase") in ("Succeeded", "Failed"):
        return str(old["phase"])
    if memory.failed is not None:
        return "Failed"
    records = [observed.latest(c["name"]) for c in pod["spec"]["containers"]]
    if memory.terminating and records and all(r is not None and not r.running for r in records):
        # Stopped for good: how it ended decides, whatever the restart policy.
        if observed.running():
            return str(old.get("phase") or "Running")
        return (
            "Succeeded"
            if all(r is not None and r.exit_code == 0 and r.state == "exited" for r in records)
            else "Failed"
        )
    if is_over(pod, observed, current) and not observed.running() and not memory.restarting_all:
        bad_init = any(
            (r := observed.latest(c["name"])) is not None and r.state == "exited" and r.exit_code != 0
            for c in pod["spec"].get("initContainers") or ()
            if not is_sidecar(c)
        )
        good = all(r is not None and r.state == "exited" and r.exit_code == 0 for r in records)
        return "Failed" if bad_init or not good else "Succeeded"
    if any(r is not None and r.state != "created" for r in records):
        return "Running"
    return "Pending"


def _conditions(
    pod: Obj, observed: Observed, memory: Memory, status: Obj, current: str, old: Obj, now: float
) -> list[Obj]:
    generation = pod["metadata"].get("generation") or 1
    phase = status["phase"]
    result: list[Obj] = []

    def add(kind: str, value: bool, reason: str = "", message: str = "") -> None:
        text = "True" if value else "False"
        before = get_condition(old, kind)
        since = before.get("lastTransitionTime") if before is not None and before.get("status") == text else None
        condition: Obj = {
            "type": kind,
            "status": text,
            "observedGeneration": generation,
            "lastProbeTime": None,
            "lastTransitionTime": since or format_time(now),
        }
        if reason:
            condition["reason"] = reason
        if message:
            condition["message"] = message
        result.append(condition)

    add(
        "PodReadyToStartContainers",
        bool(current) and (bool(status.get("podIP")) or pod["spec"].get("hostNetwork", False)),
    )
    inits = status.get("initContainerStatuses") or []
    specs = {c["name"]: c for c in pod["spec"].get("initContainers") or ()}
    main_begun = any("waiting" not in s["state"] or s["lastState"] for s in status["containerStatuses"])
    pending = [s["name"] for s in inits if not (s["started"] if is_sidecar(specs[s["name"]]) else s["ready"])]
    if phase == "Succeeded":
        add("Initialized", True, "PodCompleted")
    elif pending and not main_begun:
        names = " ".join(pending)
        add("Initialized", False, "ContainersNotInitialized", f"containers with incomplete status: [{names}]")
    else:
        add("Initialized", True)
    ready, reason, message = _containers_ready(pod, status)
    gates_ok, gate_message = _gates(pod, old)
    if not ready:
        add("Ready", False, reason, message)
    elif not gates_ok:
        add("Ready", False, "ReadinessGatesNotReady", gate_message)
    else:
        add("Ready", True)
    add("ContainersReady", ready, reason, message)
    add("PodScheduled", True)
    if memory.failed is not None and memory.evicted:
        add("DisruptionTarget", True, "TerminationByKubelet", memory.failed[1])
    if may_restart_all(pod):
        text = "container exited with restart policy rule" if memory.restarting_all else ""
        ending = {"Succeeded": "PodCompleted", "Failed": "PodFailed"}.get(phase, "")
        add(ALL_RESTARTING, memory.restarting_all, "RestartAllContainersStarted" if text else ending, text)
    if memory.resize_pending is not None:
        add("PodResizePending", True, *memory.resize_pending)
    if memory.resizing:
        add("PodResizeInProgress", True, "Error" if memory.resize_error else "", memory.resize_error)
    return result


def _containers_ready(pod: Obj, status: Obj) -> tuple[bool, str, str]:
    if status["phase"] in ("Succeeded", "Failed"):
        return False, "PodCompleted" if status["phase"] == "Succeeded" else "PodFailed", ""
    unready = [s["name"] for s in status["containerStatuses"] if not s["ready"]]
    sidecars = {c["name"] for c in pod["spec"].get("initContainers") or () if is_sidecar(c)}
    unready += [
        s["name"] for s in status.get("initContainerStatuses") or () if s["name"] in sidecars and not s["ready"]
    ]
    if unready:
        return False, "ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]"
    return True, "", ""


def _gates(pod: Obj, old: Obj) -> tuple[bool, str]:
    for gate in pod["spec"].get("readinessGates") or ():
        kind = gate["conditionType"]
        condition = get_condition(old, kind)
        if condition is None:
            return False, f'corresponding condition of pod readiness gate "{kind}" does not exist.'
        if condition.get("status") != "True":
            return False, f'the status of pod readiness gate "{kind}" is not "True", but {condition.get("status")}'
    return True, ""


# -- the difference


def difference(old: Obj, new: Obj) -> Obj | None:
    """A strategic merge patch of `status` from `old` to `new`, or None when nothing that we own differs."""
    patch: Obj = {}
    for key, value in new.items():
        if key == "conditions":
            if changed := _changed_conditions(old.get("conditions") or [], value):
                patch[key] = changed
        elif old.get(key) != value:
            patch[key] = value
    for key in ("podIPs", "hostIPs"):
        if key in patch and old.get(key):
            patch[key] = [{"$patch": "replace"}, *patch[key]]
    return patch or None


def _changed_conditions(old: list[Obj], new: list[Obj]) -> list[Obj]:
    before = {c.get("type"): c for c in old}
    changed: list[Obj] = []
    for condition in new:
        stored = before.get(condition["type"])
        if stored is None:
            changed.append(condition)
            continue
        fields = {"status", "reason", "message", "observedGeneration"}
        if any(stored.get(f) != condition.get(f) for f in fields):
            update: dict[str, Any] = dict(condition)
            for field in ("reason", "message"):
                if field in stored and field not in condition:
                    update[field] = None
            changed.append(update)
    told = {c["type"] for c in new}
    changed.extend({"$patch": "delete", "type": t} for t in _PASSING if t in before and t not in told)
    return changed
