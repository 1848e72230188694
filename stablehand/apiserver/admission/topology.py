"""PodTopologyLabels: a pod gets the zone and region of the node it is bound to as labels, which the downward API can
tell it (plugin/pkg/admission/podtopologylabels)."""

from __future__ import annotations

from stablehand.apiserver.core import Attributes, Core
from stablehand.machinery.meta import nested
from stablehand.machinery.resources import resource

LABELS = ("topology.kubernetes.io/zone", "topology.kubernetes.io/region")


def label(core: Core, a: Attributes) -> None:
    """Labels the Binding, from which they go to the pod; or the pod that is made with its node."""
    if a.operation != "CREATE" or a.resource.key != "pods" or a.obj is None:
        return
    if a.subresource == "binding":
        node = nested(a.obj, "target", "name")
    elif not a.subresource:
        node = nested(a.obj, "spec", "nodeName")
    else:
        return
    entry = core.storage.collection(resource("nodes")).get(("", str(node))) if node else None
    if entry is None:
        return
    have = nested(entry.obj, "metadata", "labels") or {}
    found = {key: have[key] for key in LABELS if key in have}
    if found:
        meta = a.obj.setdefault("metadata", {})
        meta["labels"] = {**(meta.get("labels") or {}), **found}
