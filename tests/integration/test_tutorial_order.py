"""The tutorial's first part on real containers: stable names, strict order, DNS, and what a problem stops."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.integration.conftest import ROOT, Cluster
from tests.integration.tutorial import SET, PodWatch, Tutorial, lose, set_ready, tutorial, words

CATTLE = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: cattle}
spec:
  replicas: 3
  selector: {matchLabels: {app: cattle}}
  template:
    metadata: {labels: {app: cattle}}
    spec:
      containers: [{name: myhttpd, image: httpd, ports: [{containerPort: 80}]}]
"""
PROBLEMS = {
    "no-image": '{name: c, image: "127.0.0.1:1/none:1"}',
    "exits": '{name: c, image: httpd, command: [sh, -c, "echo lost my configuration; exit 3"]}',
    "unready": "{name: c, image: httpd, readinessProbe: {periodSeconds: 1, httpGet: {port: 80, path: /none}}}",
}
PROBLEM_SET = """
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: NAME}
spec:
  serviceName: headless-svc
  replicas: 3
  selector: {matchLabels: {app: NAME}}
  template:
    metadata: {labels: {app: NAME}}
    spec: {terminationGracePeriodSeconds: 1, containers: [CONTAINER]}
---
"""


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tutorial]:
    with tutorial(tmp_path_factory.mktemp("order"), "1-order", 0, "httpd", kubelet_port=10270) as running:
        yield running


@pytest.fixture(scope="module")
def c(part: Tutorial) -> Cluster:
    return part.cluster


def names(c: Cluster, label: str) -> list[str]:
    return [pod["metadata"]["name"] for pod in c.get("pods", "-l", label)["items"]]


def test_pods_are_made_one_after_the_other(c: Cluster, part: Tutorial) -> None:
    with PodWatch(c) as watch:
        c.kubectl("apply", "-f", str(part.manifests))
        c.until(lambda: set_ready(c, 3))
        expected = [(what, f"{SET}-{i}") for i in range(3) for what in ("made", "ready")]
        c.until(lambda: len(watch.story(SET)) == 6, 10)
        assert watch.story(SET) == expected
    services = words(c.kubectl("get", "svc").stdout)
    assert services[0] == ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"]
    assert next(row for row in services if row[0] == "headless-svc")[1:5] == ["ClusterIP", "None", "<none>", "80/TCP"]
    pods = words(c.kubectl("get", "pod").stdout)
    assert pods[0] == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert [row[:4] for row in pods[1:]] == [[f"{SET}-{i}", "1/1", "Running", "0"] for i in range(3)]
    sets = words(c.kubectl("get", "statefulset").stdout)
    assert [sets[0], sets[1][:2]] == [["NAME", "READY", "AGE"], [SET, "3/3"]]
    wide = words(c.kubectl("get", "sts", "-o", "wide").stdout)
    assert [wide[0][3:], wide[1][3:]] == [["CONTAINERS", "IMAGES"], ["myhttpd", "httpd"]]


def test_names_inside_are_the_pods_names(c: Cluster) -> None:
    for index in range(3):
        assert c.kubectl("exec", f"{SET}-{index}", "--", "hostname").stdout == f"{SET}-{index}\n"
    every = {pod["metadata"]["name"]: pod["status"]["podIP"] for pod in c.get("pods")["items"]}
    assert len(set(every.values())) == 3
    full = f"{SET}-1.headless-svc.default.svc.cluster.local"
    for name in (full, f"{SET}-1.headless-svc"):
        answer = c.kubectl("exec", f"{SET}-0", "--", "getent", "hosts", name).stdout.split()
        assert answer == [every[f"{SET}-1"], full]
    answer = c.kubectl("exec", f"{SET}-0", "--", "getent", "ahostsv4", "headless-svc").stdout
    assert {line.split()[0] for line in answer.splitlines()} == set(every.values())


def test_a_deployments_pods_are_strangers(c: Cluster) -> None:
    with PodWatch(c) as watch:
        c.kubectl("apply", "-f", "-", stdin=CATTLE)
        c.kubectl("rollout", "status", "deployment/cattle", "--timeout=60s")
        first = set(names(c, "app=cattle"))
        c.until(lambda: len(watch.story("cattle-")) == 6, 10)
        assert [what for what, _ in watch.story("cattle-")][:3] == ["made"] * 3
    assert all(re.fullmatch(r"cattle-[a-f0-9]{8,10}-[a-z0-9]{5}", name) for name in first)
    lost = sorted(first)[0]
    c.kubectl("delete", "pod", lost)
    c.kubectl("rollout", "status", "deployment/cattle", "--timeout=60s")
    now = set(names(c, "app=cattle"))
    assert len(now) == 3 and len(now - first) == 1 and lost not in now
    c.kubectl("delete", "deployment", "cattle")


def test_a_deleted_pod_comes_back_as_itself(c: Cluster) -> None:
    before, after = lose(c, f"{SET}-1")
    assert after["status"]["podIP"] != before["status"]["podIP"]
    # Ready and resolvable are one thing: no wait here.
    answer = c.kubectl("exec", f"{SET}-0", "--", "getent", "hosts", f"{SET}-1.headless-svc").stdout.split()
    assert answer[0] == after["status"]["podIP"]
    assert c.kubectl("exec", f"{SET}-1", "--", "hostname").stdout == f"{SET}-1\n"


def test_scaling_keeps_the_order(c: Cluster) -> None:
    with PodWatch(c) as watch:
        c.kubectl("scale", "statefulset", SET, "--replicas=5")
        c.until(lambda: set_ready(c, 5))
        c.kubectl("scale", "statefulset", SET, "--replicas=2")
        c.until(lambda: set_ready(c, 2))
        gone = [("gone", f"{SET}-{i}") for i in (4, 3, 2)]
        c.until(lambda: [step for step in watch.story(SET) if step[0] == "gone"] == gone, 10)
        up = [step for step in watch.story(SET) if step[1] in (f"{SET}-3", f"{SET}-4") and step[0] != "gone"]
        assert up == [(what, f"{SET}-{i}") for i in (3, 4) for what in ("made", "ready")]
        # One at a time: the next is not even asked to end before the last is gone.
        order = [
            (kind == "DELETED", pod["metadata"]["name"])
            for kind, pod in watch.moments
            if pod["metadata"].get("deletionTimestamp")
        ]
        assert [name for i, (_, name) in enumerate(order) if not i or order[i - 1][1] != name] == [n for _, n in gone]
    assert names(c, "app=headless-pod") == [f"{SET}-0", f"{SET}-1"]


def waiting(c: Cluster, pod: str) -> str:
    statuses = (c.get("pod", pod).get("status") or {}).get("containerStatuses") or [{}]
    return str(((statuses[0].get("state") or {}).get("waiting") or {}).get("reason", ""))


def test_a_problem_of_the_first_pod_stops_the_following_ones(c: Cluster) -> None:
    text = "".join(PROBLEM_SET.replace("NAME", name).replace("CONTAINER", spec) for name, spec in PROBLEMS.items())
    with PodWatch(c) as watch:
        c.kubectl("apply", "-f", "-", stdin=text)
        c.until(lambda: waiting(c, "no-image-0") == "ImagePullBackOff")
        c.until(
            lambda: "Unhealthy" in c.kubectl("get", "events", "--field-selector=involvedObject.name=unready-0").stdout
        )
        # The third start comes ten seconds after the second: it must not look ready for a moment either.
        c.until(lambda: c.get("pod", "exits-0")["status"]["containerStatuses"][0]["restartCount"] >= 2)
        c.until(lambda: waiting(c, "exits-0") == "CrashLoopBackOff")
        made = {name for what, name in watch.story("") if what == "made"}
        ready = [step for step in watch.story("") if step[0] == "ready" and not step[1].startswith(SET)]
    assert made == {"no-image-0", "exits-0", "unready-0"}
    assert ready == []
    sets = {row[0]: row[1] for row in words(c.kubectl("get", "statefulsets").stdout)}
    pods = {row[0]: row[1:3] for row in words(c.kubectl("get", "pods").stdout)}
    assert all(sets[name] == "0/3" for name in PROBLEMS)
    assert pods["no-image-0"] in (["0/1", "ErrImagePull"], ["0/1", "ImagePullBackOff"])
    assert pods["unready-0"] == ["0/1", "Running"]
    assert pods["exits-0"] == ["0/1", "CrashLoopBackOff"]


def test_describe_and_events_say_why(c: Cluster) -> None:
    image = c.kubectl("describe", "pod", "no-image-0").stdout
    assert 'Failed to pull image "127.0.0.1:1/none:1"' in image and "Error: ErrImagePull" in image
    assert 'Back-off pulling image "127.0.0.1:1/none:1"' in image
    exits = c.kubectl("describe", "pod", "exits-0").stdout
    assert re.search(r"Last State:\s+Terminated\s+Reason:\s+Error\s+Exit Code:\s+3", exits)
    assert "Back-off restarting failed container c in pod exits-0_default" in exits
    assert c.kubectl("logs", "exits-0").stdout == "lost my configuration\n"
    assert c.kubectl("logs", "exits-0", "--previous").stdout == "lost my configuration\n"
    unready = c.kubectl("describe", "pod", "unready-0").stdout
    assert "Readiness probe failed: HTTP probe failed with statuscode: 404" in unready
    events = c.kubectl("get", "events").stdout
    for reason, about in (("Failed", "no-image-0"), ("BackOff", "exits-0"), ("Unhealthy", "unready-0")):
        assert re.search(rf"Warning\s+{reason}\s+pod/{about}", events)
    for name in PROBLEMS:
        described = c.kubectl("describe", "statefulset", name).stdout
        assert "1 total" in described or re.search(r"Replicas:\s+3 desired \| 1 total", described)
        assert f"Create Pod {name}-0 in StatefulSet {name} successful" in described
        assert f"{name}-1" not in described
    c.kubectl("delete", "statefulset", *PROBLEMS)


def test_stdin_is_half_closed(c: Cluster) -> None:
    assert c.kubectl("exec", "-i", f"{SET}-0", "--", "cat", stdin="x\n").stdout == "x\n"


def test_pods_outlive_a_restart_of_stablehand(c: Cluster) -> None:
    def containers() -> list[str]:
        found = c.get("pods", "-l", "app=headless-pod")["items"]
        return [s["containerID"] for pod in found for s in pod["status"]["containerStatuses"]]

    before = containers()
    c.stop()
    c.start()
    c.until(lambda: set_ready(c, 2))
    assert containers() == before


def test_the_default_class_gives_each_pod_its_own_claim_and_data(c: Cluster) -> None:
    example = str(ROOT / "examples" / "tutorial" / "order.yaml")
    c.kubectl("delete", "sts", SET, "--cascade=foreground")
    c.kubectl("apply", "-f", example)
    c.until(lambda: set_ready(c, 3))
    for index in range(3):
        c.kubectl("exec", f"{SET}-{index}", "--", "sh", "-c", f"echo {index} > /mnt/testfile")
    claims = {i["metadata"]["name"]: i["status"]["phase"] for i in c.get("pvc")["items"]}
    assert claims == {f"test-{SET}-{i}": "Bound" for i in range(3)}
    c.kubectl("delete", "sts", SET, "--cascade=foreground")
    c.kubectl("apply", "-f", example)
    c.until(lambda: set_ready(c, 3))
    for index in range(3):
        assert c.kubectl("exec", f"{SET}-{index}", "--", "cat", "/mnt/testfile").stdout == f"{index}\n"
