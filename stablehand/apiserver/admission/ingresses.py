"""DefaultIngressClass: an Ingress that names no class gets the one marked as default
(plugin/pkg/admission/network/defaultingressclass)."""

from __future__ import annotations

from stablehand.apiserver.core import Attributes, Core
from stablehand.apiserver.strategies.networking import OLD_CLASS
from stablehand.machinery.resources import resource
from stablehand.machinery.volumes import default_class as newest

_CLASSES = resource("ingressclasses.networking.k8s.io")
_DEFAULT = ("ingressclass.kubernetes.io/is-default-class",)


def default_class(core: Core, a: Attributes) -> None:
    """Neither the field nor the old annotation says anything; of several defaults the newest is taken."""
    if a.operation != "CREATE" or a.resource.key != "ingresses.networking.k8s.io" or a.subresource or a.obj is None:
        return
    if a.obj["spec"].get("ingressClassName") is not None or OLD_CLASS in (a.obj["metadata"].get("annotations") or {}):
        return
    best = newest((e.obj for _, e in core.storage.collection(_CLASSES).ordered()), _DEFAULT)
    if best is not None:
        a.obj["spec"]["ingressClassName"] = best["metadata"]["name"]
