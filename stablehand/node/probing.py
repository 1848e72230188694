"""The probes of one pod's containers, and what follows from their answers: readiness, events, a container to kill."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from stablehand.machinery.types import Obj
from stablehand.node.plan import find_container
from stablehand.node.probes.checks import Doubt, Unknown, run_check
from stablehand.node.probes.prober import Prober, Which
from stablehand.node.starter import container_path
from stablehand.node.state import Record

if TYPE_CHECKING:
    from stablehand.node.worker import PodWorker

# The kubelet looks at containers once a second and so rarely sees one that ends at once; we are told of every start.
_KINDS = ("startup", "readiness", "liveness")
_SETTLE, _SETTLE_AFTER_FAILURE = 0.05, 1.0


class Probing:
    """Is the Listener of every Prober of the pod."""

    def __init__(self, worker: PodWorker) -> None:
        self._worker = worker
        self._probers: dict[str, Prober] = {}
        self.results: Counter[tuple[str, str, bool]] = Counter()  # by probe, container and success

    def begin(self, container: Obj, record: Record, *, started: bool = False, ready: bool = False) -> None:
        """`started` and `ready`: what is known of a container that is taken up again."""
        worker = self._worker
        if not record.running or worker.memory.terminating or record.id in self._probers:
            return

        async def check(probe: Obj, timeout: float) -> tuple[bool, str]:
            ok, output = await run_check(worker.node.runtime, container, record.id, worker.address(), probe, timeout)
            which = next(w for w in _KINDS if container.get(f"{w}Probe") is probe)
            if not isinstance(output, Unknown):
                self.results[(which, record.name, ok)] += 1
            if isinstance(output, Doubt):
                self._warn(record, which, output)
            return ok, output

        previous = worker.observed.previous(record.name)
        settle = _SETTLE_AFTER_FAILURE if previous is not None and previous.exit_code else _SETTLE
        prober = Prober(
            container, record.id, check, self, record.started_at, started=started, ready=ready, settle=settle
        )
        self._probers[record.id] = prober
        prober.start()

    def keep(self) -> None:
        """Begins what is missing: whatever went wrong while a container was started, it must not stay unready."""
        worker, memory = self._worker, self._worker.memory
        if memory.terminating or memory.sandbox_busy or memory.restarting_all:
            return
        for record in worker.observed.running():
            if record.id in self._probers or record.name in memory.busy or record.id in memory.to_kill:
                continue
            if (found := find_container(worker.pod, record.name)) is not None:
                ready = memory.ready.get(record.id, False)
                self.begin(found[1], record, started=record.id in memory.started, ready=ready)

    def end(self, container_id: str) -> None:
        if prober := self._probers.pop(container_id, None):
            prober.stop()

    def terminating(self, container_id: str) -> None:
        """The container is being ended: from now on only its readiness counts."""
        if prober := self._probers.get(container_id):
            prober.stop(but="readiness")

    def stop(self) -> None:
        for container_id in list(self._probers):
            self.end(container_id)

    def _warn(self, record: Record, which: str, output: str) -> None:
        found = find_container(self._worker.pod, record.name)
        if found is not None and record.running:
            path = container_path(found[0], record.name)
            text = f"{which.capitalize()} probe warning: {output}"
            self._worker.node.container_event(self._worker.pod, path, "Warning", "ProbeWarning", text)

    # -- Listener

    def probe_started(self, container_id: str) -> None:
        self._worker.memory.started.add(container_id)
        self._worker.wake()

    def probe_ready(self, container_id: str, ready: bool) -> None:
        self._worker.memory.ready[container_id] = ready
        self._worker.write_status()

    def probe_failed(self, container_id: str, which: Which, output: str, how: str = "failed") -> None:
        worker = self._worker
        record = worker.observed.by_id(container_id)
        found = find_container(worker.pod, record.name) if record is not None else None
        if record is not None and found is not None and record.running:
            path = container_path(found[0], record.name)
            text = f"{which.capitalize()} probe {how}: {output}"
            worker.node.container_event(worker.pod, path, "Warning", "Unhealthy", text)

    def probe_errored(self, container_id: str, which: Which, output: str) -> None:
        self.probe_failed(container_id, which, output, "errored and resulted in unknown state")

    def probe_dead(self, container_id: str, which: Which) -> None:
        worker = self._worker
        record = worker.observed.by_id(container_id)
        if record is not None:
            text = f"Container {record.name} failed {which} probe, will be restarted"
            worker.memory.to_kill[container_id] = ("Killing", text)
            worker.wake()
