"""Python's client libraries against the API server: kubernetes, kubernetes_asyncio, lightkube, and an operator on kopf."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import http.client
import json
import ssl
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config, dynamic, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.leaderelection import electionconfig, leaderelection
from kubernetes.leaderelection.resourcelock.configmaplock import ConfigMapLock

from stablehand.apiserver import protobuf
from tests.integration.conftest import Cluster

GROUP = "clients.example.com"
SCHEMA = {
    "type": "object",
    "required": ["spec"],
    "properties": {
        "spec": {
            "type": "object",
            "required": ["cron"],
            "properties": {
                "cron": {"type": "string", "pattern": r"^\S+$"},
                "replicas": {"type": "integer", "minimum": 1, "maximum": 10, "default": 1},
                "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                "port": {"x-kubernetes-int-or-string": True},
            },
        },
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    },
}


def definition(kind: str) -> dict[str, Any]:
    plural = kind.lower() + "s"
    scale = {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "subresources": {"status": {}, "scale": scale},
        "schema": {"openAPIV3Schema": SCHEMA},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {"plural": plural, "singular": kind.lower(), "kind": kind},
            "versions": [version],
        },
    }


def custom(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": f"{GROUP}/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


@pytest.fixture
def namespace(control_plane: Cluster, request: pytest.FixtureRequest) -> str:
    name = request.node.name.removeprefix("test_").replace("_", "-")[:40]
    control_plane.kubectl("create", "namespace", name)
    config.load_kube_config(str(control_plane.data_dir / "kubeconfig.yaml"))
    return name


def establish(cluster: Cluster, kind: str) -> None:
    client.ApiextensionsV1Api().create_custom_resource_definition(definition(kind))
    cluster.kubectl("wait", "--for=condition=Established", f"crd/{kind.lower()}s.{GROUP}")


def refusal(status: int, call: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """The Status with which a call is refused."""
    with pytest.raises(ApiException) as caught:
        call(*args, **kwargs)
    assert caught.value.status == status
    return json.loads(caught.value.body)


def test_pages_and_watches_that_resume(namespace: str) -> None:
    core = client.CoreV1Api()
    for i in range(5):
        meta = client.V1ObjectMeta(name=f"c{i}", labels={"a": "b"})
        core.create_namespaced_config_map(namespace, client.V1ConfigMap(metadata=meta, data={"i": str(i)}))
    seen, token, pages = [], None, 0
    while token != "":
        page = core.list_namespaced_config_map(namespace, limit=2, label_selector="a=b", _continue=token)
        seen += [c.metadata.name for c in page.items]
        token, pages = page.metadata._continue or "", pages + 1
        if pages == 1:
            core.delete_namespaced_config_map("c4", namespace)  # a page shows the state of the first one
    assert (seen, pages) == ([f"c{i}" for i in range(5)], 3)
    core.patch_namespaced_config_map("c0", namespace, {"data": {"x": "y"}})
    core.delete_collection_namespaced_config_map(namespace, label_selector="a=b")
    events = []
    stream = watch.Watch().stream(
        core.list_namespaced_config_map,
        namespace,
        label_selector="a=b",
        resource_version=page.metadata.resource_version,
        timeout_seconds=20,
    )
    for event in stream:
        events.append((event["type"], event["object"].metadata.name))
        if len(events) == 6:
            break
    assert events == [("DELETED", "c4"), ("MODIFIED", "c0"), *(("DELETED", f"c{i}") for i in range(4))]


def test_custom_resources(control_plane: Cluster, namespace: str) -> None:
    establish(control_plane, "CronTab")
    api = client.CustomObjectsApi()
    where = (GROUP, "v1", namespace, "crontabs")
    body = custom("CronTab", "a", cron="*", any={"z": 1}, junk=1) | {"status": {"replicas": 9}}
    body["metadata"]["finalizers"] = ["example.com/hold"]
    made = api.create_namespaced_custom_object(*where, body)
    assert made["spec"] == {"cron": "*", "any": {"z": 1}, "replicas": 1} and "status" not in made
    status = refusal(422, api.create_namespaced_custom_object, *where, custom("CronTab", "b", replicas=20))
    assert {c["field"] for c in status["details"]["causes"]} == {"spec.cron", "spec.replicas"}
    change = {"status": {"replicas": 3}, "spec": {"cron": "no"}}
    made = api.patch_namespaced_custom_object_status(*where, "a", change)
    assert (made["spec"]["cron"], made["status"], made["metadata"]["generation"]) == ("*", {"replicas": 3}, 1)
    assert api.get_namespaced_custom_object_scale(*where, "a")["status"]["replicas"] == 3
    stale = api.get_namespaced_custom_object(*where, "a")
    made = api.patch_namespaced_custom_object(*where, "a", {"spec": {"replicas": 2}})
    assert made["metadata"]["generation"] == 2
    assert refusal(409, api.replace_namespaced_custom_object, *where, "a", stale)["reason"] == "Conflict"
    api.delete_namespaced_custom_object(*where, "a")
    assert api.get_namespaced_custom_object(*where, "a")["metadata"]["deletionTimestamp"]
    api.patch_namespaced_custom_object(*where, "a", {"metadata": {"finalizers": None}})
    assert refusal(404, api.get_namespaced_custom_object, *where, "a")["reason"] == "NotFound"


def test_dynamic_client_applies(control_plane: Cluster, namespace: str) -> None:
    establish(control_plane, "Applied")
    dynamic_client = dynamic.DynamicClient(client.ApiClient())
    kinds = dynamic_client.resources.get(api_version=f"{GROUP}/v1", kind="Applied")

    def apply(manager: str, force: bool = False, **spec: Any) -> Any:
        body = custom("Applied", "x", **spec)
        return kinds.server_side_apply(body=body, namespace=namespace, field_manager=manager, force_conflicts=force)

    apply("one", cron="a", port="http")
    assert apply("two", cron="a", replicas=4).spec.to_dict() == {"cron": "a", "port": "http", "replicas": 4}
    with pytest.raises(dynamic.exceptions.ConflictError) as caught:
        apply("two", cron="b", replicas=4)
    assert '"one' in str(caught.value.body).replace("\\", "") and ".spec.cron" in str(caught.value.body)
    assert apply("two", force=True, cron="b", replicas=4).spec.cron == "b"
    assert apply("one", cron="b").spec.to_dict() == {"cron": "b", "replicas": 4}  # it no longer applies the port
    version = kinds.get(namespace=namespace).metadata.resourceVersion
    kinds.delete(name="x", namespace=namespace)
    event = next(iter(kinds.watch(namespace=namespace, resource_version=version, timeout=20)))
    assert (event["type"], event["object"].metadata.name) == ("DELETED", "x")


class EndingLock(ConfigMapLock):
    """The library's elections never end; this one's thread does once `over` is set."""

    over = threading.Event()

    def get(self, name: str, namespace: str) -> Any:
        if self.over.is_set():
            raise SystemExit
        return super().get(name, namespace)


def test_leases_elections_and_identities(namespace: str) -> None:
    leading = threading.Event()
    election = electionconfig.Config(
        EndingLock("lead", namespace, "me"),
        lease_duration=4,
        renew_deadline=3,
        retry_period=1,
        onstarted_leading=leading.set,
        onstopped_leading=lambda: None,
    )

    def elect() -> None:
        with contextlib.suppress(SystemExit):
            leaderelection.LeaderElection(election).run()

    thread = threading.Thread(target=elect, daemon=True)
    thread.start()
    try:
        assert leading.wait(10)
    finally:
        EndingLock.over.set()
        thread.join(10)
    now = datetime.datetime.now(datetime.UTC)
    spec = client.V1LeaseSpec(holder_identity="a", lease_duration_seconds=10, renew_time=now)
    lease = client.V1Lease(metadata=client.V1ObjectMeta(name="l"), spec=spec)
    assert client.CoordinationV1Api().create_namespaced_lease(namespace, lease).spec.renew_time == now
    core = client.CoreV1Api()
    asked = {"spec": {"audiences": [], "expirationSeconds": 3600}}
    token = core.create_namespaced_service_account_token("default", namespace, asked).status.token
    review = client.AuthenticationV1Api().create_token_review({"spec": {"token": token}})
    assert review.status.user.username == f"system:serviceaccount:{namespace}:default"
    access = {"spec": {"user": "bob", "resourceAttributes": {"verb": "get", "resource": "pods"}}}
    assert client.AuthorizationV1Api().create_subject_access_review(access).status.allowed is False


async def test_kubernetes_asyncio(control_plane: Cluster, namespace: str) -> None:
    import kubernetes_asyncio as ka

    await ka.config.load_kube_config(str(control_plane.data_dir / "kubeconfig.yaml"))
    async with ka.client.ApiClient() as api:
        core = ka.client.CoreV1Api(api)
        start = (await core.list_namespaced_config_map(namespace)).metadata.resource_version
        seen: list[str] = []

        async def follow() -> None:
            watcher = ka.watch.Watch()
            async with watcher.stream(
                core.list_namespaced_config_map, namespace, resource_version=start, timeout_seconds=20
            ) as events:
                async for event in events:
                    if event["object"].metadata.name == "c":
                        seen.append(event["type"])
                    if event["type"] == "DELETED":
                        return

        following = asyncio.create_task(follow())
        await core.create_namespaced_config_map(namespace, {"metadata": {"name": "c"}})
        await core.patch_namespaced_config_map("c", namespace, {"data": {"x": "y"}})
        await core.delete_namespaced_config_map("c", namespace)
        await following
    assert seen == ["ADDED", "MODIFIED", "DELETED"]


def test_lightkube(control_plane: Cluster, namespace: str) -> None:
    from lightkube import Client, KubeConfig
    from lightkube.models.meta_v1 import ObjectMeta
    from lightkube.resources.core_v1 import ConfigMap

    cfg = KubeConfig.from_file(str(control_plane.data_dir / "kubeconfig.yaml"))
    light = Client(config=cfg, field_manager="lk", namespace=namespace)

    def applied(**data: str) -> Any:
        meta = ObjectMeta(name="lk", namespace=namespace)
        return light.apply(ConfigMap(apiVersion="v1", kind="ConfigMap", metadata=meta, data=data)).data

    assert applied(a="b") == {"a": "b"}
    assert applied(c="d") == {"c": "d"}  # what its manager applies no longer is removed
    for i in range(5):
        light.create(ConfigMap(metadata=ObjectMeta(name=f"n{i}", labels={"l": "k"}), data={}))
    assert len(list(light.list(ConfigMap, labels={"l": "k"}, chunk_size=2))) == 5


OPERATOR = """
import kopf

@kopf.on.create("clients.example.com", "v1", "operateds")
async def create(spec, body, patch, **_):
    patch.status["made"] = spec["replicas"]
    kopf.info(body, reason="Made", message="made it")

@kopf.on.update("clients.example.com", "v1", "operateds", field="spec.replicas")
async def update(new, patch, **_):
    patch.status["made"] = new

@kopf.on.delete("clients.example.com", "v1", "operateds")
async def delete(name, namespace, logger, **_):
    logger.info("handler deletes " + name)
"""


def test_an_operator_on_kopf(control_plane: Cluster, namespace: str, tmp_path: Path) -> None:
    c = control_plane
    establish(c, "Operated")
    (tmp_path / "operator.py").write_text(OPERATOR)
    log = tmp_path / "log"
    api = client.CustomObjectsApi()
    where = (GROUP, "v1", namespace, "operateds")

    def made() -> Any:
        return (api.get_namespaced_custom_object(*where, "x").get("status") or {}).get("made")

    command = [sys.executable, "-m", "kopf", "run", str(tmp_path / "operator.py"), "-n", namespace]
    env = {"KUBECONFIG": str(c.data_dir / "kubeconfig.yaml"), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    with log.open("w") as out, subprocess.Popen(command, stdout=out, stderr=out, env=env) as operator:
        try:
            api.create_namespaced_custom_object(*where, custom("Operated", "x", cron="*", replicas=3))
            c.until(lambda: made() == 3, 30)
            api.patch_namespaced_custom_object(*where, "x", {"spec": {"replicas": 5}})
            c.until(lambda: made() == 5, 30)
            c.until(lambda: "made it" in c.kubectl("-n", namespace, "get", "events").stdout, 30)
            c.kubectl("-n", namespace, "delete", f"operateds.{GROUP}", "x", "--timeout=30s")
        finally:
            operator.terminate()
    assert "handler deletes x" in log.read_text()


def ask(cluster: Cluster, path: str, accept: str) -> tuple[str, bytes]:
    """(content type, body) of a GET with a client certificate."""
    cfg = client.Configuration.get_default_copy()
    context = ssl.create_default_context(cafile=cfg.ssl_ca_cert)
    context.load_cert_chain(cfg.cert_file, cfg.key_file)
    connection = http.client.HTTPSConnection("127.0.0.1", cluster.port, context=context)
    try:
        connection.request("GET", path, headers={"Accept": accept})
        response = connection.getresponse()
        return response.headers["Content-Type"], response.read()
    finally:
        connection.close()


def test_streaming_lists_and_protobuf(control_plane: Cluster, namespace: str) -> None:
    path = "/api/v1/namespaces?watch=1&timeoutSeconds=1&allowWatchBookmarks=true"
    more = "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
    _, lines = ask(control_plane, path + more, "application/json")
    events = [json.loads(line) for line in lines.splitlines()]
    assert {e["type"] for e in events[:-1]} == {"ADDED"}
    assert events[-1]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    one = f"/api/v1/namespaces/{namespace}"
    kind, raw = ask(control_plane, one, protobuf.CONTENT_TYPE)
    assert kind == protobuf.CONTENT_TYPE and protobuf.decode(raw) == json.loads(ask(control_plane, one, "*/*")[1])
    both, _ = ask(control_plane, one, protobuf.CONTENT_TYPE + ", */*")
    assert both == "application/json"
    kind, raw = ask(control_plane, path, protobuf.CONTENT_TYPE + ";stream=watch")
    size = int.from_bytes(raw[:4], "big")
    assert kind.endswith(";stream=watch") and b"ADDED" in raw[4 : 4 + size]
    failed, raw = ask(control_plane, "/api/v1/namespaces/nope", protobuf.CONTENT_TYPE)
    assert failed == protobuf.CONTENT_TYPE and protobuf.decode(raw)["reason"] == "NotFound"
