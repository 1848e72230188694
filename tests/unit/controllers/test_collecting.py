"""The garbage collector and namespaces: background, foreground, orphan, absent owners; namespaces that empty."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stablehand.client import Client
from stablehand.controllers.discovery import DiscoveryController
from stablehand.controllers.garbagecollector import GarbageCollector
from stablehand.controllers.namespace import NamespaceController
from stablehand.controllers.serviceaccount import RootCaController, ServiceAccountController
from stablehand.machinery.meta import owner_reference
from stablehand.machinery.resources import resource
from stablehand.runtime import Informers
from stablehand.runtime.discovery import Catalog
from tests.unit.controllers.fakes import FakeServer, settle
from tests.unit.controllers.harness import running

SETS, PODS, CONFIGS, NAMESPACES = (
    resource("replicasets.apps"),
    resource("pods"),
    resource("configmaps"),
    resource("namespaces"),
)


def obj(name: str, *owners: dict[str, Any], **more: Any) -> dict[str, Any]:
    refs = [owner_reference(o) for o in owners]
    metadata: dict[str, Any] = {"name": name, "namespace": "ns", **more}
    if refs:
        metadata["ownerReferences"] = refs
    return {"metadata": metadata, "spec": {"containers": []}}


def collectors(server: FakeServer) -> Any:
    catalog = Catalog(server.client())

    def discovery(client: Client, informers: Informers) -> DiscoveryController:
        return DiscoveryController(client, informers, catalog)

    def garbage(client: Client, informers: Informers) -> GarbageCollector:
        return GarbageCollector(client, informers, catalog)

    def namespaces(client: Client, informers: Informers) -> NamespaceController:
        return NamespaceController(client, informers, catalog)

    return running(server, discovery, garbage, namespaces)


def names(server: FakeServer, key: str) -> list[str]:
    return sorted(name for _, name in server.objects.get(key, {}))


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


async def test_background(server: FakeServer) -> None:
    client = server.client()
    async with collectors(server):
        owner = await client.create(SETS, obj("rs"))
        for i in range(3):
            pod = await client.create(PODS, obj(f"p{i}", owner))
            await client.create(CONFIGS, obj(f"c{i}", pod))
        kept = await client.create(CONFIGS, obj("both", owner, await client.create(CONFIGS, obj("other"))))
        await client.delete(SETS, "rs", "ns")
        await settle(lambda: names(server, "pods") == [] and names(server, "configmaps") == ["both", "other"])
        both = server.objects["configmaps"][("ns", kept["metadata"]["name"])]
        await settle(lambda: len(server.objects["configmaps"][("ns", "both")]["metadata"]["ownerReferences"]) == 1)
        assert both is not None


async def test_foreground(server: FakeServer) -> None:
    client = server.client()
    async with collectors(server) as (_, gc, _ns):
        owner = await client.create(SETS, obj("rs"))
        pod = await client.create(PODS, obj("p", owner, finalizers=["x/hold"]))
        await settle(lambda: pod["metadata"]["uid"] in gc._graph.items)
        await client.delete(SETS, "rs", "ns", propagation="Foreground")
        await settle(lambda: "deletionTimestamp" in server.objects["pods"][("ns", "p")]["metadata"])
        assert names(server, "replicasets.apps") == ["rs"]
        await client.patch(PODS, "p", {"metadata": {"finalizers": None}}, "ns")
        await settle(lambda: names(server, "replicasets.apps") == [] and names(server, "pods") == [])


async def test_orphan(server: FakeServer) -> None:
    client = server.client()
    async with collectors(server) as (_, gc, _ns):
        owner = await client.create(SETS, obj("rs"))
        pod = await client.create(PODS, obj("p", owner))
        await settle(lambda: pod["metadata"]["uid"] in gc._graph.items)
        await client.delete(SETS, "rs", "ns", propagation="Orphan")
        await settle(lambda: names(server, "replicasets.apps") == [])
        await asyncio.sleep(0.05)
        assert "ownerReferences" not in server.objects["pods"][("ns", "p")]["metadata"]


async def test_absent_owner_and_other_uid(server: FakeServer) -> None:
    client = server.client()
    live = await client.create(SETS, obj("rs"))
    old = {**live, "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {**live["metadata"], "uid": "long-gone"}}
    await client.create(PODS, obj("p", old))
    await client.create(PODS, obj("q", live))
    async with collectors(server):
        await settle(lambda: names(server, "pods") == ["q"])


async def test_owner_in_another_namespace_is_told(server: FakeServer) -> None:
    client = server.client()
    async with collectors(server):
        owner = await client.create(CONFIGS, {"metadata": {"name": "o", "namespace": "other"}})
        await client.create(CONFIGS, obj("c", {**owner, "apiVersion": "v1", "kind": "ConfigMap"}))
        await settle(lambda: ("ns", "c") not in server.objects["configmaps"])
        await settle(lambda: bool(server.objects.get("events")))
        (event,) = server.objects["events"].values()
        assert (event["reason"], event["type"]) == ("OwnerRefInvalidNamespace", "Warning")
        assert event["message"].endswith(f'name: o, uid: {owner["metadata"]["uid"]}] does not exist in namespace "ns"')


async def test_namespace_empties_itself(server: FakeServer) -> None:
    client = server.client()
    await client.create(NAMESPACES, {"metadata": {"name": "ns"}, "spec": {"finalizers": ["kubernetes"]}})
    async with collectors(server):
        await client.create(PODS, obj("p", finalizers=["x/hold"]))
        await client.create(CONFIGS, obj("c"))
        await client.delete(NAMESPACES, "ns")

        def conditions() -> dict[str, str]:
            status = server.objects["namespaces"][("", "ns")].get("status") or {}
            return {c["type"]: c["status"] for c in status.get("conditions") or ()}

        await settle(lambda: conditions().get("NamespaceFinalizersRemaining") == "True")
        assert conditions()["NamespaceContentRemaining"] == "True"
        assert names(server, "configmaps") == ["c"]  # pods go first
        await client.patch(PODS, "p", {"metadata": {"finalizers": None}}, "ns")
        await settle(lambda: names(server, "namespaces") == [])
        assert names(server, "configmaps") == []


async def test_default_account_and_root_certificate(server: FakeServer) -> None:
    client = server.client()
    async with running(server, ServiceAccountController, lambda c, i: RootCaController(c, i, "PEM")):
        await client.create(NAMESPACES, {"metadata": {"name": "ns"}})
        await settle(lambda: names(server, "serviceaccounts") == ["default"])
        await settle(lambda: names(server, "configmaps") == ["kube-root-ca.crt"])
        await client.delete(resource("serviceaccounts"), "default", "ns")
        await settle(lambda: names(server, "serviceaccounts") == ["default"])
        await client.patch(CONFIGS, "kube-root-ca.crt", {"data": {"ca.crt": "bad"}}, "ns")
        await settle(lambda: server.objects["configmaps"][("ns", "kube-root-ca.crt")]["data"] == {"ca.crt": "PEM"})
