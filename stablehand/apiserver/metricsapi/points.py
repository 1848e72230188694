"""The kubelet's /metrics/resource (KEP-727), and the use of CPU between two looks at it. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal

from stablehand.machinery.quantity import format_bytes, format_decimal
from stablehand.machinery.times import format_time
from stablehand.machinery.types import Obj

_LINE = re.compile(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)(?:\s+(-?\d+))?\s*")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_LEAST_WINDOW = 0.5  # seconds; over less, a rate says little

Key = tuple[str, str, str]  # namespace, pod, container; all empty for the node itself
NODE: Key = ("", "", "")


@dataclass(slots=True)
class Point:
    """`cpu` in core-seconds since `start`, `memory` in bytes, times in Unix seconds (`start` 0: not known)."""

    cpu: float | None = None
    memory: int | None = None
    time: float = 0.0
    start: float = 0.0


@dataclass(slots=True)
class Sample:
    """One look at a node."""

    taken: float
    points: dict[Key, Point] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Usage:
    """`cpu` in cores, over `window` seconds until `time`; `memory` in bytes at that time."""

    cpu: float
    memory: int
    window: float
    time: float

    def quantities(self) -> dict[str, str]:
        """As a ResourceList: whole nano cores, bytes in Ki."""
        cores = Decimal(self.cpu).quantize(Decimal("1e-9"), ROUND_HALF_UP)
        return {"cpu": format_decimal(cores), "memory": format_bytes(self.memory)}


def parse(text: str, taken: float) -> Sample:
    """A Sample from Prometheus text; families that mean nothing here are passed over."""
    sample = Sample(taken)
    for line in text.splitlines():
        if not line or line[0] == "#":
            continue
        found = _LINE.fullmatch(line)
        if found is None:
            continue
        family, raw, number, stamp = found.groups()
        if not family.startswith(("container_", "node_")):
            continue
        labels = dict(_LABEL.findall(raw or ""))
        key = NODE
        if family.startswith("container_"):
            key = (labels.get("namespace", ""), labels.get("pod", ""), labels.get("container", ""))
            if not all(key):
                continue
        try:
            value = float(number)
        except ValueError:
            continue
        point = sample.points.setdefault(key, Point())
        if family.endswith("_cpu_usage_seconds_total"):
            point.cpu, point.time = value, int(stamp) / 1000 if stamp else taken
        elif family.endswith("_memory_working_set_bytes"):
            point.memory = int(value)
        elif family == "container_start_time_seconds":
            point.start = value
    return sample


def usage(before: Point | None, last: Point) -> Usage | None:
    """The use between two points; since its start, for a container that started after the first. None: not known."""
    if last.cpu is None or last.memory is None:
        return None
    restarted = before is not None and before.cpu is not None and last.cpu < before.cpu
    if before is None or before.cpu is None or restarted:
        if not last.start:
            return None
        used, since = last.cpu, last.start
    else:
        used, since = last.cpu - before.cpu, before.time
    window = last.time - since
    if window < _LEAST_WINDOW:
        return None
    return Usage(used / window, last.memory, window, last.time)


def node_metrics(node: Obj, before: Sample, last: Sample) -> Obj | None:
    """The NodeMetrics of a Node, or None."""
    point = last.points.get(NODE)
    used = usage(before.points.get(NODE), point) if point is not None else None
    if used is None:
        return None
    return {**_head("NodeMetrics", node, used, used.window), "usage": used.quantities()}


def pod_metrics(pod: Obj, before: Sample, last: Sample) -> Obj | None:
    """The PodMetrics of a Pod, or None while one of its running containers has no rate yet."""
    meta = pod["metadata"]
    containers, uses = [], []
    for key, point in sorted(last.points.items()):
        if key[:2] != (meta["namespace"], meta["name"]):
            continue
        used = usage(before.points.get(key), point)
        if used is None:
            return None
        uses.append(used)
        containers.append({"name": key[2], "usage": used.quantities()})
    if not uses:
        return None
    newest = max(uses, key=lambda u: u.time)
    return {**_head("PodMetrics", pod, newest, max(u.window for u in uses)), "containers": containers}


def _head(kind: str, of: Obj, used: Usage, window: float) -> Obj:
    meta = of["metadata"]
    metadata: Obj = {"name": meta["name"], "creationTimestamp": format_time(used.time)}
    if meta.get("namespace"):
        metadata["namespace"] = meta["namespace"]
    if meta.get("labels"):
        metadata["labels"] = meta["labels"]
    return {
        "kind": kind,
        "apiVersion": "metrics.k8s.io/v1beta1",
        "metadata": metadata,
        "timestamp": format_time(used.time),
        "window": duration(window),
    }


def duration(seconds: float) -> str:
    """As Go writes durations, to the millisecond: "15.043s", "1m5s"."""
    minutes, rest = divmod(round(seconds, 3), 60)
    text = f"{rest:.3f}".rstrip("0").rstrip(".") + "s"
    return f"{int(minutes)}m{text}" if minutes else text
