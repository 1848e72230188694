"""Times a whole Stablehand with real containers: what `make bench` prints of the node. Needs root.

Each figure stands beside what Kubernetes 1.36 (kubelet, containerd 1.6.20, etcd 3.6) gave on such a machine. The
image (busybox) is there already; medians of `ROUNDS`. The control plane alone is controlplane.py's.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

import archives  # noqa: E402

from stablehand.client import Client, connect  # noqa: E402
from stablehand.machinery.conditions import is_pod_ready  # noqa: E402
from stablehand.machinery.resources import resource  # noqa: E402
from stablehand.machinery.types import Obj  # noqa: E402
from tests.integration.conftest import Cluster, free_port  # noqa: E402

ROUNDS = 3
WHERE = ["--bridge", "shbench0", "--pod-cidr", "10.245.0.0/24"]
SETS, DEPLOYMENTS, PODS = resource("statefulsets.apps"), resource("deployments.apps"), resource("pods")
CLAIMS = resource("persistentvolumeclaims")


def template(labels: dict[str, str], **extra: Any) -> Obj:
    # Ends at once when asked to: what is timed is us, not a program that does not listen.
    command = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done"]
    container = {"name": "c", "image": "busybox", "imagePullPolicy": "IfNotPresent", "command": command, **extra}
    return {"metadata": {"labels": labels}, "spec": {"containers": [container]}}


def stateful_set(replicas: int, policy: str, claim: bool) -> Obj:
    labels = {"app": "bench"}
    spec: Obj = {
        "serviceName": "bench",
        "replicas": replicas,
        "podManagementPolicy": policy,
        "selector": {"matchLabels": labels},
        "template": template(labels, **({"volumeMounts": [{"name": "d", "mountPath": "/d"}]} if claim else {})),
    }
    if claim:
        request = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
        spec["volumeClaimTemplates"] = [{"metadata": {"name": "d"}, "spec": request}]
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "bench"}, "spec": spec}


def deployment() -> Obj:
    labels = {"app": "bench"}
    spec = {"replicas": 3, "selector": {"matchLabels": labels}, "template": template(labels)}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "bench"}, "spec": spec}


class Bench:
    def __init__(self, client: Client, cluster: Cluster) -> None:
        self.client = client
        self.cluster = cluster

    async def until(self, condition: Callable[[dict[str, Obj]], bool]) -> None:
        """Follows the pods until the condition on {name: pod} holds."""
        seen: dict[str, Obj] = {}
        async with asyncio.timeout(120):
            async for event in self.client.watch(PODS, "default", initial_events=True):
                if event.type == "BOOKMARK":
                    pass
                elif event.type == "DELETED":
                    seen.pop(event.object["metadata"]["name"], None)
                else:
                    seen[event.object["metadata"]["name"]] = event.object
                if condition(seen):
                    return

    @staticmethod
    def ready(count: int) -> Callable[[dict[str, Obj]], bool]:
        return lambda pods: len(pods) == count and all(is_pod_ready(p) for p in pods.values())

    async def rollout(self, obj: Obj, res: Any, count: int) -> float:
        start = time.perf_counter()
        await self.client.create(res, obj, namespace="default")
        await self.until(self.ready(count))
        return time.perf_counter() - start

    async def remove(self, res: Any) -> None:
        await self.client.delete(res, "bench", "default")
        await self.until(lambda pods: not pods)
        for claim in (await self.client.list(CLAIMS, "default"))["items"]:
            await self.client.delete(CLAIMS, claim["metadata"]["name"], "default")

    async def rolled_out(self, make: Callable[[], Obj], res: Any, count: int, rounds: int = ROUNDS) -> float:
        taken = []
        for _ in range(rounds):
            taken.append(await self.rollout(make(), res, count))
            await self.remove(res)
        return statistics.median(taken)

    async def replaced(self) -> float:
        taken = []
        for _ in range(ROUNDS):
            uid = (await self.client.get(PODS, "bench-1", "default"))["metadata"]["uid"]
            start = time.perf_counter()
            await self.client.delete(PODS, "bench-1", "default")

            def back(pods: dict[str, Obj], uid: str = uid) -> bool:
                pod = pods.get("bench-1")
                return pod is not None and pod["metadata"]["uid"] != uid and is_pod_ready(pod)

            await self.until(back)
            taken.append(time.perf_counter() - start)
        return statistics.median(taken)

    def executed(self) -> float:
        taken = []
        for _ in range(9):
            start = time.perf_counter()
            self.cluster.kubectl("exec", "bench-0", "--", "true")
            taken.append(time.perf_counter() - start)
        return statistics.median(taken)


def started(data: Path) -> tuple[float, float]:
    """Seconds from nothing to the first answered request, and to a node that is Ready."""
    import ssl
    import urllib.request

    port = free_port()
    command = [sys.executable, "-m", "stablehand", "up", "--data-dir", str(data), "--listen", f"127.0.0.1:{port}"]
    start = time.perf_counter()
    with open(os.devnull, "wb") as nowhere:
        process = subprocess.Popen([*command, *WHERE, "--kubelet-port", "10275"], stdout=nowhere, stderr=nowhere)
    anyone = ssl.create_default_context()
    anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
    answered = 0.0
    while not answered:
        try:
            with urllib.request.urlopen(f"https://127.0.0.1:{port}/version", context=anyone):
                answered = time.perf_counter() - start
        except OSError:
            time.sleep(0.005)

    async def node_ready() -> None:
        client = await connect(str(data / "kubeconfig.yaml"))
        try:
            async for event in client.watch(resource("nodes"), initial_events=True):
                conditions = (event.object.get("status") or {}).get("conditions") or ()
                if any(c["type"] == "Ready" and c["status"] == "True" for c in conditions):
                    return
        finally:
            await client.close()

    asyncio.run(node_ready())
    ready = time.perf_counter() - start
    process.terminate()
    process.wait(30)
    return answered, ready


def tree(pid: int) -> list[int]:
    children = [int(c) for f in Path(f"/proc/{pid}/task").glob("*/children") for c in f.read_text().split()]
    return [pid, *(p for c in children for p in tree(c))]


def ours(cluster: Cluster) -> dict[str, list[int]]:
    """Pids at rest: Stablehand's own, and containerd with its shims (without the containers' processes)."""
    helpers = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"containerd" in words[0] and any(
                b"shbench0" in w or str(cluster.data_dir).encode() in w for w in words
            ):
                helpers.append(int(entry.name))
    return {"python": [p for p in tree(cluster.process.pid) if p not in helpers], "containerd and shims": helpers}


def memory(pids: list[int]) -> float:
    """MB of proportional set size."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1024


def cpu(pids: list[int]) -> float:
    """Seconds of CPU used so far."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def show(what: str, value: float, unit: str, upstream: str) -> None:
    print(f"{what:58} {value:8.2f} {unit:3}   Kubernetes 1.36: {upstream}", flush=True)


def down(data: Path) -> None:
    command = [sys.executable, "-m", "stablehand", "down", "--pods", "--data-dir", str(data), *WHERE]
    subprocess.run(command, check=True, timeout=120, stdout=subprocess.DEVNULL)


async def containers(cluster: Cluster) -> None:
    client = await connect(str(cluster.data_dir / "kubeconfig.yaml"))
    bench = Bench(client, cluster)
    ordered = "OrderedReady"
    try:
        await bench.rolled_out(lambda: stateful_set(1, ordered, False), SETS, 1, rounds=1)
        show("three OrderedReady pods, apply to all Ready",
             await bench.rolled_out(lambda: stateful_set(3, ordered, False), SETS, 3), "s", "1.52")  # fmt: skip
        show("the same, each with a claim and a volume",
             await bench.rolled_out(lambda: stateful_set(3, ordered, True), SETS, 3), "s", "1.73")  # fmt: skip
        show("a Deployment of three, apply to all Ready",
             await bench.rolled_out(deployment, DEPLOYMENTS, 3), "s", "0.76")  # fmt: skip
        show("a Parallel set of twenty, apply to all Ready",
             await bench.rolled_out(lambda: stateful_set(20, "Parallel", False), SETS, 20), "s", "3.0")  # fmt: skip
        await bench.rollout(stateful_set(3, ordered, False), SETS, 3)
        show("a pod deleted to its successor Ready", await bench.replaced(), "s", "0.99")
        show("kubectl exec web-0 -- true", bench.executed(), "s", "0.10")
        parts = ours(cluster)
        await asyncio.sleep(10)  # what rollouts leave to do is not rest
        before, since = {k: cpu(v) for k, v in parts.items()}, time.perf_counter()
        await asyncio.sleep(30)
        spent = time.perf_counter() - since
        for name, pids in parts.items():
            show(f"memory at rest, three pods: {name}", memory(pids), "MB", "873 in all")
        for name, pids in parts.items():
            show(f"CPU at rest, of one core: {name}", 100 * (cpu(pids) - before[name]) / spent, "%", "5.6 in all")
    finally:
        await client.close()


def main(folder: Path) -> None:
    if os.geteuid() != 0:
        sys.exit("the node's benchmarks run containers: they need root")
    archive = archives.archive("busybox", ROOT / ".cache" / "images")
    starts = []
    for number in range(ROUNDS):
        data = folder / f"start{number}"
        try:
            starts.append(started(data))
        finally:
            down(data)
    show("from nothing to the first answered request", statistics.median(a for a, _ in starts), "s", "2.5")
    show("from nothing to node Ready", statistics.median(r for _, r in starts), "s", "3.4")
    data = folder / "data"
    archives.place(archive, data / "node" / "images")
    try:
        cluster = Cluster(data, *WHERE, "--kubelet-port", "10275")
        try:
            asyncio.run(containers(cluster))
        finally:
            cluster.stop()
    finally:
        down(data)
