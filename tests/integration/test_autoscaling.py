"""A HorizontalPodAutoscaler follows what its pods use, through the real kubectl; the kubelet is played."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stablehand.machinery.conditions import get_condition
from tests.integration.conftest import Cluster
from tests.integration.played_kubelet import PlayedKubelet

STARTED = "2026-01-01T00:00:00Z"


def deployment(name: str, replicas: int) -> str:
    container = {"name": "c", "image": "x", "resources": {"requests": {"cpu": "100m"}}}
    template = {
        "metadata": {"labels": {"app": name}},
        "spec": {"nodeName": "n", "tolerations": [{"operator": "Exists"}], "containers": [container]},
    }
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
    return json.dumps({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec})


def pods(c: Cluster, name: str) -> list[Any]:
    return [p for p in c.get("pods", "-l", f"app={name}")["items"] if "deletionTimestamp" not in p["metadata"]]


def play(c: Cluster, kubelet: PlayedKubelet, name: str, cores: float) -> None:
    """Every pod runs since long ago, and uses so much."""
    for pod in pods(c, name):
        kubelet.use[("default", pod["metadata"]["name"], "c")] = (cores, 1 << 20)
        ready = {"type": "Ready", "status": "True", "lastTransitionTime": STARTED}
        status = {"status": {"phase": "Running", "startTime": STARTED, "conditions": [ready]}}
        c.kubectl("patch", "pod", pod["metadata"]["name"], "--subresource", "status", "-p", json.dumps(status))


def condition(c: Cluster, name: str, kind: str) -> tuple[str, str]:
    found = get_condition(c.get("hpa", name).get("status"), kind) or {}
    return found.get("status", ""), found.get("reason", "")


def test_scales_up(control_plane: Cluster, tmp_path: Path) -> None:
    c, kubelet = control_plane, PlayedKubelet(tmp_path)
    try:
        node = json.dumps(kubelet.node("n"))
        c.kubectl("create", "-f", "-", stdin=node)
        c.kubectl("replace", "--subresource", "status", "-f", "-", stdin=node)
        c.kubectl("create", "-f", "-", stdin=deployment("web", 2))
        c.until(lambda: len(pods(c, "web")) == 2)
        play(c, kubelet, "web", 0.2)
        c.kubectl("autoscale", "deployment", "web", "--min", "1", "--max", "4", "--cpu-percent", "80")
        c.until(lambda: c.get("deployment", "web")["spec"]["replicas"] == 4)
        c.until(lambda: "lastScaleTime" in c.get("hpa", "web")["status"])
        assert condition(c, "web", "ScalingActive") == ("True", "ValidMetricFound")
        assert condition(c, "web", "ScalingLimited") == ("True", "TooManyReplicas")
        current = c.get("hpa", "web")["status"]["currentMetrics"][0]["resource"]["current"]
        assert 195 <= current["averageUtilization"] <= 205  # the figures of a second
        assert f"cpu: {current['averageUtilization']}%/80%" in c.kubectl("get", "hpa", "web").stdout
        c.until(lambda: "SuccessfulRescale" in c.kubectl("get", "events").stdout)
    finally:
        kubelet.end()


def test_says_what_it_cannot_know(control_plane: Cluster) -> None:
    c = control_plane
    c.kubectl("create", "-f", "-", stdin=deployment("dark", 1))
    c.kubectl("autoscale", "deployment", "dark", "--min", "1", "--max", "5", "--cpu-percent", "50")
    c.until(lambda: condition(c, "dark", "ScalingActive") == ("False", "FailedGetResourceMetric"))
    assert condition(c, "dark", "AbleToScale") == ("True", "SucceededGetScale")
    assert "cpu: <unknown>/50%" in c.kubectl("get", "hpa", "dark").stdout
    c.until(lambda: "FailedGetResourceMetric" in c.kubectl("get", "events").stdout)
    external = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "lost"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "nowhere"},
            "maxReplicas": 3,
            "metrics": [
                {"type": "External", "external": {"metric": {"name": "q"}, "target": {"type": "Value", "value": "1"}}}
            ],
        },
    }
    c.kubectl("create", "-f", "-", stdin=json.dumps(external))
    c.until(lambda: condition(c, "lost", "AbleToScale") == ("False", "FailedGetScale"))
