"""The scheduler and taint eviction as upstream's [sig-scheduling] conformance tests see them; a hollow kubelet plays
two nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.hollow import Api, Kubelet, Obj

NAMESPACE = "sched"
NS = "/api/v1/namespaces/sched"
FAKE = "example.com/fakecpu"
ONE, TWO = "/api/v1/nodes/one", "/api/v1/nodes/two"


@pytest.fixture(scope="module")
def nodes(api: Api) -> Iterator[Kubelet]:
    capacity = {"cpu": "4", "memory": "8Gi", "pods": "20", FAKE: "5"}
    made = Kubelet(api, "one", "two", capacity=capacity)
    yield made
    made.close()


class Pods:
    def __init__(self, api: Api) -> None:
        self.api = api

    def make(self, name: str, *, held: bool = False, labels: Obj | None = None, **spec: Any) -> Obj:
        """`held`: stays, deleted, until it is deleted with grace 0."""
        container: Obj = {"name": "c", "image": "x"}
        for key in ("resources", "ports"):
            if key in spec:
                container[key] = spec.pop(key)
        notes = {"hollow-stop": "hold"} if held else {}
        meta = {"name": name, "labels": labels or {}, "annotations": notes}
        grace = {"terminationGracePeriodSeconds": 30 if held else 0}
        return dict(
            self.api.post(f"{NS}/pods", {"metadata": meta, "spec": {"containers": [container], **grace, **spec}})
        )

    def get(self, name: str) -> Obj:
        return dict(self.api.get(f"{NS}/pods/{name}"))

    def node(self, name: str) -> str:
        return str(self.api.until(lambda: self.get(name)["spec"].get("nodeName")))

    def refusal(self, name: str) -> str:
        """Why it has no node."""

        def condition() -> Obj | None:
            found = self.get(name)["status"].get("conditions", ())
            return next((c for c in found if c["type"] == "PodScheduled" and c["status"] == "False"), None)

        said = self.api.until(condition)
        assert said["reason"] == "Unschedulable"
        return str(said["message"])

    def end(self, name: str) -> None:
        self.api.delete(f"{NS}/pods/{name}", {"gracePeriodSeconds": 0})

    def disruption(self, name: str) -> Obj:
        """Its DisruptionTarget condition, once it is being deleted."""
        pod = self.api.until(lambda: (p := self.get(name))["metadata"].get("deletionTimestamp") and p)
        return dict(next(c for c in pod["status"]["conditions"] if c["type"] == "DisruptionTarget"))


@pytest.fixture
def pods(api: Api, nodes: Kubelet) -> Iterator[Pods]:
    yield Pods(api)
    api.delete(f"{NS}/pods", {"gracePeriodSeconds": 0})
    api.until(lambda: not api.items(f"{NS}/pods"))
    for node in (ONE, TWO):
        api.patch(node, {"spec": {"taints": None, "unschedulable": None}})


def wants(amount: str) -> Obj:
    return {"requests": {FAKE: amount}, "limits": {FAKE: amount}}


def test_node_selectors_and_affinity(api: Api, pods: Pods) -> None:
    pods.make("sel", nodeSelector={"label": "nonempty"})
    assert "2 node(s) didn't match Pod's node affinity/selector" in pods.refusal("sel")
    api.patch(ONE, {"metadata": {"labels": {"label": "nonempty"}}})
    assert pods.node("sel") == "one"
    term = {"matchExpressions": [{"key": "label", "operator": "In", "values": ["nonempty"]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    pods.make("aff", affinity={"nodeAffinity": required})
    assert pods.node("aff") == "one"
    api.patch(ONE, {"metadata": {"labels": {"label": None}}})
    reasons = {e["reason"] for e in api.items(f"{NS}/events", fieldSelector="involvedObject.name=sel")}
    assert {"FailedScheduling", "Scheduled"} <= reasons


def test_resources_and_host_ports(api: Api, pods: Pods) -> None:
    pods.make("f1", resources={"requests": {"cpu": "3"}})
    pods.make("f2", resources={"requests": {"cpu": "3"}})
    assert {pods.node("f1"), pods.node("f2")} == {"one", "two"}
    pods.make("more", resources={"requests": {"cpu": "2"}})
    assert "2 Insufficient cpu" in pods.refusal("more")
    pods.end("f1")
    pods.node("more")
    pods.make("huge", resources=wants("6"))  # no node could ever have it
    assert "2 Preemption is not helpful for scheduling" in pods.refusal("huge")

    here = {"nodeSelector": {"kubernetes.io/hostname": "one"}}
    for number, (address, protocol) in enumerate((("127.0.0.1", "TCP"), ("10.0.0.1", "TCP"), ("10.0.0.1", "UDP"))):
        port = {"containerPort": 80, "hostPort": 54321, "protocol": protocol, "hostIP": address}
        pods.make(f"p{number}", ports=[port], **here)
        assert pods.node(f"p{number}") == "one"
    pods.make("p3", ports=[{"containerPort": 80, "hostPort": 54321}], **here)
    assert "1 node(s) didn't have free ports for the requested pod ports" in pods.refusal("p3")


def test_taints_and_unschedulable_nodes(api: Api, pods: Pods) -> None:
    taint = {"key": "e2e", "value": "testing", "effect": "NoSchedule"}
    api.patch(ONE, {"spec": {"taints": [taint]}})
    api.patch(TWO, {"spec": {"unschedulable": True}})
    api.until(lambda: api.get(TWO)["spec"].get("taints"))
    pods.make("plain")
    assert "1 node(s) had untolerated taint {e2e: testing}, 1 node(s) were unschedulable" in pods.refusal("plain")
    pods.make("tolerant", tolerations=[{**taint, "operator": "Equal"}])
    assert pods.node("tolerant") == "one"
    api.patch(ONE, {"spec": {"taints": None}})
    assert pods.node("plain") == "one"


def test_no_execute_evicts_at_once_later_or_never(api: Api, pods: Pods) -> None:
    taint = {"key": "k", "value": "v", "effect": "NoExecute"}
    tolerated = {**taint, "operator": "Equal"}
    pods.make("now", nodeName="one", held=True)
    pods.make("never", nodeName="one", tolerations=[tolerated])
    pods.make("later", nodeName="one", held=True, tolerations=[{**tolerated, "tolerationSeconds": 1}])
    pods.make("spared", nodeName="one", tolerations=[{**tolerated, "tolerationSeconds": 3600}])
    api.patch(ONE, {"spec": {"taints": [taint]}})  # no timeAdded: seconds count from when it is seen
    assert pods.disruption("now")["reason"] == "DeletionByTaintManager"
    assert pods.disruption("later")["reason"] == "DeletionByTaintManager"
    for name in ("never", "spared"):
        assert not pods.get(name)["metadata"].get("deletionTimestamp")


def test_preemption(api: Api, pods: Pods) -> None:
    classes = "/apis/scheduling.k8s.io/v1/priorityclasses"
    for name, value, more in (("low", 100, {}), ("high", 1000, {}), ("patient", 2000, {"preemptionPolicy": "Never"})):
        api.post(classes, {"metadata": {"name": name}, "value": value, **more})
    changed = api.call("PATCH", f"{classes}/high", {"value": 5}, type="application/merge-patch+json")
    assert changed.code == 422 and "may not be changed in an update" in changed.message
    pods.make("victim", priorityClassName="low", held=True, resources=wants("4"))
    pods.make("other", priorityClassName="high", resources=wants("4"))
    place = pods.node("victim")
    pods.node("other")
    pods.make("patient", priorityClassName="patient", resources=wants("4"))
    pods.refusal("patient")
    assert pods.get("patient")["spec"]["preemptionPolicy"] == "Never"
    assert not pods.get("victim")["metadata"].get("deletionTimestamp")
    pods.end("patient")
    pods.make("preemptor", priorityClassName="high", resources=wants("4"))
    assert pods.disruption("victim")["reason"] == "PreemptionByScheduler"
    nominated = api.until(lambda: pods.get("preemptor")["status"].get("nominatedNodeName"))
    assert nominated == place
    pods.end("victim")
    assert pods.node("preemptor") == place
    assert "nominatedNodeName" not in pods.get("preemptor")["status"]


def test_gates_spread_and_pods_that_keep_apart(api: Api, pods: Pods) -> None:
    pods.make("gated", schedulingGates=[{"name": "foo"}, {"name": "bar"}])
    (condition,) = pods.get("gated")["status"]["conditions"]
    assert (condition["type"], condition["reason"]) == ("PodScheduled", "SchedulingGated")
    gate, merge = f"{NS}/pods/gated", "application/merge-patch+json"
    added = api.call("PATCH", gate, {"spec": {"schedulingGates": [{"name": "new"}]}}, type=merge)
    assert "only deletion is allowed, but found new scheduling gates" in added.message
    api.patch(gate, {"spec": {"schedulingGates": [{"name": "bar"}], "nodeSelector": {"kubernetes.io/hostname": "two"}}})
    api.patch(gate, {"spec": {"schedulingGates": None}})
    assert pods.node("gated") == "two"

    apart = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule"}
    constraint = {**apart, "labelSelector": {"matchLabels": {"s": "s"}}}
    for number in range(4):
        pods.make(f"s{number}", labels={"s": "s"}, topologySpreadConstraints=[constraint])
    assert Counter(pods.node(f"s{n}") for n in range(4)) == {"one": 2, "two": 2}

    term = {"labelSelector": {"matchLabels": {"a": "a"}}, "topologyKey": "kubernetes.io/hostname"}
    anti = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    for number in range(3):
        pods.make(f"a{number}", labels={"a": "a"}, affinity=anti)
    assert {pods.node("a0"), pods.node("a1")} == {"one", "two"}
    assert "2 node(s) didn't match pod anti-affinity rules" in pods.refusal("a2")


def test_bindings(api: Api, pods: Pods) -> None:
    pods.make("own", schedulerName="other")
    binding = {"metadata": {"name": "own"}, "target": {"kind": "Node", "name": "one"}}
    api.post(f"{NS}/pods/own/binding", binding)
    again = api.call("POST", f"{NS}/pods/own/binding", binding)
    assert (again.code, again.message) == (
        409,
        'Operation cannot be fulfilled on pods/binding "own": pod own is already assigned to node "one"',
    )
