"""The node agent's settings, made of what the launcher was told. Loads nothing of the other parts."""

from __future__ import annotations

from typing import Any

from stablehand.launch.config import UpConfig
from stablehand.launch.errors import LaunchError
from stablehand.launch.pki import Pki
from stablehand.node import NodeConfig


def node_config(config: UpConfig, pki: Pki | None, client: Any) -> NodeConfig:
    """The node agent's settings; without a pki, those that tearing it down needs."""
    serving: dict[str, Any] = {}
    if pki is not None:
        hosts = (config.gateway, "127.0.0.1", config.node_name)
        crt, key = pki.certificate("kubelet", config.node_name, hosts=hosts, server=True)
        serving = {"tls_cert": crt, "tls_key": key, "client_ca": pki.ca_file}
    return NodeConfig(
        client=client,
        data_dir=config.paths.node,
        run_dir=config.run_dir,
        node_name=config.node_name,
        pod_cidr=config.pod_cidr,
        bridge=config.bridge,
        port=config.kubelet_port,
        cluster_dns=(config.cluster_dns,),
        cluster_domain=config.cluster_domain,
        exports=(str(config.nfs),) if config.nfs else (),
        mirrors=mirrors(config.registry_mirrors),
        insecure_registries=config.insecure_registries,
        stop_pods_on_exit=config.stop_pods,
        manifests_dir=config.static_pods,
        eviction_hard=None if config.eviction_hard is None else dict(config.eviction_hard),
        eviction_soft=dict(config.eviction_soft),
        eviction_soft_grace=dict(config.eviction_soft_grace),
        eviction_transition=config.eviction_transition,
        **serving,
    )


def mirrors(texts: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """ "REGISTRY=URL" texts as a table. Raises LaunchError."""
    out: dict[str, tuple[str, ...]] = {}
    for text in texts:
        registry, found, url = text.partition("=")
        if not found or not url.startswith(("http://", "https://")):
            raise LaunchError(f"--registry-mirror {text!r} is not REGISTRY=URL")
        out[registry] = (*out.get(registry, ()), url)
    return out
