"""Which node is best for a pod: filters give a reason against a node, scores compare those that remain. Pure reads."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from stablehand.machinery import meta, volumes
from stablehand.machinery.nodes import UNSCHEDULABLE as UNSCHEDULABLE_TAINT
from stablehand.machinery.nodes import pod_fits_node_affinity, taints, term_matches, tolerates, untolerated
from stablehand.machinery.podresources import ports_conflict
from stablehand.machinery.types import Obj
from stablehand.scheduler.affinity import InterPod, Namespaces, Nodes, Spread, interpod_scores
from stablehand.scheduler.state import NodeInfo, PodInfo
from stablehand.scheduler.volumes import Claims

# Reasons that go away when pods do: preemption may help.
_HELPED = ("Insufficient", "Too many pods", "node(s) didn't have free ports", "anti-affinity rules", "topology spread")


@dataclass(slots=True)
class Decision:
    """The node chosen, or why there is none: reasons counted over nodes, and the nodes preemption could free."""

    node: NodeInfo | None = None
    reasons: Counter[str] = field(default_factory=Counter)
    helped: list[NodeInfo] = field(default_factory=list)
    total: int = 0
    problem: str | None = None

    def message(self, preemption: str) -> str:
        """Upstream's text of the FailedScheduling event."""
        if self.total == 0 and self.problem is None:
            return "no nodes available to schedule pods"
        why = self.problem or ", ".join(sorted(f"{count} {reason}" for reason, count in self.reasons.items()))
        return f"0/{self.total} nodes are available: {why}. {preemption}".strip()


class Fit:
    """The filters for one pod; what does not depend on the node is worked out once."""

    def __init__(self, pod: PodInfo, nodes: Nodes, namespaces: Namespaces, claims: Claims | None) -> None:
        self.pod = pod
        self._spec = pod.pod["spec"]
        self._claims = claims
        self._interpod = InterPod(pod, nodes, namespaces)
        self._spread = Spread(pod, nodes, "DoNotSchedule")
        self._taken = claims is not None and bool(claims.exclusive) and _in_use(pod, nodes, claims.exclusive)

    def reasons(self, info: NodeInfo) -> list[str]:
        """Why this node will not do; empty when it will."""
        node, spec = info.node, self._spec
        tolerations = spec.get("tolerations") or ()
        unschedulable = {"key": UNSCHEDULABLE_TAINT, "effect": "NoSchedule"}
        if (node.get("spec") or {}).get("unschedulable") and not any(tolerates(t, unschedulable) for t in tolerations):
            return ["node(s) were unschedulable"]
        taint = untolerated(taints(node), tolerations, ("NoSchedule", "NoExecute"))
        if taint is not None:
            return [f"node(s) had untolerated taint {{{taint.get('key')}: {taint.get('value') or ''}}}"]
        if not pod_fits_node_affinity(spec, node):
            return ["node(s) didn't match Pod's node affinity/selector"]
        if self.pod.ports and ports_conflict(self.pod.ports, info.ports):
            return ["node(s) didn't have free ports for the requested pod ports"]
        if self._taken:
            return ["node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode"]
        lacking = self._lacking(info)
        if lacking:
            return lacking
        reason = self._claims.reason(node) if self._claims is not None else None
        reason = reason or self._spread.reason(info) or self._interpod.reason(info)
        return [reason] if reason else []

    def _lacking(self, info: NodeInfo) -> list[str]:
        out = []
        if len(info.pods) + 1 > info.allocatable.get("pods", 0):
            out.append("Too many pods")
        for name, wanted in self.pod.requests.items():
            if wanted > info.allocatable.get(name, 0) - info.requested.get(name, 0):
                out.append(f"Insufficient {name}")
        return out

    def outgrows(self, info: NodeInfo) -> bool:
        """Whether the pod would not fit were the node empty: no preemption helps."""
        return any(wanted > info.allocatable.get(name, 0) for name, wanted in self.pod.requests.items())


def _in_use(pod: PodInfo, nodes: Nodes, names: set[str]) -> bool:
    """Whether another pod of the namespace, on any node, uses one of these claims."""
    return any(
        other.namespace == pod.namespace
        and other.uid != pod.uid
        and any(name in names for name, _ in volumes.pod_claims(other.pod))
        for info in nodes.values()
        for other in info.pods.values()
    )


def decide(pod: PodInfo, nodes: Nodes, namespaces: Namespaces, claims: Claims | None) -> Decision:
    """Filters all nodes and picks the best of those that remain."""
    decision = Decision(total=len(nodes))
    if claims is not None and claims.problem is not None:
        decision.problem = claims.problem
        return decision
    fit = Fit(pod, nodes, namespaces, claims)
    feasible: list[NodeInfo] = []
    for info in nodes.values():
        reasons = fit.reasons(info)
        if not reasons:
            feasible.append(info)
            continue
        decision.reasons.update(reasons)
        if fit.outgrows(info):
            continue
        if any(r.startswith(_HELPED) or r.endswith(_HELPED) or "anti-affinity" in r for r in reasons):
            decision.helped.append(info)
    if feasible:
        decision.node = feasible[0] if len(feasible) == 1 else _best(pod, feasible, nodes, namespaces)
    return decision


def _best(pod: PodInfo, candidates: list[NodeInfo], nodes: Nodes, namespaces: Namespaces) -> NodeInfo:
    totals = [_least_allocated(pod, n) + _balanced(pod, n) for n in candidates]
    spec = pod.pod["spec"]
    spread = Spread(pod, nodes, "ScheduleAnyway")
    owner = meta.controller_of(pod.pod)
    groups: list[tuple[int, list[int]]] = [
        (2, _normalised([_preference(spec, n.node) for n in candidates])),
        (3, _normalised([-_soft_taints(spec, n.node) for n in candidates])),
        (2, _normalised(interpod_scores(pod, candidates, nodes, namespaces))),
        (2, _normalised([-(spread.crowding(n) if spread else _siblings(owner, n)) for n in candidates])),
    ]
    for weight, scores in groups:
        for index, score in enumerate(scores):
            totals[index] += weight * score
    best = max(range(len(candidates)), key=lambda i: (totals[i], -len(candidates[i].pods)))
    return candidates[best]


def _normalised(values: list[int]) -> list[int]:
    low, high = min(values), max(values)
    return [100 * (v - low) // (high - low) for v in values] if high > low else [0] * len(values)


def _shares(pod: PodInfo, info: NodeInfo) -> tuple[float, float]:
    cpu = (info.shown[0] + pod.shown[0]) / max(1, info.allocatable.get("cpu", 0))
    memory = (info.shown[1] + pod.shown[1]) / max(1, info.allocatable.get("memory", 0))
    return min(1.0, cpu), min(1.0, memory)


def _least_allocated(pod: PodInfo, info: NodeInfo) -> int:
    cpu, memory = _shares(pod, info)
    return int(100 * (2 - cpu - memory) / 2)


def _balanced(pod: PodInfo, info: NodeInfo) -> int:
    cpu, memory = _shares(pod, info)
    return int(100 * (1 - abs(cpu - memory) / 2))


def _preference(spec: Obj, node: Obj) -> int:
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    return sum(
        int(term.get("weight") or 0)
        for term in affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
        if term_matches(term.get("preference") or {}, node)
    )


def _soft_taints(spec: Obj, node: Obj) -> int:
    tolerations = spec.get("tolerations") or ()
    soft = [t for t in taints(node) if t.get("effect") == "PreferNoSchedule"]
    return sum(1 for taint in soft if not any(tolerates(t, taint) for t in tolerations))


def _siblings(owner: Obj | None, info: NodeInfo) -> int:
    if owner is None:
        return 0
    return sum(1 for p in info.pods.values() if (meta.controller_of(p.pod) or {}).get("uid") == owner.get("uid"))
