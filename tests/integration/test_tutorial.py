"""The tutorial's first part, unchanged, on real containers: names, order, DNS, exec, logs, data that survives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import ROOT, Cluster

TUTORIAL = Path(__file__).resolve().parents[3] / "shared" / "tutorial"
SET = "statefulset-test"

pytestmark = pytest.mark.skipif(not TUTORIAL.exists(), reason="shared/ is not beside the checkout")


def ready(c: Cluster, count: int) -> bool:
    status = c.get("sts", SET).get("status") or {}
    return status.get("readyReplicas", 0) == count == status.get("replicas", 0)


def pods(c: Cluster, label: str) -> list[Any]:
    found = c.get("pods", "-l", label)["items"]
    return sorted(found, key=lambda p: p["metadata"]["creationTimestamp"] + p["metadata"]["name"])


def test_order_and_names(node_cluster: Cluster) -> None:
    c = node_cluster
    c.kubectl("apply", "-f", str(TUTORIAL / "1-order" / "statefulset.yaml"))
    c.until(lambda: ready(c, 3))
    assert c.get("svc", "headless-svc")["spec"]["clusterIP"] == "None"
    found = c.get("pods", "-l", "app=headless-pod")["items"]
    assert [p["metadata"]["name"] for p in found] == [f"{SET}-{i}" for i in range(3)]
    revisions = [int(p["metadata"]["resourceVersion"]) for p in found]
    assert revisions == sorted(revisions)
    for pod in found:
        name = pod["metadata"]["name"]
        assert c.kubectl("exec", name, "--", "hostname").stdout.strip() == name


def test_dns_names_the_pods(node_cluster: Cluster) -> None:
    c = node_cluster
    address = c.get("pod", f"{SET}-1")["status"]["podIP"]
    full = f"{SET}-1.headless-svc.default.svc.cluster.local"
    assert address in c.kubectl("exec", f"{SET}-0", "--", "getent", "hosts", full).stdout
    every = c.kubectl("exec", f"{SET}-0", "--", "getent", "ahostsv4", "headless-svc").stdout
    assert all(p["status"]["podIP"] in every for p in pods(c, "app=headless-pod"))


def test_stdin_is_half_closed(node_cluster: Cluster) -> None:
    assert node_cluster.kubectl("exec", "-i", f"{SET}-0", "--", "cat", stdin="x\n").stdout == "x\n"


def test_a_deleted_pod_comes_back_as_itself(node_cluster: Cluster) -> None:
    c = node_cluster
    before = c.get("pod", f"{SET}-1")["metadata"]["uid"]
    c.kubectl("delete", "pod", f"{SET}-1", "--grace-period=1")
    c.until(lambda: ready(c, 3))
    assert c.get("pod", f"{SET}-1")["metadata"]["uid"] != before


def test_scale_up_and_down(node_cluster: Cluster) -> None:
    c = node_cluster
    c.kubectl("scale", "sts", SET, "--replicas=4")
    c.until(lambda: ready(c, 4))
    c.kubectl("scale", "sts", SET, "--replicas=2")
    c.until(lambda: ready(c, 2), 120)
    assert [p["metadata"]["name"] for p in c.get("pods", "-l", "app=headless-pod")["items"]] == [f"{SET}-0", f"{SET}-1"]


def test_pods_outlive_a_restart_of_stablehand(node_cluster: Cluster) -> None:
    c = node_cluster
    before = [s["containerID"] for p in pods(c, "app=headless-pod") for s in p["status"]["containerStatuses"]]
    c.stop()
    c.start()
    c.until(lambda: ready(c, 2))
    after = [s["containerID"] for p in pods(c, "app=headless-pod") for s in p["status"]["containerStatuses"]]
    assert after == before


def test_each_pod_has_its_own_claim_and_data(node_cluster: Cluster) -> None:
    c = node_cluster
    c.kubectl("delete", "sts", SET, "--cascade=foreground")
    c.kubectl("apply", "-f", str(ROOT / "examples" / "tutorial" / "order.yaml"))
    c.until(lambda: ready(c, 3))
    for index in range(3):
        c.kubectl("exec", f"{SET}-{index}", "--", "sh", "-c", f"echo {index} > /mnt/testfile")
    claims = {i["metadata"]["name"]: i["status"]["phase"] for i in c.get("pvc")["items"]}
    assert claims == {f"test-{SET}-{i}": "Bound" for i in range(3)}
    c.kubectl("delete", "sts", SET, "--cascade=foreground")
    c.kubectl("apply", "-f", str(ROOT / "examples" / "tutorial" / "order.yaml"))
    c.until(lambda: ready(c, 3))
    for index in range(3):
        assert c.kubectl("exec", f"{SET}-{index}", "--", "cat", "/mnt/testfile").stdout.strip() == str(index)
