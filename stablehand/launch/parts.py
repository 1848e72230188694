"""Each part of `stablehand up` with its identity and settings, in the order of their start."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any

from stablehand.apiserver.app import ApiServer
from stablehand.launch.config import UpConfig
from stablehand.launch.errors import LaunchError
from stablehand.launch.inprocess import in_process_client
from stablehand.launch.pki import Pki

Part = tuple[str, Coroutine[Any, Any, None]]


def all_parts(config: UpConfig, server: ApiServer, pki: Pki, node_ready: asyncio.Event) -> Iterator[Part]:
    """(name, coroutine that runs it) of every part but the API server."""
    from stablehand import controllers, scheduler

    def client(user: str, groups: tuple[str, ...] = (), *, manager: str) -> Any:
        return in_process_client(server, user, groups, manager=manager)

    manager = client("system:kube-controller-manager", manager="kube-controller-manager")
    yield "controllers", controllers.run(controllers.ControllersConfig(manager, ca_pem=pki.ca_pem))
    scheduling = scheduler.SchedulerConfig(client("system:kube-scheduler", manager="kube-scheduler"))
    yield "scheduler", scheduler.run(scheduling)
    if config.node:
        from stablehand import node

        kubelet = client(f"system:node:{config.node_name}", ("system:nodes",), manager="kubelet")
        yield "node", node.run(node_config(config, pki, kubelet), ready=node_ready)


def node_config(config: UpConfig, pki: Pki | None, client: Any) -> Any:
    """The node agent's settings; without a pki, those that tearing it down needs."""
    from stablehand.node import NodeConfig

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
        stop_pods_on_exit=config.stop_pods,
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


async def teardown(config: UpConfig) -> None:
    """Ends pods, containerd, mounts, bridge and rules of a data directory whose Stablehand is stopped."""
    from stablehand import node

    await node.teardown(node_config(config, None, None), pods=True)
