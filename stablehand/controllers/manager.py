"""Runs all controllers on one set of informers; the only module here that knows every one of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stablehand.client import Client
from stablehand.controllers.certificates import ApprovingController, Authority, CleanerController, SigningController
from stablehand.controllers.clusterroles import ClusterRoleAggregationController
from stablehand.controllers.cronjob import CronJobController
from stablehand.controllers.daemonset import DaemonSetController
from stablehand.controllers.deployment import DeploymentController
from stablehand.controllers.discovery import DiscoveryController
from stablehand.controllers.disruption import DisruptionController
from stablehand.controllers.endpoints import EndpointsController
from stablehand.controllers.endpointslice import EndpointSliceController, EndpointSliceMirroringController
from stablehand.controllers.garbagecollector import GarbageCollector
from stablehand.controllers.job import JobController
from stablehand.controllers.namespace import NamespaceController
from stablehand.controllers.nodelifecycle import NodeLifecycleController
from stablehand.controllers.nodettl import TtlController
from stablehand.controllers.persistentvolume import PersistentVolumeController
from stablehand.controllers.podautoscaler import PodAutoscalerController
from stablehand.controllers.podgc import PodCollector
from stablehand.controllers.policystatus import PolicyStatusController
from stablehand.controllers.replicaset import ReplicaSetController, ReplicationControllerController
from stablehand.controllers.resourcequota import ResourceQuotaController
from stablehand.controllers.serviceaccount import RootCaController, ServiceAccountController
from stablehand.controllers.serviceaccounttokens import Signer, TokenController
from stablehand.controllers.servicecidrs import ServiceCidrController
from stablehand.controllers.statefulset import StatefulSetController
from stablehand.controllers.tainteviction import TaintEvictionController
from stablehand.controllers.ttlafterfinished import TtlAfterFinishedController
from stablehand.controllers.volumeprotection import (
    AttributesClassProtectionController,
    ClaimProtectionController,
    EphemeralVolumeController,
    ExpandController,
    VolumeProtectionController,
)
from stablehand.runtime import Controller, Informers
from stablehand.runtime.discovery import Catalog
from stablehand.runtime.leases import LeaderElection, identity

log = logging.getLogger("stablehand.controllers")


@dataclass(frozen=True)
class ControllersConfig:
    """`informers`: a factory shared with other parts of the process, run by its owner; None makes one.

    `enable` names controllers as --controllers of kube-controller-manager does: "*", "name", "-name".
    `client_for` gives a controller's own client (its own service account) where that is wanted.
    `signing_cert` and `signing_key` are the cluster's authority, `account_key` the private key of service account
    tokens, all PEM; the controllers that need one are left out without it.
    """

    client: Client
    informers: Informers | None = None
    ca_pem: str = ""
    enable: tuple[str, ...] = ("*",)
    leader_elect: bool = False
    client_for: Callable[[str], Client] | None = None
    signing_cert: bytes = b""
    signing_key: bytes = b""
    account_key: bytes = b""


Maker = Callable[[Client, Informers], Controller]


def makers(config: ControllersConfig, catalog: Catalog) -> dict[str, Maker]:
    """How each controller is made, by name."""
    out: dict[str, Maker] = {
        "discovery": lambda c, i: DiscoveryController(c, i, catalog),
        "statefulset": StatefulSetController,
        "replicaset": ReplicaSetController,
        "replicationcontroller": ReplicationControllerController,
        "deployment": DeploymentController,
        "endpoints": EndpointsController,
        "endpointslice": EndpointSliceController,
        "endpointslicemirroring": EndpointSliceMirroringController,
        "garbagecollector": lambda c, i: GarbageCollector(c, i, catalog),
        "namespace": lambda c, i: NamespaceController(c, i, catalog),
        "serviceaccount": ServiceAccountController,
        "persistentvolume-binder": PersistentVolumeController,
        "persistentvolumeclaim-protection": ClaimProtectionController,
        "persistentvolume-protection": VolumeProtectionController,
        "volumeattributesclass-protection": AttributesClassProtectionController,
        "ephemeral-volume": EphemeralVolumeController,
        "persistentvolume-expander": ExpandController,
        "daemonset": DaemonSetController,
        "job": JobController,
        "cronjob": CronJobController,
        "ttl-after-finished": TtlAfterFinishedController,
        "node-lifecycle": NodeLifecycleController,
        "taint-eviction": TaintEvictionController,
        "pod-garbage-collector": PodCollector,
        "disruption": DisruptionController,
        "ttl": TtlController,
        "clusterrole-aggregation": ClusterRoleAggregationController,
        "service-cidr": ServiceCidrController,
        "validatingadmissionpolicy-status": PolicyStatusController,
        "resourcequota": lambda c, i: ResourceQuotaController(c, i, catalog),
        "horizontal-pod-autoscaler": lambda c, i: PodAutoscalerController(c, i, catalog),
        "certificatesigningrequest-approving": ApprovingController,
        "certificatesigningrequest-cleaner": CleanerController,
    }
    if config.signing_key:
        out["certificatesigningrequest-signing"] = lambda c, i: SigningController(
            c, i, Authority(config.signing_cert, config.signing_key)
        )
    if config.account_key:
        out["serviceaccount-token"] = lambda c, i: TokenController(c, i, Signer(config.account_key), config.ca_pem)
    if config.ca_pem:
        out["root-ca-certificate-publisher"] = lambda c, i: RootCaController(c, i, config.ca_pem)
    return out


def names() -> list[str]:
    """Every controller's name, as `ControllersConfig.enable` takes them."""
    nothing: Any = None  # the names depend on neither client nor catalog
    return sorted(makers(ControllersConfig(nothing, ca_pem="-", signing_key=b"-", account_key=b"-"), nothing))


def is_enabled(name: str, enable: tuple[str, ...]) -> bool:
    if f"-{name}" in enable:
        return False
    return name in enable or "*" in enable


async def run(config: ControllersConfig) -> None:
    """Runs the controllers until cancelled; with `leader_elect`, only while holding the lease. Losing it ends the
    run with LeadershipLost."""
    if not config.leader_elect:
        await _run_controllers(config)
        return
    election = LeaderElection(config.client, "kube-system", "kube-controller-manager", identity())
    await election.lead(lambda: _run_controllers(config))


async def _run_controllers(config: ControllersConfig) -> None:
    client = config.client
    informers = config.informers or Informers(client)
    catalog = Catalog(client)
    client_for = config.client_for or (lambda name: client)
    controllers = [
        make(client_for(name), informers)
        for name, make in makers(config, catalog).items()
        if name == "discovery" or is_enabled(name, config.enable)
    ]
    log.debug("starting %s controllers", len(controllers))
    async with asyncio.TaskGroup() as group:
        if config.informers is None:
            group.create_task(informers.run(), name="informers")
        for controller in controllers:
            group.create_task(controller.run(), name=f"controller/{controller.name}")
