"""One task for each pod: looks at pod, runtime and time, asks `plan`, carries it out, writes the status.

The worker reacts to four things: the pod changed (update, removed), a container ended (exited, from containerd's
events), a probe or volume spoke, or a time came. Starting is `starter`'s, ending `ending`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from stablehand.aiokit.backoff import Backoff
from stablehand.machinery.conditions import get_condition
from stablehand.machinery.types import Obj
from stablehand.node import admit, changes, ending, restartall, starter, unsupported
from stablehand.node.cri.client import CriError
from stablehand.node.nodeobject import apparmor_enabled
from stablehand.node.plan import (
    CreateSandbox,
    KillContainer,
    Plan,
    StartContainer,
    find_container,
    make_plan,
    pod_title,
)
from stablehand.node.probing import Probing
from stablehand.node.ranking import pressure_refusal
from stablehand.node.sandbox import log_directory
from stablehand.node.services import Services
from stablehand.node.starter import container_path
from stablehand.node.state import Memory, Observed, Record
from stablehand.node.statuswriter import StatusWriter
from stablehand.node.stock import apply_status
from stablehand.node.supplies import Supplies

if TYPE_CHECKING:
    from stablehand.node.agent import Agent

log = logging.getLogger("stablehand.node.worker")

_VOLUME_PATIENCE = 0.008  # volumes that fail do so within this time mostly: then no sandbox is made for nothing


class PodWorker:
    """The life of one pod (one uid) on this node."""

    def __init__(self, agent: Agent, node: Services, pod: Obj, observed: Observed | None) -> None:
        self.agent = agent
        self.node = node
        self.pod = pod
        self.uid: str = pod["metadata"]["uid"]
        self.key: tuple[str, str] = (pod["metadata"]["namespace"], pod["metadata"]["name"])
        self.adopted = observed is not None
        self.observed = observed or Observed()
        self.memory = Memory(start_time=time.time())
        self.supplies = Supplies(self)
        self.volumes = self.supplies.volumes
        self.probing = Probing(self)
        self.status = StatusWriter(self)
        self.sandbox_failures = 0
        self.gone = False  # the API object is no more
        self.finished = False  # nothing of it is left here but what goes on in the background
        self._wake = asyncio.Event()
        self._tasks: dict[str, asyncio.Task[Any]] = {}
        self._exits: dict[str, list[asyncio.Future[None]]] = {}
        self._crash_told: dict[str, float] = {}
        self._oom: set[str] = set()
        self._over = False
        self._taken = observed is not None  # admitted
        self.tidying: set[asyncio.Task[None]] = set()  # calls to stop containers whose exit is known already
        self.starting: set[asyncio.Task[CriError | None]] = set()  # calls to start containers

    # -- what happens to it

    def wake(self) -> None:
        self._wake.set()

    def update(self, pod: Obj) -> None:
        """The pod as the watch shows it (our own status writes included)."""
        old, self.pod = self.pod, pod
        if (
            old["metadata"].get("deletionTimestamp") != pod["metadata"].get("deletionTimestamp")
            or (old["metadata"].get("generation") != pod["metadata"].get("generation"))
            or (old["spec"] is not pod["spec"] and old["spec"] != pod["spec"])
        ):
            self.wake()
        before, after = old["metadata"], pod["metadata"]
        grace = after.get("deletionGracePeriodSeconds")
        if self.memory.terminating and grace is not None and grace < before.get("deletionGracePeriodSeconds", grace):
            for record in self.observed.running():  # deleted again, in more of a hurry
                self.spawn(f"hurry/{record.id}", ending.stop(self, record, grace))
        if any(before.get(f) != after.get(f) for f in ("labels", "annotations")):
            self.supplies.volumes_changed()
        if pod["spec"].get("readinessGates") or _told_ready(pod) != _told_ready(old):
            # Somebody else (the node lifecycle controller) may have written our conditions: say again what is so.
            self.write_status()

    def removed(self, pod: Obj) -> None:
        """The API object is gone. Running containers get a second's grace, even within a longer one."""
        self.gone = True
        self.wake()
        if self.memory.terminating:
            for record in self.observed.running():
                self.spawn(f"force/{record.id}", ending.stop(self, record, 1))

    def exited(self, container: str, code: int, at: float) -> None:
        """A process that containerd watches ended: a container's, or the sandbox's own."""
        for sandbox in self.observed.sandboxes:
            if sandbox.id == container:
                sandbox.ready = False
                self.wake()
                return
        record = self.observed.by_id(container)
        if record is None or record.state == "exited":
            return
        record.state, record.exit_code, record.finished_at = "exited", code, at
        record.started_at = record.started_at or record.created_at
        record.reason = "OOMKilled" if container in self._oom else ""
        self._after_exit(record)

    def oom(self, container: str) -> None:
        self._oom.add(container)
        record = self.observed.by_id(container)
        if record is not None and record.state == "exited" and record.exit_code == 137:
            record.reason = "OOMKilled"
            self.write_status()

    def mark_lost(self, record: Record) -> None:
        """It is gone without telling how it ended."""
        if record.state != "exited":
            record.state, record.exit_code, record.finished_at = "exited", 137, time.time()
            record.reason = "ContainerStatusUnknown"
            self._after_exit(record)

    def _after_exit(self, record: Record) -> None:
        self.probing.end(record.id)
        self.memory.ready.pop(record.id, None)
        self.memory.to_kill.pop(record.id, None)
        self.memory.started.discard(record.id)
        if (found := find_container(self.pod, record.name)) is not None:
            record.message = record.message or starter.read_message(self, found[1], record)
        for waiter in self._exits.pop(record.id, ()):
            if not waiter.done():
                waiter.set_result(None)
        self.wake()

    async def exit_of(self, record: Record) -> None:
        """Returns when the container has ended."""
        if record.state in ("exited", "unknown"):
            return
        waiter = asyncio.get_running_loop().create_future()
        self._exits.setdefault(record.id, []).append(waiter)
        await waiter

    async def refresh(self, record: Record) -> None:
        """Takes a container's state from the runtime. Raises CriError."""
        status = await self.node.runtime.container_status(record.id)
        was = record.state
        apply_status(record, status)
        if record.state in ("exited", "unknown") and was not in ("exited", "unknown"):
            self._after_exit(record)

    def up(self) -> set[str]:
        """The ids of its ready sandboxes and running containers, as far as we know."""
        return {s.id for s in self.observed.sandboxes if s.ready} | {r.id for r in self.observed.running()}

    def relisted(self, before: set[str], states: dict[str, str], sandboxes: dict[str, bool]) -> None:
        """The runtime's whole list, as a net below the stream of events. `before` is what was `up` when it was asked
        for: of what began meanwhile it says nothing."""
        for sandbox in self.observed.sandboxes:
            if sandbox.ready and sandbox.id in before and not sandboxes.get(sandbox.id, False):
                sandbox.ready = False
                self.wake()
        for record in [r for r in self.observed.running() if r.id in before]:
            if record.id not in states:
                self.mark_lost(record)
            elif states[record.id] != "running":
                self.spawn(f"refresh/{record.id}", self.refresh(record))

    # -- the loop

    def spawn(self, key: str, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(coroutine, name=f"{key}/{self.key[0]}/{self.key[1]}")
        self._tasks[key] = task

        def done(ended: asyncio.Task[Any]) -> None:
            if self._tasks.get(key) is ended:
                del self._tasks[key]
            if not ended.cancelled() and (error := ended.exception()) is not None:
                log.error("%s of %s/%s failed: %r", key, *self.key, error, exc_info=error)
            self.wake()

        task.add_done_callback(done)
        return task

    async def run(self) -> None:
        """Until the pod is gone. Cancellation leaves its containers running."""
        backoff = Backoff(1.0, 60.0)
        while True:
            try:
                await self._run()
                return
            except (Exception, asyncio.CancelledError) as e:
                task = asyncio.current_task()
                if isinstance(e, asyncio.CancelledError) and (task is None or task.cancelling()):
                    raise
                # A fault of ours must not lose the pod: what runs is taken up again, as after a restart.
                log.exception("worker of %s/%s failed", *self.key)
                self.node.event(self.pod, "Warning", "NodeAgentError", f"node agent failed on this pod: {e!r}")
            finally:
                self.volumes.forget()
                self.probing.stop()
                self.status.stop()
                for task in self._tasks.values():
                    task.cancel()
            await asyncio.sleep(backoff.next())
            self.adopted, self.memory = True, Memory(start_time=time.time())

    async def _run(self) -> None:
        phase = (self.pod.get("status") or {}).get("phase")
        if phase in ("Succeeded", "Failed"):
            self._over = True
            self.memory.terminating = True
            if any(s.ready for s in self.observed.sandboxes):
                self.node.background.spawn(ending.remove_sandboxes(self, everything=False), "over")
        else:
            if self.adopted:
                self._take_up()
                await starter.reopen_ports(self)
            if not self._ending_due():
                await self._admit()
        while True:
            self._wake.clear()
            if self._ending_due():
                await self._end()
                return
            timeout = None if self._over else self._step()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), timeout)

    def _ending_due(self) -> bool:
        return self.gone or bool(self.pod["metadata"].get("deletionTimestamp"))

    async def _admit(self) -> None:
        """Takes the pod, or refuses it for good. One that had containers here was taken already."""
        refused = None
        if not self.adopted and not (self.pod.get("status") or {}).get("containerStatuses"):
            refused = pressure_refusal(self.pod, self.agent.pressure.conditions())
            refused = refused or admit.refusal(self.pod, self.agent.neighbours(self), self.node.allocatable())
            refused = refused or await self.agent.misplaced(self)
        if refused is None:
            self.memory.blocked = admit.obstacle(self.pod, apparmor=apparmor_enabled())
            if self.memory.blocked is None:
                self._begin()
            return
        reason, message = refused
        self.memory.failed = (reason, f"Pod was rejected: {message}")
        self.node.event(self.pod, "Warning", reason, message)
        self._over = True
        self.spawn("over", self._finish())

    def fail(self, reason: str, message: str) -> None:
        """Ends the pod as failed: the node takes back what it uses (eviction). Its containers get a second's grace."""
        if self._over or self._ending_due():
            return
        self.memory.failed = (reason, message)
        self.memory.evicted, self.memory.grace = True, 1
        self.node.event(self.pod, "Warning", reason, message)
        self._over = True
        self.spawn("over", self._finish())

    @property
    def active(self) -> bool:
        """Whether it still takes room on the node."""
        return self._taken and not (self._over or self.finished or self.gone)

    def granted(self) -> Obj:
        """The pod with the resources it was given."""
        return changes.granted_pod(self.pod, self.memory.allocated)

    def later(self, seconds: float) -> None:
        """Looks again after that time."""
        asyncio.get_running_loop().call_later(seconds, self.wake)

    def _begin(self) -> None:
        self._taken = True
        unsupported.tell(self.node, self.pod)
        self.spawn("volumes", self.supplies.keep_volumes())
        asyncio.get_running_loop().call_later(_VOLUME_PATIENCE, self._allow_sandbox)
        self.supplies.fetch_ahead()

    def _take_up(self) -> None:
        """Continues with containers that ran before us, believing the last status about their readiness."""
        status = self.pod.get("status") or {}
        field_names = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")
        told = {s["name"]: s for f in field_names for s in status.get(f) or ()}
        sandbox = self.observed.sandbox
        if sandbox is not None and not sandbox.ip and not self.pod["spec"].get("hostNetwork"):
            sandbox.ready = False  # its network is gone: the next plan makes another
        changes.load(self)
        restartall.take_up(self)
        if not self.memory.allocated and told:
            asked = changes.wanted(self.pod)
            had_all = {**told, changes.WHOLE: status}
            self.memory.allocated = {n: (had_all.get(n) or {}).get("resources", r) for n, r in asked.items()}
        for name, last in told.items():
            had = last.get("containerID") or (last.get("lastState") or {}).get("terminated")
            self.memory.restarts[name] = (last.get("restartCount") or 0) + (1 if had else 0)
        for record in self.observed.running():
            found = find_container(self.pod, record.name)
            last = told.get(record.name) or {}
            same = last.get("containerID") == f"containerd://{record.id}"
            if found is None:
                continue
            record.resources = last.get("resources")
            started = bool(same and last.get("started"))
            ready = bool(same and last.get("ready"))
            if ready and found[1].get("readinessProbe"):
                self.memory.ready[record.id] = True
            self.probing.begin(found[1], record, started=started, ready=ready)

    def _allow_sandbox(self) -> None:
        if self.memory.volumes_failed:
            return
        self.memory.sandbox_allowed = True
        self.wake()

    def _step(self) -> float | None:
        """Carries out one plan; the seconds until the next look, or None."""
        now = time.time()
        changes.follow(self)
        restartall.follow(self)
        plan = make_plan(self.pod, self.observed, self.memory, now)
        if plan.failed is not None:
            self.memory.failed = plan.failed
            self.node.event(self.pod, "Normal", plan.failed[0], plan.failed[1])
        if plan.failed is not None or plan.over:
            self._over = True
            self.spawn("over", self._finish())
            return None
        for action in plan.actions:
            self._act(action)
        self.probing.keep()
        self._tell_waiting(plan)
        self.write_status()
        return None if plan.wake_at is None else max(0.0, plan.wake_at - now)

    def _act(self, action: CreateSandbox | StartContainer | KillContainer) -> None:
        memory = self.memory
        if isinstance(action, CreateSandbox):
            memory.sandbox_busy = True
            self.spawn("sandbox", self._create_sandbox(action.attempt, action.changed))
            return
        memory.busy.add(action.name)
        if isinstance(action, StartContainer):
            found = find_container(self.pod, action.name)
            assert found is not None
            self.spawn(f"start/{action.name}", self._start(action, found[1]))
        else:
            self.spawn(f"kill/{action.name}", self._kill(action))

    async def _create_sandbox(self, attempt: int, changed: bool) -> None:
        try:
            await self.node.runtime_ready.wait()
            if changed:
                await self.spawn("retire", ending.retire(self))
            await starter.create_sandbox(self, attempt, changed)
        finally:
            self.memory.sandbox_busy = False

    async def _start(self, action: StartContainer, container: Obj) -> None:
        try:
            await self.node.runtime_ready.wait()
            await starter.start_container(self, action.kind, container, action.attempt)
            ending.drop_old_sandboxes(self)
        finally:
            self.memory.busy.discard(action.name)

    async def _kill(self, action: KillContainer) -> None:
        try:
            record = self.observed.by_id(action.id)
            found = find_container(self.pod, action.name)
            if record is not None and found is not None:
                grace = ending.grace_seconds(self)
                for which in ("livenessProbe", "startupProbe"):
                    own = (found[1].get(which) or {}).get("terminationGracePeriodSeconds")
                    if own is not None and which.removesuffix("Probe") in action.message:
                        grace = int(own)
                await ending.kill_container(self, record, action.message, grace)
        finally:
            self.memory.busy.discard(action.name)

    def _tell_waiting(self, plan: Plan) -> None:
        for name, trouble in plan.waiting.items():
            current = self.memory.waiting.get(name)
            if current is None or current.reason != "RunContainerError":
                self.memory.waiting[name] = trouble
            record = self.observed.latest(name)
            stamp = record.finished_at if record is not None else 0.0
            if self._crash_told.get(name) != stamp:
                self._crash_told[name] = stamp
                found = find_container(self.pod, name)
                path = container_path(found[0], name) if found is not None else ""
                text = f"Back-off restarting failed container {name} in pod {pod_title(self.pod)}"
                self.node.container_event(self.pod, path, "Warning", "BackOff", text)

    # -- the end

    async def _finish(self) -> None:
        """All containers are through (or the pod as a whole failed): status, sandbox, volumes; the object stays."""
        self.memory.terminating = True
        await ending.stop_containers(self)
        self.write_status()
        if volumes := self._tasks.pop("volumes", None):
            volumes.cancel()
        await ending.unmount(self)
        self.node.background.spawn(self._take_apart(), "over")

    async def _take_apart(self) -> None:
        await ending.remove_sandboxes(self, everything=False)
        if not self._ending_due():
            self.write_status()

    async def _end(self) -> None:
        """The pod is being deleted, or its object is gone already."""
        self.memory.terminating = True
        await self._stop_starting()
        await ending.stop_containers(self)
        await ending.unmount(self)
        self.status.stop()
        if not self.gone:
            self.memory.final = True
            await self.status.write()
            await ending.delete_object(self)
        self.finished = True
        self.agent.worker_finished(self)
        work = self.node.background.spawn(ending.remove_sandboxes(self, everything=True), "remove")
        self.agent.leave(self, work)
        while not self.gone and self.node.pods.cached(*self.key) is self.pod:
            # Finalizers hold the object: nothing is left to do, but the uid is still ours.
            await self._wake.wait()
            self._wake.clear()

    async def _stop_starting(self) -> None:
        """Ends what is under way, and learns what became of it."""
        tasks = [t for k, t in self._tasks.items() if not k.startswith("sandbox")]
        sandbox = self._tasks.get("sandbox")
        begun = any(k.startswith("start/") for k in self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, *([sandbox] if sandbox is not None else []), return_exceptions=True)
        if begun:
            await asyncio.gather(*self.starting, return_exceptions=True)
            for records in self.observed.containers.values():
                for record in records[:1]:
                    if record.state != "exited":
                        with contextlib.suppress(CriError):
                            await self.refresh(record)

    # -- for starter, ending and the rest

    def write_status(self) -> None:
        """Writes the status soon."""
        self.status.soon()

    def address(self) -> str:
        """Where its containers are reached: the pod's address, or the node's."""
        sandbox = self.observed.sandbox
        return (sandbox.ip if sandbox is not None else "") or self.node.config.address

    def facts(self) -> dict[str, str]:
        """For the downward API."""
        known = self.observed.sandbox is not None
        return {"hostIP": self.node.config.address, "podIP": self.address() if known else ""}

    def node_register(self, container_id: str) -> None:
        """From now on exits of this id are ours."""
        self.agent.register(container_id, self)

    async def remove_container(self, record: Record) -> None:
        with contextlib.suppress(CriError):
            await self.node.runtime.remove_container(record.id)
        self.agent.unregister(record.id)
        self._oom.discard(record.id)
        with contextlib.suppress(OSError):
            starter.message_file(self, record.name, record.attempt).unlink()
        with contextlib.suppress(OSError):
            (log_directory(self.node.config, self.pod) / record.name / f"{record.attempt}.log").unlink()


def _told_ready(pod: Obj) -> str:
    condition = get_condition(pod.get("status"), "Ready")
    return condition["status"] if condition is not None else ""
