"""/configz: the settings that this node runs with, under the names of the kubelet's configuration file. Pure.

Only what is true here is in it: a kubelet's settings that this node knows nothing of are left out.
"""

from __future__ import annotations

from stablehand.machinery.types import Obj
from stablehand.node import imagegc
from stablehand.node.config import NodeConfig
from stablehand.node.signals import HARD


def configuration(config: NodeConfig) -> Obj:
    kubelet: Obj = {
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "address": config.listen_addresses[0],
        "port": config.port,
        "tlsCertFile": str(config.tls_cert or ""),
        "tlsPrivateKeyFile": str(config.tls_key or ""),
        "authentication": {
            "x509": {"clientCAFile": str(config.client_ca or "")},
            "webhook": {"enabled": True},
            "anonymous": {"enabled": False},
        },
        "authorization": {"mode": "Webhook"},
        "clusterDomain": config.cluster_domain,
        "clusterDNS": list(config.cluster_dns),
        "podCIDR": config.pod_cidr,
        "maxPods": config.max_pods,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": config.cgroup_parent,
        "cgroupsPerQOS": False,
        "containerRuntimeEndpoint": f"unix://{config.socket}",
        "nodeLeaseDurationSeconds": 40,
        "nodeStatusUpdateFrequency": "10s",
        "nodeStatusReportFrequency": "5m0s",
        "imageGCHighThresholdPercent": imagegc.HIGH,
        "imageGCLowThresholdPercent": imagegc.LOW,
        "imageMinimumGCAge": "2m0s",
        "evictionHard": dict(HARD if config.eviction_hard is None else config.eviction_hard),
        "evictionPressureTransitionPeriod": f"{config.eviction_transition:g}s",
        "podLogsDir": str(config.logs_dir),
        "staticPodPath": str(config.static_pods_dir),
    }
    if config.eviction_soft:
        kubelet["evictionSoft"] = dict(config.eviction_soft)
        kubelet["evictionSoftGracePeriod"] = dict(config.eviction_soft_grace)
    return {"kubeletconfig": kubelet}
