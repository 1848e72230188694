"""What two looks at a kubelet's figures say: rates, restarts, new containers, quantities."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stablehand.apiserver.metricsapi.points import NODE, Point, duration, node_metrics, parse, pod_metrics, usage
from stablehand.machinery.types import Obj

TEXT = """# HELP container_cpu_usage_seconds_total Cumulative
# TYPE container_cpu_usage_seconds_total counter
container_cpu_usage_seconds_total{{container="c",namespace="ns",pod="p"}} {cpu} {stamp}
container_memory_working_set_bytes{{container="c",namespace="ns",pod="p"}} 2.097152e+06 {stamp}
container_start_time_seconds{{container="c",namespace="ns",pod="p"}} 990.5
node_cpu_usage_seconds_total {cpu} {stamp}
node_memory_working_set_bytes 1048576 {stamp}
pod_cpu_usage_seconds_total{{namespace="ns",pod="p"}} 7 {stamp}
resource_scrape_error 0
"""
POD: Obj = {"metadata": {"name": "p", "namespace": "ns", "labels": {"a": "b"}}}


def test_rates_between_two_looks() -> None:
    before, last = (parse(TEXT.format(cpu=c, stamp=s), 0.0) for c, s in ((10, 1_000_000), (13, 1_015_000)))
    assert last.points[NODE] == Point(13.0, 1048576, 1015.0)
    made = pod_metrics(POD, before, last)
    assert made is not None
    assert made["containers"] == [{"name": "c", "usage": {"cpu": "200m", "memory": "2Mi"}}]
    assert (made["window"], made["timestamp"]) == ("15s", "1970-01-01T00:16:55Z")
    assert made["metadata"]["labels"] == {"a": "b"} and made["metadata"]["namespace"] == "ns"
    node = node_metrics({"metadata": {"name": "n"}}, before, last)
    assert node is not None and node["usage"] == {"cpu": "200m", "memory": "1Mi"}
    assert pod_metrics({"metadata": {"name": "other", "namespace": "ns"}}, before, last) is None


def test_containers_that_started_in_between() -> None:
    new = Point(3.0, 1, 1015.0, 1000.0)
    used = usage(None, new)
    assert used is not None and (used.cpu, used.window) == (0.2, 15.0)
    restarted = usage(Point(99.0, 1, 1001.0, 900.0), new)
    assert restarted is not None and restarted.cpu == 0.2
    assert usage(None, Point(3.0, 1, 1015.0)) is None  # nobody says since when
    assert usage(None, Point(3.0, 1, 1000.1, 1000.0)) is None  # too short
    assert usage(Point(1.0, 1, 1000.0), Point(None, 1, 1015.0)) is None


def test_durations() -> None:
    assert [duration(s) for s in (1, 15.0432, 75.5, 120)] == ["1s", "15.043s", "1m15.5s", "2m0s"]


@given(st.text(max_size=200))
def test_any_text_is_read(text: str) -> None:
    parse(text, 0.0)
    parse("node_cpu_usage_seconds_total " + text, 0.0)
