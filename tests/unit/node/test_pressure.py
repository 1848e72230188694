"""A machine that runs short: thresholds and their time, the order of eviction and its words, and images that may go."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stablehand.node.cri.pb import cri_pb2 as pb
from stablehand.node.imagegc import CannotFree, ImageGC
from stablehand.node.ranking import PodUsage, is_critical, message, pressure_refusal, rank
from stablehand.node.signals import Observation, Threshold, Watch, observe, parse_duration, parse_thresholds
from tests.unit.node.pods import container, make_pod

MEMORY = Threshold("memory.available", "100Mi")
MIB = 1 << 20


def test_thresholds() -> None:
    assert [t.signal for t in parse_thresholds(None)][:2] == ["memory.available", "nodefs.available"]
    assert Threshold("nodefs.available", "10%").amount(2000) == 200 and MEMORY.amount(1) == 100 * MIB
    soft = parse_thresholds({}, {"pid.available": "5%"}, {"pid.available": "1m30s"})
    assert soft == [Threshold("pid.available", "5%", 90.0)]
    assert parse_duration("1h0m0.5s") == 3600.5
    for wrong in (({"disk": "1"},), ({"memory.available": "x%"},), ({}, {"memory.available": "1"}, {})):
        with pytest.raises(ValueError):
            parse_thresholds(*wrong)


def test_conditions_outlive_their_cause_and_soft_thresholds_wait() -> None:
    watch = Watch([MEMORY, Threshold("memory.available", "1Gi", 30.0)], transition=300.0)
    low, soft, enough = (
        {"memory.available": Observation(n * MIB, 4096 * MIB), "nodefs.available": Observation(1, 100)}
        for n in (50, 500, 2000)
    )
    assert watch.look(enough, 0) == [] and not any(watch.conditions(0).values())
    assert watch.look(soft, 10) == []
    assert watch.conditions(10) == {"MemoryPressure": True, "DiskPressure": False, "PIDPressure": False}
    assert [t.value for t in watch.look(soft, 40)] == ["1Gi"]
    assert [t.value for t in watch.look(low, 50)] == ["100Mi", "1Gi"]
    assert watch.look(enough, 60) == []
    assert watch.conditions(349)["MemoryPressure"] and not watch.conditions(350)["MemoryPressure"]
    assert watch.look(soft, 400) == []  # the time began anew


def test_this_machine_can_be_observed(tmp_path: Path) -> None:
    seen = observe(tmp_path, tmp_path / "gone")
    assert {"memory.available", "nodefs.available", "pid.available"} <= set(seen)
    assert "imagefs.available" not in seen
    assert all(0 < o.available <= o.capacity for o in seen.values())


def asking(name: str, request: str = "", priority: int = 0, used: int = 10) -> tuple[Any, PodUsage]:
    resources = {"resources": {"requests": {"memory": request}}} if request else {}
    pod = make_pod(containers=[container("c", **resources)], priority=priority)
    pod["metadata"] = {**pod["metadata"], "name": name, "uid": name}
    return pod, PodUsage(memory={"c": used * MIB}, processes=used)


def test_the_order_of_eviction() -> None:
    pods = [
        asking("within", "64Mi"),
        asking("over", "4Mi"),
        asking("far over", "4Mi", used=90),
        asking("nothing asked"),
        asking("important", priority=1000, used=500),
        asking("critical", priority=2_000_001_000, used=900),
    ]
    order = [p["metadata"]["name"] for p in rank("memory.available", pods)]
    assert order == ["far over", "nothing asked", "over", "important", "within"]
    assert rank("pid.available", pods)[0]["metadata"]["name"] == "far over"
    assert is_critical(pods[-1][0])


def test_the_words_of_an_eviction() -> None:
    pod, usage = asking("p", "4Mi")
    assert message(MEMORY, Observation(78 * MIB, 1), pod, usage) == (
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 78Mi. Container c was using "
        "10Mi, request is 4Mi, has larger consumption of memory. "
    )


def test_what_a_node_under_pressure_takes() -> None:
    memory, disk = {"MemoryPressure": True, "DiskPressure": False}, {"DiskPressure": True}
    asks, _ = asking("asks", "4Mi")
    critical, _ = asking("critical", priority=2_000_000_000)
    taint = [{"key": "node.kubernetes.io/memory-pressure", "operator": "Exists"}]
    for pod in (asks, critical, make_pod(tolerations=taint), make_pod(tolerations=[{"operator": "Exists"}])):
        assert pressure_refusal(pod, memory) is None
    assert pressure_refusal(make_pod(), memory) == ("Evicted", "The node had condition: [MemoryPressure]. ")
    assert pressure_refusal(asks, disk) is not None and pressure_refusal(critical, disk) is None
    assert pressure_refusal(make_pod(), {"DiskPressure": False}) is None


class FakeRuntime:
    def __init__(self, *images: pb.Image) -> None:
        self.left = list(images)

    async def images(self) -> list[pb.Image]:
        return list(self.left)

    async def containers(self) -> list[pb.Container]:
        return [pb.Container(image=pb.ImageSpec(image="sha256:used"), image_ref="sha256:used")]

    async def remove_image(self, name: str) -> None:
        self.left = [image for image in self.left if image.id != name]


def pulled(name: str, size: int = 100) -> pb.Image:
    return pb.Image(id=f"sha256:{name}", repo_tags=[f"r/{name}:1"], repo_digests=[f"r/{name}@sha256:0"], size=size)


async def test_only_images_that_nobody_needs_and_that_can_be_pulled_again_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported = pb.Image(id="sha256:imported", repo_tags=["docker.io/library/mine:1"], size=100)
    runtime: Any = FakeRuntime(pulled("used"), pulled("named"), imported, pulled("old"), pulled("fresh"))
    images = ImageGC(lambda: runtime, tmp_path, lambda: ["r/named:1"])
    assert [i.id for i in await images.look()] == ["sha256:old", "sha256:fresh"]
    images.first_seen["sha256:old"] = 0.0
    assert await images.free(50) == 100
    assert [i.id for i in runtime.left] == ["sha256:used", "sha256:named", "sha256:imported", "sha256:fresh"]
    full = SimpleNamespace(f_blocks=1000, f_frsize=1, f_bavail=20)
    monkeypatch.setattr("stablehand.node.imagegc.os.statvfs", lambda _: full)
    with pytest.raises(CannotFree, match="Attempted to free 80 bytes, but only found 0 bytes"):
        await images.collect()  # the fresh one is too young
    assert await images.free(None) == 100
