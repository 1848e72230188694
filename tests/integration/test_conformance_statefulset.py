"""StatefulSets as upstream's [sig-apps] conformance tests see them; a hollow kubelet plays the node."""

from __future__ import annotations

from typing import Any

from tests.integration.hollow import STRATEGIC, Api, Kubelet, Obj, workload

NAMESPACE = "sts"
NS = "/api/v1/namespaces/sts"
SETS = "/apis/apps/v1/namespaces/sts/statefulsets"
HASH = "controller-revision-hash"


class Set:
    def __init__(self, api: Api, name: str, replicas: int, **spec: Any) -> None:
        self.api, self.name, self.path = api, name, f"{SETS}/{name}"
        api.post(SETS, workload(name, {"foo": name}, replicas=replicas, serviceName="test", **spec))

    @property
    def status(self) -> Obj:
        return dict(self.api.get(self.path)["status"])

    @property
    def pods(self) -> list[Obj]:
        found = self.api.items(f"{NS}/pods", labelSelector=f"foo={self.name}")
        return sorted(found, key=lambda p: p["metadata"]["name"])

    @property
    def names(self) -> list[str]:
        return [p["metadata"]["name"] for p in self.pods]

    @property
    def revisions(self) -> list[str]:
        return [p["metadata"]["labels"][HASH] for p in self.pods]

    def ready(self, count: int) -> None:
        self.api.until(lambda: self.status.get("readyReplicas", 0) == count == len(self.pods))

    def observed(self) -> Obj:
        """The status once the controller has seen the newest spec."""
        return dict(
            self.api.until(
                lambda: (
                    (o := self.api.get(self.path))["status"].get("observedGeneration") == o["metadata"]["generation"]
                    and o["status"]
                )
            )
        )

    def image(self, image: str) -> None:
        def change(o: Obj) -> None:
            o["spec"]["template"]["spec"]["containers"][0]["image"] = image

        self.api.change(self.path, change)


def test_rolling_update_and_roll_back(api: Api, kubelet: Kubelet) -> None:
    s = Set(api, "roll", 3, updateStrategy={"type": "RollingUpdate"})
    s.ready(3)
    first = s.status["currentRevision"]
    assert first == s.status["updateRevision"] and s.revisions == [first] * 3
    kubelet.set(s.pods[1], ready=False)
    api.until(lambda: s.status["readyReplicas"] == 2)
    s.image("new")
    status = api.until(lambda: (t := s.status)["updateRevision"] != first and t)
    second = status["updateRevision"]
    assert status["currentRevision"] == first and s.revisions == [first] * 3  # an unready pod holds it up
    kubelet.set(s.pods[1])
    api.until(lambda: s.status["currentRevision"] == second and s.revisions == [second] * 3)
    s.image("httpd")
    api.until(lambda: s.status["currentRevision"] == first == s.status["updateRevision"])  # an old revision again
    s.ready(3)


def test_canary_and_phased_updates(api: Api, kubelet: Kubelet) -> None:
    s = Set(api, "canary", 3, updateStrategy={"type": "RollingUpdate", "rollingUpdate": {"partition": 3}})
    s.ready(3)
    old = s.status["currentRevision"]
    s.image("new")
    new = api.until(lambda: (t := s.status)["updateRevision"] != old and t["updateRevision"])
    assert s.revisions == [old] * 3

    def part(number: int) -> None:
        api.patch(s.path, {"spec": {"updateStrategy": {"rollingUpdate": {"partition": number}}}})

    part(2)
    api.until(lambda: s.revisions == [old, old, new])
    s.ready(3)
    before = {p["metadata"]["uid"] for p in s.pods}
    for name in ("canary-0", "canary-2"):
        api.delete(f"{NS}/pods/{name}")
    api.until(lambda: len({p["metadata"]["uid"] for p in s.pods} - before) == 2)
    s.ready(3)
    assert s.revisions == [old, old, new]  # a deleted pod comes back as the partition says
    for number, want in ((1, [old, new, new]), (0, [new, new, new])):
        part(number)
        api.until(lambda want=want: s.revisions == want)  # type: ignore[misc]
    api.until(lambda: s.status["currentRevision"] == new)


def test_scaling_is_ordered_and_halts(api: Api, kubelet: Kubelet) -> None:
    with api.watch(f"{NS}/pods", labelSelector="foo=scale") as watch:
        s = Set(api, "scale", 1)
        s.ready(1)
        kubelet.set(s.pods[0], ready=False)
        api.until(lambda: s.status.get("readyReplicas", 0) == 0)
        api.patch(s.path, {"spec": {"replicas": 3}})
        s.observed()
        assert len(s.pods) == 1  # halts while one is not healthy
        kubelet.set(s.pods[0])
        s.ready(3)
        for pod in s.pods:
            kubelet.set(pod, ready=False)
        api.until(lambda: s.status.get("readyReplicas", 0) == 0)
        api.patch(s.path, {"spec": {"replicas": 0}})
        s.observed()
        assert len(s.pods) == 3
        for pod in s.pods[:2]:
            kubelet.set(pod)  # the third, the only one left that is not healthy, may go
        watch.until("DELETED", lambda o: o["metadata"]["name"] == "scale-0")
        came = [e["object"]["metadata"]["name"] for e in watch.seen if e["type"] == "ADDED"]
        went = [e["object"]["metadata"]["name"] for e in watch.seen if e["type"] == "DELETED"]
        assert came == [f"scale-{i}" for i in (0, 1, 2)] and went == [f"scale-{i}" for i in (2, 1, 0)]


def test_burst_scaling_does_not_wait_for_health(api: Api, kubelet: Kubelet) -> None:
    s = Set(api, "burst", 1, podManagementPolicy="Parallel")
    s.ready(1)
    kubelet.set(s.pods[0], ready=False)
    api.patch(s.path, {"spec": {"replicas": 3}})
    api.until(lambda: len(s.pods) == 3)
    api.patch(s.path, {"spec": {"replicas": 0}})
    api.until(lambda: not s.pods and s.status["replicas"] == 0)


def test_a_failed_pod_is_made_again(api: Api, kubelet: Kubelet) -> None:
    s = Set(api, "evicted", 1)
    s.ready(1)
    pod = s.pods[0]
    with api.watch(f"{NS}/pods", labelSelector="foo=evicted", resourceVersion=pod["metadata"]["resourceVersion"]) as w:
        kubelet.set(pod, phase="Failed")
        w.until("DELETED")
        again = w.until("ADDED")
    assert again["metadata"]["name"] == "evicted-0" and again["metadata"]["uid"] != pod["metadata"]["uid"]


def test_scale_patch_and_delete_collection(api: Api, kubelet: Kubelet) -> None:
    s = Set(api, "sub", 1)
    s.ready(1)
    scale = api.get(f"{s.path}/scale")
    assert (scale["kind"], scale["spec"], scale["status"]["selector"]) == ("Scale", {"replicas": 1}, "foo=sub")
    scale["spec"]["replicas"] = 2
    scale["metadata"]["resourceVersion"] = ""  # unconditional
    assert api.put(f"{s.path}/scale", scale)["spec"]["replicas"] == 2
    api.patch(f"{s.path}/scale", {"spec": {"replicas": 4}}, type=STRATEGIC)
    assert api.get(s.path)["spec"]["replicas"] == 4
    inner = {"spec": {"containers": [{"name": "c", "image": "pause"}]}}
    patch = {"metadata": {"labels": {"patched": "yes"}}, "spec": {"replicas": 2, "template": inner}}
    patched = api.patch(s.path, patch, type=STRATEGIC)
    assert [c["image"] for c in patched["spec"]["template"]["spec"]["containers"]] == ["pause"]
    assert patched["spec"]["replicas"] == 2
    api.delete(SETS, labelSelector="patched=yes")
    api.until(lambda: api.gone(s.path) and not s.pods)


def test_status_is_written_and_put_right(api: Api, kubelet: Kubelet) -> None:
    s = Set(api, "told", 1)
    s.ready(1)
    with api.watch(SETS) as watch:

        def has(kind: str) -> Any:
            return lambda o: any(c["type"] == kind for c in o["status"].get("conditions", ()))

        told = {"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set from e2e test"}
        api.change(s.path, lambda o: o["status"].update(conditions=[told]), "/status")
        watch.until("MODIFIED", has("StatusUpdate"))
        api.patch(f"{s.path}/status", {"status": {"conditions": [{"type": "StatusPatched", "status": "True"}]}})
        watch.until("MODIFIED", has("StatusPatched"))


def test_start_ordinals_and_min_ready_seconds(api: Api, kubelet: Kubelet) -> None:
    s = Set(api, "ord", 2, ordinals={"start": 2})
    s.ready(2)
    assert s.names == ["ord-2", "ord-3"]
    api.patch(s.path, {"spec": {"ordinals": {"start": 0}}})
    api.until(lambda: s.names == ["ord-0", "ord-1"])
    slow = Set(api, "slow", 2, minReadySeconds=3, podManagementPolicy="Parallel")
    with api.watch(SETS, fieldSelector="metadata.name=slow") as watch:
        seen = watch.until("MODIFIED", lambda o: o["status"].get("readyReplicas") == 2)
        assert seen["status"]["availableReplicas"] < 2
    api.until(lambda: slow.status["availableReplicas"] == 2)
