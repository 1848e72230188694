"""A machine that loses power: the same pods start again, under the same names, with the same claims and data.

The power cut is played: every process ends by SIGKILL, and mounts, network and /run go as they do at a reboot.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import ROOT, Cluster

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="running containers needs root")
BRIDGE, CIDR = "shtest4", "10.234.0.0/24"
WHERE = ["--bridge", BRIDGE, "--pod-cidr", CIDR]
SET = {
    "apiVersion": "apps/v1",
    "kind": "StatefulSet",
    "metadata": {"name": "pet"},
    "spec": {
        "serviceName": "pet",
        "replicas": 2,
        "selector": {"matchLabels": {"app": "pet"}},
        "template": {
            "metadata": {"labels": {"app": "pet"}},
            "spec": {
                "terminationGracePeriodSeconds": 1,
                "containers": [
                    {
                        "name": "c",
                        "image": "busybox",
                        "imagePullPolicy": "IfNotPresent",
                        "command": ["sh", "-c", "echo $HOSTNAME >> /d/log; sleep 100000"],
                        "volumeMounts": [{"name": "d", "mountPath": "/d"}],
                    }
                ],
            },
        },
        "volumeClaimTemplates": [
            {
                "metadata": {"name": "d"},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
            }
        ],
    },
}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    sys.path.insert(0, str(ROOT / "scripts"))
    import archives  # type: ignore[import-not-found]

    data = tmp_path / "data"
    archives.place(archives.archive("busybox", ROOT / ".cache" / "images"), data / "node" / "images")
    try:
        yield Cluster(data, *WHERE, "--kubelet-port", "10276")
    finally:
        command = [sys.executable, "-m", "stablehand", "down", "--pods", "--data-dir", str(data), *WHERE]
        subprocess.run(command, check=True, timeout=120)


def cut_power(cluster: Cluster) -> None:
    from stablehand.launch.config import Paths, UpConfig
    from stablehand.launch.nodeconfig import node_config
    from stablehand.node.main import end_processes

    cluster.stop(signal.SIGKILL)
    config = node_config(UpConfig(paths=Paths(cluster.data_dir), bridge=BRIDGE, pod_cidr=CIDR), None, None)
    os.kill(json.loads((config.run_dir / "containerd.json").read_text())["pid"], signal.SIGKILL)
    asyncio.run(end_processes(config))
    with open("/proc/self/mountinfo") as f:
        mounts = [line.split()[4] for line in f]
    ours = [m for m in mounts if m.startswith((f"{config.run_dir}/", f"{cluster.data_dir}/"))]
    for mount in sorted(ours, key=len, reverse=True):
        subprocess.run(["umount", "-l", mount], check=True)
    shutil.rmtree(config.run_dir)
    subprocess.run(["ip", "link", "del", BRIDGE], check=True)


def test_pods_come_back_as_themselves(cluster: Cluster) -> None:
    c = cluster
    c.kubectl("apply", "-f", "-", stdin=json.dumps(SET))
    c.until(lambda: (c.get("sts", "pet").get("status") or {}).get("readyReplicas") == 2)
    before = {p["metadata"]["name"]: p for p in c.get("pods")["items"]}
    cut_power(c)
    c.start()

    def running() -> bool:
        statuses = [s for p in c.get("pods")["items"] for s in p["status"].get("containerStatuses") or ()]
        return [s["restartCount"] for s in statuses if s["ready"]] == [1, 1]

    c.until(running)
    after = {p["metadata"]["name"]: p for p in c.get("pods")["items"]}
    assert {n: p["metadata"]["uid"] for n, p in after.items()} == {n: p["metadata"]["uid"] for n, p in before.items()}
    for name in after:
        assert c.kubectl("exec", name, "--", "cat", "/d/log").stdout.split() == [name, name]
    c.until(lambda: (c.get("sts", "pet").get("status") or {}).get("readyReplicas") == 2)
