"""Fields of pod specs that Kubernetes 1.36 has behind feature gates which are off by default: dropped, as its API server
drops them, without a word. Kubernetes keeps those that an object already has; here no object can have them.
"""

from __future__ import annotations

from stablehand.machinery.types import Obj

_PROJECTIONS = ("clusterTrustBundle", "podCertificate")  # ClusterTrustBundleProjection, PodCertificateRequest


def drop_disabled(spec: Obj) -> None:
    for key in ("containers", "initContainers", "ephemeralContainers"):
        for container in spec.get(key) or ():
            lifecycle = container.get("lifecycle")
            if lifecycle and lifecycle.pop("stopSignal", None) and not lifecycle:  # ContainerStopSignals
                del container["lifecycle"]
    for volume in spec.get("volumes") or ():
        for source in (volume.get("projected") or {}).get("sources") or ():
            for name in _PROJECTIONS:
                source.pop(name, None)
