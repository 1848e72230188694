"""What the scheduler knows of nodes and the pods on them, its own bindings in flight included (the assume cache)."""

from __future__ import annotations

from stablehand.machinery import meta
from stablehand.machinery.podresources import Amounts, amounts, claimed_spec, host_ports, pod_requests
from stablehand.machinery.pods import is_over
from stablehand.machinery.types import Obj

# What a container that asks for nothing is taken to use when nodes are compared.
_DEFAULT_CPU, _DEFAULT_MEMORY = 100, 200 * 1024 * 1024


class PodInfo:
    """One pod as the filters see it."""

    __slots__ = ("affinity", "key", "labels", "namespace", "pod", "ports", "priority", "requests", "shown", "uid")

    def __init__(self, pod: Obj) -> None:
        spec = pod["spec"]
        self.pod = pod
        self.uid = meta.uid(pod)
        self.key = meta.key(pod)
        self.namespace = meta.namespace(pod)
        self.labels = meta.labels(pod)
        self.requests: Amounts = pod_requests(claimed_spec(pod))
        self.ports = host_ports(spec)
        self.priority = int(spec.get("priority") or 0)
        self.affinity = spec.get("affinity") or {}
        count = len(spec.get("containers") or ())
        self.shown = (
            self.requests.get("cpu") or _DEFAULT_CPU * count,
            self.requests.get("memory") or _DEFAULT_MEMORY * count,
        )


class NodeInfo:
    """One node with what its pods use."""

    __slots__ = ("allocatable", "name", "node", "picky", "pods", "ports", "requested", "shown")

    def __init__(self, node: Obj) -> None:
        self.pods: dict[str, PodInfo] = {}
        self.picky: dict[str, PodInfo] = {}  # those that want to be apart from others
        self.requested: Amounts = {}
        self.shown = [0, 0]
        self.ports: set[tuple[str, str, int]] = set()
        self.update(node)

    def update(self, node: Obj) -> None:
        self.node = node
        self.name = meta.name(node)
        status = node.get("status") or {}
        self.allocatable: Amounts = amounts(status.get("allocatable") or status.get("capacity"))

    def add(self, info: PodInfo) -> None:
        if info.uid in self.pods:
            self.remove(info.uid)
        self.pods[info.uid] = info
        if info.affinity.get("podAntiAffinity"):
            self.picky[info.uid] = info
        for name, value in info.requests.items():
            self.requested[name] = self.requested.get(name, 0) + value
        self.shown[0] += info.shown[0]
        self.shown[1] += info.shown[1]
        self.ports |= info.ports

    def remove(self, uid: str) -> None:
        info = self.pods.pop(uid, None)
        if info is None:
            return
        self.picky.pop(uid, None)
        for name, value in info.requests.items():
            self.requested[name] -= value
        self.shown[0] -= info.shown[0]
        self.shown[1] -= info.shown[1]
        if info.ports:
            self.ports = set().union(*(p.ports for p in self.pods.values()))

    def copy_without(self, uids: set[str]) -> NodeInfo:
        """This node as it would be without some of its pods."""
        out = NodeInfo(self.node)
        for uid, info in self.pods.items():
            if uid not in uids:
                out.add(info)
        return out


class ClusterState:
    """Nodes by name, and where each pod is (bound, or assumed to be soon)."""

    def __init__(self) -> None:
        self.nodes: dict[str, NodeInfo] = {}
        self._places: dict[str, str] = {}
        self._homeless: dict[str, dict[str, PodInfo]] = {}  # pods seen before their node, by node name

    def set_node(self, node: Obj) -> None:
        info = self.nodes.get(meta.name(node))
        if info is not None:
            info.update(node)
            return
        info = self.nodes[meta.name(node)] = NodeInfo(node)
        for pod in self._homeless.pop(info.name, {}).values():
            info.add(pod)

    def drop_node(self, name: str) -> None:
        info = self.nodes.pop(name, None)
        if info is not None and info.pods:
            self._homeless[name] = dict(info.pods)

    def place(self, pod: Obj, node_name: str) -> None:
        """The pod is on the node, or has been promised to it."""
        uid = meta.uid(pod)
        if self._places.get(uid, node_name) != node_name:
            self.forget(uid)
        self._places[uid] = node_name
        info = self.nodes.get(node_name)
        if info is not None:
            known = info.pods.get(uid)
            same = known is not None and known.labels == meta.labels(pod) and known.pod["spec"] == pod["spec"]
            if known is not None and same and known.requests == pod_requests(claimed_spec(pod)):
                known.pod = pod
            else:
                info.add(PodInfo(pod))
        else:
            self._homeless.setdefault(node_name, {})[uid] = PodInfo(pod)

    def forget(self, uid: str) -> None:
        node_name = self._places.pop(uid, None)
        if node_name is None:
            return
        if node_name in self.nodes:
            self.nodes[node_name].remove(uid)
        elif node_name in self._homeless:
            self._homeless[node_name].pop(uid, None)

    def observe(self, pod: Obj) -> None:
        """A pod as the server shows it: counted on its node until it is over."""
        node_name = pod["spec"].get("nodeName")
        if not node_name:
            return
        if is_over(pod):
            self.forget(meta.uid(pod))
        else:
            self.place(pod, node_name)

    def is_placed(self, uid: str) -> bool:
        return uid in self._places
