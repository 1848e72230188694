"""Runs one provisioner: checks its rights, becomes leader where asked, then works until cancelled."""

from __future__ import annotations

import asyncio
import logging
import socket
import uuid

from stablehand.aiokit.backoff import Backoff
from stablehand.aiokit.tasks import run_all
from stablehand.client import ApiError, Client, Unavailable
from stablehand.runtime import EventRecorder, Informers
from stablehand.storage.errors import StorageError
from stablehand.storage.provisioner.classes import CLASSES
from stablehand.storage.provisioner.config import ProvisionerConfig
from stablehand.storage.provisioner.controller import CLAIMS, VOLUMES, Provisioner
from stablehand.storage.provisioner.election import EndpointsElection
from stablehand.storage.provisioner.folders import Backend
from stablehand.storage.provisioner.local import LocalBackend
from stablehand.storage.provisioner.nfs import NfsBackend

log = logging.getLogger("stablehand.provisioner")


async def run(config: ProvisionerConfig) -> None:
    """Provisions until cancelled. Raises StorageError for unusable settings, LeadershipLost."""
    backend = make_backend(config)
    identity = f"{socket.gethostname()}_{uuid.uuid4()}"

    async def work() -> None:
        await _rights(config.client, config.name)
        informers = Informers(config.client)
        events = EventRecorder(config.client, f"{config.name}_{identity}")
        provisioner = Provisioner(config, informers, backend, events)
        log.info("provisioner %s serves %s", config.name, config.root)
        await run_all(informers.run(), provisioner.run(), provisioner.resync())

    if not config.leader_elect:
        await work()
        return
    lock = config.name.replace("/", "-")
    await EndpointsElection(config.client, config.namespace, lock, identity).lead(work)


def make_backend(config: ProvisionerConfig) -> Backend:
    """The folders' side of a provisioner. Raises StorageError."""
    if not config.name:
        raise StorageError("the provisioner has no name: set PROVISIONER_NAME or give --name")
    if config.kind == "local":
        return LocalBackend(config.root, config.node_name)
    if config.kind != "nfs":
        raise StorageError(f"no such kind of provisioner: {config.kind!r}; there are nfs and local")
    if not config.server or not config.path:
        raise StorageError("an NFS provisioner needs its server and path: set NFS_SERVER and NFS_PATH")
    return NfsBackend(config.root, config.server, config.path)


async def _rights(client: Client, name: str) -> None:
    """Waits until the API lets us list what we watch, saying once what is missing."""
    backoff = Backoff(1.0, 15.0)
    said = ""
    while True:
        refused: list[str] = []
        for res in (CLAIMS, VOLUMES, CLASSES):
            try:
                await client.list(res, limit=1)
            except (ApiError, Unavailable) as e:
                refused.append(str(e))
        if not refused:
            return
        if "; ".join(refused) != said:
            said = "; ".join(refused)
            log.error("provisioner %s cannot work yet, will try again: %s", name, said)
        await asyncio.sleep(backoff.next())
