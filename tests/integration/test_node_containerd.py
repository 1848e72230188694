"""The node agent on real containerd, with a small API server: whole lives of pods, and the agent's own ends and starts.

Needs root, containerd, runc and the CNI plugins; everything is made in a temporary folder and removed again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from stablehand.machinery.types import Obj
from stablehand.node import NodeConfig, teardown
from stablehand.node.agent import Agent
from stablehand.node.images import import_archive
from stablehand.node.mounts import mount_points
from tests.integration.node_image import IMAGE, build
from tests.unit.node.fakeapi import FakeApi

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("containerd") is None, reason="needs root and containerd"
)
PODS = "/api/v1/namespaces/default/pods/"
WAIT = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done"]


def make_config(folder: Path, api: FakeApi, **more: Any) -> NodeConfig:
    return NodeConfig(
        client=api.client(),
        data_dir=folder / "d",
        run_dir=folder / "r",
        node_name="n1",
        pod_cidr="10.247.0.0/24",
        bridge="shtest1",
        port=21250,
        **more,
    )


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    place = Path(tempfile.mkdtemp(prefix="shn"))
    build(place / "image.tar")
    yield place
    asyncio.run(teardown(make_config(place, FakeApi()), pods=True))
    assert not mount_points(place)
    assert not Path("/sys/class/net/shtest1").exists()
    assert not list(Path("/sys/fs/cgroup").glob(f"**{make_config(place, FakeApi()).cgroup_parent}"))
    shutil.rmtree(place)


class Running:
    """An agent in this process."""

    def __init__(self, folder: Path, api: FakeApi, **more: Any) -> None:
        self.api = api
        self.config = make_config(folder, api, **more)
        self.folder = folder
        self.agent = Agent(self.config)
        self.task: asyncio.Task[None] | None = None

    async def start(self) -> Running:
        ready = asyncio.Event()
        self.task = asyncio.create_task(self.agent.run(ready))
        waiter = asyncio.create_task(ready.wait())
        await asyncio.wait({self.task, waiter}, return_when=asyncio.FIRST_COMPLETED, timeout=30)
        if not ready.is_set():
            waiter.cancel()
            await self.task
        if await self.agent.runtime.image(IMAGE) is None:
            await import_archive(self.config, self.folder / "image.tar")
        return self

    async def stop(self) -> None:
        assert self.task is not None
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task

    async def exec(self, pod: str, *command: str, container: str = "c") -> str:
        worker = self.agent.find("default", pod)
        assert worker is not None
        record = worker.observed.latest(container)
        assert record is not None
        answer = await self.agent.runtime.exec_sync(record.id, command, 10)
        return (answer.stdout + answer.stderr).decode()

    def pod(self, name: str) -> Obj:
        return self.api.objects[PODS + name]

    def create(self, name: str, container: Obj | None = None, **spec: Any) -> None:
        main = {"name": "c", "image": IMAGE, "command": WAIT, **(container or {})}
        meta = {"name": name, "namespace": "default", "generation": 1, "labels": {"app": name}}
        body = {"nodeName": "n1", "restartPolicy": "Always", "terminationGracePeriodSeconds": 5, "containers": [main]}
        self.api.put(PODS + name, {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {**body, **spec}})

    async def until(self, name: str, test: Any, seconds: float = 20) -> Obj:
        def check() -> Any:
            pod = self.api.objects.get(PODS + name)
            return pod if pod is not None and pod.get("status") and test(pod["status"]) else None

        try:
            return await self.api.until(check, seconds)  # type: ignore[no-any-return]
        except TimeoutError:
            pytest.fail(f"{name}: {self.pod(name).get('status')} {[e['message'] for e in self.api.events()]}")

    async def ready(self, name: str) -> Obj:
        return await self.until(name, is_ready)

    async def remove(self, name: str) -> float:
        began = time.monotonic()
        self.api.delete_pod(PODS + name, 5)
        await self.api.until(lambda: PODS + name not in self.api.objects)
        return time.monotonic() - began


def is_ready(status: Obj) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions") or ())


def state(status: Obj, index: int = 0, field: str = "containerStatuses") -> Obj:
    return status[field][index]  # type: ignore[no-any-return]


@pytest.fixture
async def node(folder: Path) -> AsyncIterator[Running]:
    running = await Running(folder, FakeApi()).start()
    yield running
    await running.stop()


async def test_pod_has_its_environment_files_and_names(node: Running) -> None:
    api = node.api
    api.put("/api/v1/namespaces/default/configmaps/kube-root-ca.crt", {"data": {"ca.crt": "CA"}})
    api.put("/api/v1/namespaces/default/configmaps/cfg", {"data": {"a": "1", "b": "2"}})
    api.put("/api/v1/namespaces/default/secrets/sec", {"data": {"pw": "aHVzaA=="}})
    api.put(
        "/api/v1/namespaces/default/services/kubernetes",
        {"spec": {"clusterIP": "10.96.0.1", "ports": [{"name": "https", "port": 443, "protocol": "TCP"}]}},
    )
    sources = [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
    ]
    volumes = [
        {"name": "api", "projected": {"sources": sources}},
        {"name": "cfg", "configMap": {"name": "cfg"}},
        {"name": "sec", "secret": {"secretName": "sec", "defaultMode": 0o400}},
        {"name": "tmp", "emptyDir": {}},
        {"name": "mem", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {"name": "labels", "downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
    ]
    mounts = [
        {"name": "api", "mountPath": "/sa", "readOnly": True},
        {"name": "cfg", "mountPath": "/cfg"},
        {"name": "cfg", "mountPath": "/one", "subPath": "b"},
        {"name": "sec", "mountPath": "/sec"},
        {"name": "tmp", "mountPath": "/t"},
        {"name": "tmp", "mountPath": "/sub", "subPathExpr": "in/$(ME)"},
        {"name": "mem", "mountPath": "/m"},
        {"name": "labels", "mountPath": "/l"},
    ]
    env = [
        {"name": "ME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "PW", "valueFrom": {"secretKeyRef": {"name": "sec", "key": "pw"}}},
        {"name": "TEXT", "value": "$(ME)-$(NO)-$$(ME)"},
        {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
    ]
    container = {"env": env, "envFrom": [{"configMapRef": {"name": "cfg"}}], "volumeMounts": mounts}
    container["resources"] = {"limits": {"cpu": "500m", "memory": "64Mi"}}
    context = {"runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 2000}
    node.create("web-0", container, volumes=volumes, hostname="web-0", subdomain="web", securityContext=context)
    pod = await node.ready("web-0")
    ip = pod["status"]["podIP"]
    variables = dict(line.split("=", 1) for line in (await node.exec("web-0", "env")).splitlines())
    assert variables["ME"] == "web-0" and variables["IP"] == ip and variables["PW"] == "hush"
    assert variables["TEXT"] == "web-0-$(NO)-$(ME)" and variables["CPU"] == "1" and variables["a"] == "1"
    assert variables["KUBERNETES_SERVICE_HOST"] == "10.96.0.1" and variables["FROM_IMAGE"] == "yes"
    assert (await node.exec("web-0", "hostname")).strip() == "web-0"
    hosts = await node.exec("web-0", "cat", "/etc/hosts")
    assert f"{ip}\tweb-0.web.default.svc.cluster.local\tweb-0\n" in hosts
    resolv = await node.exec("web-0", "cat", "/etc/resolv.conf")
    assert "nameserver 10.96.0.10" in resolv and "search default.svc.cluster.local svc.cluster.local" in resolv
    assert "ndots:5" in resolv
    assert (await node.exec("web-0", "cat", "/sa/token")).startswith("token-")
    assert await node.exec("web-0", "cat", "/sa/namespace", "/sa/ca.crt") == "defaultCA"
    assert await node.exec("web-0", "cat", "/cfg/a", "/one", "/sec/pw", "/l/l") == '12hushapp="web-0"'
    assert "gid=1000" in await node.exec("web-0", "id") and "2000" in await node.exec("web-0", "id")
    assert (await node.exec("web-0", "stat", "-c", "%g %a", "/t")).strip() == "2000 2777"
    await node.exec("web-0", "sh", "-c", "echo x > /t/in/web-0/f")
    assert await node.exec("web-0", "cat", "/sub/f") == "x\n"
    assert "only file system" in await node.exec("web-0", "sh", "-c", "echo x > /cfg/a 2>&1")
    assert pod["status"]["qosClass"] == "Guaranteed"

    api.put("/api/v1/namespaces/default/configmaps/cfg", {"data": {"a": "new"}})
    for _ in range(100):
        if await node.exec("web-0", "cat", "/cfg/a") == "new":
            break
        await asyncio.sleep(0.02)
    assert await node.exec("web-0", "ls", "/cfg") == "a\n"
    assert await node.remove("web-0") < 2
    uid = pod["metadata"]["uid"]
    assert not mount_points(node.config.pods_dir / uid)


async def test_crash_loop_tells_why(node: Running) -> None:
    node.create("crash", {"command": ["sh", "-c", "echo bye > /dev/termination-log; exit 3"]})
    pod = await node.until(
        "crash", lambda s: state(s).get("state", {}).get("waiting", {}).get("reason") == "CrashLoopBackOff"
    )
    status = state(pod["status"])
    assert status["restartCount"] == 1
    last = status["lastState"]["terminated"]
    assert (last["exitCode"], last["reason"], last["message"]) == (3, "Error", "bye\n")
    assert "back-off 10s restarting failed container=c pod=crash_default(" in status["state"]["waiting"]["message"]
    assert node.api.events("BackOff")
    assert pod["status"]["phase"] == "Running"
    await node.remove("crash")


async def test_init_containers_come_first_and_sidecars_stay(node: Running) -> None:
    mount = {"volumeMounts": [{"name": "t", "mountPath": "/t"}]}
    inits = [
        {"name": "one", "image": IMAGE, "command": ["sh", "-c", "echo one >> /t/order"], **mount},
        {
            "name": "side",
            "image": IMAGE,
            "command": ["sh", "-c", "echo side >> /t/order; exec sleep 1000"],
            "restartPolicy": "Always",
            "startupProbe": {"exec": {"command": ["cat", "/t/order"]}, "periodSeconds": 1},
            **mount,
        },
        {"name": "two", "image": IMAGE, "command": ["sh", "-c", "echo two >> /t/order"], **mount},
    ]
    node.create(
        "init",
        {"command": ["sh", "-c", "echo main >> /t/order; sleep 0.3"], **mount},
        initContainers=inits,
        volumes=[{"name": "t", "emptyDir": {}}],
        restartPolicy="Never",
        terminationGracePeriodSeconds=1,
    )
    pod = await node.until("init", is_ready)
    assert [s["ready"] for s in pod["status"]["initContainerStatuses"]] == [True, True, True]
    order = node.config.pods_dir / pod["metadata"]["uid"] / "volumes/kubernetes.io~empty-dir/t/order"
    pod = await node.until("init", lambda s: s["phase"] == "Succeeded")
    assert order.read_text().split() == ["one", "side", "two", "main"]
    assert "terminated" in pod["status"]["initContainerStatuses"][1]["state"]
    await node.remove("init")


async def test_probes_decide_readiness_and_restarts(node: Running) -> None:
    server = {"command": ["perl", "/httpd.pl", "8080"], "ports": [{"name": "web", "containerPort": 8080}]}
    probe = {"httpGet": {"path": "/", "port": "web"}, "periodSeconds": 1}
    node.create("good", {**server, "readinessProbe": probe, "livenessProbe": {"tcpSocket": {"port": 8080}}})
    bad = {"httpGet": {"path": "/bad", "port": 8080}, "periodSeconds": 1, "failureThreshold": 2}
    node.create("bad", {**server, "readinessProbe": bad, "livenessProbe": bad})
    await node.ready("good")
    pod = await node.until("bad", lambda s: state(s)["restartCount"] >= 1)
    assert not is_ready(pod["status"])
    messages = {e["message"] for e in node.api.events("Unhealthy")}
    assert "Liveness probe failed: HTTP probe failed with statuscode: 500" in messages
    assert "Container c failed liveness probe, will be restarted" in {e["message"] for e in node.api.events("Killing")}
    await asyncio.gather(node.remove("good"), node.remove("bad"))


async def test_hooks_run(node: Running) -> None:
    hooks = {
        "postStart": {"exec": {"command": ["sh", "-c", "echo began > /t/log"]}},
        "preStop": {"exec": {"command": ["sh", "-c", "echo ends >> /keep/log"]}},
    }
    keep = node.folder / "keep"
    volumes = [
        {"name": "t", "emptyDir": {}},
        {"name": "keep", "hostPath": {"path": str(keep), "type": "DirectoryOrCreate"}},
    ]
    mounts = [{"name": "t", "mountPath": "/t"}, {"name": "keep", "mountPath": "/keep"}]
    node.create("hooks", {"lifecycle": hooks, "volumeMounts": mounts}, volumes=volumes)
    await node.ready("hooks")
    assert await node.exec("hooks", "cat", "/t/log") == "began\n"
    await node.remove("hooks")
    assert (keep / "log").read_text() == "ends\n"


async def test_missing_things_are_told_and_waited_for(node: Running) -> None:
    node.create("nomap", volumes=[{"name": "v", "configMap": {"name": "later"}}])
    node.create("noenv", {"env": [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "later2", "key": "k"}}}]})
    node.create("noimage", {"image": "localhost:1/none:1", "imagePullPolicy": "IfNotPresent"})
    node.create("badname", {"image": "Bad Name"})
    node.create("never", {"image": "localhost:1/none:1", "imagePullPolicy": "Never"})
    reasons = {}
    wanted = {
        "noenv": "CreateContainerConfigError",
        "badname": "InvalidImageName",
        "never": "ErrImageNeverPull",
        "noimage": "ErrImagePull",
    }
    for name, reason in wanted.items():
        pod = await node.until(name, lambda s, r=reason: state(s)["state"].get("waiting", {}).get("reason") == r)
        reasons[name] = state(pod["status"])["state"]["waiting"]["message"]
    assert reasons["noenv"] == 'configmap "later2" not found'
    await node.api.until(lambda: node.api.events("FailedMount"))
    assert node.api.events("FailedMount")[0]["message"] == (
        'MountVolume.SetUp failed for volume "v" : configmap "later" not found'
    )
    await node.until("noimage", lambda s: state(s)["state"]["waiting"]["reason"] == "ImagePullBackOff")
    began = time.monotonic()
    node.api.put("/api/v1/namespaces/default/configmaps/later", {"data": {"a": "1"}})
    await node.ready("nomap")
    assert time.monotonic() - began < 1.5
    await asyncio.gather(*(node.remove(n) for n in ("nomap", *wanted)))


async def test_host_namespaces_deadlines_and_debugging(node: Running) -> None:
    node.create("host", {"securityContext": {"privileged": True}}, hostNetwork=True, hostPID=True)
    node.create("late", activeDeadlineSeconds=1)
    node.create("shared", shareProcessNamespace=True)
    host = await node.ready("host")
    assert host["status"]["podIP"] == node.config.address
    assert "shtest1" in await node.exec("host", "ls", "/sys/class/net")
    assert (await node.exec("host", "cat", "/proc/1/comm")) == Path("/proc/1/comm").read_text()
    shared = await node.ready("shared")
    assert (await node.exec("shared", "cat", "/proc/1/comm")).strip() == "pause"
    debugger = {"name": "dbg", "image": IMAGE, "command": ["sleep", "1000"], "targetContainerName": "c"}
    spec = {**shared["spec"], "ephemeralContainers": [debugger]}
    node.api.put(PODS + "shared", {**node.pod("shared"), "spec": spec})
    await node.until("shared", lambda s: "running" in s.get("ephemeralContainerStatuses", [{"state": {}}])[0]["state"])
    late = await node.until("late", lambda s: s["phase"] == "Failed")
    assert late["status"]["reason"] == "DeadlineExceeded"
    await asyncio.gather(*(node.remove(n) for n in ("host", "late", "shared")))


async def test_memory_limit_is_told_as_such(node: Running) -> None:
    hog = {"command": ["perl", "-e", "my $x = 'x' x 200_000_000; sleep 9"], "resources": {"limits": {"memory": "32Mi"}}}
    node.create("hog", hog, restartPolicy="Never")
    pod = await node.until("hog", lambda s: s["phase"] == "Failed")
    status = state(pod["status"])["state"]["terminated"]
    assert (status["exitCode"], status["reason"]) == (137, "OOMKilled")
    await node.remove("hog")


async def test_pods_outlive_the_agent_and_containerd(folder: Path) -> None:
    api = FakeApi()
    node = await Running(folder, api).start()
    node.create("stay", {"readinessProbe": {"exec": {"command": ["true"]}}})
    node.create("leave")
    before = (await node.ready("stay"))["status"]
    await node.ready("leave")
    await node.stop()

    api.drop(PODS + "leave")
    node = await Running(folder, api).start()
    worker = node.agent.find("default", "stay")
    assert worker is not None and worker.adopted
    for _ in range(100):
        if len(await node.agent.runtime.sandboxes()) == 1:
            break
        await asyncio.sleep(0.05)
    assert len(await node.agent.runtime.sandboxes()) == 1
    # What belongs to no pod is gone: all that a start does to what it found is done.
    after = node.pod("stay")["status"]
    assert state(after)["containerID"] == state(before)["containerID"]
    assert state(after)["restartCount"] == 0 and is_ready(after)

    running = node.agent._containerd._running
    assert running is not None
    os.kill(running.pid, signal.SIGKILL)
    for _ in range(200):
        await asyncio.sleep(0.02)
        if node.agent._containerd._running is not running and node.agent._runtime_ready.is_set():
            break
    assert state(node.pod("stay")["status"])["containerID"] == state(before)["containerID"]
    assert await node.remove("stay") < 2
    await node.stop()


async def test_a_reboot_starts_the_same_pods_again(folder: Path) -> None:
    api = FakeApi()
    node = await Running(folder, api).start()
    node.create("again")
    before = (await node.ready("again"))["status"]
    await node.stop()
    # What a reboot does: no containerd, no shims, no run directory.
    from stablehand.node.containerd import Containerd
    from stablehand.node.main import end_processes
    from stablehand.node.mounts import unmount_below

    await Containerd(node.config).stop()
    await end_processes(node.config)
    unmount_below(node.config.run_dir)
    shutil.rmtree(node.config.run_dir)
    (node.config.data_dir / "cni" / "boot_id").write_text("another")

    node = await Running(folder, api).start()
    pod = await node.until("again", lambda s: is_ready(s) and state(s)["restartCount"] == 1)
    assert state(pod["status"])["containerID"] != state(before)["containerID"]
    assert "terminated" in state(pod["status"])["lastState"]
    assert node.api.events("SandboxChanged")
    await node.remove("again")
    await node.stop()
