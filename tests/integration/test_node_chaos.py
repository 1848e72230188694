"""What may happen to a machine while pods run on it, and that every pod gets over it as itself: nothing stays stuck, nothing
is left behind, and nothing is restarted that need not be.

A power cut is test_node_reboot.py's; the agent's own starts and ends are test_node_containerd.py's.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stablehand.launch.config import Paths, UpConfig
from stablehand.launch.parts import node_config
from stablehand.machinery.types import Obj
from stablehand.node import leftovers
from stablehand.node.cri.client import Runtime
from stablehand.node.network import is_up, routes
from tests.integration.nodecase import WAIT, NodeCase, first, is_ready, mount, pod, running_node

BRIDGE, CIDR, HOST_PORT = "shtest12", "10.229.82.0/24", 18082
IDLE = "trap 'exit 0' TERM; echo started; while :; do sleep 0.1; done"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeCase]:
    yield from running_node(tmp_path_factory.mktemp("c") / "x", BRIDGE, CIDR, 10292)


def settings(node: NodeCase) -> Any:
    return node_config(UpConfig(paths=Paths(node.cluster.data_dir), bridge=BRIDGE, pod_cidr=CIDR), None, None)


def web(name: str, **fields: Any) -> Obj:
    """A pod that is ready while its server is reached."""
    server = {
        "image": "httpd",
        "ports": [{"containerPort": 80}],
        "readinessProbe": {"httpGet": {"path": "/", "port": 80}, "periodSeconds": 1, "failureThreshold": 1},
        **fields,
    }
    return pod(name, of=server, restartPolicy="Always", terminationGracePeriodSeconds=1)


def same(before: Obj, after: Obj) -> bool:
    """Neither restarted nor replaced."""
    ids = [(p["metadata"]["uid"], first(p["status"])["containerID"]) for p in (before, after)]
    return ids[0] == ids[1]


def answers(address: str, port: int = 80) -> bool:
    url = f"http://{address}:{port}/"
    return subprocess.run(["curl", "-s", "-m", "2", "-o", os.devnull, url]).returncode == 0


def sh(*command: str) -> None:
    subprocess.run(command, check=True, timeout=20)


def kill_containerd(node: NodeCase) -> int:
    pid = int(json.loads((settings(node).run_dir / "containerd.json").read_text())["pid"])
    os.kill(pid, signal.SIGKILL)
    return pid


def processes(node: NodeCase, name: str) -> list[int]:
    """The first process of each container of a pod, its sandbox's left out."""
    status = node.get(name)["status"]
    tasks = settings(node).run_dir / "containerd" / "io.containerd.runtime.v2.task" / "k8s.io"
    ids = [s["containerID"].removeprefix("containerd://") for s in status["containerStatuses"]]
    return [int((tasks / task / "init.pid").read_text()) for task in ids]


def test_the_network_is_mended_under_running_pods(node: NodeCase) -> None:
    """A firewall that is loaded anew, a network manager that removes what it does not know: no pod need notice."""
    node.create(web("shop", ports=[{"containerPort": 80, "hostPort": HOST_PORT}]))
    before = node.ready("shop")
    address = before["status"]["podIP"]
    node.cluster.until(lambda: answers("127.0.0.1", HOST_PORT))

    def tables() -> str:
        return subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout

    for table in (f"{BRIDGE}_node", f"{BRIDGE}_services"):
        sh("nft", "delete", "table", "ip", table)
        node.cluster.until(lambda table=table: f"table ip {table}\n" in tables(), 10)
    node.cluster.until(lambda: answers("127.0.0.1", HOST_PORT), 10)
    sh("ip", "link", "del", BRIDGE)
    node.cluster.until(lambda: is_up(BRIDGE), 10)
    sh("ip", "link", "set", BRIDGE, "down")
    node.cluster.until(lambda: is_up(BRIDGE), 10)
    sh("ip", "route", "del", address)
    node.cluster.until(lambda: answers(address), 10)
    assert same(before, node.ready("shop"))
    node.remove("shop")


def test_a_pod_whose_link_is_gone_gets_another_sandbox(node: NodeCase) -> None:
    node.create(web("cut", lifecycle={"preStop": {"sleep": {"seconds": 0}}}))
    before = node.ready("cut")
    sh("ip", "link", "del", routes()[before["status"]["podIP"]])
    after = node.until("cut", lambda s: first(s)["restartCount"] == 1 and is_ready(s))
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert answers(after["status"]["podIP"])
    # Ended with its grace, not lost: it could say how it went.
    assert first(after["status"])["lastState"]["terminated"]["reason"] == "Completed"
    assert "is gone" in node.event("cut", "PodNetworkLost")
    node.remove("cut")


def test_probes_survive_the_runtime(node: NodeCase) -> None:
    """One failed check is enough for this pod to be killed; that containerd was away is not a failed check. And checks
    go on after it, also those that were being made at that moment."""

    def probe(check: str) -> Obj:
        command = ["sh", "-c", f"sleep 0.7; {check}"]
        return {"exec": {"command": command}, "periodSeconds": 1, "failureThreshold": 1, "timeoutSeconds": 5}

    probes = {"livenessProbe": probe("true"), "readinessProbe": probe("test ! -e /tmp/bad")}
    node.create(pod("probed", IDLE, of=probes, restartPolicy="Always"))
    before = node.ready("probed")
    for _ in range(3):
        old = kill_containerd(node)
        node.cluster.until(lambda old=old: current(node) != old and node.exec("probed", "echo", "x") == "x\n", 20)
    after = node.ready("probed")
    assert same(before, after) and first(after["status"])["restartCount"] == 0
    assert "NodeNotReady" not in node.events("probed")
    node.exec("probed", "touch", "/tmp/bad")
    node.until("probed", lambda s: not is_ready(s), 15)
    node.exec("probed", "rm", "/tmp/bad")
    node.ready("probed")
    node.remove("probed")


def current(node: NodeCase) -> int:
    return int(json.loads((settings(node).run_dir / "containerd.json").read_text())["pid"])


def test_what_containers_mount_is_made_again(node: NodeCase) -> None:
    """Files of the sandbox and folders of the pod's volumes were deleted under it."""
    volumes = [{"name": "e", "emptyDir": {}}, {"name": "d", "downwardAPI": {"items": [LABEL]}}]
    mounts = {"volumeMounts": [mount("e", "/e"), mount("d", "/d")]}
    node.create(pod("bare", IDLE, of=mounts, volumes=volumes, restartPolicy="Always"))
    before = node.ready("bare")
    config = settings(node)
    shutil.rmtree(config.pods_dir / before["metadata"]["uid"], ignore_errors=True)
    for path in config.data_dir.glob("containerd/io.containerd.grpc.v1.cri/sandboxes/*/resolv.conf"):
        path.unlink()
    for pid in processes(node, "bare"):
        os.kill(pid, signal.SIGKILL)
    node.until("bare", lambda s: first(s)["restartCount"] >= 1 and is_ready(s), 40)
    assert "bare" in node.exec("bare", "cat", "/d/name") and "bare" in node.exec("bare", "cat", "/etc/hosts")
    node.remove("bare")


LABEL = {"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}


def test_nothing_is_left_of_what_a_killed_runtime_was_making(node: NodeCase) -> None:
    names = [f"many-{index}" for index in range(6)]
    node.create(*(pod(name, WAIT, restartPolicy="Always", terminationGracePeriodSeconds=0) for name in names))
    for _ in range(4):
        old = kill_containerd(node)
        node.cluster.until(lambda old=old: current(node) != old, 20)
    for name in names:
        node.ready(name)
    node.cluster.until(lambda: not strays(node), 45)
    node.remove(*names)
    node.cluster.until(lambda: not strays(node) and not list(leftovers.shims(settings(node))), 45)
    leases = settings(node).data_dir / "cni" / "addresses" / "stablehand"
    node.cluster.until(lambda: not list(leases.glob("[0-9]*")), 20)


def strays(node: NodeCase) -> set[str]:
    """Running tasks that the runtime does not know."""

    async def look() -> set[str]:
        config = settings(node)
        running = leftovers.tasks(config)
        runtime = Runtime(Path(config.socket))
        try:
            known = {s.id for s in await runtime.sandboxes()} | {c.id for c in await runtime.containers()}
        finally:
            await runtime.close()
        return set(running) - known

    return asyncio.run(look())
