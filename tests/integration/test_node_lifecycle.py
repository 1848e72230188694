"""Lives of pods as the upstream conformance suite watches them: hooks, init containers, sidecars, probes, resize, refusals.

What containers find inside (files, environment, rights) is test_node_inside.py's.
"""

from __future__ import annotations

import glob
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stablehand.machinery.types import Obj
from tests.integration.nodecase import (
    WAIT,
    NodeCase,
    conditions,
    container,
    first,
    is_ready,
    mount,
    pod,
    running_node,
)

# Answers every request by its path: /moved leads to /gone, /away to another host, /gone fails; words go to the log.
SERVER = """while :; do nc -l -p 8080 -e sh -c 'read m p v; echo "asked $p" >>/proc/1/fd/1
while read h; do h=$(echo "$h" | tr -d "\\r"); [ -z "$h" ] && break; done
case $p in
/moved) printf "HTTP/1.0 302 Found\\r\\nLocation: /gone\\r\\n\\r\\n";;
/away) printf "HTTP/1.0 302 Found\\r\\nLocation: http://0.0.0.0/\\r\\n\\r\\n";;
/gone) printf "HTTP/1.0 500 Gone\\r\\n\\r\\n";;
*) printf "HTTP/1.0 200 OK\\r\\n\\r\\n";; esac'; done"""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeCase]:
    yield from running_node(tmp_path_factory.mktemp("l") / "x", "shtest7", "10.229.77.0/24", 10286)


def resources(cpu: str, memory: str, cpu_limit: str | None = None, memory_limit: str | None = None) -> Obj:
    return {
        "requests": {"cpu": cpu, "memory": memory},
        "limits": {"cpu": cpu_limit or cpu, "memory": memory_limit or memory},
    }


def http(path: str, **fields: Any) -> Obj:
    return {"httpGet": {"path": path, "port": 8080}, "periodSeconds": 1, "failureThreshold": 1, **fields}


def test_deleted_again_in_more_of_a_hurry(node: NodeCase) -> None:
    node.create(pod("slow", "trap : TERM; while :; do sleep 0.1; done", terminationGracePeriodSeconds=120))
    node.ready("slow")
    node.kubectl("delete", "pod", "slow", "--wait=false")
    node.event("slow", "Killing")
    began = time.monotonic()
    node.kubectl("delete", "pod", "slow", "--grace-period=1")
    assert time.monotonic() - began < 30


def test_hooks(node: NodeCase) -> None:
    node.create(pod("target", SERVER, restartPolicy="Always"))
    address = node.ready("target")["status"]["podIP"]

    def ask(path: str) -> Obj:
        return {"httpGet": {"path": path, "host": address, "port": 8080}}

    def fetch(path: str) -> Obj:
        return {"exec": {"command": ["wget", "-q", "-O-", f"http://{address}:8080{path}"]}}

    made = {
        "web": {"postStart": ask("/http-start"), "preStop": ask("/http-stop")},
        "exec": {"postStart": fetch("/exec-start"), "preStop": fetch("/exec-stop")},
        "sleeps": {"preStop": {"sleep": {"seconds": 2}}},
        "nosleep": {"preStop": {"sleep": {"seconds": 0}}},
    }
    node.create(
        *(pod(name, WAIT, of={"lifecycle": hooks}, terminationGracePeriodSeconds=20) for name, hooks in made.items()),
        # It ends by itself while its hook sleeps: nobody waits for the rest of the hook.
        pod(
            "ends",
            "trap : TERM; while [ ! -e /go ]; do sleep 0.1; done; sleep 1",
            of={"lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", "touch /go; sleep 30"]}}}},
            terminationGracePeriodSeconds=40,
        ),
        pod("broken", WAIT, of={"lifecycle": {"postStart": {"exec": {"command": ["false"]}}}}, restartPolicy="Always"),
    )
    took = {}
    for name in (*made, "ends"):
        node.ready(name)
        began = time.monotonic()
        node.kubectl("delete", "pod", name)
        took[name] = time.monotonic() - began
    for path in ("/http-start", "/http-stop", "/exec-start", "/exec-stop"):
        # What a server prints is in the log a moment after its answer.
        node.cluster.until(lambda path=path: f"asked {path}" in node.kubectl("logs", "target").stdout, 5)
    assert 1.9 < took["sleeps"] < 10 and took["nosleep"] < 8 and took["ends"] < 15, took
    node.until("broken", lambda s: first(s)["restartCount"] >= 1)
    assert "PostStartHook failed" in node.event("broken", "FailedPostStartHook")
    late = node.refused(
        pod("late", WAIT, of={"lifecycle": {"preStop": {"sleep": {"seconds": 9}}}}, terminationGracePeriodSeconds=5)
    )
    assert "must be non-negative and less than terminationGracePeriodSeconds (5)" in late
    node.remove("target", "broken")


def test_init_containers_and_sidecars(node: NodeCase, tmp_path: Path) -> None:
    shared = [mount("log", "/log")]

    def speak(name: str, then: str = "") -> str:
        return f"echo {name} >>/log/l; trap 'echo {name} ends >>/log/l; exit 0' TERM; {then}"

    forever = "while :; do sleep 0.1; done"
    startup = {"exec": {"command": ["cat", "/tmp/up"]}, "periodSeconds": 1, "failureThreshold": 20}
    probe = {"exec": {"command": ["cat", "/tmp/ok"]}, "periodSeconds": 1}
    ordered = pod(
        "ordered",
        speak("main", "sleep 1"),
        of={"volumeMounts": shared},
        initContainers=[
            container("i1", speak("i1"), volumeMounts=shared),
            container(
                "s1",
                speak("s1", f"sleep 0.5; touch /tmp/up; {forever}"),
                restartPolicy="Always",
                volumeMounts=shared,
                startupProbe=startup,
            ),
            container("i2", speak("i2"), volumeMounts=shared),
            container("s2", speak("s2", forever), restartPolicy="Always", volumeMounts=shared),
        ],
        volumes=[{"name": "log", "hostPath": {"path": str(tmp_path)}}],
    )
    fails = [container("i1", "exit 1"), container("i2", "true")]
    again = container("s", "sleep 0.5; exit 1", restartPolicy="Always")
    unready = container("s", WAIT, restartPolicy="Always", readinessProbe=probe)
    node.create(
        ordered,
        pod("fails", "true", initContainers=fails),
        pod("retries", "true", restartPolicy="Always", initContainers=fails),
        pod("again", "sleep 3", initContainers=[again]),
        pod("unready", WAIT, initContainers=[unready]),
    )
    failed = node.until("fails", lambda s: s["phase"] == "Failed")["status"]
    assert first(failed)["state"]["waiting"]["reason"] == "PodInitializing"
    assert conditions(failed)["Initialized"]["message"] == "containers with incomplete status: [i1 i2]"
    retried = node.until("retries", lambda s: first(s, "initContainerStatuses")["restartCount"] >= 1)["status"]
    assert retried["phase"] == "Pending" and conditions(retried)["Initialized"]["status"] == "False"
    node.until("again", lambda s: first(s, "initContainerStatuses")["restartCount"] >= 1)
    node.until("again", lambda s: s["phase"] == "Succeeded")
    waiting = node.until("unready", lambda s: first(s)["ready"])["status"]
    assert conditions(waiting)["Ready"]["message"] == "containers with unready status: [s]"
    node.kubectl("exec", "unready", "-c", "s", "--", "touch", "/tmp/ok")
    node.ready("unready")
    node.until("ordered", lambda s: s["phase"] == "Succeeded")
    assert (tmp_path / "l").read_text().split("\n")[:-1] == ["i1", "s1", "i2", "s2", "main", "s2 ends", "s1 ends"]
    node.remove("ordered", "fails", "retries", "again", "unready")


def test_probes_and_what_follows(node: NodeCase) -> None:
    stubborn = "trap '' TERM; while :; do sleep 1; done"
    never = {"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 1}
    slow = {"exec": {"command": ["sleep", "9"]}, "periodSeconds": 1, "timeoutSeconds": 1, "failureThreshold": 1}
    node.create(
        pod("moved", SERVER, restartPolicy="Always", of={"livenessProbe": http("/moved")}),
        pod("away", SERVER, restartPolicy="Always", of={"livenessProbe": http("/away", initialDelaySeconds=1)}),
        pod("slow", WAIT, restartPolicy="Always", of={"livenessProbe": slow}),
        pod("unready", WAIT, restartPolicy="Always", of={"readinessProbe": slow}),
        pod(
            "stubborn",
            stubborn,
            restartPolicy="Always",
            terminationGracePeriodSeconds=300,
            of={"startupProbe": {**never, "terminationGracePeriodSeconds": 1}},
        ),
        pod("grpc", WAIT, restartPolicy="Always", of={"livenessProbe": {**never, "exec": None, "grpc": {"port": 9}}}),
    )
    for name in ("moved", "slow", "stubborn", "grpc"):
        node.until(name, lambda s: first(s)["restartCount"] >= 1)
    assert "Probe terminated redirects" in node.event("away", "ProbeWarning")
    assert first(node.get("away")["status"])["restartCount"] == 0
    assert "timed out after 1s" in node.event("slow", "Unhealthy")
    assert node.event("stubborn", "Killing") == "Container c failed startup probe, will be restarted"
    unready = node.get("unready")["status"]
    assert not is_ready(unready) and first(unready)["restartCount"] == 0
    node.kubectl("delete", "pod", "--force", "moved", "away", "slow", "unready", "stubborn", "grpc")


def test_how_pods_and_containers_end(node: NodeCase) -> None:
    lines = "i=0; while [ $i -lt 100 ]; do echo l$i; i=$((i+1)); done; exit 2"
    fallback = {"terminationMessagePolicy": "FallbackToLogsOnError"}
    said = "echo -n OK >/dev/termination-log; echo DONE"
    own = {"terminationMessagePath": "/dev/mine", "securityContext": {"runAsUser": 1000}}
    over = "dd if=/dev/zero of=/e/x bs=1M count=3 2>/dev/null; sleep 100"
    node.create(
        pod("codes", containers=[container("a", "exit 0"), container("b", "exit 3")]),
        pod("own", "echo -n DONE >/dev/mine", of=own),
        pod("tail", lines, of=fallback),
        pod("file", said, of=fallback),
        pod("none", "echo DONE", of=fallback),
        pod("deadline", WAIT, restartPolicy="Always", activeDeadlineSeconds=2),
        pod("unsafe", "true", securityContext={"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}),
        pod(
            "huge",
            "true",
            nodeName=node.cluster.get("nodes")["items"][0]["metadata"]["name"],
            of={"resources": {"requests": {"cpu": "500"}}},
        ),
        pod(
            "fills",
            over,
            of={"volumeMounts": [mount("e", "/e")]},
            volumes=[{"name": "e", "emptyDir": {"sizeLimit": "1Mi"}}],
        ),
    )
    codes = node.until("codes", lambda s: s["phase"] == "Failed")["status"]["containerStatuses"]
    assert [(c["state"]["terminated"]["exitCode"], c["state"]["terminated"]["reason"]) for c in codes] == [
        (0, "Completed"),
        (3, "Error"),
    ]
    ended = {n: node.until(n, lambda s: s["phase"] in ("Succeeded", "Failed")) for n in ("own", "tail", "file", "none")}
    messages = {n: first(p["status"])["state"]["terminated"].get("message") for n, p in ended.items()}
    assert messages == {"own": "DONE", "tail": "".join(f"l{i}\n" for i in range(20, 100)), "file": "OK", "none": None}
    node.until("own", lambda s: conditions(s)["PodReadyToStartContainers"]["status"] == "False")
    reasons = {
        "deadline": "DeadlineExceeded",
        "unsafe": "SysctlForbidden",
        "huge": "OutOfcpu",
        "fills": "Evicted",
    }
    for name, reason in reasons.items():
        status = node.until(name, lambda s: s["phase"] == "Failed")["status"]
        assert status["reason"] == reason, status
        assert node.event(name, reason)
    status = node.get("fills")["status"]
    assert status["message"] == 'Usage of EmptyDir volume "e" exceeds the limit "1Mi". '
    assert conditions(status)["DisruptionTarget"]["reason"] == "TerminationByKubelet"
    assert 'forbidden sysctl: "kernel.msgmax" not allowlisted' in node.get("unsafe")["status"]["message"]
    bad = node.refused(pod("x", "true", securityContext={"sysctls": [{"name": "foo-", "value": "1"}]}))
    assert 'Invalid value: "foo-"' in bad


def limits_of(node: NodeCase, name: str) -> tuple[str, str]:
    """cpu quota and memory limit of the container's cgroup: (as the kernel has them)."""
    found = first(node.get(name)["status"])["containerID"].rpartition("/")[2]

    def read(*names: str) -> str:
        for file in names:
            for path in glob.glob(f"/sys/fs/cgroup/**/{found}/{file}", recursive=True):
                return Path(path).read_text().split()[0]
        raise AssertionError(f"no {names} of {name}")

    return read("cpu.cfs_quota_us", "cpu.max"), read("memory.limit_in_bytes", "memory.max")


def test_resize_in_place(node: NodeCase) -> None:
    restart = [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]
    node.create(
        pod("grows", WAIT, of={"resources": resources("100m", "32Mi", "200m", "64Mi")}),
        pod(
            "renews", WAIT, of={"resources": resources("100m", "32Mi"), "resizePolicy": restart}, restartPolicy="Always"
        ),
        pod("image", WAIT, restartPolicy="Always"),
    )

    def resize(name: str, to: Obj) -> None:
        patch = {"spec": {"containers": [{"name": "c", "resources": to}]}}
        node.kubectl("patch", "pod", name, "--subresource", "resize", "-p", str(patch).replace("'", '"'))

    def resized(name: str, to: Obj) -> Obj:
        return node.until(
            name, lambda s: first(s)["resources"] == to and not {t for t in conditions(s) if "Resize" in t}
        )["status"]

    node.ready("grows")
    assert limits_of(node, "grows") == ("20000", str(64 << 20))
    more = resources("150m", "48Mi", "300m", "96Mi")
    resize("grows", more)
    status = resized("grows", more)
    assert first(status)["restartCount"] == 0 and first(status)["allocatedResources"] == more["requests"]
    assert limits_of(node, "grows") == ("30000", str(96 << 20))
    assert '"generation":2' in node.event("grows", "ResizeCompleted")
    with pytest.raises(AssertionError, match="have enough allocatable resources: cpu, requested: 500000"):
        resize("grows", resources("500", "48Mi", "500", "96Mi"))
    resize("grows", resources("100m", "48Mi", "200m", "96Mi"))
    resized("grows", resources("100m", "48Mi", "200m", "96Mi"))
    # A demand that another pod leaves no room for waits until that pod is gone.
    cpus = int(node.cluster.get("nodes")["items"][0]["status"]["allocatable"]["cpu"])
    wanted = resources(f"{cpus * 1000 - 50}m", "48Mi", str(cpus), "96Mi")
    resize("grows", wanted)
    status = node.until("grows", lambda s: "PodResizePending" in conditions(s))["status"]
    assert conditions(status)["PodResizePending"]["reason"] == "Deferred"
    node.ready("renews")
    resize("renews", resources("100m", "64Mi"))
    assert first(resized("renews", resources("100m", "64Mi")))["restartCount"] == 1
    assert limits_of(node, "renews")[1] == str(64 << 20)
    assert node.event("renews", "Killing") == "Container c resize requires restart"
    node.kubectl("delete", "pod", "--now", "renews")
    if not_ours(node) <= 50:
        resized("grows", wanted)
    # Another image is another container, whatever the restart policy.
    node.ready("image")
    node.kubectl("set", "image", "pod/image", "c=docker.io/library/httpd:latest")
    node.until("image", lambda s: first(s)["restartCount"] == 1 and "httpd" in first(s)["image"])
    assert node.event("image", "Killing") == "Container c definition changed, will be restarted"
    node.remove("grows", "image")


def not_ours(node: NodeCase) -> int:
    """Milli-CPU that pods of the cluster itself ask for."""
    from stablehand.machinery.podresources import pod_requests

    items = node.cluster.get("pods", "-n", "kube-system")["items"]
    return sum(pod_requests(p["spec"]).get("cpu", 0) for p in items)


def test_runtime_classes(node: NodeCase) -> None:
    def runtime(name: str, handler: str, **fields: Any) -> Obj:
        return {
            "apiVersion": "node.k8s.io/v1",
            "kind": "RuntimeClass",
            "metadata": {"name": name},
            "handler": handler,
            **fields,
        }

    overhead = {"podFixed": {"cpu": "10m", "memory": "1Mi"}}
    node.create(runtime("known", "runc", overhead=overhead), runtime("unknown", "nope"))
    node.create(pod("heavy", "true", runtimeClassName="known"), pod("lost", "true", runtimeClassName="unknown"))
    assert node.until("heavy", lambda s: s["phase"] == "Succeeded")["spec"]["overhead"] == overhead["podFixed"]
    assert 'no runtime for "nope" is configured' in node.event("lost", "FailedCreatePodSandBox")
    assert 'RuntimeClass "gone" not found' in node.refused(pod("x", "true", runtimeClassName="gone"))
    node.remove("heavy", "lost")
