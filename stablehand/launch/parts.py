"""Each part of `stablehand up` with its identity and settings, in the order of their start."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any

from stablehand.apiserver.app import ApiServer
from stablehand.launch.config import UpConfig
from stablehand.launch.errors import LaunchError
from stablehand.launch.inprocess import in_process_client
from stablehand.launch.pki import Pki
from stablehand.runtime.leases import LeadershipLost

log = logging.getLogger("stablehand.launch")

NFS_PROVISIONER = "stablehand.dev/nfs"
Part = tuple[str, Coroutine[Any, Any, None]]


def all_parts(config: UpConfig, server: ApiServer, pki: Pki, node_ready: asyncio.Event) -> Iterator[Part]:
    """(name, coroutine that runs it) of every part but the API server."""
    from stablehand import controllers, scheduler

    def client(user: str, groups: tuple[str, ...] = (), *, manager: str) -> Any:
        return in_process_client(server, user, groups, manager=manager)

    elect = config.leader_elect
    manager = client("system:kube-controller-manager", manager="kube-controller-manager")
    controlling = controllers.ControllersConfig(
        manager,
        ca_pem=pki.ca_pem,
        leader_elect=elect,
        signing_cert=pki.ca_pem.encode(),
        signing_key=pki.ca_key,
        account_key=pki.signing_key(),
    )
    yield "controllers", _leading(lambda: controllers.run(controlling))
    scheduling = scheduler.SchedulerConfig(
        client("system:kube-scheduler", manager="kube-scheduler"), leader_elect=elect
    )
    yield "scheduler", _leading(lambda: scheduler.run(scheduling))
    if config.node:
        from stablehand import node

        kubelet = client(f"system:node:{config.node_name}", ("system:nodes",), manager="kubelet")
        yield "node", node.run(node_config(config, pki, kubelet), ready=node_ready)
        yield "network", network(config, client("system:kube-proxy", manager="kube-proxy"))
        # Makes its own Service in kube-system, as an administrator would.
        admin = client("stablehand:dns", ("system:masters",), manager="stablehand-dns")
        yield "dns", _dns(config, client("system:kube-dns", manager="kube-dns"), admin)
        yield "provisioner", _storage(config, server, node_ready)


async def _leading(run: Callable[[], Awaitable[None]]) -> None:
    """Runs a part that may lose its lease: upstream ends the process then and is started again, this one stands again
    as a candidate."""
    while True:
        try:
            return await run()
        except LeadershipLost as e:
            log.warning("%s; trying to lead again", e)


async def network(config: UpConfig, client: Any) -> None:
    """Services' virtual addresses on this machine, until cancelled."""
    from stablehand import network

    await network.run(
        network.NetworkConfig(
            client,
            table=config.service_table,
            pod_cidr=config.pod_cidr,
            node_name=config.node_name,
            node_ips=(config.gateway,),
        )
    )


async def _dns(config: UpConfig, client: Any, admin: Any) -> None:
    from stablehand import dns
    from stablehand.dns.service import ensure_dns_service

    await ensure_dns_service(admin, config.cluster_dns, config.gateway, 53)
    await dns.run(
        dns.DnsConfig(
            client,
            domain=config.cluster_domain,
            listen=((config.gateway, 53),),
            cluster_cidrs=(config.pod_cidr, config.service_cidr),
        )
    )


async def _storage(config: UpConfig, server: ApiServer, node_ready: asyncio.Event) -> None:
    """The class `standard` on local folders and, with --nfs, the NFS server and the class `nfs`."""
    from stablehand import storage
    from stablehand.aiokit.tasks import run_all

    admin = in_process_client(server, "stablehand:storage", ("system:masters",), manager="stablehand-storage")
    client = in_process_client(server, "system:stablehand:provisioner", manager="stablehand-provisioner")
    config.paths.volumes.mkdir(mode=0o711, parents=True, exist_ok=True)
    await storage.ensure_class(admin, "standard", storage.LOCAL_PROVISIONER, True)
    nfs = None
    configs = [
        storage.ProvisionerConfig(
            client, "local", storage.LOCAL_PROVISIONER, config.paths.volumes, node_name=config.node_name
        )
    ]
    if config.nfs is not None:
        config.nfs.mkdir(parents=True, exist_ok=True)
        await node_ready.wait()  # the node makes the bridge whose address the server binds
        nfs = storage.NfsServer(config.nfs, config.paths.nfs, bind=config.gateway)
        await nfs.start()
        await storage.ensure_class(admin, "nfs", NFS_PROVISIONER, False)
        configs.append(
            storage.ProvisionerConfig(
                client, "nfs", NFS_PROVISIONER, config.nfs, server=config.gateway, path=str(config.nfs)
            )
        )
    works = [storage.run(c) for c in configs]
    if nfs is not None:
        works.append(nfs.watch())
    try:
        await run_all(*works)
    finally:
        if nfs is not None:
            await nfs.stop()


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
        insecure_registries=config.insecure_registries,
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
    from stablehand import network, node, storage

    await network.teardown(config.service_table)
    await node.teardown(node_config(config, None, None), pods=True)
    await storage.NfsServer(config.paths.root, config.paths.nfs).end_left_behind()
