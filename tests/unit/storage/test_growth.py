"""Claims that grow: the volume first, then what the claim has; only where the class and the provisioner allow it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from stablehand.machinery.resources import resource
from stablehand.machinery.volumes import BIND_COMPLETED
from stablehand.runtime import EventRecorder, Informers
from stablehand.storage.provisioner import plan
from stablehand.storage.provisioner.config import ProvisionerConfig
from stablehand.storage.provisioner.controller import CLAIMS, VOLUMES, Provisioner
from stablehand.storage.provisioner.local import LocalBackend
from tests.unit.controllers.fakes import FakeServer, settle

OURS = "stablehand.dev/local"


@asynccontextmanager
async def provisioner(root: Path) -> AsyncIterator[FakeServer]:
    """A provisioner at work on one bound claim, default/data of 1Gi, whose volume it made."""
    server = FakeServer()
    client = server.client()
    classes = resource("storageclasses.storage.k8s.io")
    await client.create(classes, {"metadata": {"name": "standard"}, "provisioner": OURS, "allowVolumeExpansion": True})
    claim = await client.create(
        CLAIMS,
        {
            "metadata": {"name": "data", "namespace": "default", "annotations": {BIND_COMPLETED: "yes"}},
            "spec": {
                "volumeName": "v",
                "storageClassName": "standard",
                "resources": {"requests": {"storage": "1Gi"}},
            },
        },
    )
    volume = {
        "metadata": {"name": "v", "annotations": {"pv.kubernetes.io/provisioned-by": OURS}},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "claimRef": {"name": "data", "namespace": "default", "uid": claim["metadata"]["uid"]},
        },
    }
    await client.create(VOLUMES, volume)
    bound = {"status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}}
    await client.patch(CLAIMS, "data", bound, "default", subresource="status")
    informers = Informers(client)
    config = ProvisionerConfig(client, "local", OURS, root)
    made = Provisioner(config, informers, LocalBackend(root), EventRecorder(client, "test"))
    tasks = [asyncio.create_task(informers.run()), asyncio.create_task(made.run())]
    try:
        yield server
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def sizes(server: FakeServer) -> tuple[Any, Any]:
    """What the volume and the claim say they have."""
    claim = server.objects["persistentvolumeclaims"][("default", "data")]
    volume = server.objects["persistentvolumes"][("", "v")]
    return volume["spec"]["capacity"]["storage"], claim["status"]["capacity"]["storage"]


async def grow(server: FakeServer) -> None:
    patch = {"spec": {"resources": {"requests": {"storage": "2048Mi"}}}}
    await server.client().patch(CLAIMS, "data", patch, "default")


async def test_a_claim_grows(tmp_path: Path) -> None:
    async with provisioner(tmp_path) as server:
        await grow(server)
        await settle(lambda: sizes(server) == ("2Gi", "2Gi"))


def test_only_what_may_grow_grows() -> None:
    claim = {"metadata": {"name": "data", "namespace": "default", "uid": "u"}, "spec": {}}
    ref = {"name": "data", "namespace": "default", "uid": "u"}
    volume = {"metadata": {"annotations": {"pv.kubernetes.io/provisioned-by": OURS}}, "spec": {"claimRef": ref}}
    allowed = {"allowVolumeExpansion": True}
    assert plan.may_grow(claim, volume, allowed, OURS)
    assert not plan.may_grow(claim, volume, {}, OURS)
    assert not plan.may_grow(claim, volume, None, OURS)
    assert not plan.may_grow(claim, volume, allowed, "another")
    of_another = {**volume, "spec": {"claimRef": {**ref, "uid": "v"}}}
    assert not plan.may_grow(claim, of_another, allowed, OURS)
