"""Which nodes suit a pod or a volume: node selectors and affinity, taints and tolerations. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from stablehand.machinery import meta
from stablehand.machinery.conditions import get_condition
from stablehand.machinery.types import Obj

HOSTNAME = "kubernetes.io/hostname"
NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"


def is_ready(node: Obj) -> bool:
    condition = get_condition(node.get("status"), "Ready")
    return condition is not None and condition.get("status") == "True"


def _requirement(expression: Obj, value: str | None) -> bool:
    values = expression.get("values") or []
    match expression.get("operator"):
        case "In":
            return value is not None and value in values
        case "NotIn":
            return value is None or value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt" as op:
            try:
                have, want = int(value or ""), int(values[0])
            except (ValueError, IndexError):
                return False
            return have > want if op == "Gt" else have < want
    return False


def term_matches(term: Obj, node: Obj) -> bool:
    """One NodeSelectorTerm; an empty one matches nothing."""
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    labels = meta.labels(node)
    return all(_requirement(e, labels.get(e.get("key", ""))) for e in expressions) and all(
        f.get("key") == "metadata.name" and _requirement(f, meta.name(node)) for f in fields
    )


def selector_matches(selector: Obj | None, node: Obj) -> bool:
    """A NodeSelector: any of its terms. None matches every node."""
    if selector is None:
        return True
    return any(term_matches(term, node) for term in selector.get("nodeSelectorTerms") or ())


def pod_fits_node_affinity(pod_spec: Obj, node: Obj) -> bool:
    """The pod's nodeSelector and its required node affinity."""
    labels = meta.labels(node)
    for key, value in (pod_spec.get("nodeSelector") or {}).items():
        if labels.get(key) != value:
            return False
    affinity = (pod_spec.get("affinity") or {}).get("nodeAffinity") or {}
    return selector_matches(affinity.get("requiredDuringSchedulingIgnoredDuringExecution"), node)


def tolerates(toleration: Obj, taint: Obj) -> bool:
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("key") and toleration["key"] != taint.get("key"):
        return False
    operator = toleration.get("operator") or "Equal"
    if operator == "Exists":
        return True
    if not toleration.get("key"):
        return False
    return operator == "Equal" and (toleration.get("value") or "") == (taint.get("value") or "")


def untolerated(taints: Iterable[Obj], tolerations: Iterable[Obj] | None, effects: tuple[str, ...]) -> Obj | None:
    """The first taint of these effects that nothing tolerates."""
    tolerations = list(tolerations or ())
    for taint in taints:
        if taint.get("effect") in effects and not any(tolerates(t, taint) for t in tolerations):
            return taint
    return None


def taints(node: Obj) -> list[Obj]:
    return node["spec"].get("taints") or [] if node.get("spec") else []
