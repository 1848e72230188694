"""Kinds that are stored, listed and watched as in Kubernetes, and that nothing here acts on. Whoever writes one is told
in a Warning. What a single field of a pod asks in vain is the node's to tell (node.unsupported).
"""

from __future__ import annotations

_DEVICES = "devices are not allocated here (dynamic resource allocation): what pods claim of them is passed over"
_ATTACH = "volumes are not attached by CSI drivers here: use hostPath, local, nfs or the classes of `kubectl get sc`"

NO_EFFECT: dict[str, str] = {
    "deviceclasses.resource.k8s.io": _DEVICES,
    "resourceclaims.resource.k8s.io": _DEVICES,
    "resourceclaimtemplates.resource.k8s.io": _DEVICES,
    "resourceslices.resource.k8s.io": _DEVICES,
    "csidrivers.storage.k8s.io": _ATTACH,
    "volumeattachments.storage.k8s.io": _ATTACH,
}
