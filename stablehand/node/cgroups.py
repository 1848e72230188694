"""The cgroup of a pod, which holds those of its sandbox and containers: its share of cpu, and the limits of the pod as a
whole. Works on cgroup v2 and on the v1 hierarchies. What the numbers are made of is resources'.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stablehand.machinery.podresources import pod_limits, pod_requests
from stablehand.machinery.types import Obj
from stablehand.node.config import NodeConfig
from stablehand.node.resources import MIN_SHARES, PERIOD, cpu_quota, cpu_shares, qos_class

log = logging.getLogger("stablehand.node.cgroups")

ROOT = Path("/sys/fs/cgroup")
_CONTROLLERS = "+cpu +memory +pids +cpuset +io"


@dataclass(frozen=True, slots=True)
class PodLimits:
    """cpu.shares; microseconds of cpu per PERIOD and bytes of memory, 0 where there is no limit."""

    shares: int
    quota: int
    memory: int


def pod_cgroup_limits(pod: Obj) -> PodLimits:
    """A pod is limited in what all of its containers, or the pod itself, have a limit for."""
    spec = pod["spec"]
    if qos_class(pod) == "BestEffort":
        return PodLimits(MIN_SHARES, 0, 0)
    limits = pod_limits(spec)
    own = (spec.get("resources") or {}).get("limits") or {}
    containers = [*spec["containers"], *(spec.get("initContainers") or ())]

    def declared(name: str) -> bool:
        return name in own or all(name in ((c.get("resources") or {}).get("limits") or {}) for c in containers)

    return PodLimits(
        cpu_shares(pod_requests(spec).get("cpu", 0)),
        cpu_quota(limits.get("cpu", 0)) if declared("cpu") else 0,
        limits.get("memory", 0) if declared("memory") else 0,
    )


def pod_parent(config: NodeConfig, uid: str) -> str:
    """The pod's cgroup, as CRI is told of it."""
    return f"{config.cgroup_parent}/pod{uid}"


def apply(config: NodeConfig, pod: Obj, *, raising: bool = False, root: Path = ROOT) -> None:
    """Makes the pod's cgroup and sets its limits; with `raising` lowers none. What the kernel refuses is logged."""
    path, limits = pod_parent(config, pod["metadata"]["uid"]).lstrip("/"), pod_cgroup_limits(pod)
    try:
        if (root / "cgroup.controllers").exists():
            _make_unified(root, root / path)
            quota = f"{limits.quota} {PERIOD}" if limits.quota else f"max {PERIOD}"
            _write(root / path / "cpu.weight", str(_weight(limits.shares)))
            _write(root / path / "cpu.max", quota, raising=raising)
            _write(root / path / "memory.max", str(limits.memory or "max"), raising=raising)
            return
        for hierarchy, files in _v1(limits).items():
            place = root / hierarchy / path
            place.mkdir(parents=True, exist_ok=True)
            for name, value in files.items():
                _write(place / name, value, raising=raising)
    except OSError as e:
        log.warning("cgroup of pod %s: %s", pod["metadata"]["uid"], e)


def _v1(limits: PodLimits) -> dict[str, dict[str, str]]:
    cpu = {"cpu.shares": str(limits.shares), "cpu.cfs_quota_us": str(limits.quota or -1)}
    return {"cpu": cpu, "memory": {"memory.limit_in_bytes": str(limits.memory or -1)}}


def _make_unified(root: Path, place: Path) -> None:
    """With the controllers handed down from above."""
    for above in reversed(place.relative_to(root).parents):
        (root / above).mkdir(exist_ok=True)
        for controller in _CONTROLLERS.split():
            with contextlib.suppress(OSError):  # one that this kernel does not have
                (root / above / "cgroup.subtree_control").write_text(controller)
    place.mkdir(exist_ok=True)


def _weight(shares: int) -> int:
    """cpu.weight of cpu.shares, as runc converts it."""
    return 1 + ((shares - 2) * 9999) // 262142


def _write(file: Path, value: str, *, raising: bool = False) -> None:
    if raising:
        before = _number(file.read_text())
        if before is None or (_number(value) or 1 << 63) <= before:
            return
    if file.exists():
        file.write_text(value)


def _number(text: str) -> int | None:
    """None for no limit."""
    first = text.split()[0]
    return None if first in ("max", "-1") or int(first) >= 1 << 62 else int(first)


def processes(config: NodeConfig, uid: str, *, root: Path = ROOT) -> int:
    """How many processes and threads the pod has."""
    total = 0
    for place in places(pod_parent(config, uid), root):
        for file in place.glob("*/pids.current"):
            with contextlib.suppress(OSError, ValueError):
                total += int(file.read_text())
    return total


def remove(config: NodeConfig, uid: str, *, root: Path = ROOT) -> None:
    """Of a pod whose containers are gone; one that is in use stays."""
    for place in places(pod_parent(config, uid), root):
        _remove(place)


def remove_others(config: NodeConfig, known: set[str], *, root: Path = ROOT) -> None:
    """Those of pods that are not here any more."""
    for parent in places(config.cgroup_parent, root):
        for place in parent.glob("pod*"):
            if place.name.removeprefix("pod") not in known:
                _remove(place)


def _remove(place: Path) -> None:
    """With those of containers that a runtime which was killed forgot."""
    for path, _, _ in os.walk(place, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(path)


def places(path: str, root: Path = ROOT) -> Iterator[Path]:
    """A cgroup's folder in every hierarchy (v1), or the one (v2)."""
    relative = path.lstrip("/")
    for place in (root / relative, *(hierarchy / relative for hierarchy in root.iterdir())):
        if place.is_dir():
            yield place
