"""The Node object: what this machine is, what it offers, how it feels. Pure, but for `Machine.read`.

Writing it, and the Lease beside it, is registration's.
"""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stablehand.machinery.conditions import get_condition
from stablehand.machinery.times import format_time
from stablehand.machinery.types import Obj
from stablehand.node.config import NodeConfig, machine_arch

KUBELET_VERSION = "v1.36.0+stablehand"
# What upstream's scheduler and admission look for on a Node before they let a pod ask for it.
DECLARED_FEATURES = (
    "GuaranteedQoSPodCPUResize",
    "InPlacePodLevelResourcesVerticalScaling",
    "RestartAllContainersOnContainerExits",
)


@dataclass(frozen=True, slots=True)
class Machine:
    """Facts that do not change while the machine is up."""

    cpus: int
    memory: int
    disk: int
    machine_id: str
    system_uuid: str
    boot_id: str
    kernel: str
    os_image: str
    arch: str

    @classmethod
    def read(cls, data_dir: Path) -> Machine:
        memory = 0
        with open("/proc/meminfo") as f:
            for line in f:
                if line.startswith("MemTotal:"):
                    memory = int(line.split()[1]) * 1024
        disk = os.statvfs(data_dir)
        os_image = "Linux"
        with contextlib.suppress(OSError):
            os_image = platform.freedesktop_os_release().get("PRETTY_NAME", os_image)
        return cls(
            cpus=len(os.sched_getaffinity(0)),
            memory=memory,
            disk=disk.f_frsize * disk.f_blocks,
            machine_id=_line("/etc/machine-id"),
            system_uuid=_line("/sys/class/dmi/id/product_uuid"),
            boot_id=_line("/proc/sys/kernel/random/boot_id"),
            kernel=platform.release(),
            os_image=os_image,
            arch=machine_arch(),
        )


def apparmor_enabled() -> bool:
    return _line("/sys/module/apparmor/parameters/enabled") == "Y"


def _line(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def capacity(config: NodeConfig, machine: Machine) -> dict[str, str]:
    return {
        "cpu": str(machine.cpus),
        "memory": f"{machine.memory // 1024}Ki",
        "ephemeral-storage": f"{machine.disk // 1024}Ki",
        "hugepages-1Gi": "0",
        "hugepages-2Mi": "0",
        "pods": str(config.max_pods),
    }


def allocatable(config: NodeConfig, machine: Machine) -> dict[str, str]:
    """As kubelet without reservations: the hard eviction thresholds of memory and disk are kept back."""
    kept = {t.signal: t for t in config.thresholds if not t.grace}
    memory, disk = kept.get("memory.available"), kept.get("nodefs.available")
    free_memory = machine.memory - (memory.amount(machine.memory) if memory is not None else 0)
    free_disk = machine.disk - (disk.amount(machine.disk) if disk is not None else 0)
    return {
        **capacity(config, machine),
        "memory": f"{max(0, free_memory) // 1024}Ki",
        "ephemeral-storage": str(max(0, free_disk)),
    }


_WORDS = {
    "MemoryPressure": ("KubeletHasInsufficientMemory", "KubeletHasSufficientMemory", "memory"),
    "DiskPressure": ("KubeletHasDiskPressure", "KubeletHasNoDiskPressure", "disk"),
    "PIDPressure": ("KubeletHasInsufficientPID", "KubeletHasSufficientPID", "PID"),
}
_MESSAGES = {
    ("MemoryPressure", True): "kubelet has insufficient memory available",
    ("MemoryPressure", False): "kubelet has sufficient memory available",
    ("DiskPressure", True): "kubelet has disk pressure",
    ("DiskPressure", False): "kubelet has no disk pressure",
    ("PIDPressure", True): "kubelet has insufficient PID available",
    ("PIDPressure", False): "kubelet has sufficient PID available",
}


def conditions(old: Obj | None, ready: bool, problem: str, pressing: Mapping[str, bool], now: float) -> list[Obj]:
    """The node's four conditions; transition times move only with the value."""
    result = []
    for kind, value in pressing.items():
        bad, good, _ = _WORDS[kind]
        result.append(_condition(old, kind, value, bad if value else good, _MESSAGES[kind, value], now))
    reason = "KubeletReady" if ready else "KubeletNotReady"
    text = "kubelet is posting ready status" if ready else problem
    result.append(_condition(old, "Ready", ready, reason, text, now))
    return result


def _condition(old: Obj | None, kind: str, value: bool, reason: str, message: str, now: float) -> Obj:
    text = "True" if value else "False"
    before = get_condition(old, kind)
    same = before is not None and before.get("status") == text
    return {
        "type": kind,
        "status": text,
        "lastHeartbeatTime": format_time(now),
        "lastTransitionTime": before["lastTransitionTime"] if same and before else format_time(now),
        "reason": reason,
        "message": message,
    }


def node_object(config: NodeConfig, machine: Machine) -> Obj:
    """The Node as it is created, without its status."""
    labels = {
        "kubernetes.io/hostname": config.node_name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": machine.arch,
        "beta.kubernetes.io/os": "linux",
        "beta.kubernetes.io/arch": machine.arch,
        **config.node_labels,
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": config.node_name,
            "labels": labels,
            "annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true"},
        },
        "spec": {"podCIDR": config.pod_cidr, "podCIDRs": [config.pod_cidr]},
    }


def node_status(
    config: NodeConfig,
    machine: Machine,
    *,
    old: Obj | None,
    runtime_version: str,
    images: list[Obj],
    ready: bool,
    problem: str,
    pressing: Mapping[str, bool],
    now: float,
) -> Obj:
    return {
        "capacity": capacity(config, machine),
        "allocatable": allocatable(config, machine),
        "conditions": conditions(old, ready, problem, pressing, now),
        "addresses": [
            {"type": "InternalIP", "address": config.address},
            {"type": "Hostname", "address": config.node_name},
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": config.port}},
        "nodeInfo": {
            "machineID": machine.machine_id,
            "systemUUID": machine.system_uuid,
            "bootID": machine.boot_id,
            "kernelVersion": machine.kernel,
            "osImage": machine.os_image,
            "containerRuntimeVersion": runtime_version,
            "kubeletVersion": KUBELET_VERSION,
            "kubeProxyVersion": "",
            "operatingSystem": "linux",
            "architecture": machine.arch,
        },
        "images": images,
        "features": {"supplementalGroupsPolicy": False},
        "declaredFeatures": list(DECLARED_FEATURES),
    }


def same_status(old: Obj, new: Obj) -> bool:
    """Whether nothing but heartbeat times differs in what we own."""

    def bare(status: Obj) -> Obj:
        kept = {k: v for k, v in status.items() if k in new}
        drop = ("lastHeartbeatTime", "lastTransitionTime")
        own = {c["type"] for c in new["conditions"]}
        kept["conditions"] = sorted(
            ({k: v for k, v in c.items() if k not in drop} for c in kept.get("conditions") or () if c["type"] in own),
            key=lambda c: str(c["type"]),
        )
        return kept

    return bare(old) == bare(new)
