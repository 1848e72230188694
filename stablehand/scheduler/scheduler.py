"""The loop: takes pods from the queue one by one, decides, assumes, and binds in the background.

What a pod needs is looked up in `state` (kept by events), so that a decision costs no request; many bindings are in
flight at once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from stablehand.client import ApiError, Client, Conflict, NotFound, Unavailable
from stablehand.machinery import meta
from stablehand.machinery.conditions import get_condition
from stablehand.machinery.pods import is_over
from stablehand.machinery.resources import resource
from stablehand.machinery.times import format_time
from stablehand.machinery.types import Obj
from stablehand.runtime import Informers, NewEventRecorder
from stablehand.scheduler.decide import Decision, decide
from stablehand.scheduler.preemption import is_waiting_for, plan
from stablehand.scheduler.queue import Key, PodQueue
from stablehand.scheduler.state import ClusterState, PodInfo
from stablehand.scheduler.volumes import Choice, Unbindable, VolumeBinder

log = logging.getLogger("stablehand.scheduler")

PODS = resource("pods")
_AT_ONCE = 64  # bindings in flight
_CLAIM_PATIENCE = 0.1  # seconds that claims get to be bound before anyone is told that they are not


class Scheduler:
    def __init__(
        self,
        client: Client,
        informers: Informers,
        name: str = "default-scheduler",
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._name = name
        self._clock = clock
        self._state = ClusterState()
        self._wake = asyncio.Event()
        self._queue = PodQueue(self._wake.set)
        self._binder = VolumeBinder(client, informers)
        self._pods = informers.get(PODS)
        self._nodes = informers.get(resource("nodes"))
        self._namespaces = informers.get(resource("namespaces"))
        self._informers = [
            self._pods,
            self._nodes,
            self._namespaces,
            self._binder.claims,
            self._binder.volumes,
            self._binder.classes,
        ]
        self.events = NewEventRecorder(client, name)
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._nodes.on_change(self._node_changed)
        self._pods.on_change(self._pod_changed)
        for informer in (self._binder.claims, self._binder.volumes, self._binder.classes):
            informer.on_change(lambda event, old, new: self._queue.move_all())

    # -- what changes

    def _node_changed(self, event: str, old: Obj | None, new: Obj) -> None:
        if event == "DELETED":
            self._state.drop_node(meta.name(new))
            return
        self._state.set_node(new)
        if old is None or _node_matters(old, new):
            self._queue.move_all()

    def _pod_changed(self, event: str, old: Obj | None, new: Obj) -> None:
        key, uid = meta.key(new), meta.uid(new)
        if event == "DELETED":
            self._queue.drop(key)
            if self._state.is_placed(uid):
                self._state.forget(uid)
                self._queue.move_all()
            return
        if new["spec"].get("nodeName"):
            self._state.observe(new)
            self._queue.drop(key)
            if is_over(new) or old is None or not old["spec"].get("nodeName") or meta.labels(old) != meta.labels(new):
                self._queue.move_all()
            return
        if (new["spec"].get("schedulerName") or "default-scheduler") != self._name:
            return
        if meta.deletion_timestamp(new) or is_over(new) or new["spec"].get("schedulingGates"):
            self._queue.drop(key)
        elif self._state.is_placed(uid):
            return  # its binding is in flight
        elif old is None or _pod_matters(old, new):
            self._queue.put(key, new)
        else:
            self._queue.refresh(key, new)

    # -- the loop

    async def run(self) -> None:
        for informer in self._informers:
            await informer.synced()
        try:
            while True:
                taken = self._queue.pop()
                if taken is None:
                    self._wake.clear()
                    await self._wake.wait()
                    continue
                key, pod, moves = taken
                try:
                    self._schedule(key, pod, moves)
                except Exception:
                    log.exception("cannot schedule %s/%s", *key)
                    self._queue.retry(key)
                await self._slots.acquire()  # lets other tasks run, too
                self._slots.release()
                await asyncio.sleep(0)
        finally:
            self._queue.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, coroutine: object) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(coroutine)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _namespace_objects(self) -> dict[str, Obj]:
        return {meta.name(n): n for n in self._namespaces.items()}

    def _schedule(self, key: Key, pod: Obj, moves: int) -> None:
        if self._state.is_placed(meta.uid(pod)):
            return
        info = PodInfo(pod)
        claims = self._binder.look(pod)
        namespaces = self._namespace_objects()
        decision = decide(info, self._state.nodes, namespaces, claims)
        if decision.node is None:
            self._spawn(self._unschedulable(key, info, decision, moves))
            return
        node_name = decision.node.name
        choice = claims.choose(decision.node.node) if claims is not None else None
        self._state.place(pod, node_name)
        if choice:
            self._binder.reserve(choice)
        self._spawn(self._bind(key, pod, node_name, choice or None))

    async def _bind(self, key: Key, pod: Obj, node_name: str, choice: Choice | None) -> None:
        namespace, name = key
        try:
            if choice:
                await self._binder.bind(choice, node_name)
            async with self._slots:
                binding = {
                    "apiVersion": "v1",
                    "kind": "Binding",
                    "metadata": {"name": name, "namespace": namespace, "uid": meta.uid(pod)},
                    "target": {"apiVersion": "v1", "kind": "Node", "name": node_name},
                }
                await self._client.create(PODS, binding, namespace=namespace, name=name, subresource="binding")
        except (NotFound, Conflict) as e:
            # Gone, or bound by someone else: the watch has said so, or will.
            log.debug("binding %s/%s to %s: %s", namespace, name, node_name, e)
            self._give_up(key, pod)
        except (ApiError, Unavailable, Unbindable, TimeoutError) as e:
            log.info("binding %s/%s to %s failed: %s", namespace, name, node_name, e)
            self.events.event(pod, "Warning", "FailedScheduling", "Scheduling", f"binding rejected: {e}")
            self._give_up(key, pod)
        else:
            text = f"Successfully assigned {namespace}/{name} to {node_name}"
            self.events.event(pod, "Normal", "Scheduled", "Binding", text)
        finally:
            if choice:
                self._binder.release(choice)

    def _give_up(self, key: Key, pod: Obj) -> None:
        """The binding failed: the place is free again, and the pod, if it still wants one, waits for its turn."""
        self._state.forget(meta.uid(pod))
        now = self._pods.cached(*key)
        if now is not None and now["spec"].get("nodeName"):
            self._state.observe(now)
        elif now is not None:
            self._queue.refresh(key, now)
            self._queue.retry(key)

    # -- no node

    async def _unschedulable(self, key: Key, info: PodInfo, decision: Decision, moves: int) -> None:
        pod = info.pod
        nominated, note = None, _preemption_text(decision, helpful=0)
        if decision.problem is not None:
            self._queue.park(key, moves)
            await asyncio.sleep(_CLAIM_PATIENCE)
            if not self._queue.is_parked(key):
                return
        try:
            if decision.helped and not is_waiting_for(info, self._state.nodes):
                claims = self._binder.look(pod)
                found = plan(info, decision, self._state.nodes, self._namespace_objects(), claims)
                if found is not None:
                    nominated = found.node
                    await self._preempt(info, found.node, found.victims)
                    note = ""
                else:
                    note = _preemption_text(decision, helpful=len(decision.helped))
            message = decision.message(note)
            self.events.event(pod, "Warning", "FailedScheduling", "Scheduling", message)
            await self._tell(pod, message, nominated)
        except (ApiError, Unavailable) as e:
            log.info("pod %s/%s: %s", *key, e)
        if decision.problem is None:
            self._queue.park(key, moves)

    async def _preempt(self, info: PodInfo, node_name: str, victims: list[PodInfo]) -> None:
        now = format_time(self._clock())
        for victim in victims:
            namespace, name = victim.key
            condition = {
                "type": "DisruptionTarget",
                "status": "True",
                "reason": "PreemptionByScheduler",
                "message": f"{self._name}: preempting to accommodate a higher priority pod",
                "lastTransitionTime": now,
            }
            try:
                patch = {"status": {"conditions": [condition]}}
                await self._client.patch(PODS, name, patch, namespace, kind="strategic", subresource="status")
                await self._client.delete(PODS, name, namespace, uid=victim.uid)
            except (NotFound, Conflict):
                continue
            text = f"Preempted by pod {info.uid} on node {node_name}"
            self.events.event(victim.pod, "Normal", "Preempted", "Preempting", text, related=info.pod)

    async def _tell(self, pod: Obj, message: str, nominated: str | None) -> None:
        """Writes why the pod has no node into its conditions, where that is news."""
        had = get_condition(pod.get("status"), "PodScheduled")
        same = had is not None and had.get("reason") == "Unschedulable" and had.get("message") == message
        if same and nominated is None:
            return
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
        if had is None or had.get("status") != "False":
            condition["lastTransitionTime"] = format_time(self._clock())
        status: Obj = {"conditions": [condition]}
        if nominated is not None:
            status["nominatedNodeName"] = nominated
        try:
            await self._client.patch(
                PODS, meta.name(pod), {"status": status}, meta.namespace(pod), kind="strategic", subresource="status"
            )
        except NotFound:
            pass


def _preemption_text(decision: Decision, *, helpful: int) -> str:
    if decision.total == 0 and decision.problem is None:
        return ""
    parts = []
    if helpful:
        parts.append(f"{helpful} No preemption victims found for incoming pod")
    if decision.total > helpful:
        parts.append(f"{decision.total - helpful} Preemption is not helpful for scheduling")
    return f"preemption: 0/{decision.total} nodes are available: {', '.join(parts)}."


def _node_matters(old: Obj, new: Obj) -> bool:
    """Heartbeats do not."""
    was, is_ = old.get("status") or {}, new.get("status") or {}

    def conditions(status: Obj) -> list[tuple[str, str]]:
        return [(c.get("type", ""), c.get("status", "")) for c in status.get("conditions") or ()]

    return (
        old.get("spec") != new.get("spec")
        or meta.labels(old) != meta.labels(new)
        or was.get("allocatable") != is_.get("allocatable")
        or conditions(was) != conditions(is_)
    )


def _pod_matters(old: Obj, new: Obj) -> bool:
    """Our own note that the pod is unschedulable is no reason to try it again."""
    return old["spec"] != new["spec"] or meta.labels(old) != meta.labels(new) or meta.uid(old) != meta.uid(new)
