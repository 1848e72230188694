"""TaintNodesByCondition: a new node takes no pods until it has said that it is ready, and the node lifecycle controller
has taken the taint away (plugin/pkg/admission/nodetaint)."""

from __future__ import annotations

from stablehand.apiserver.core import Attributes, Core
from stablehand.machinery import nodes


def taint_new(core: Core, a: Attributes) -> None:
    if a.resource.key != "nodes" or a.operation != "CREATE" or a.subresource or a.obj is None:
        return
    given = nodes.taints(a.obj)
    if any((t.get("key"), t.get("effect")) == (nodes.NOT_READY, "NoSchedule") for t in given):
        return
    taint = {"key": nodes.NOT_READY, "effect": "NoSchedule"}
    a.obj["spec"] = {**(a.obj.get("spec") or {}), "taints": [*given, taint]}
