"""Making room for an important pod: which pods of lower priority would have to go, and where the fewest do."""

from __future__ import annotations

from dataclasses import dataclass

from stablehand.machinery import meta
from stablehand.scheduler.affinity import Namespaces
from stablehand.scheduler.decide import Decision, Fit
from stablehand.scheduler.state import NodeInfo, PodInfo
from stablehand.scheduler.volumes import Claims


@dataclass(slots=True)
class Plan:
    node: str
    victims: list[PodInfo]


def plan(
    pod: PodInfo, decision: Decision, nodes: dict[str, NodeInfo], namespaces: Namespaces, claims: Claims | None
) -> Plan | None:
    """The node where the pod would fit at the least loss, and the pods to be deleted there."""
    if (pod.pod["spec"].get("preemptionPolicy") or "PreemptLowerPriority") == "Never":
        return None
    plans = [p for p in (_on(pod, info, nodes, namespaces, claims) for info in decision.helped) if p is not None]
    if not plans:
        return None
    return min(
        plans, key=lambda p: (max(v.priority for v in p.victims), sum(v.priority for v in p.victims), len(p.victims))
    )


def _on(
    pod: PodInfo, info: NodeInfo, nodes: dict[str, NodeInfo], namespaces: Namespaces, claims: Claims | None
) -> Plan | None:
    lower = {uid for uid, other in info.pods.items() if other.priority < pod.priority}
    if not lower or not _fits(pod, info, lower, nodes, namespaces, claims):
        return None
    # Spare as many as possible, the most important and oldest first.
    gone = set(lower)
    by_importance = sorted(
        (info.pods[uid] for uid in lower),
        key=lambda p: (-p.priority, p.pod["metadata"].get("creationTimestamp") or ""),
    )
    for other in by_importance:
        if _fits(pod, info, gone - {other.uid}, nodes, namespaces, claims):
            gone.discard(other.uid)
    victims = [info.pods[uid] for uid in gone]
    return Plan(info.name, victims) if victims else None


def _fits(
    pod: PodInfo,
    info: NodeInfo,
    without: set[str],
    nodes: dict[str, NodeInfo],
    namespaces: Namespaces,
    claims: Claims | None,
) -> bool:
    smaller = info.copy_without(without)
    return not Fit(pod, {**nodes, info.name: smaller}, namespaces, claims).reasons(smaller)


def is_waiting_for(pod: PodInfo, nodes: dict[str, NodeInfo]) -> bool:
    """Are pods of lower priority already leaving the node that was freed for this pod?"""
    nominated = (pod.pod.get("status") or {}).get("nominatedNodeName")
    info = nodes.get(nominated or "")
    return info is not None and any(
        p.priority < pod.priority and meta.deletion_timestamp(p.pod) for p in info.pods.values()
    )
