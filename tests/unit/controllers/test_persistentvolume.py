"""Claims and volumes: matching, the order of a binding, classes, loss, release, recycling, protection."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stablehand.controllers.persistentvolume import PersistentVolumeController
from stablehand.controllers.volumeprotection import (
    AttributesClassProtectionController,
    ClaimProtectionController,
    VolumeProtectionController,
)
from stablehand.machinery import volumes
from stablehand.machinery.resources import resource
from stablehand.machinery.types import copy_object
from tests.unit.controllers.fakes import FakeServer, settle
from tests.unit.controllers.harness import running

CLAIMS, PVS, CLASSES = (
    resource("persistentvolumeclaims"),
    resource("persistentvolumes"),
    resource("storageclasses.storage.k8s.io"),
)


def claim(name: str = "c", size: str = "1Gi", **spec: Any) -> dict[str, Any]:
    resources = {"requests": {"storage": size}}
    spec = {"accessModes": ["ReadWriteOnce"], "resources": resources, "storageClassName": "", **spec}
    return {"metadata": {"name": name, "namespace": "ns"}, "spec": {k: v for k, v in spec.items() if v is not None}}


def volume(
    name: str = "v", size: str = "1Gi", modes: tuple[str, ...] = ("ReadWriteOnce",), **spec: Any
) -> dict[str, Any]:
    base = {"capacity": {"storage": size}, "accessModes": list(modes), "persistentVolumeReclaimPolicy": "Retain"}
    return {"metadata": {"name": name}, "spec": {**base, **spec}, "status": {"phase": "Available"}}


class World:
    def __init__(self) -> None:
        self.server = FakeServer()
        self.client = self.server.client()

    def run(self) -> Any:
        return running(self.server, PersistentVolumeController)

    def claim(self, name: str = "c") -> dict[str, Any]:
        return self.server.objects["persistentvolumeclaims"][("ns", name)]

    def pv(self, name: str = "v") -> dict[str, Any]:
        return self.server.objects["persistentvolumes"][("", name)]

    def phases(self) -> tuple[str, str]:
        return (self.claim().get("status") or {}).get("phase"), (self.pv().get("status") or {}).get("phase")

    def reasons(self) -> set[str]:
        return {e["reason"] for e in self.server.objects.get("events", {}).values()}


@pytest.fixture
def world() -> World:
    return World()


async def test_binds_in_order(world: World) -> None:
    async with world.run():
        await world.client.create(PVS, volume())
        await settle(lambda: world.pv().get("status", {}).get("phase") == "Available")
        world.server.writes.clear()
        await world.client.create(CLAIMS, claim())
        await settle(lambda: world.phases() == ("Bound", "Bound"))
    assert [w[1] for w in world.server.writes[1:5]] == [
        "persistentvolumes",
        "persistentvolumes/status",
        "persistentvolumeclaims",
        "persistentvolumeclaims/status",
    ]
    notes = world.claim()["metadata"]["annotations"]
    assert notes == {volumes.BIND_COMPLETED: "yes", volumes.BOUND_BY_CONTROLLER: "yes"}
    assert world.pv()["metadata"]["annotations"] == {volumes.BOUND_BY_CONTROLLER: "yes"}
    assert world.claim()["status"]["capacity"] == {"storage": "1Gi"}


async def test_asks_by_name(world: World) -> None:
    async with world.run() as (controller,):
        await world.client.create(CLAIMS, claim(volumeName="v"))
        await world.client.create(PVS, volume(size="500Mi"))
        await settle(lambda: "VolumeMismatch" in world.reasons())
        await world.client.patch(PVS, "v", {"spec": {"capacity": {"storage": "2Gi"}}})
        await settle(lambda: world.phases() == ("Bound", "Bound"))
        assert volumes.BOUND_BY_CONTROLLER not in world.claim()["metadata"]["annotations"]
        await world.client.create(CLAIMS, claim("d", volumeName="v"))
        await settle(lambda: "FailedBinding" in world.reasons())
        await controller.events.flush()


async def test_prebound_volume_keeps_no_note(world: World) -> None:
    async with world.run():
        await world.client.create(PVS, volume(claimRef={"namespace": "ns", "name": "c"}))
        await world.client.create(CLAIMS, claim())
        await settle(lambda: world.phases() == ("Bound", "Bound"))
    assert not world.pv()["metadata"].get("annotations")
    assert world.pv()["spec"]["claimRef"]["uid"] == world.claim()["metadata"]["uid"]


async def test_released_retained_then_free_again(world: World) -> None:
    async with world.run():
        await world.client.create(PVS, volume())
        await world.client.create(CLAIMS, claim())
        await settle(lambda: world.phases() == ("Bound", "Bound"))
        await world.client.delete(CLAIMS, "c", "ns")
        await settle(lambda: world.pv()["status"]["phase"] == "Released")
        await world.client.create(CLAIMS, claim())
        await world.client.patch(PVS, "v", {"spec": {"claimRef": None}})
        await settle(lambda: world.phases() == ("Bound", "Bound"))


async def test_static_delete_fails(world: World) -> None:
    async with world.run():
        await world.client.create(PVS, volume(persistentVolumeReclaimPolicy="Delete", nfs={"server": "s", "path": "/"}))
        await world.client.create(CLAIMS, claim())
        await settle(lambda: world.phases() == ("Bound", "Bound"))
        await world.client.delete(CLAIMS, "c", "ns")
        await settle(lambda: world.pv()["status"]["phase"] == "Failed" and "VolumeFailedDelete" in world.reasons())


async def test_recycled(world: World) -> None:
    async with world.run():
        policy = {"persistentVolumeReclaimPolicy": "Recycle", "nfs": {"server": "s", "path": "/"}}
        await world.client.create(PVS, volume(**policy))
        await world.client.create(CLAIMS, claim())
        await settle(lambda: world.phases() == ("Bound", "Bound"))
        await world.client.delete(CLAIMS, "c", "ns")
        await settle(lambda: ("default", "recycler-for-v") in world.server.objects.get("pods", {}))
        pod = copy_object(world.server.objects["pods"][("default", "recycler-for-v")])
        pod["status"] = {"phase": "Succeeded"}
        world.server._store("MODIFIED", resource("pods"), pod)
        await settle(lambda: world.pv()["status"]["phase"] == "Available" and "claimRef" not in world.pv()["spec"])
        assert ("default", "recycler-for-v") not in world.server.objects["pods"]


async def test_lost(world: World) -> None:
    async with world.run():
        await world.client.create(PVS, volume())
        await world.client.create(CLAIMS, claim())
        await settle(lambda: world.phases() == ("Bound", "Bound"))
        await world.client.delete(PVS, "v")
        await settle(lambda: world.claim()["status"]["phase"] == "Lost" and "ClaimLost" in world.reasons())


async def test_default_class_comes_later_and_provisioner_is_called(world: World) -> None:
    notes = {"storageclass.kubernetes.io/is-default-class": "true"}
    async with world.run():
        await world.client.create(CLAIMS, claim(storageClassName=None))
        await settle(lambda: "FailedBinding" in world.reasons())
        await world.client.create(CLASSES, {"metadata": {"name": "std", "annotations": notes}, "provisioner": "x/y"})
        await settle(lambda: "ExternalProvisioning" in world.reasons())
        got = world.claim()
        assert got["spec"]["storageClassName"] == "std"
        assert got["metadata"]["annotations"] == {volumes.PROVISIONER: "x/y", volumes.BETA_PROVISIONER: "x/y"}
        ref = {"namespace": "ns", "name": "c", "uid": got["metadata"]["uid"]}
        await world.client.create(PVS, volume(claimRef=ref, storageClassName="std"))
        await settle(lambda: world.phases() == ("Bound", "Bound"))


@pytest.mark.parametrize(("name", "reason"), [("gone", "ProvisioningFailed"), ("wait", "WaitForFirstConsumer")])
async def test_says_what_it_waits_for(world: World, name: str, reason: str) -> None:
    async with world.run():
        kind = {"metadata": {"name": "wait"}, "provisioner": "x/y", "volumeBindingMode": "WaitForFirstConsumer"}
        await world.client.create(CLASSES, kind)
        await world.client.create(PVS, volume(storageClassName="wait"))
        await settle(lambda: world.pv()["status"]["phase"] == "Available")
        await world.client.create(CLAIMS, claim(storageClassName=name))
        await settle(lambda: reason in world.reasons())
        assert world.claim()["status"]["phase"] == "Pending"


@pytest.mark.parametrize("nth", range(1, 9))
async def test_any_failed_write_is_made_good(world: World, nth: int) -> None:
    from stablehand.client import error_for

    count = 0

    def fail(method: str, key: str, name: str) -> None:
        nonlocal count
        count += 1
        if count == nth:
            raise error_for({"kind": "Status", "code": 500, "message": "no"}, 500)

    async with world.run():
        for i in range(2):
            await world.client.create(PVS, volume(f"v{i}"))
            await world.client.create(CLAIMS, claim(f"c{i}"))
        world.server.on_write.append(fail)
        await settle(lambda: all(world.claim(f"c{i}").get("status", {}).get("phase") == "Bound" for i in range(2)))
    assert len({world.claim(f"c{i}")["spec"]["volumeName"] for i in range(2)}) == 2


async def test_protection() -> None:
    server = FakeServer()
    client = server.client()
    async with running(server, ClaimProtectionController, VolumeProtectionController):
        await client.create(CLAIMS, claim())
        await client.create(PVS, volume())
        get = lambda: server.objects["persistentvolumeclaims"].get(("ns", "c"))  # noqa: E731
        await settle(lambda: "kubernetes.io/pvc-protection" in ((get() or {})["metadata"].get("finalizers") or ()))
        pv = ("", "v")
        await settle(lambda: server.objects["persistentvolumes"][pv]["metadata"].get("finalizers") is not None)
        spec = {
            "nodeName": "n",
            "containers": [],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}],
        }
        await client.create(resource("pods"), {"metadata": {"name": "p", "namespace": "ns"}, "spec": spec})
        await client.delete(CLAIMS, "c", "ns")
        await client.delete(PVS, "v")
        await settle(lambda: pv not in server.objects["persistentvolumes"])
        assert get() is not None
        await client.delete(resource("pods"), "p", "ns", grace=0)
        await settle(lambda: get() is None)


async def test_an_attributes_class_stays_while_it_is_named() -> None:
    server, classes = FakeServer(), resource("volumeattributesclasses.storage.k8s.io")
    client = server.client()
    async with running(server, AttributesClassProtectionController):
        await client.create(classes, {"metadata": {"name": "fast"}, "driverName": "d"})
        await client.create(CLAIMS, claim(volumeAttributesClassName="fast"))
        await client.create(PVS, volume(volumeAttributesClassName="fast"))
        get = lambda: server.objects[classes.key].get(("", "fast"))  # noqa: E731
        await settle(lambda: (get() or {})["metadata"].get("finalizers") == ["kubernetes.io/vac-protection"])
        await client.delete(classes, "fast")
        await client.delete(CLAIMS, "c", "ns")
        await settle(lambda: not server.objects["persistentvolumeclaims"])
        assert get() is not None
        await client.delete(PVS, "v")
        await settle(lambda: get() is None)


MODES = ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany"]


@given(
    wanted=st.sets(st.sampled_from(MODES), min_size=1),
    size=st.integers(1, 5),
    offers=st.lists(
        st.tuples(
            st.integers(1, 8), st.sets(st.sampled_from(MODES), min_size=1), st.sampled_from(["", "x"]), st.booleans()
        ),
        max_size=8,
    ),
)
def test_matching(wanted: set[str], size: int, offers: list[tuple[int, set[str], str, bool]]) -> None:
    """Never an unsuitable volume; in the narrowest mode set that has one; there the smallest."""
    asked = claim(size=f"{size}Gi", accessModes=sorted(wanted))
    pvs = [
        volume(
            f"v{i}",
            f"{n}Gi",
            tuple(sorted(modes)),
            storageClassName=cls,
            **({} if free else {"claimRef": {"name": "z"}}),
        )
        for i, (n, modes, cls, free) in enumerate(offers)
    ]
    fitting = [
        (len(modes), tuple(sorted(modes)), n)
        for (n, modes, cls, free) in offers
        if wanted <= modes and n >= size and cls == "" and free
    ]
    found = volumes.find_match(asked, pvs)
    if not fitting:
        assert found is None
        return
    assert found is not None
    n, modes, cls, free = offers[int(found["metadata"]["name"][1:])]
    assert (len(modes), tuple(sorted(modes)), n) == min(fitting)
    assert cls == "" and free


@given(offers=st.integers(1, 5), index=st.integers(0, 4))
def test_a_volume_that_names_the_claim_wins(offers: int, index: int) -> None:
    asked = claim()
    pvs = [volume(f"v{i}", f"{i + 1}Gi") for i in range(offers)]
    chosen = pvs[index % offers]
    chosen["spec"]["claimRef"] = {"namespace": "ns", "name": "c"}
    chosen["spec"]["storageClassName"] = "whatever"
    assert volumes.find_match(asked, pvs) is chosen
