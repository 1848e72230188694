"""What a pod's worker knows: sandboxes and containers as observed in the runtime, and its own memory beside them.

Plain data. `plan` and `status` read it, `worker` and `starter` write it; none of it is stored: after a restart it is
made again from the runtime and the pod's status.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from stablehand.machinery.types import Obj

State = Literal["created", "running", "exited", "unknown"]
Kind = Literal["init", "main", "ephemeral"]

BACKOFF_START, BACKOFF_TOP = 10.0, 300.0


@dataclass(slots=True)
class Sandbox:
    id: str
    attempt: int
    ready: bool
    created_at: float
    ip: str = ""


@dataclass(slots=True)
class Record:
    """One container that the runtime has or had. `attempt` is the restart count."""

    id: str
    name: str
    attempt: int
    sandbox: str
    state: State
    created_at: float = 0.0
    started_at: float = 0.0
    finished_at: float = 0.0
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    image: str = ""
    image_id: str = ""
    asked_image: str = ""  # as the spec named it; "" where that is not known
    resources: Obj | None = None  # in force; None where that is not known
    reset: bool = False  # ended, and to begin again with the whole pod: nothing of how it went counts
    replaced: bool = False  # killed to make room for one after the changed spec: started again whatever the policy

    @property
    def running(self) -> bool:
        return self.state == "running"


@dataclass(slots=True)
class Observed:
    """Newest first, both."""

    sandboxes: list[Sandbox] = field(default_factory=list)
    containers: dict[str, list[Record]] = field(default_factory=dict)

    @property
    def sandbox(self) -> Sandbox | None:
        """The newest sandbox, ready or not."""
        return self.sandboxes[0] if self.sandboxes else None

    def latest(self, name: str) -> Record | None:
        records = self.containers.get(name)
        return records[0] if records else None

    def previous(self, name: str) -> Record | None:
        records = self.containers.get(name)
        return records[1] if records and len(records) > 1 else None

    def add(self, record: Record) -> None:
        records = self.containers.setdefault(record.name, [])
        records.insert(0, record)
        records.sort(key=lambda r: (r.attempt, r.created_at), reverse=True)

    def by_id(self, container: str) -> Record | None:
        for records in self.containers.values():
            for record in records:
                if record.id == container:
                    return record
        return None

    def running(self) -> list[Record]:
        return [record for records in self.containers.values() for record in records if record.running]


@dataclass(slots=True)
class Trouble:
    """Why a container waits: the reason and message of its waiting state."""

    reason: str
    message: str = ""


@dataclass(slots=True)
class RestartBackoff:
    """Delay before the next restart: 10 s doubling to 300 s, forgotten after 10 quiet minutes (client-go's backoff)."""

    delay: float = 0.0
    updated: float = 0.0

    def remaining(self, finished_at: float, now: float) -> float:
        if not self.delay or now - self.updated > 2 * BACKOFF_TOP:
            return 0.0
        return max(0.0, min(self.delay, finished_at + self.delay - now))

    def next(self, now: float) -> None:
        if not self.delay or now - self.updated > 2 * BACKOFF_TOP:
            self.delay = BACKOFF_START
        else:
            self.delay = min(BACKOFF_TOP, self.delay * 2)
        self.updated = now


@dataclass(slots=True)
class Memory:
    """What the worker remembers of a pod between looks."""

    busy: set[str] = field(default_factory=set)  # names of containers being started or killed
    waiting: dict[str, Trouble] = field(default_factory=dict)  # by container name
    retry_at: dict[str, float] = field(default_factory=dict)  # by container name: not before this
    backoff: dict[str, RestartBackoff] = field(default_factory=dict)  # by container name
    started: set[str] = field(default_factory=set)  # container ids whose startup probe and postStart are through
    ready: dict[str, bool] = field(default_factory=dict)  # by container id: the readiness probe's word
    to_kill: dict[str, tuple[str, str]] = field(default_factory=dict)  # by container id: (event reason, message)
    restarts: dict[str, int] = field(default_factory=dict)  # by name: count told by the pod's status at start
    restarting_all: bool = False  # all containers are being ended, to begin again
    sandbox_busy: bool = False
    sandbox_allowed: bool = False  # volumes are ready, or at least did not fail at once
    sandbox_retry_at: float = 0.0
    volumes_ready: bool = False
    volumes_failed: bool = False
    failed: tuple[str, str] | None = None  # the pod as a whole failed: (reason, message)
    final: bool = False  # nothing of it runs or ever will: the last status, before the object is deleted
    evicted: bool = False  # it failed because the node ended it to take back what it used
    blocked: tuple[str, str] | None = None  # the pod cannot run on this machine as it is: (reason, message)
    terminating: bool = False  # all containers are being stopped, for good
    allocated: dict[str, Obj] = field(default_factory=dict)  # by container name: resources the node has granted
    whole: Obj | None = None  # the resources in force of the pod as a whole, where it says so
    resize_pending: tuple[str, str] | None = None  # (Deferred | Infeasible, message)
    resizing: bool = False
    resize_error: str = ""
    grace: int | None = None  # what counts in place of the pod's own grace period, in seconds
    start_time: float = 0.0
