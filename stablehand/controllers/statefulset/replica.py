"""What the policy asks about one pod, worked out once per version of the pod object."""

from __future__ import annotations

from stablehand.controllers.statefulset.identity import parent_and_ordinal
from stablehand.machinery import meta
from stablehand.machinery.pods import ready_since
from stablehand.machinery.revisions import REVISION_LABEL
from stablehand.machinery.types import Obj


class Replica:
    """One pod of a set: created, or (created=False) about to be."""

    __slots__ = (
        "checked",
        "created",
        "ordinal",
        "over",
        "parent",
        "pending",
        "pod",
        "ready",
        "revision",
        "since",
        "terminating",
    )

    def __init__(self, pod: Obj, *, created: bool = True) -> None:
        self.pod = pod
        self.created = created
        self.checked: tuple[str, int] | None = None  # the set and generation whose identity it was found to have
        self.parent, self.ordinal = parent_and_ordinal(meta.name(pod))
        phase = (pod.get("status") or {}).get("phase") or "" if created else ""
        self.pending = phase == "Pending"
        self.over = phase in ("Failed", "Succeeded")
        self.since = ready_since(pod) if created else 0.0
        self.ready = phase == "Running" and _ready(pod)
        self.terminating = bool(meta.deletion_timestamp(pod))
        self.revision = meta.labels(pod).get(REVISION_LABEL) or ""

    def available(self, min_ready_seconds: int, now: float) -> bool:
        """Running and Ready for at least so long."""
        return self.ready and (min_ready_seconds <= 0 or (self.since > 0 and self.since + min_ready_seconds <= now))

    def unavailable(self, min_ready_seconds: int, now: float) -> bool:
        return self.terminating or not self.available(min_ready_seconds, now)


def _ready(pod: Obj) -> bool:
    for condition in (pod.get("status") or {}).get("conditions") or ():
        if condition.get("type") == "Ready":
            return bool(condition.get("status") == "True")
    return False


class Replicas:
    """Remembers each pod's Replica until the pod object changes (informers never change an object in place)."""

    def __init__(self) -> None:
        self._known: dict[str, Replica] = {}

    def of(self, pod: Obj) -> Replica:
        uid = pod["metadata"]["uid"]
        known = self._known.get(uid)
        if known is None or known.pod is not pod:
            known = self._known[uid] = Replica(pod)
        return known

    def forget(self, uid: str) -> None:
        self._known.pop(uid, None)
