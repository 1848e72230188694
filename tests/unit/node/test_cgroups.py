"""The cgroup of a pod: its numbers, and the files they end up in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stablehand.node import cgroups
from stablehand.node.cgroups import PodLimits, pod_cgroup_limits
from stablehand.node.resources import container_resources
from tests.unit.node.pods import container, make_pod
from tests.unit.node.test_configs import config

MIB = 1 << 20


def resources(cpu: str, memory: str, cpu_limit: str = "", memory_limit: str = "") -> dict[str, Any]:
    limits = {k: v for k, v in (("cpu", cpu_limit), ("memory", memory_limit)) if v}
    return {"resources": {"requests": {"cpu": cpu, "memory": memory}, "limits": limits}}


def test_a_pod_is_limited_in_what_all_of_it_is_limited_in() -> None:
    both = [container(n, **resources("50m", "10Mi", "100m", "20Mi")) for n in ("a", "b")]
    assert pod_cgroup_limits(make_pod(containers=both)) == PodLimits(102, 20000, 40 * MIB)
    half = [both[0], container("b", **resources("50m", "10Mi", memory_limit="20Mi"))]
    assert pod_cgroup_limits(make_pod(containers=half)) == PodLimits(102, 0, 40 * MIB)
    assert pod_cgroup_limits(make_pod()) == PodLimits(2, 0, 0)
    whole = resources("200m", "40Mi", "400m", "80Mi")
    assert pod_cgroup_limits(make_pod("a", "b", **whole)) == PodLimits(204, 40000, 80 * MIB)


def test_the_pods_limits_hold_for_containers_without_their_own() -> None:
    pod = make_pod(containers=[container("a"), container("b", **resources("1m", "1Mi", "100m", "20Mi"))])
    pod["spec"].update(resources("200m", "40Mi", "400m", "80Mi"))
    a, b = (container_resources(pod, c, 1 << 30) for c in pod["spec"]["containers"])
    assert (a.cpu_quota, a.memory_limit_in_bytes) == (40000, 80 * MIB)
    assert (b.cpu_quota, b.memory_limit_in_bytes) == (10000, 20 * MIB)
    assert a.oom_score_adj == 1000 - (1000 * (39 * MIB // 2)) // (1 << 30)


def test_version_1(tmp_path: Path) -> None:
    settings = config()
    places = [tmp_path / name / cgroups.pod_parent(settings, "u1").lstrip("/") for name in ("cpu", "memory")]
    for place, name in zip(places, ("cpu.cfs_quota_us", "memory.limit_in_bytes")):
        place.mkdir(parents=True)
        (place / name).write_text("-1")
    (places[0] / "cpu.shares").write_text("1024")
    grown = make_pod(containers=[container("c", **resources("50m", "10Mi", "100m", "20Mi"))])
    cgroups.apply(settings, grown, root=tmp_path)
    assert (places[0] / "cpu.shares").read_text() == "51" and (places[0] / "cpu.cfs_quota_us").read_text() == "10000"
    assert (places[1] / "memory.limit_in_bytes").read_text() == str(20 * MIB)


def test_version_2(tmp_path: Path) -> None:
    settings = config()
    (tmp_path / "cgroup.controllers").write_text("cpu memory")
    place = tmp_path / cgroups.pod_parent(settings, "u1").lstrip("/")
    place.mkdir(parents=True)
    for name in ("cpu.weight", "cpu.max", "memory.max"):
        (place / name).write_text("max 100000" if name == "cpu.max" else "max")
    cgroups.apply(settings, make_pod(**resources("1", "10Mi", "500m", "20Mi")), root=tmp_path)
    assert [(place / n).read_text() for n in ("cpu.weight", "cpu.max", "memory.max")] == [
        "39",
        "50000 100000",
        str(20 * MIB),
    ]
    cgroups.apply(settings, make_pod(**resources("1", "10Mi", "250m", "40Mi")), raising=True, root=tmp_path)
    assert (place / "cpu.max").read_text() == "50000 100000"
    assert (place / "memory.max").read_text() == str(40 * MIB)
    cgroups.apply(settings, make_pod(), raising=True, root=tmp_path)
    assert (place / "memory.max").read_text() == "max"


def test_those_of_pods_that_are_gone_are_removed(tmp_path: Path) -> None:
    settings = config()
    parent = tmp_path / settings.cgroup_parent.lstrip("/")
    for uid in ("u1", "u2"):
        (parent / f"pod{uid}").mkdir(parents=True)
    cgroups.remove_others(settings, {"u1"}, root=tmp_path)
    assert [p.name for p in parent.iterdir()] == ["podu1"]
    cgroups.remove(settings, "u1", root=tmp_path)
    assert not list(parent.iterdir())
