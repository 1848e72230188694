"""Each part of `stablehand up` with its identity and settings, in the order of their start."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

from stablehand.apiserver.app import ApiServer
from stablehand.launch.config import UpConfig
from stablehand.launch.inprocess import in_process_client
from stablehand.launch.nodeconfig import node_config
from stablehand.launch.pki import Pki
from stablehand.runtime.leases import LeadershipLost

log = logging.getLogger("stablehand.launch")

NFS_PROVISIONER = "stablehand.dev/nfs"


@dataclass(frozen=True, slots=True)
class Part:
    """`module` is what `run` needs: imported beforehand, aside, it does not keep the loop from answering requests."""

    name: str
    module: str
    run: Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Milestones:
    """What parts set once it is so: the node is registered and Ready; the NFS server answers."""

    node_ready: asyncio.Event
    exported: asyncio.Event


def all_parts(
    config: UpConfig, server: ApiServer, pki: Pki, milestones: Milestones, containerd: Any = None
) -> Iterator[Part]:
    """Every part but the API server. `containerd` is what `start_containerd` gave."""

    def client(user: str, groups: tuple[str, ...] = (), *, manager: str) -> Any:
        return in_process_client(server, user, groups, manager=manager)

    if config.node:  # first: it has to wait for containerd while the others are loaded
        kubelet = client(f"system:node:{config.node_name}", ("system:nodes",), manager="kubelet")
        yield Part(
            "node", "stablehand.node.main", lambda: _node(config, pki, kubelet, milestones.node_ready, containerd)
        )
    manager = client("system:kube-controller-manager", manager="kube-controller-manager")
    yield Part("controllers", "stablehand.controllers", lambda: _leading(lambda: _controllers(config, pki, manager)))
    scheduler = client("system:kube-scheduler", manager="kube-scheduler")
    yield Part("scheduler", "stablehand.scheduler", lambda: _leading(lambda: _scheduler(config, scheduler)))
    if config.node:
        proxy = client("system:kube-proxy", manager="kube-proxy")
        yield Part("network", "stablehand.network", lambda: network(config, proxy))
        # Makes its own Service in kube-system, as an administrator would.
        admin = client("stablehand:dns", ("system:masters",), manager="stablehand-dns")
        names = client("system:kube-dns", manager="kube-dns")
        yield Part("dns", "stablehand.dns", lambda: _dns(config, names, admin))
        yield Part("provisioner", "stablehand.storage", lambda: _storage(config, server, milestones))


async def _leading(run: Callable[[], Awaitable[None]]) -> None:
    """Runs a part that may lose its lease: upstream ends the process then and is started again, this one stands again
    as a candidate."""
    while True:
        try:
            return await run()
        except LeadershipLost as e:
            log.warning("%s; trying to lead again", e)


async def _controllers(config: UpConfig, pki: Pki, client: Any) -> None:
    from stablehand import controllers

    await controllers.run(
        controllers.ControllersConfig(
            client,
            ca_pem=pki.ca_pem,
            leader_elect=config.leader_elect,
            signing_cert=pki.ca_pem.encode(),
            signing_key=pki.ca_key,
            account_key=pki.signing_key(),
        )
    )


async def _scheduler(config: UpConfig, client: Any) -> None:
    from stablehand import scheduler

    await scheduler.run(scheduler.SchedulerConfig(client, leader_elect=config.leader_elect))


async def _node(config: UpConfig, pki: Pki, client: Any, ready: asyncio.Event, containerd: Any) -> None:
    from stablehand import node

    await node.run(node_config(config, pki, client), ready=ready, containerd=containerd)


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


async def _storage(config: UpConfig, server: ApiServer, milestones: Milestones) -> None:
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
        await milestones.node_ready.wait()  # the node makes the bridge whose address the server binds
        nfs = storage.NfsServer(config.nfs, config.paths.nfs, bind=config.gateway)
        await nfs.start()
        milestones.exported.set()
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


async def teardown(config: UpConfig) -> None:
    """Ends pods, containerd, mounts, bridge and rules of a data directory whose Stablehand is stopped."""
    from stablehand import network, node, storage

    await network.teardown(config.service_table)
    await node.teardown(node_config(config, None, None), pods=True)
    await storage.NfsServer(config.paths.root, config.paths.nfs).end_left_behind()
