"""Each part as a process of its own, with its own identity, against the API server's URL. The test plays the kubelet."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import dnslib
import pytest

from stablehand.client import AlreadyExists, ApiError, Client, NotFound, Unavailable, connect
from stablehand.machinery.resources import resource
from stablehand.machinery.times import format_micro_time
from stablehand.machinery.types import Obj
from tests.integration.conftest import free_port

PODS, SETS, CLAIMS = resource("pods"), resource("statefulsets.apps"), resource("persistentvolumeclaims")
LEASES, VOLUMES = resource("leases.coordination.k8s.io"), resource("persistentvolumes")
NODE = "played"


class Process:
    """`stablehand PART …` with its output in a file."""

    def __init__(self, folder: Path, name: str, *args: str) -> None:
        self.log = folder / f"{name}.log"
        self.args = args
        self.process: subprocess.Popen[bytes]
        self.start()

    def start(self) -> None:
        with open(self.log, "ab") as out:
            command = [sys.executable, "-m", "stablehand", *self.args]
            self.process = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL)

    def end(self, number: int = signal.SIGTERM) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.wait(20)

    @property
    def text(self) -> str:
        return self.log.read_text()


class Cluster:
    """An API server alone, and whatever parts the test starts beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder, folder / "data"
        self.parts: list[Process] = []
        self.port = free_port()
        self.apiserver = self.add("apiserver", "--data-dir", str(self.data), "--listen", f"127.0.0.1:{self.port}")

    def add(self, part: str, *args: str, name: str = "") -> Process:
        process = Process(self.folder, name or part, part, *args)
        self.parts.append(process)
        return process

    def kubeconfig(self, part: str) -> str:
        command = [sys.executable, "-m", "stablehand", "kubeconfig", "--part", part, "--data-dir", str(self.data)]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout.strip()

    def logs(self) -> str:
        return "\n".join(f"--- {p.log.name}\n{p.text[-3000:]}" for p in self.parts)

    async def until(self, condition: Callable[[], Awaitable[Any]], seconds: float = 30) -> Any:
        """Waits until the condition gives a true value, and answers it."""
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            with contextlib.suppress(NotFound):
                if value := await condition():
                    return value
            if asyncio.get_running_loop().time() > deadline:
                raise AssertionError(f"not within {seconds} s\n{self.logs()}")
            await asyncio.sleep(0.05)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    made = Cluster(tmp_path)

    async def ready() -> bool:
        return "ready; kubeconfig:" in made.apiserver.text

    try:
        await made.until(ready)
        yield made
    finally:
        for part in reversed(made.parts):
            part.end()


@pytest.fixture
async def admin(cluster: Cluster) -> AsyncIterator[Client]:
    client = await connect(str(cluster.data / "kubeconfig.yaml"))
    yield client
    await client.close()


async def play_kubelet(client: Client) -> None:
    """A node whose pods are ready as soon as they are bound, and gone as soon as they are deleted."""
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": NODE, "labels": {"kubernetes.io/hostname": NODE}},
        "status": {
            "capacity": {"cpu": "4", "memory": "8Gi", "pods": "110"},
            "allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"},
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "played"}],
        },
    }
    await client.create(resource("nodes"), node)
    count = 0
    async for event in client.watch(PODS, field_selector=f"spec.nodeName={NODE}", resource_version="0"):
        pod = event.object
        if event.type not in ("ADDED", "MODIFIED"):
            continue
        meta = pod["metadata"]
        with contextlib.suppress(NotFound):
            if meta.get("deletionTimestamp"):
                await client.delete(PODS, meta["name"], meta["namespace"], grace=0, uid=meta["uid"])
            elif not (pod.get("status") or {}).get("podIP"):
                count += 1
                await client.patch(
                    PODS, meta["name"], ready_status(pod, f"10.9.0.{count}"), meta["namespace"],
                    kind="strategic", subresource="status",
                )  # fmt: skip


async def beat(client: Client) -> None:
    """The node's heart: a Lease that is renewed as a kubelet renews it."""
    where: Obj = {"name": NODE, "namespace": "kube-node-lease"}
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": where}
    while True:
        with contextlib.suppress(ApiError, Unavailable):
            with contextlib.suppress(AlreadyExists):
                await client.create(LEASES, lease)
            now = format_micro_time(time.time())
            await client.patch(
                LEASES, NODE, {"spec": {"renewTime": now, "leaseDurationSeconds": 40}}, "kube-node-lease"
            )
        await asyncio.sleep(10)


def ready_status(pod: Obj, ip: str) -> Obj:
    kinds = ("Initialized", "Ready", "ContainersReady", "PodScheduled")
    return {
        "status": {
            "phase": "Running",
            "podIP": ip,
            "podIPs": [{"ip": ip}],
            "conditions": [{"type": kind, "status": "True", "lastTransitionTime": NOW} for kind in kinds],
        }
    }


NOW = "2026-01-01T00:00:00Z"
SERVICE: Obj = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "db", "namespace": "default"},
    "spec": {"clusterIP": "None", "selector": {"app": "db"}, "ports": [{"name": "sql", "port": 3306}]},
}
CLASS: Obj = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {"name": "folders"},
    "provisioner": "stablehand.dev/local",
}
SET: Obj = {
    "apiVersion": "apps/v1",
    "kind": "StatefulSet",
    "metadata": {"name": "db", "namespace": "default"},
    "spec": {
        "serviceName": "db",
        "replicas": 2,
        "selector": {"matchLabels": {"app": "db"}},
        "template": {
            "metadata": {"labels": {"app": "db"}},
            "spec": {
                "containers": [{"name": "db", "image": "db", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}]
            },
        },
        "volumeClaimTemplates": [
            {
                "metadata": {"name": "data"},
                "spec": {
                    "storageClassName": "folders",
                    "accessModes": ["ReadWriteOnce"],
                    "resources": {"requests": {"storage": "1Mi"}},
                },
            }
        ],
    },
}


async def ask(port: int, name: str) -> list[str]:
    query = dnslib.DNSRecord.question(name, "A")
    with contextlib.suppress(OSError):
        return [
            str(r.rdata)
            for r in dnslib.DNSRecord.parse(await asyncio.to_thread(query.send, "127.0.0.1", port, timeout=2)).rr
        ]
    return []


async def ready_replicas(admin: Client, count: int) -> bool:
    status = (await admin.get(SETS, "db", "default")).get("status") or {}
    return status.get("readyReplicas", 0) == count


async def holder(admin: Client, name: str) -> str:
    lease = await admin.get(LEASES, name, "kube-system")
    return str(lease["spec"].get("holderIdentity") or "")


async def test_all_parts_alone(cluster: Cluster, admin: Client) -> None:
    dns_port = free_port()
    controllers = cluster.add("controllers", "--kubeconfig", cluster.kubeconfig("controllers"))
    cluster.add("scheduler", "--kubeconfig", cluster.kubeconfig("scheduler"))
    cluster.add("dns", "--kubeconfig", cluster.kubeconfig("dns"), "--listen", f"127.0.0.1:{dns_port}")
    folders = cluster.folder / "volumes"
    folders.mkdir()
    provisioner = cluster.add(
        *("provisioner", "--kind", "local", "--name", "stablehand.dev/local", "--root", str(folders)),
        *("--node-name", NODE, "--no-leader-elect", "--kubeconfig", cluster.kubeconfig("provisioner")),
    )
    kubelet, heart = asyncio.create_task(play_kubelet(admin)), asyncio.create_task(beat(admin))
    try:
        await cluster.until(lambda: admin.get(resource("serviceaccounts"), "default", "default"))
        for res, obj in ((resource("storageclasses.storage.k8s.io"), CLASS), (resource("services"), SERVICE)):
            await admin.create(res, obj)
        await admin.create(SETS, SET)
        await cluster.until(lambda: ready_replicas(admin, 2))

        pods = {p["metadata"]["name"]: p for p in (await admin.list(PODS, "default"))["items"]}
        assert sorted(pods) == ["db-0", "db-1"]
        assert {p["spec"]["nodeName"] for p in pods.values()} == {NODE}
        for name in pods:
            claim = await admin.get(CLAIMS, f"data-{name}", "default")
            volume = claim["spec"]["volumeName"]
            assert (folders / f"default-data-{name}-{volume}").is_dir()

        async def resolves() -> bool:
            return await ask(dns_port, "db-1.db.default.svc.cluster.local") == [pods["db-1"]["status"]["podIP"]]

        await cluster.until(resolves)
        assert len(await ask(dns_port, "db.default.svc.cluster.local")) == 2

        # The controllers are killed; what happens meanwhile is caught up with by the next ones.
        controllers.end(signal.SIGKILL)
        await admin.delete(PODS, "db-1", "default")
        await admin.patch(SETS, "db", {"spec": {"replicas": 3}}, "default")
        controllers.start()
        await cluster.until(lambda: ready_replicas(admin, 3), 45)  # the dead one's lease runs 15 s
        again = await admin.get(PODS, "db-1", "default")
        assert again["metadata"]["uid"] != pods["db-1"]["metadata"]["uid"]
        assert (await admin.get(CLAIMS, "data-db-1", "default"))["spec"]["volumeName"]

        # So is the API server; the others find it again.
        cluster.apiserver.end(signal.SIGKILL)
        cluster.apiserver.start()
        kubelet.cancel()

        async def answers() -> bool:
            with contextlib.suppress(Exception):
                return bool(await admin.request("GET", "/version"))
            return False

        await cluster.until(answers)
        await admin.patch(SETS, "db", {"spec": {"replicas": 4}}, "default")

        async def bound() -> bool:
            return bool((await admin.get(PODS, "db-3", "default"))["spec"].get("nodeName"))

        await cluster.until(bound, 45)
        assert provisioner.process.poll() is None
        assert not re.search("Traceback", cluster.logs()), cluster.logs()
    finally:
        for task in (kubelet, heart):
            task.cancel()
        await asyncio.gather(kubelet, heart, return_exceptions=True)


async def test_two_stand_beside_each_other_and_one_works(cluster: Cluster, admin: Client) -> None:
    """The Leases are upstream's: kube-controller-manager and kube-scheduler in kube-system."""
    both: dict[str, list[Process]] = {}
    for part, lease in (("controllers", "kube-controller-manager"), ("scheduler", "kube-scheduler")):
        config = cluster.kubeconfig(part)
        first = cluster.add(part, "--kubeconfig", config, name=f"{part}-1")
        leader = await cluster.until(lambda name=lease: holder(admin, name))  # type: ignore[misc]
        second = cluster.add(part, "--kubeconfig", config, name=f"{part}-2")
        both[lease] = [first, second]
        assert leader.startswith(os.uname().nodename)
    await cluster.until(lambda: admin.get(resource("serviceaccounts"), "default", "default"))
    for lease, (first, second) in both.items():
        before = await holder(admin, lease)
        assert f"leads {lease}" not in second.text
        first.end()  # gives its lease back: the other need not wait for it to run out

        async def other(lease: str = lease, before: str = before) -> bool:
            return await holder(admin, lease) not in ("", before)

        await cluster.until(other, 8)
        assert first.process.returncode == 0
        assert f"leads {lease}" in second.text
