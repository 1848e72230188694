"""What to do next for one pod: a pure function of its spec, what the runtime has, what is remembered, and the time.

It starts sandboxes and containers in their order, restarts by policy with back-off, and says when the pod is over.
How pods end (grace, hooks, sandbox, volumes) is worker's; it never asks here once it has begun to end one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from stablehand.machinery.times import parse_time
from stablehand.machinery.types import Obj
from stablehand.node.state import BACKOFF_TOP, Kind, Memory, Observed, Record, RestartBackoff, Trouble

ALL_RESTARTING = "AllContainersRestarting"  # the condition of a pod whose containers are all being restarted


@dataclass(frozen=True, slots=True)
class CreateSandbox:
    attempt: int
    changed: bool  # there was one before


@dataclass(frozen=True, slots=True)
class StartContainer:
    kind: Kind
    name: str
    attempt: int


@dataclass(frozen=True, slots=True)
class KillContainer:
    id: str
    name: str
    reason: str
    message: str


Action = CreateSandbox | StartContainer | KillContainer


@dataclass(slots=True)
class Plan:
    """`wake_at` is when to look again by itself; `over`: every container is through, the pod will not run again."""

    actions: list[Action] = field(default_factory=list)
    waiting: dict[str, Trouble] = field(default_factory=dict)  # by container name: waits out its back-off
    wake_at: float | None = None
    over: bool = False
    failed: tuple[str, str] | None = None

    def wake(self, at: float) -> None:
        self.wake_at = at if self.wake_at is None else min(at, self.wake_at)


def is_sidecar(container: Obj) -> bool:
    return container.get("restartPolicy") == "Always"


def all_containers(pod: Obj) -> Iterable[tuple[Kind, Obj]]:
    spec = pod["spec"]
    for container in spec.get("initContainers") or ():
        yield "init", container
    for container in spec["containers"]:
        yield "main", container
    for container in spec.get("ephemeralContainers") or ():
        yield "ephemeral", container


def find_container(pod: Obj, name: str) -> tuple[Kind, Obj] | None:
    for kind, container in all_containers(pod):
        if container["name"] == name:
            return kind, container
    return None


def should_restart(pod: Obj, container: Obj, record: Record, *, init: bool = False) -> bool:
    """Whether an ended container is started again."""
    if record.replaced or record.reset or matching_rule(container, record.exit_code):
        return True
    policy = container.get("restartPolicy") or pod["spec"].get("restartPolicy") or "Always"
    if policy == "Always":
        return not (init and not is_sidecar(container) and record.exit_code == 0)
    return policy == "OnFailure" and record.exit_code != 0


def matching_rule(container: Obj, exit_code: int) -> str:
    """The action (Restart, RestartAllContainers) of the first restart rule that an exit code meets, or ""."""
    for rule in container.get("restartPolicyRules") or ():
        codes = rule.get("exitCodes") or {}
        if (exit_code in (codes.get("values") or ())) == (codes.get("operator") == "In"):
            return str(rule.get("action") or "")
    return ""


def may_restart_all(pod: Obj) -> bool:
    """Whether a rule of the pod can restart all its containers."""
    return any(
        rule.get("action") == "RestartAllContainers"
        for kind, container in all_containers(pod)
        if kind != "ephemeral"
        for rule in container.get("restartPolicyRules") or ()
    )


def backs_off(container: Obj, record: Record) -> bool:
    """Whether the next start after this end may have to wait: not of those that were ended with others, or for others."""
    if record.state != "exited" or record.replaced:
        return False
    return not record.reset or bool(matching_rule(container, record.exit_code))


def ended(record: Record | None, sandbox: str) -> bool:
    """Ended, or lost with its sandbox."""
    return record is not None and (
        record.state in ("exited", "unknown") or (record.sandbox != sandbox and record.state != "created")
    )


def next_attempt(observed: Observed, memory: Memory, name: str) -> int:
    record = observed.latest(name)
    if record is None:
        return memory.restarts.get(name, 0)
    return record.attempt if record.state == "created" else record.attempt + 1


def make_plan(pod: Obj, observed: Observed, memory: Memory, now: float) -> Plan:
    plan = Plan()
    if memory.terminating:
        return plan
    deadline = pod["spec"].get("activeDeadlineSeconds")
    if deadline is not None:
        started = parse_time((pod.get("status") or {}).get("startTime") or "1970-01-01T00:00:00Z") or memory.start_time
        started = started or now
        if now >= started + deadline:
            plan.failed = ("DeadlineExceeded", "Pod was active on the node longer than the specified deadline")
            return plan
        plan.wake(started + deadline)

    if memory.restarting_all:
        return plan
    sandbox = observed.sandbox
    current = sandbox.id if sandbox is not None and sandbox.ready else ""
    if is_over(pod, observed, current):
        plan.over = True
        return plan
    if memory.sandbox_busy:
        return plan
    if not current:
        if not memory.sandbox_allowed:
            return plan
        if waits(memory.sandbox_retry_at, now):
            plan.wake(memory.sandbox_retry_at)
        else:
            attempt = sandbox.attempt + 1 if sandbox is not None else 0
            plan.actions.append(CreateSandbox(attempt, sandbox is not None))
        return plan
    if not memory.volumes_ready:
        return plan
    _kills(plan, observed, memory)
    if _init(plan, pod, observed, memory, current, now):
        _main(plan, pod, observed, memory, current, now)
        _ephemeral(plan, pod, observed, memory, current)
    return plan


def is_over(pod: Obj, observed: Observed, current: str) -> bool:
    """Every main container ended and none is to be restarted, or an init container failed for good."""
    containers = pod["spec"]["containers"]
    records = [observed.latest(c["name"]) for c in containers]
    for container, record in zip(containers, records):
        if record is None or not ended(record, current) or should_restart(pod, container, record):
            break
    else:
        return True
    if any(record is not None and record.sandbox == current for record in records):
        return False
    for container in pod["spec"].get("initContainers") or ():
        record = observed.latest(container["name"])
        if is_sidecar(container) or record is None or record.sandbox != (current or record.sandbox):
            continue
        failed = ended(record, current) and record.exit_code != 0
        if failed and not should_restart(pod, container, record, init=True):
            return True
    return False


def _kills(plan: Plan, observed: Observed, memory: Memory) -> None:
    for container, (reason, message) in memory.to_kill.items():
        record = observed.by_id(container)
        if record is not None and record.running and record.name not in memory.busy:
            plan.actions.append(KillContainer(container, record.name, reason, message))


def _init(plan: Plan, pod: Obj, observed: Observed, memory: Memory, current: str, now: float) -> bool:
    """Brings the init containers forward; True when main containers may run."""
    begun = any(
        (record := observed.latest(c["name"])) is not None and record.sandbox == current and not record.reset
        for c in pod["spec"]["containers"]
    )
    for container in pod["spec"].get("initContainers") or ():
        name = container["name"]
        record = observed.latest(name)
        here = record if record is not None and record.sandbox == current and not record.reset else None
        if is_sidecar(container):
            if here is not None and here.running:
                if here.id not in memory.started and not begun:
                    return False
                continue
            _start(plan, "init", pod, container, observed, memory, now)
            if not begun:
                return False
            continue
        if begun:
            continue
        if here is not None and here.state == "exited" and here.exit_code == 0:
            continue
        if here is None or not here.running:
            _start(plan, "init", pod, container, observed, memory, now)
        return False
    return True


def _main(plan: Plan, pod: Obj, observed: Observed, memory: Memory, current: str, now: float) -> None:
    in_order = any((c.get("lifecycle") or {}).get("postStart") for c in pod["spec"]["containers"])
    for container in pod["spec"]["containers"]:
        name = container["name"]
        record = observed.latest(name)
        if record is not None and record.sandbox == current and record.running:
            if in_order and name in memory.busy:
                return
            continue
        if record is not None and ended(record, current) and not should_restart(pod, container, record):
            continue
        if in_order and name in memory.busy:
            return
        _start(plan, "main", pod, container, observed, memory, now)
        if in_order and any(isinstance(a, StartContainer) for a in plan.actions):
            return


def _ephemeral(plan: Plan, pod: Obj, observed: Observed, memory: Memory, current: str) -> None:
    for container in pod["spec"].get("ephemeralContainers") or ():
        name = container["name"]
        if observed.latest(name) is None and name not in memory.busy and name not in memory.waiting:
            plan.actions.append(StartContainer("ephemeral", name, 0))


def _start(plan: Plan, kind: Kind, pod: Obj, container: Obj, observed: Observed, memory: Memory, now: float) -> None:
    """Starts a container, unless it is being seen to already or has to wait."""
    name = container["name"]
    if name in memory.busy:
        return
    retry_at = memory.retry_at.get(name, 0.0)
    if waits(retry_at, now):
        plan.wake(retry_at)
        return
    record = observed.latest(name)
    if record is not None and backs_off(container, record):
        backoff = memory.backoff.setdefault(name, RestartBackoff())
        remaining = backoff.remaining(record.finished_at or record.created_at, now)
        if remaining > 0:
            plan.wake(now + remaining)
            plan.waiting[name] = Trouble("CrashLoopBackOff", crash_message(pod, name, backoff.delay))
            return
    plan.actions.append(StartContainer(kind, name, next_attempt(observed, memory, name)))


def waits(until: float, now: float) -> bool:
    """Whether it is not time yet; what lies too far ahead was set before the clock was put back."""
    return now < until <= now + BACKOFF_TOP


def pod_title(pod: Obj) -> str:
    """As kubelet names a pod in messages: name_namespace(uid)."""
    meta = pod["metadata"]
    return f"{meta['name']}_{meta['namespace']}({meta['uid']})"


def crash_message(pod: Obj, name: str, delay: float) -> str:
    return f"back-off {go_duration(delay)} restarting failed container={name} pod={pod_title(pod)}"


def go_duration(seconds: float) -> str:
    """As Go prints a duration of whole seconds: 40s, 2m40s, 1h0m0s."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
