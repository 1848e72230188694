"""Prometheus text of the kubelet's /metrics, /metrics/cadvisor and /metrics/probes. What metrics-server reads is in stats.

The names are upstream's; of its several hundred families those are here whose values this node knows.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from stablehand import __version__
from stablehand.machinery import quantity
from stablehand.machinery.types import Obj
from stablehand.node import stats
from stablehand.node.cri.pb import cri_pb2 as pb
from stablehand.node.plan import find_container
from stablehand.node.sandbox import CONTAINER_NAME, POD_NAME, POD_NAMESPACE, POD_UID

if TYPE_CHECKING:
    from stablehand.node.agent import Agent

_PERIOD = 100_000  # microseconds of a CPU quota's period


class Text:
    """Families in the order of their first sample."""

    def __init__(self) -> None:
        self._families: dict[str, list[str]] = {}

    def add(self, name: str, kind: str, value: float, help_: str = "", /, **labels: str) -> None:
        lines = self._families.get(name)
        if lines is None:
            lines = self._families[name] = [f"# HELP {name} {help_ or name}", f"# TYPE {name} {kind}"]
        shown = ",".join(f'{key}="{_escaped(text)}"' for key, text in sorted(labels.items()))
        number = str(int(value)) if value == int(value) else repr(value)
        lines.append(f"{name}{{{shown}}} {number}" if shown else f"{name} {number}")

    def __str__(self) -> str:
        return "".join(line + "\n" for lines in self._families.values() for line in lines)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def kubelet(agent: Agent) -> str:
    """/metrics: the node agent itself."""
    out = Text()
    out.add("kubelet_node_name", "gauge", 1, "The node's name. The count is always 1.", node=agent.config.node_name)
    out.add("kubernetes_build_info", "gauge", 1, "What this server is.", git_version=f"stablehand-{__version__}")
    states: dict[str, int] = {}
    sandboxes = 0
    for worker in agent.workers.values():
        sandboxes += worker.observed.sandbox is not None and worker.observed.sandbox.ready
        for record in (r for records in worker.observed.containers.values() for r in records):
            states[record.state] = states.get(record.state, 0) + 1
    for state, count in states.items():
        out.add("kubelet_running_containers", "gauge", count, "Containers by state.", container_state=state)
    for worker in agent.workers.values():
        for _, claim, disk in stats.claim_volumes(worker):
            of = {"namespace": worker.key[0], "persistentvolumeclaim": claim}
            block = disk.f_frsize
            for what, value in (
                ("capacity_bytes", disk.f_blocks * block),
                ("available_bytes", disk.f_bavail * block),
                ("used_bytes", (disk.f_blocks - disk.f_bfree) * block),
                ("inodes", disk.f_files),
                ("inodes_free", disk.f_favail),
                ("inodes_used", disk.f_files - disk.f_ffree),
            ):
                out.add(f"kubelet_volume_stats_{what}", "gauge", value, "Of the volume behind a claim.", **of)
    out.add("kubelet_running_pods", "gauge", sandboxes, "Pods that have a running pod sandbox.")
    _process(out)
    return str(out)


def _process(out: Text) -> None:
    times = os.times()
    out.add("process_cpu_seconds_total", "counter", times.user + times.system, "Processor time used, in seconds.")
    with open("/proc/self/statm") as f:
        size, resident = (int(v) * os.sysconf("SC_PAGE_SIZE") for v in f.read().split()[:2])
    out.add("process_resident_memory_bytes", "gauge", resident, "Resident memory, in bytes.")
    out.add("process_virtual_memory_bytes", "gauge", size, "Virtual memory, in bytes.")
    out.add("process_open_fds", "gauge", len(os.listdir("/proc/self/fd")), "Open file descriptors.")
    with open("/proc/self/stat") as f:
        ticks = int(f.read().rpartition(")")[2].split()[19])
    with open("/proc/uptime") as f:
        booted = time.time() - float(f.read().split()[0])
    started = booted + ticks / os.sysconf("SC_CLK_TCK")
    out.add("process_start_time_seconds", "gauge", started, "Start of the process, in Unix seconds.")


def probes(agent: Agent) -> str:
    """/metrics/probes: how each container's probes went."""
    out = Text()
    for worker in agent.workers.values():
        namespace, pod = worker.key
        for (which, container, ok), count in sorted(worker.probing.results.items()):
            out.add(
                "prober_probe_total", "counter", count, "Liveness, readiness and startup probes by their result.",
                probe_type=which.capitalize(), result="successful" if ok else "failed",
                container=container, pod=pod, namespace=namespace, pod_uid=worker.uid,
            )  # fmt: skip
    return str(out)


def cadvisor(agent: Agent, found: Iterable[pb.ContainerStats]) -> str:
    """/metrics/cadvisor: containers, from the runtime's figures and the pods' specs."""
    out = Text()
    out.add("machine_cpu_cores", "gauge", os.cpu_count() or 1, "Logical processors.")
    out.add("machine_memory_bytes", "gauge", agent.machine.memory, "Memory, in bytes.")
    now = int(time.time())
    for one in found:
        labels = one.attributes.labels
        name = labels.get(CONTAINER_NAME, "")
        worker = agent.workers.get(labels.get(POD_UID, ""))
        if worker is None:
            continue
        record = worker.observed.latest(name)
        of = {
            "container": name,
            "pod": labels.get(POD_NAME, ""),
            "namespace": labels.get(POD_NAMESPACE, ""),
            "id": one.attributes.id,
            "name": one.attributes.id,
            "image": record.image if record is not None else "",
        }
        cpu, memory = one.cpu, one.memory
        out.add(
            "container_cpu_usage_seconds_total", "counter", cpu.usage_core_nano_seconds.value / 1e9,
            "Processor time used, in seconds.", **of, cpu="total",
        )  # fmt: skip
        for family, value in (
            ("container_memory_working_set_bytes", memory.working_set_bytes.value),
            ("container_memory_usage_bytes", memory.usage_bytes.value or memory.working_set_bytes.value),
            ("container_memory_rss", memory.rss_bytes.value),
            ("container_fs_usage_bytes", one.writable_layer.used_bytes.value),
            ("container_last_seen", now),
        ):
            out.add(family, "gauge", value, **of)
        if record is not None and record.started_at:
            out.add("container_start_time_seconds", "gauge", record.started_at, "In Unix seconds.", **of)
        container = find_container(worker.pod, name)
        for family, limit in _spec(container[1] if container is not None else {}):
            out.add(family, "gauge", limit, **of)
    return str(out)


def _spec(container: Obj) -> Iterator[tuple[str, float]]:
    """container_spec_* of a container's resources."""
    wanted = container.get("resources") or {}
    limits, requests = wanted.get("limits") or {}, wanted.get("requests") or {}
    yield "container_spec_memory_limit_bytes", quantity.to_bytes(limits["memory"]) if "memory" in limits else 0
    yield "container_spec_cpu_period", _PERIOD
    if "cpu" in limits:
        yield "container_spec_cpu_quota", quantity.cpu_milli(limits["cpu"]) * _PERIOD // 1000
    yield "container_spec_cpu_shares", max(2, quantity.cpu_milli(requests.get("cpu", 0)) * 1024 // 1000)
