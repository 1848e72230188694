"""What newer versions of Kubernetes let a pod ask for, as the upstream suites look at it: restart rules, environment files,
image volumes, resources of the pod as a whole; what this machine cannot do; and the kubelet's own server.

Lives of pods are test_node_lifecycle.py's, what containers find inside test_node_inside.py's.
"""

from __future__ import annotations

import glob
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stablehand.machinery.types import Obj
from tests.integration.nodecase import WAIT, NodeCase, conditions, container, first, is_ready, mount, pod, running_node

EMPTY: list[Obj] = [{"name": "v", "emptyDir": {}}]
ONCE = "if [ -f /m/done ]; then sleep 10000; else touch /m/done; exit 42; fi"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeCase]:
    yield from running_node(tmp_path_factory.mktemp("n") / "x", "shnodc0", "10.229.80.0/24", 10290)


def rules(action: str) -> dict[str, Any]:
    return {"restartPolicyRules": [{"action": action, "exitCodes": {"operator": "In", "values": [42]}}]}


def counts(status: Obj) -> dict[str, tuple[int, str]]:
    """Restarts and state of each container."""
    statuses = [*(status.get("initContainerStatuses") or ()), *status["containerStatuses"]]
    return {s["name"]: (s["restartCount"], next(iter(s["state"]))) for s in statuses}


def test_restart_rules(node: NodeCase) -> None:
    again = {"restartPolicy": "Never", **rules("RestartAllContainers"), "volumeMounts": [mount("v", "/m")]}
    side = container("side", "sleep 10000", restartPolicy="Always")
    begun = container("source", ONCE.replace("sleep 10000", "exit 0"), **again)
    node.create(
        pod("one", "exit 42", of={"restartPolicy": "Never", **rules("Restart")}),
        pod("none", "exit 1", of={"restartPolicy": "Never", **rules("Restart")}),
        pod("never", "exit 1", of={"restartPolicy": "Never"}, restartPolicy="Always"),
        pod(
            "all",
            initContainers=[container("init", "exit 0"), side],
            containers=[container("source", ONCE, **again), container("other", "sleep 10000")],
            volumes=EMPTY,
        ),
        pod("inits", initContainers=[side, begun], containers=[container("c", "sleep 10000")], volumes=EMPTY),
        pod("loops", "exit 42", of={**again, "volumeMounts": []}),
    )
    node.until("one", lambda s: first(s)["restartCount"] >= 1)
    for name in ("none", "never"):
        ended = node.until(name, lambda s: s["phase"] in ("Succeeded", "Failed"))["status"]
        assert ended["phase"] == "Failed" and first(ended)["restartCount"] == 0
    status = node.until("all", lambda s: counts(s)["other"] == (1, "running") and is_ready(s))["status"]
    assert counts(status) == {
        "init": (1, "terminated"),
        "side": (1, "running"),
        "source": (1, "running"),
        "other": (1, "running"),
    }
    assert all("terminated" in s["lastState"] for s in status["initContainerStatuses"] + status["containerStatuses"])
    assert conditions(status)["AllContainersRestarting"]["status"] == "False"
    status = node.ready("inits")["status"]
    assert counts(status) == {"side": (1, "running"), "source": (1, "terminated"), "c": (0, "running")}
    waits = node.until("loops", lambda s: first(s)["state"]["waiting"]["reason"] == "CrashLoopBackOff")["status"]
    assert first(waits)["restartCount"] == 1 and waits["phase"] == "Running"
    node.remove("one", "all", "inits", "loops")


def test_environment_files(node: NodeCase) -> None:
    def variable(name: str, **more: Any) -> Obj:
        return {"name": name, "valueFrom": {"fileKeyRef": {"volumeName": "v", "path": "e", "key": name, **more}}}

    def writes(line: str) -> list[Obj]:
        return [container("i", f'echo "{line}" >/v/e', volumeMounts=[mount("v", "/v")])]

    env = [variable("A"), variable("B", optional=True)]
    said = node.outputs(pod("reads", "echo $A-$B", of={"env": env}, initContainers=writes("A='a b'"), volumes=EMPTY))
    assert said["reads"] == "a b-\n"
    node.create(
        pod("lacks", "true", of={"env": env}, initContainers=writes("B='b'"), volumes=EMPTY),
        pod("spoilt", "true", of={"env": env}, initContainers=writes("A=a"), volumes=EMPTY),
    )
    for name, why in (("lacks", 'key "A" not found in file "e"'), ("spoilt", "couldn't parse env file")):
        found = node.until(name, lambda s: first(s)["state"]["waiting"]["reason"] == "CreateContainerConfigError")
        assert why in first(found["status"])["state"]["waiting"]["message"]
    bad = pod("x", "true", of={"env": env}, volumes=[{"name": "w", "emptyDir": {}}])
    assert "fileKeyRef.volumeName: Not found" in node.refused(bad)
    node.remove("lacks", "spoilt")


def test_image_volumes(node: NodeCase) -> None:
    def shows(name: str, image: str, policy: str, **fields: Any) -> Obj:
        volumes = [{"name": "i", "image": {"reference": image, "pullPolicy": policy}}]
        return pod(name, WAIT, of={"volumeMounts": [mount("i", "/i", **fields)]}, volumes=volumes)

    node.create(
        shows("shown", "busybox", "Always"),
        shows("part", "busybox", "IfNotPresent", subPath="etc"),
        shows("absent", "docker.io/library/nowhere:1", "Never"),
    )
    node.ready("shown")
    node.ready("part")
    assert "etc" in node.exec("shown", "ls", "/i").split() and "passwd" in node.exec("part", "ls", "/i").split()
    written = node.kubectl("exec", "shown", "--", "touch", "/i/x", check=False)
    assert "Read-only file system" in written.stderr
    node.until("absent", lambda s: first(s)["state"]["waiting"]["reason"] == "ErrImageNeverPull")
    uid = node.get("shown")["metadata"]["uid"]
    node.remove("shown", "part", "absent")
    node.cluster.until(lambda: uid not in Path("/proc/mounts").read_text(), 10)


def resources(cpu: str, memory: str, cpu_limit: str, memory_limit: str) -> Obj:
    return {"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": cpu_limit, "memory": memory_limit}}


def cgroup(found: Obj, file: str, of: str = "") -> str:
    """The first word of a cgroup file of a pod, or one of its containers."""
    below = f"pod{found['metadata']['uid']}/{of.rpartition('/')[2]}".rstrip("/")
    return Path(glob.glob(f"/sys/fs/cgroup/**/{below}/{file}", recursive=True)[0]).read_text().split()[0]


@pytest.mark.skipif(not Path("/sys/fs/cgroup/memory").is_dir(), reason="the file names are those of cgroup v1")
def test_resources_of_the_pod_as_a_whole(node: NodeCase) -> None:
    half = resources("50m", "10Mi", "100m", "20Mi")
    both = [container("c", WAIT, resources=half), container("d", WAIT, resources=half)]
    node.create(
        pod("whole", WAIT, resources=resources("200m", "40Mi", "400m", "80Mi")),
        pod("parts", containers=both),
    )
    whole = node.ready("whole")
    assert whole["status"]["qosClass"] == "Burstable"
    for of in ("", first(whole["status"])["containerID"]):
        assert cgroup(whole, "cpu.cfs_quota_us", of) == "40000"
        assert cgroup(whole, "memory.limit_in_bytes", of) == str(80 << 20)
    assert whole["status"]["resources"] == resources("200m", "40Mi", "400m", "80Mi")
    bigger = resources("300m", "50Mi", "500m", "90Mi")
    node.kubectl("patch", "pod", "whole", "--subresource", "resize", "-p", json.dumps({"spec": {"resources": bigger}}))
    whole = node.until("whole", lambda s: s["resources"] == bigger and len(conditions(s)) == 5)
    assert whole["status"]["allocatedResources"] == bigger["requests"] and first(whole["status"])["restartCount"] == 0
    for of in ("", first(whole["status"])["containerID"]):
        assert cgroup(whole, "cpu.cfs_quota_us", of) == "50000"
        assert cgroup(whole, "memory.limit_in_bytes", of) == str(90 << 20)
    parts = node.ready("parts")
    assert (cgroup(parts, "cpu.cfs_quota_us"), cgroup(parts, "memory.limit_in_bytes")) == ("20000", str(40 << 20))
    more = {"spec": {"containers": [{"name": "c", "resources": resources("80m", "30Mi", "300m", "50Mi")}]}}
    node.kubectl("patch", "pod", "parts", "--subresource", "resize", "-p", json.dumps(more))
    node.until("parts", lambda s: first(s)["resources"]["limits"]["cpu"] == "300m" and len(conditions(s)) == 5)
    assert (cgroup(parts, "cpu.cfs_quota_us"), cgroup(parts, "memory.limit_in_bytes")) == ("40000", str(70 << 20))
    node.remove("whole", "parts")
    uid = whole["metadata"]["uid"]
    node.cluster.until(lambda: not glob.glob(f"/sys/fs/cgroup/**/pod{uid}", recursive=True), 10)


def test_a_limit_below_what_is_used_waits(node: NodeCase) -> None:
    def to(limit: str) -> str:
        return json.dumps({"spec": {"containers": [{"name": "c", "resources": resources("1m", "1Mi", "1", limit)}]}})

    eats = "x=$(head -c 30000000 /dev/zero | tr '\\0' a); touch /tmp/full; " + WAIT
    full = {"readinessProbe": {"exec": {"command": ["cat", "/tmp/full"]}, "periodSeconds": 1}}
    node.create(pod("eater", eats, of={"resources": resources("1m", "1Mi", "1", "100Mi"), **full}))
    node.ready("eater")
    node.kubectl("patch", "pod", "eater", "--subresource", "resize", "-p", to("20Mi"))
    status = node.until("eater", lambda s: conditions(s)["PodResizeInProgress"]["reason"] == "Error")["status"]
    assert "cannot decrease memory limits" in conditions(status)["PodResizeInProgress"]["message"]
    assert first(status)["resources"]["limits"]["memory"] == "100Mi" and first(status)["restartCount"] == 0
    node.kubectl("patch", "pod", "eater", "--subresource", "resize", "-p", to("90Mi"))
    node.until("eater", lambda s: first(s)["resources"]["limits"]["memory"] == "90Mi" and len(conditions(s)) == 5)
    node.remove("eater")


def test_devices(node: NodeCase, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with open(disk, "wb") as f:
        f.truncate(8 << 20)
    attached = subprocess.run(["losetup", "--show", "-f", str(disk)], capture_output=True, text=True, check=False)
    if attached.returncode != 0:
        pytest.skip(f"no loop devices here: {attached.stderr}")
    device = attached.stdout.strip()
    here = {"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]}
    common = {"accessModes": ["ReadWriteOnce"], "volumeMode": "Block", "storageClassName": "raw"}
    volume = {
        "capacity": {"storage": "8Mi"},
        "local": {"path": device},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
        **common,
    }
    claim = {"resources": {"requests": {"storage": "1Mi"}}, **common}
    volumes = [{"name": "d", "persistentVolumeClaim": {"claimName": "raw"}}]
    try:
        node.create(
            {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "raw"}, "spec": volume},
            {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "raw"}, "spec": claim},
        )
        devices = {"volumeDevices": [{"name": "d", "devicePath": "/dev/xvda"}]}
        said = node.outputs(pod("raw", "ls -l /dev/xvda; echo kept >/dev/xvda", of=devices, volumes=volumes))
        assert said["raw"].startswith("b")
        node.create(pod("mounts", "true", of={"volumeMounts": [mount("d", "/d")]}, volumes=volumes))
        found = node.until("mounts", lambda s: first(s)["state"]["waiting"]["reason"] == "CreateContainerConfigError")
        assert "volumeMode Block, but is specified" in first(found["status"])["state"]["waiting"]["message"]
        node.remove("raw", "mounts")
    finally:
        subprocess.run(["losetup", "-d", device], check=True)
    assert disk.read_bytes()[:5] == b"kept\n"


def test_static_pods(node: NodeCase) -> None:
    folder = node.cluster.data_dir / "node" / "manifests"
    name = "web-" + node.cluster.get("nodes")["items"][0]["metadata"]["name"]

    def put(**meta: Any) -> None:
        made = pod("web", WAIT, restartPolicy="Always", terminationGracePeriodSeconds=0, meta=meta)
        (folder / "web.new").write_text(json.dumps(made))
        (folder / "web.new").rename(folder / "web.yaml")

    def shown() -> Obj:
        done = node.kubectl("get", "pod", name, "-o", "json", check=False)
        return json.loads(done.stdout) if done.returncode == 0 else {}

    put()
    node.cluster.until(shown, 10)
    uid = node.ready(name)["metadata"]["uid"]
    node.kubectl("delete", "pod", name, "--now")
    node.cluster.until(lambda: shown() and shown()["metadata"]["uid"] != uid, 10)  # its file is still there
    node.ready(name)
    put(labels={"v": "2"})
    node.cluster.until(lambda: shown() and shown()["metadata"].get("labels") == {"v": "2"}, 10)
    (folder / "web.yaml").unlink()
    node.cluster.until(lambda: not shown(), 10)


def test_sent_past_the_scheduler(node: NodeCase) -> None:
    name = node.cluster.get("nodes")["items"][0]["metadata"]["name"]
    offered = {"example.com/fake": "5"}
    patch = {"status": {"capacity": offered, "allocatable": offered}}
    node.kubectl("patch", "node", name, "--subresource", "status", "-p", json.dumps(patch))
    fake = {"resources": {"limits": {"example.com/fake": "2"}}}
    ports = {"ports": [{"containerPort": 80, "hostPort": 32098}]}
    node.create(
        pod("extended", WAIT, of=fake),
        pod("ported", WAIT, of=ports, nodeName=name),
        pod("elsewhere", WAIT, nodeName=name, nodeSelector={"no": "such"}),
    )
    node.ready("extended")
    node.ready("ported")
    node.create(pod("second", WAIT, of=ports, nodeName=name))
    for pod_name, reason in (("elsewhere", "NodeAffinity"), ("second", "NodePorts")):
        status = node.until(pod_name, lambda s: s["phase"] == "Failed")["status"]
        assert status["reason"] == reason and "Predicate" in status["message"]
    node.remove("extended", "ported", "elsewhere", "second")


def test_what_this_machine_cannot_do(node: NodeCase) -> None:
    wanted = {
        "userns": pod("userns", WAIT, hostUsers=False),
        "strict": pod("strict", WAIT, securityContext={"supplementalGroupsPolicy": "Strict"}),
        "deep": pod("deep", WAIT, of={"volumeMounts": [mount("v", "/v", readOnly=True, recursiveReadOnly="Enabled")]}),
    }
    wanted["deep"]["spec"]["volumes"] = EMPTY
    node.create(*wanted.values())
    assert "user namespaces is not supported by the runtime" in node.event("userns", "FailedCreatePodSandBox")
    node.until("strict", lambda s: s["reason"] == "SupplementalGroupsPolicyNotSupported" and s["phase"] == "Failed")
    waits = node.until("deep", lambda s: first(s)["state"]["waiting"]["reason"] == "CreateContainerConfigError")
    assert "requested recursive read-only mode" in first(waits["status"])["state"]["waiting"]["message"]
    unmasked = pod("x", "true", of={"securityContext": {"procMount": "Unmasked"}})
    assert "`hostUsers` must be false to use `Unmasked`" in node.refused(unmasked)
    node.remove(*wanted)


def test_the_end_of_deleted_pods(node: NodeCase) -> None:
    kept = {"finalizers": ["example.com/kept"]}
    script = "t() { rm /tmp/ready; sleep 6; exit 0; }; trap t TERM; touch /tmp/ready; while :; do sleep 0.1; done"
    probe = {"exec": {"command": ["cat", "/tmp/ready"]}, "periodSeconds": 1, "failureThreshold": 1}
    of = {"readinessProbe": probe, "livenessProbe": probe}
    node.create(
        pod("unpulled", WAIT, meta=kept, of={"image": "nowhere.invalid/x:1", "imagePullPolicy": "Never"}),
        pod("leaves", script, restartPolicy="Always", terminationGracePeriodSeconds=20, of=of),
        pod("hasty", WAIT, terminationGracePeriodSeconds=-1),
    )
    assert node.get("hasty")["spec"]["terminationGracePeriodSeconds"] == 1
    node.until("unpulled", lambda s: "waiting" in first(s)["state"])
    node.ready("leaves")
    node.kubectl("delete", "pod", "unpulled", "leaves", "hasty", "--wait=false")
    over = node.until("unpulled", lambda s: s["phase"] == "Failed")["status"]
    assert first(over)["state"]["terminated"]["reason"] == "ContainerStatusUnknown"
    node.kubectl("patch", "pod", "unpulled", "-p", '{"metadata":{"finalizers":null}}')
    # While it ends it is still asked whether it is ready, and no longer whether it lives.
    leaving = node.until("leaves", lambda s: not is_ready(s))
    assert first(leaving["status"])["restartCount"] == 0 and "running" in first(leaving["status"])["state"]


def test_the_kubelets_server(node: NodeCase) -> None:
    name = node.cluster.get("nodes")["items"][0]["metadata"]["name"]

    def ask(path: str) -> str:
        return node.kubectl("get", "--raw", f"/api/v1/nodes/{name}/proxy/{path}").stdout

    node.create(pod("busy", WAIT))
    node.ready("busy")
    told = json.loads(ask("configz"))["kubeletconfig"]
    assert told["evictionHard"]["memory.available"] == "100Mi" and told["maxPods"] == 110
    assert ask("healthz") == "ok" and "dpkg" in ask("logs/")
    running = json.loads(ask("runningpods/"))["items"]
    assert "busy" in [p["metadata"]["name"] for p in running]
    summary = json.loads(ask("stats/summary"))
    assert summary["node"]["rlimit"]["curproc"] > 0
    (busy,) = [p for p in summary["pods"] if p["podRef"]["name"] == "busy"]
    assert busy["process_stats"]["process_count"] >= 1

    def rate() -> Any:
        pods = json.loads(ask("stats/summary"))["pods"]
        return next(p["cpu"].get("usageNanoCores") for p in pods if p["podRef"]["name"] == "busy")

    node.cluster.until(rate, 10)
    node.remove("busy")
