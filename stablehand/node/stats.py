"""What pods use, as kubelet tells it: /stats/summary and /metrics/resource. Pure, but for the node's own /proc."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from stablehand.machinery.times import format_time
from stablehand.machinery.types import Obj
from stablehand.node import cgroups
from stablehand.node.cri.pb import cri_pb2 as pb
from stablehand.node.sandbox import CONTAINER_NAME, POD_NAME, POD_NAMESPACE, POD_UID
from stablehand.node.signals import observe

if TYPE_CHECKING:
    from stablehand.node.agent import Agent
    from stablehand.node.worker import PodWorker


def _node_cpu() -> int:
    """Nanoseconds that this machine's processors have worked."""
    with open("/proc/stat") as f:
        fields = [int(v) for v in f.readline().split()[1:9]]
    busy = sum(fields) - fields[3] - fields[4]
    return int(busy * 1e9 / os.sysconf("SC_CLK_TCK"))


def _node_memory() -> tuple[int, int]:
    """(working set, available) in bytes."""
    values: dict[str, int] = {}
    with open("/proc/meminfo") as f:
        for line in f:
            name, _, rest = line.partition(":")
            values[name] = int(rest.split()[0]) * 1024
    available = values.get("MemAvailable", 0)
    return values.get("MemTotal", 0) - available, available


class CpuRates:
    """Nanocores from cumulative nanoseconds, between one look and the next at least a second later."""

    def __init__(self) -> None:
        self._samples: dict[str, tuple[float, int, int | None]] = {}  # (when, nanoseconds, rate before that)
        self.rate("", _node_cpu())

    def rate(self, key: str, used: int) -> int | None:
        """None on the first look."""
        now = time.monotonic()
        at, before, rate = self._samples.get(key, (now, used, None))
        if now - at >= 1:
            rate = max(0, int((used - before) / (now - at)))
            self._samples[key] = (now, used, rate)
        else:
            self._samples.setdefault(key, (at, before, rate))
        return rate

    def keep(self, keys: set[str]) -> None:
        self._samples = {k: v for k, v in self._samples.items() if k in keys or not k}

    def shown(self, key: str, used: int, now: str) -> Obj:
        rate = self.rate(key, used)
        known = {} if rate is None else {"usageNanoCores": rate}
        return {"time": now, **known, "usageCoreNanoSeconds": used}


def _memory(stats: pb.ContainerStats, now: str) -> Obj:
    memory = stats.memory
    return {
        "time": now,
        "usageBytes": memory.usage_bytes.value or memory.working_set_bytes.value,
        "workingSetBytes": memory.working_set_bytes.value,
        "rssBytes": memory.rss_bytes.value,
        "pageFaults": memory.page_faults.value,
        "majorPageFaults": memory.major_page_faults.value,
    }


def _by_pod(agent: Agent, found: Iterable[pb.ContainerStats]) -> Iterator[tuple[PodWorker, list[pb.ContainerStats]]]:
    """Containers that run, by pod."""
    groups: dict[str, list[pb.ContainerStats]] = {}
    for stats in found:
        groups.setdefault(stats.attributes.labels.get(POD_UID, ""), []).append(stats)
    for uid, group in groups.items():
        worker = agent.workers.get(uid)
        if worker is not None:
            running = {record.id for record in worker.observed.running()}
            if group := [stats for stats in group if stats.attributes.id in running]:
                yield worker, group


def claim_volumes(worker: PodWorker) -> Iterator[tuple[str, str, os.statvfs_result]]:
    """(volume, claim, its file system) of the claims that a pod has mounted."""
    folders = worker.volumes.folders()
    for volume in worker.pod["spec"].get("volumes") or ():
        name = volume["name"]
        claim = (volume.get("persistentVolumeClaim") or {}).get("claimName")
        if volume.get("ephemeral"):
            claim = f"{worker.key[1]}-{name}"
        if claim and name in folders:
            with contextlib.suppress(OSError):
                yield name, claim, os.statvfs(folders[name])


def _filesystem(disk: os.statvfs_result, now: str) -> Obj:
    return {
        "time": now,
        "availableBytes": disk.f_bavail * disk.f_frsize,
        "capacityBytes": disk.f_blocks * disk.f_frsize,
        "usedBytes": (disk.f_blocks - disk.f_bfree) * disk.f_frsize,
        "inodesFree": disk.f_favail,
        "inodes": disk.f_files,
        "inodesUsed": disk.f_files - disk.f_ffree,
    }


def _started(agent: Agent, stats: pb.ContainerStats) -> float:
    """When a container was started, in Unix seconds; 0 when that is not known."""
    labels = stats.attributes.labels
    worker = agent.workers.get(labels.get(POD_UID, ""))
    record = worker.observed.latest(labels.get(CONTAINER_NAME, "")) if worker is not None else None
    return record.started_at if record is not None else 0.0


def _booted() -> float:
    with open("/proc/uptime") as f:
        return time.time() - float(f.read().split()[0])


def summary(agent: Agent, found: Iterable[pb.ContainerStats], rates: CpuRates) -> Obj:
    now = format_time(time.time())
    working, available = _node_memory()
    filesystem = _filesystem(os.statvfs(agent.config.data_dir), now)
    pods = []
    seen: set[str] = set()
    for worker, group in _by_pod(agent, found):
        pod = worker.pod
        seen |= {worker.uid, *(stats.attributes.id for stats in group)}
        containers = [
            {
                "name": stats.attributes.labels.get(CONTAINER_NAME, ""),
                "startTime": format_time(_started(agent, stats) or time.time()),
                "cpu": rates.shown(stats.attributes.id, stats.cpu.usage_core_nano_seconds.value, now),
                "memory": _memory(stats, now),
                "rootfs": {"time": now, "usedBytes": stats.writable_layer.used_bytes.value},
            }
            for stats in group
        ]
        meta = pod["metadata"]
        pods.append(
            {
                "podRef": {"name": meta["name"], "namespace": meta["namespace"], "uid": meta["uid"]},
                "startTime": (pod.get("status") or {}).get("startTime") or now,
                "containers": containers,
                "cpu": rates.shown(worker.uid, sum(s.cpu.usage_core_nano_seconds.value for s in group), now),
                "memory": {
                    "time": now,
                    "usageBytes": sum(s.memory.usage_bytes.value for s in group),
                    "workingSetBytes": sum(s.memory.working_set_bytes.value for s in group),
                    "rssBytes": sum(s.memory.rss_bytes.value for s in group),
                },
                "process_stats": {"process_count": cgroups.processes(agent.config, worker.uid)},
                "volume": [
                    {"name": name, "pvcRef": {"name": claim, "namespace": meta["namespace"]}, **_filesystem(disk, now)}
                    for name, claim, disk in claim_volumes(worker)
                ],
            }
        )
    rates.keep(seen)
    pids = observe(agent.config.data_dir, agent.config.data_dir).get("pid.available")
    rlimit = {} if pids is None else {"maxpid": pids.capacity, "curproc": pids.capacity - pids.available}
    return {
        "node": {
            "nodeName": agent.config.node_name,
            "startTime": format_time(_booted()),
            "cpu": rates.shown("", _node_cpu(), now),
            "rlimit": {"time": now, **rlimit},
            "memory": {"time": now, "workingSetBytes": working, "usageBytes": working, "availableBytes": available},
            "fs": filesystem,
            "runtime": {"imageFs": filesystem, "containerFs": filesystem},
        },
        "pods": pods,
    }


def metrics(agent: Agent, found: Iterable[pb.ContainerStats]) -> str:
    """Prometheus text, what metrics-server reads."""
    stamp = int(time.time() * 1000)
    cpu: list[str] = []
    memory: list[str] = []
    pod_cpu: list[str] = []
    pod_memory: list[str] = []
    starts: list[str] = []
    for _, group in _by_pod(agent, found):
        total_cpu, total_memory, pod_labels = 0, 0, ""
        for stats in group:
            labels = stats.attributes.labels
            pod_labels = f'namespace="{labels.get(POD_NAMESPACE, "")}",pod="{labels.get(POD_NAME, "")}"'
            names = f'{{container="{labels.get(CONTAINER_NAME, "")}",{pod_labels}}}'
            used, working = stats.cpu.usage_core_nano_seconds.value, stats.memory.working_set_bytes.value
            total_cpu, total_memory = total_cpu + used, total_memory + working
            cpu.append(f"container_cpu_usage_seconds_total{names} {used / 1e9} {stamp}")
            memory.append(f"container_memory_working_set_bytes{names} {working} {stamp}")
            if started := _started(agent, stats):
                starts.append(f"container_start_time_seconds{names} {started}")
        pod_cpu.append(f"pod_cpu_usage_seconds_total{{{pod_labels}}} {total_cpu / 1e9} {stamp}")
        pod_memory.append(f"pod_memory_working_set_bytes{{{pod_labels}}} {total_memory} {stamp}")
    working, _ = _node_memory()
    families = {
        "container_cpu_usage_seconds_total": ("counter", cpu),
        "container_memory_working_set_bytes": ("gauge", memory),
        "container_start_time_seconds": ("gauge", starts),
        "node_cpu_usage_seconds_total": ("counter", [f"node_cpu_usage_seconds_total {_node_cpu() / 1e9} {stamp}"]),
        "node_memory_working_set_bytes": ("gauge", [f"node_memory_working_set_bytes {working} {stamp}"]),
        "pod_cpu_usage_seconds_total": ("counter", pod_cpu),
        "pod_memory_working_set_bytes": ("gauge", pod_memory),
        "resource_scrape_error": ("gauge", ["resource_scrape_error 0"]),
    }
    lines = []
    for name, (kind, values) in families.items():
        lines += [f"# TYPE {name} {kind}", *values]
    return "\n".join(lines) + "\n"
