"""When the machine runs short: kubelet's eviction signals and thresholds, and for how long a condition is told. Pure, but
for `observe`, which reads /proc and asks the file systems.

Whom to evict is `ranking`'s, doing it `pressure`'s.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stablehand.machinery import quantity

# kubelet's defaults (10 % and 15 % of the disk) are for machines that are all the cluster's: on somebody's own, nine
# tenths full, no pod would ever run.
HARD = {
    "memory.available": "100Mi",
    "nodefs.available": "1%",
    "nodefs.inodesFree": "1%",
    "imagefs.available": "1%",
    "imagefs.inodesFree": "1%",
}
TRANSITION = 300.0  # seconds that a condition outlives its cause

CONDITIONS = {
    "memory.available": "MemoryPressure",
    "nodefs.available": "DiskPressure",
    "nodefs.inodesFree": "DiskPressure",
    "imagefs.available": "DiskPressure",
    "imagefs.inodesFree": "DiskPressure",
    "pid.available": "PIDPressure",
}
RESOURCES = {
    "memory.available": "memory",
    "nodefs.available": "ephemeral-storage",
    "nodefs.inodesFree": "inodes",
    "imagefs.available": "ephemeral-storage",
    "imagefs.inodesFree": "inodes",
    "pid.available": "pids",
}
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "ms": 0.001}


@dataclass(frozen=True, slots=True)
class Threshold:
    """Fewer than `value` (a quantity, or a percentage) for `grace` seconds; 0: at once (hard)."""

    signal: str
    value: str
    grace: float = 0.0

    def amount(self, capacity: int) -> int:
        if self.value.endswith("%"):
            return int(capacity * float(self.value[:-1]) / 100)
        return quantity.whole(self.value)


@dataclass(frozen=True, slots=True)
class Observation:
    available: int
    capacity: int


def parse_thresholds(
    hard: Mapping[str, str] | None, soft: Mapping[str, str] | None = None, grace: Mapping[str, str] | None = None
) -> list[Threshold]:
    """`hard` None means HARD; every soft one needs a grace period. Raises ValueError."""
    found = [Threshold(signal, value) for signal, value in (HARD if hard is None else hard).items()]
    for signal, value in (soft or {}).items():
        if signal not in (grace or {}):
            raise ValueError(f"grace period must be specified for the soft eviction threshold {signal}")
        found.append(Threshold(signal, value, parse_duration((grace or {})[signal])))
    for threshold in found:
        if threshold.signal not in CONDITIONS:
            raise ValueError(f"unsupported eviction signal {threshold.signal}")
        try:
            threshold.amount(100)
        except ValueError as e:
            raise ValueError(f"eviction threshold {threshold.signal}<{threshold.value}: {e}") from None
    return found


def parse_duration(text: str) -> float:
    """Seconds of "1m30s". Raises ValueError."""
    if not re.fullmatch(r"(\d+(\.\d+)?(ms|s|m|h))+", text):
        raise ValueError(f"invalid duration {text!r}")
    return sum(float(n) * _UNITS[unit] for n, _, unit in re.findall(r"(\d+(\.\d+)?)(ms|s|m|h)", text))


def observe(node_folder: Path, image_folder: Path) -> dict[str, Observation]:
    """What there is of each signal now; one that cannot be read is left out."""
    found: dict[str, Observation] = {}
    with contextlib.suppress(OSError, KeyError, ValueError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        sizes = {line.partition(":")[0]: int(line.split()[1]) * 1024 for line in lines}
        found["memory.available"] = Observation(sizes["MemAvailable"], sizes["MemTotal"])
    for name, folder in (("nodefs", node_folder), ("imagefs", image_folder)):
        with contextlib.suppress(OSError):
            disk = os.statvfs(folder)
            found[f"{name}.available"] = Observation(disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize)
            if disk.f_files:  # some file systems have no fixed number
                found[f"{name}.inodesFree"] = Observation(disk.f_favail, disk.f_files)
    with contextlib.suppress(OSError, ValueError, IndexError):
        limits = [int(Path(f"/proc/sys/kernel/{name}").read_text()) for name in ("pid_max", "threads-max")]
        used = int(Path("/proc/loadavg").read_text().split()[3].partition("/")[2])
        found["pid.available"] = Observation(min(limits) - used, min(limits))
    return found


@dataclass(slots=True)
class Watch:
    """What was met since when."""

    thresholds: list[Threshold]
    transition: float = TRANSITION
    first: dict[Threshold, float] = field(default_factory=dict)
    last: dict[str, float] = field(default_factory=dict)  # by condition

    def look(self, seen: Mapping[str, Observation], now: float) -> list[Threshold]:
        """The thresholds that call for action now, memory first. Remembers what was seen."""
        met = [
            threshold
            for threshold in self.thresholds
            if (found := seen.get(threshold.signal)) is not None and found.available < threshold.amount(found.capacity)
        ]
        self.first = {threshold: self.first.get(threshold, now) for threshold in met}
        self.last.update({CONDITIONS[threshold.signal]: now for threshold in met})
        due = [threshold for threshold in met if now - self.first[threshold] >= threshold.grace]
        return sorted(due, key=lambda threshold: threshold.signal != "memory.available")

    def conditions(self, now: float) -> dict[str, bool]:
        """MemoryPressure, DiskPressure and PIDPressure."""
        kinds: Iterable[str] = dict.fromkeys(CONDITIONS.values())
        return {kind: kind in self.last and now - self.last[kind] < self.transition for kind in kinds}
