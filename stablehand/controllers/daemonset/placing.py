"""Which nodes should have a daemon pod, and what the pod for one node looks like. Pure."""

from __future__ import annotations

from stablehand.machinery import meta
from stablehand.machinery.nodes import pod_fits_node_affinity, taints, untolerated
from stablehand.machinery.podtemplates import pod_from_template
from stablehand.machinery.revisions import REVISION_LABEL
from stablehand.machinery.types import Obj

_GENERATION_ANNOTATION = "deprecated.daemonset.template.generation"
_EXECUTE = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
_SCHEDULE = (
    "node.kubernetes.io/disk-pressure",
    "node.kubernetes.io/memory-pressure",
    "node.kubernetes.io/pid-pressure",
    "node.kubernetes.io/unschedulable",
)
_NETWORK = "node.kubernetes.io/network-unavailable"


def tolerations(spec: Obj) -> list[Obj]:
    """The pod's own, and those that let daemons run where others may not."""
    out: list[Obj] = list(spec.get("tolerations") or ())
    keys = [(k, "NoExecute") for k in _EXECUTE] + [(k, "NoSchedule") for k in _SCHEDULE]
    if spec.get("hostNetwork"):
        keys.append((_NETWORK, "NoSchedule"))
    for key, effect in keys:
        toleration = {"key": key, "operator": "Exists", "effect": effect}
        if toleration not in out:
            out.append(toleration)
    return out


def should_run(ds: Obj, node: Obj) -> tuple[bool, bool]:
    """(should a pod be started on the node, may one that is there stay)."""
    spec = ds["spec"]["template"].get("spec") or {}
    if spec.get("nodeName") and spec["nodeName"] != meta.name(node):
        return False, False
    if not pod_fits_node_affinity(spec, node):
        return False, False
    tolerated = tolerations(spec)
    if untolerated(taints(node), tolerated, ("NoSchedule", "NoExecute")) is None:
        return True, True
    return False, untolerated(taints(node), tolerated, ("NoExecute",)) is None


def new_pod(ds: Obj, node_name: str, hashed: str) -> Obj:
    pod = pod_from_template(ds["spec"]["template"], ds)
    labels = pod["metadata"]["labels"]
    labels[REVISION_LABEL] = hashed
    generation = meta.annotations(ds).get(_GENERATION_ANNOTATION)
    if generation:
        labels["pod-template-generation"] = generation
    spec = pod["spec"]
    spec["tolerations"] = tolerations(spec)
    here = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node_name]}]}
    affinity = spec.setdefault("affinity", {}) or {}
    spec["affinity"] = affinity
    node_affinity = affinity.setdefault("nodeAffinity", {}) or {}
    affinity["nodeAffinity"] = node_affinity
    node_affinity["requiredDuringSchedulingIgnoredDuringExecution"] = {"nodeSelectorTerms": [here]}
    return pod


def node_of(pod: Obj) -> str:
    """Where the pod runs, or is meant to."""
    if pod["spec"].get("nodeName"):
        return str(pod["spec"]["nodeName"])
    affinity = ((pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    ) or {}
    for term in affinity.get("nodeSelectorTerms") or ():
        for field in term.get("matchFields") or ():
            if field.get("key") == "metadata.name" and field.get("operator") == "In" and field.get("values"):
                return str(field["values"][0])
    return ""
