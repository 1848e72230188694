"""Affinity between pods, and spreading over topologies. Pure; simple sums over all nodes, exact rather than fast."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from stablehand.machinery import meta
from stablehand.machinery.nodes import pod_fits_node_affinity, taints, untolerated
from stablehand.machinery.selectors import Selector, from_label_selector
from stablehand.machinery.types import Obj
from stablehand.scheduler.state import NodeInfo, PodInfo

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
Nodes = Mapping[str, NodeInfo]
Namespaces = Mapping[str, Obj]


class Term:
    """A PodAffinityTerm of a given pod."""

    __slots__ = ("namespaces", "selector", "topology")

    def __init__(self, term: Obj, owner: PodInfo, namespaces: Namespaces) -> None:
        selector = dict(term.get("labelSelector") or {}) if term.get("labelSelector") is not None else None
        expressions = list((selector or {}).get("matchExpressions") or ())
        for keys, operator in ((term.get("matchLabelKeys"), "In"), (term.get("mismatchLabelKeys"), "NotIn")):
            for key in keys or ():
                if key in owner.labels:
                    expressions.append({"key": key, "operator": operator, "values": [owner.labels[key]]})
        if selector is not None:
            selector["matchExpressions"] = expressions
        self.selector: Selector = from_label_selector(selector)
        self.topology = term.get("topologyKey") or ""
        names = set(term.get("namespaces") or ())
        if term.get("namespaceSelector") is not None:
            chosen = from_label_selector(term["namespaceSelector"])
            if chosen.everything:
                names |= set(namespaces) or {owner.namespace}
            names |= {n for n, obj in namespaces.items() if chosen.matches(meta.labels(obj))}
        elif not names:
            names = {owner.namespace}
        self.namespaces = names

    def matches(self, pod: PodInfo) -> bool:
        return pod.namespace in self.namespaces and self.selector.matches(pod.labels)


def terms(pod: PodInfo, kind: str, namespaces: Namespaces) -> list[Term]:
    """The required terms; kind is "podAffinity" or "podAntiAffinity"."""
    return [Term(t, pod, namespaces) for t in (pod.affinity.get(kind) or {}).get(_REQUIRED) or ()]


def preferred(pod: PodInfo, kind: str, namespaces: Namespaces) -> list[tuple[int, Term]]:
    return [
        (int(t.get("weight") or 0), Term(t["podAffinityTerm"], pod, namespaces))
        for t in (pod.affinity.get(kind) or {}).get(_PREFERRED) or ()
    ]


def _domain(node: NodeInfo, key: str) -> str | None:
    return meta.labels(node.node).get(key)


def domains_of(term: Term, nodes: Iterable[NodeInfo]) -> set[str]:
    """The topology values under which a matching pod runs."""
    found: set[str] = set()
    for node in nodes:
        value = _domain(node, term.topology)
        if value is not None and value not in found and any(term.matches(p) for p in node.pods.values()):
            found.add(value)
    return found


class InterPod:
    """The pod's affinity, worked out once for all nodes: `reason(node)` says why a node will not do."""

    def __init__(self, pod: PodInfo, nodes: Nodes, namespaces: Namespaces) -> None:
        everyone = nodes.values()
        self._with: list[tuple[Term, set[str]]] = [
            (t, domains_of(t, everyone)) for t in terms(pod, "podAffinity", namespaces)
        ]
        # The first pod of a group that wants to be together may start anywhere.
        alone = bool(self._with) and not any(found for _, found in self._with)
        self._starts = alone and all(term.matches(pod) for term, _ in self._with)
        self._apart = [(t, domains_of(t, everyone)) for t in terms(pod, "podAntiAffinity", namespaces)]
        self._unwelcome: set[tuple[str, str]] = set()
        for node in everyone:
            for other in node.picky.values():
                for term in terms(other, "podAntiAffinity", namespaces):
                    value = _domain(node, term.topology)
                    if value is not None and term.matches(pod):
                        self._unwelcome.add((term.topology, value))

    def reason(self, node: NodeInfo) -> str | None:
        for term, found in self._with:
            value = _domain(node, term.topology)
            if value is None or (value not in found and not self._starts):
                return "node(s) didn't match pod affinity rules"
        for term, found in self._apart:
            if _domain(node, term.topology) in found:
                return "node(s) didn't match pod anti-affinity rules"
        for key, value in self._unwelcome:
            if _domain(node, key) == value:
                return "node(s) didn't satisfy existing pods anti-affinity rules"
        return None


def interpod_scores(pod: PodInfo, candidates: list[NodeInfo], nodes: Nodes, namespaces: Namespaces) -> list[int]:
    """The sum of the weights of preferences that each candidate meets."""
    wanted = preferred(pod, "podAffinity", namespaces)
    unwanted = preferred(pod, "podAntiAffinity", namespaces)
    if not wanted and not unwanted:
        return [0] * len(candidates)
    sums = [0] * len(candidates)
    for sign, group in ((1, wanted), (-1, unwanted)):
        for weight, term in group:
            counts: dict[str, int] = {}
            for node in nodes.values():
                value = _domain(node, term.topology)
                if value is not None:
                    counts[value] = counts.get(value, 0) + sum(1 for p in node.pods.values() if term.matches(p))
            for index, node in enumerate(candidates):
                sums[index] += sign * weight * counts.get(_domain(node, term.topology) or "", 0)
    return sums


class Spread:
    """The pod's topologySpreadConstraints of one kind ("DoNotSchedule" or "ScheduleAnyway")."""

    def __init__(self, pod: PodInfo, nodes: Nodes, when: str) -> None:
        self._pod = pod
        constraints = pod.pod["spec"].get("topologySpreadConstraints") or ()
        self._constraints = [c for c in constraints if (c.get("whenUnsatisfiable") or "DoNotSchedule") == when]
        keys = [c.get("topologyKey") or "" for c in self._constraints]
        self._selectors: list[Selector] = []
        self._counts: list[dict[str, int]] = []
        for constraint in self._constraints:
            selector = dict(constraint.get("labelSelector") or {})
            extra = [
                {"key": k, "operator": "In", "values": [pod.labels[k]]}
                for k in constraint.get("matchLabelKeys") or ()
                if k in pod.labels
            ]
            selector["matchExpressions"] = [*(selector.get("matchExpressions") or ()), *extra]
            matcher = from_label_selector(selector)
            counts: dict[str, int] = {}
            for node in nodes.values():
                labels = meta.labels(node.node)
                if any(key not in labels for key in keys) or not self._counted(constraint, node):
                    continue
                value = labels[constraint.get("topologyKey") or ""]
                counts[value] = counts.get(value, 0) + sum(
                    1
                    for p in node.pods.values()
                    if p.namespace == pod.namespace and not meta.deletion_timestamp(p.pod) and matcher.matches(p.labels)
                )
            self._selectors.append(matcher)
            self._counts.append(counts)

    def _counted(self, constraint: Obj, node: NodeInfo) -> bool:
        spec = self._pod.pod["spec"]
        if (constraint.get("nodeAffinityPolicy") or "Honor") == "Honor" and not pod_fits_node_affinity(spec, node.node):
            return False
        if constraint.get("nodeTaintsPolicy") == "Honor":
            return untolerated(taints(node.node), spec.get("tolerations"), ("NoSchedule", "NoExecute")) is None
        return True

    def __bool__(self) -> bool:
        return bool(self._constraints)

    def reason(self, node: NodeInfo) -> str | None:
        labels = meta.labels(node.node)
        for constraint, matcher, counts in zip(self._constraints, self._selectors, self._counts):
            key = constraint.get("topologyKey") or ""
            if key not in labels:
                return "node(s) didn't match pod topology spread constraints (missing required label)"
            lowest = min(counts.values(), default=0)
            if len(counts) < int(constraint.get("minDomains") or 0):
                lowest = 0
            self_match = 1 if matcher.matches(self._pod.labels) else 0
            if counts.get(labels[key], 0) + self_match - lowest > int(constraint.get("maxSkew") or 1):
                return "node(s) didn't match pod topology spread constraints"
        return None

    def crowding(self, node: NodeInfo) -> int:
        """How many matching pods share the node's topologies: fewer is better."""
        labels = meta.labels(node.node)
        return sum(
            counts.get(labels.get(c.get("topologyKey") or "", ""), 0)
            for c, counts in zip(self._constraints, self._counts)
        )
