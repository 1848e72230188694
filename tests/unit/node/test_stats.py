"""What the node's server tells of usage and of its own settings."""

from __future__ import annotations

import pytest

from stablehand.node import stats
from stablehand.node.configz import configuration
from tests.unit.node.test_configs import config


def test_rates_come_from_two_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(stats.time, "monotonic", lambda: now)
    rates = stats.CpuRates()
    assert rates.rate("c", 1000) is None
    now = 100.5
    assert rates.rate("c", 2000) is None  # too soon
    now = 102.0
    assert rates.rate("c", 5000) == 2000
    now = 102.1
    assert rates.rate("c", 9000) == 2000
    assert rates.shown("c", 9000, "now") == {"time": "now", "usageNanoCores": 2000, "usageCoreNanoSeconds": 9000}
    rates.keep(set())
    assert rates.rate("c", 10000) is None


def test_configuration() -> None:
    told = configuration(config(eviction_hard={"memory.available": "1Gi"}, max_pods=5))["kubeletconfig"]
    assert told["kind"] == "KubeletConfiguration" and told["maxPods"] == 5
    assert told["evictionHard"] == {"memory.available": "1Gi"} and "evictionSoft" not in told
