"""Fields of a pod that this node does not act on: said in an event, never passed over in silence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stablehand.machinery.types import Obj

if TYPE_CHECKING:
    from stablehand.node.services import Services


def unsupported_fields(pod: Obj) -> list[str]:
    """Sentences, one for each."""
    spec = pod["spec"]
    found = []
    if spec.get("resourceClaims"):
        found.append("resourceClaims are ignored: this node has no dynamic resource allocation")
    for container in [*spec["containers"], *(spec.get("initContainers") or ())]:
        extended = [
            name
            for name in ((container.get("resources") or {}).get("limits") or {})
            if name not in ("cpu", "memory", "ephemeral-storage")
        ]
        if extended:
            found.append(f"resource limits {', '.join(extended)} of container {container['name']!r} are not enforced")
    return found


def tell(node: Services, pod: Obj) -> None:
    for sentence in unsupported_fields(pod):
        node.event(pod, "Warning", "UnsupportedField", sentence)
