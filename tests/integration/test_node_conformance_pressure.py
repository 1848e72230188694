"""A node that is short of memory: its conditions and taint, whom it evicts and in what order, and whom it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.nodecase import WAIT, NodeCase, conditions, pod, running_node


def available() -> int:
    """Mebibytes of memory."""
    with open("/proc/meminfo") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("MemAvailable")) // 1024


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeCase]:
    # More than there is: short as soon as its soft threshold's time is up.
    soft = ["--eviction-soft", f"memory.available<{available() * 2}Mi"]
    grace = ["--eviction-soft-grace-period", "memory.available=8s", "--eviction-pressure-transition-period", "5s"]
    folder = tmp_path_factory.mktemp("p") / "x"
    yield from running_node(folder, "shnodc1", "10.229.81.0/24", 10291, *soft, *grace)


def test_short_of_memory(node: NodeCase) -> None:
    found = node.cluster.get("nodes")["items"][0]
    told = conditions(found["status"])["MemoryPressure"]
    assert (told["status"], told["reason"]) == ("True", "KubeletHasInsufficientMemory")
    taint = {"key": "node.kubernetes.io/memory-pressure", "effect": "NoSchedule"}
    node.cluster.until(lambda: taint in (node.cluster.get("nodes")["items"][0]["spec"].get("taints") or []), 10)

    def here(name: str, **fields: Any) -> Any:
        return pod(name, WAIT, nodeName=found["metadata"]["name"], **fields)

    anywhere = [{"operator": "Exists"}]
    asks = {"resources": {"requests": {"memory": "64Mi"}}}
    node.create(
        pod("waits", WAIT),
        here("refused"),
        here("within", of=asks),
        here("over", tolerations=anywhere),
        here("critical", priorityClassName="system-node-critical", tolerations=anywhere),
    )
    refused = node.until("refused", lambda s: s["phase"] == "Failed")["status"]
    assert refused["reason"] == "Evicted" and "The node had condition: [MemoryPressure]. " in refused["message"]
    assert "DisruptionTarget" not in conditions(refused)
    node.until("critical", lambda s: s["phase"] == "Running")
    over = node.until("over", lambda s: s["phase"] == "Failed", 40)["status"]
    assert node.get("within")["status"]["phase"] == "Running"  # it uses less than it asked for: later
    assert over["reason"] == "Evicted" and over["message"].startswith("The node was low on resource: memory. ")
    assert "Container c was using" in over["message"]
    assert conditions(over)["DisruptionTarget"]["reason"] == "TerminationByKubelet"
    node.until("within", lambda s: s["reason"] == "Evicted", 40)
    assert node.get("critical")["status"]["phase"] == "Running"
    assert "memory-pressure" in node.event("waits", "FailedScheduling")
    assert "Attempting to reclaim memory" in node.event(found["metadata"]["name"], "EvictionThresholdMet")
