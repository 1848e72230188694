"""Whether this node takes a pod at all, as kubelet decides it before anything is made: its system, unsafe sysctls,
room, the node's labels and taints, host ports. Pure.

A refused pod fails for good, with the reason in its status and an event.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from stablehand.machinery.nodes import pod_fits_node_affinity, taints, untolerated
from stablehand.machinery.podresources import Amounts, amounts, host_ports, pod_requests, ports_conflict
from stablehand.machinery.types import Obj

# kubelet's list of sysctls that are separate for each pod and cannot harm others.
_SAFE_SYSCTLS = frozenset(
    (
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.ping_group_range",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_wmem",
    )
)


def obstacle(pod: Obj, *, apparmor: bool) -> tuple[str, str] | None:
    """(reason, message) when the pod stays pending here: it asks for what the machine's kernel does not do."""
    spec = pod["spec"]
    contexts = [spec.get("securityContext")]
    contexts += [c.get("securityContext") for f in ("initContainers", "containers") for c in spec.get(f) or ()]
    profiles = [(context or {}).get("appArmorProfile") or {} for context in contexts]
    if not apparmor and any(profile.get("type", "Unconfined") != "Unconfined" for profile in profiles):
        return "AppArmor", "Cannot enforce AppArmor: AppArmor is not enabled on the host"
    return None


def refusal(pod: Obj, others: Iterable[Obj], allocatable: Mapping[str, str]) -> tuple[str, str] | None:
    """(reason, message) when the pod must fail here, else None. `others` are the node's pods that are not over yet."""
    if (pod["spec"].get("os") or {}).get("name") not in (None, "linux"):
        return "PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"
    if (pod["spec"].get("nodeSelector") or {}).get("kubernetes.io/os", "linux") != "linux":
        text = "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label"
        return "PodOSSelectorNodeLabelDoesNotMatch", text
    if (pod["spec"].get("securityContext") or {}).get("supplementalGroupsPolicy") == "Strict":
        return "SupplementalGroupsPolicyNotSupported", "SupplementalGroupsPolicy=Strict is not supported in this node"
    if problem := _sysctls(pod):
        return "SysctlForbidden", f"forbidden sysctl: {problem}"
    if short := shortage(pod_requests(pod["spec"]), others, allocatable):
        name, asked, used, capacity = short
        text = f"Node didn't have enough resource: {name}, requested: {asked}, used: {used}, capacity: {capacity}"
        return f"OutOf{name}", text
    return None


def misplaced(pod: Obj, node: Obj, others: Iterable[Obj]) -> tuple[str, str] | None:
    """(reason, message) when the pod should not have come to this node, whoever sent it."""
    spec = pod["spec"]
    failed = "Predicate {} failed: {}"
    wanted = host_ports(spec)
    if wanted and any(ports_conflict(wanted, host_ports(other["spec"])) for other in others):
        return "NodePorts", failed.format("NodePorts", "node(s) didn't have free ports for the requested pod ports")
    if not pod_fits_node_affinity(spec, node):
        return "NodeAffinity", failed.format("NodeAffinity", "node(s) didn't match Pod's node affinity/selector")
    if untolerated(taints(node), spec.get("tolerations"), ("NoExecute",)):
        text = "node(s) had taints that the pod didn't tolerate"
        return "TaintToleration", failed.format("TaintToleration", text)
    return None


def sysctl_name(name: str) -> str:
    """With dots between its parts: where the first separator is a slash, slashes and dots change places."""
    at = min((i for i in (name.find("."), name.find("/")) if i >= 0), default=-1)
    return name.translate(str.maketrans("./", "/.")) if at >= 0 and name[at] == "/" else name


def _sysctls(pod: Obj) -> str:
    spec = pod["spec"]
    for entry in (spec.get("securityContext") or {}).get("sysctls") or ():
        name = sysctl_name(entry["name"])
        if name not in _SAFE_SYSCTLS:
            return f'"{name}" not allowlisted'
        if name.startswith("net.") and spec.get("hostNetwork"):
            return f'"{name}" not allowed with host net enabled'
        if name.startswith("kernel.shm") and spec.get("hostIPC"):
            return f'"{name}" not allowed with host ipc enabled'
    return ""


def shortage(asked: Amounts, others: Iterable[Obj], allocatable: Mapping[str, str]) -> tuple[str, int, int, int] | None:
    """The first resource of which too little is left: (name, asked, used, capacity)."""
    used: Amounts = {}
    count = 0
    for other in others:
        count += 1
        for name, value in pod_requests(other["spec"]).items():
            used[name] = used.get(name, 0) + value
    capacity = amounts(dict(allocatable))
    if count + 1 > capacity.get("pods", count + 1):
        return "pods", 1, count, capacity["pods"]
    for name, value in sorted(asked.items()):
        if "/" in name and name not in capacity:
            continue  # somebody else offers it on the Node, and counts it
        if value and used.get(name, 0) + value > capacity.get(name, 0):
            return name, value, used.get(name, 0), capacity.get(name, 0)
    return None
