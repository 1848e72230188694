"""What a node refuses, evicts and grants: sysctls, room, disk limits, resizes, and other images."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stablehand.node.admit import misplaced, obstacle, refusal, sysctl_name
from stablehand.node.changes import changed_resources, follow, granted_pod, needs_restart, resizable
from stablehand.node.eviction import Usage, excess, limited_volumes, tree_size
from stablehand.node.plan import StartContainer, make_plan
from stablehand.node.sandbox import SandboxError, hostname, sandbox_config
from stablehand.node.state import Memory, Observed, RestartBackoff
from stablehand.node.status import build, difference
from stablehand.node.volumes.emptydir import memory_size
from tests.unit.node.pods import container, make_pod, observed, record, settled
from tests.unit.node.test_configs import config

ROOM = {"cpu": "2", "memory": "1Gi", "pods": "3"}


@pytest.mark.parametrize(
    ("name", "more", "problem"),
    [
        ("kernel.shm_rmid_forced", {}, ""),
        ("net/ipv4/tcp_syncookies", {}, ""),
        ("kernel.msgmax", {}, '"kernel.msgmax" not allowlisted'),
        ("net.ipv4.tcp_rmem", {"hostNetwork": True}, '"net.ipv4.tcp_rmem" not allowed with host net enabled'),
        ("kernel.shm_rmid_forced", {"hostIPC": True}, '"kernel.shm_rmid_forced" not allowed with host ipc enabled'),
    ],
)
def test_sysctls(name: str, more: dict[str, bool], problem: str) -> None:
    pod = make_pod(securityContext={"sysctls": [{"name": name, "value": "1"}]}, **more)
    expected = ("SysctlForbidden", f"forbidden sysctl: {problem}") if problem else None
    assert refusal(pod, (), ROOM) == expected


def test_what_others_offer_on_the_node_is_not_counted_here() -> None:
    extended = {"resources": {"requests": {"example.com/fake": "2"}}}
    assert refusal(make_pod(containers=[container("c", **extended)]), (), ROOM) is None


def test_pods_that_should_not_have_come() -> None:
    node = {"metadata": {"name": "n1", "labels": {"a": "b"}}, "spec": {}}
    port = {"ports": [{"containerPort": 80, "hostPort": 80}]}
    taken = make_pod(containers=[container("c", **port)])
    assert misplaced(taken, node, []) is None and (misplaced(taken, node, [taken]) or "")[0] == "NodePorts"
    assert misplaced(make_pod(nodeSelector={"a": "b"}), node, []) is None
    assert misplaced(make_pod(nodeSelector={"a": "c"}), node, []) == (
        "NodeAffinity",
        "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector",
    )
    node["spec"] = {"taints": [{"key": "k", "effect": "NoSchedule"}]}
    assert misplaced(make_pod(), node, []) is None
    node["spec"] = {"taints": [{"key": "k", "effect": "NoExecute"}]}
    assert (misplaced(make_pod(), node, []) or "")[0] == "TaintToleration"
    assert misplaced(make_pod(tolerations=[{"operator": "Exists"}]), node, []) is None


def test_another_system() -> None:
    refused = refusal(make_pod(os={"name": "windows"}), (), ROOM)
    assert refused is not None and refused[0] == "PodOSNotSupported"
    refused = refusal(make_pod(nodeSelector={"kubernetes.io/os": "windows"}), (), ROOM)
    assert refused is not None and refused[0] == "PodOSSelectorNodeLabelDoesNotMatch"
    assert refusal(make_pod(os={"name": "linux"}, nodeSelector={"kubernetes.io/os": "linux"}), (), ROOM) is None


def test_sysctl_names_with_slashes() -> None:
    assert sysctl_name("net/ipv4/conf/eth0.1/x") == "net.ipv4.conf.eth0/1.x"
    assert sysctl_name("net.ipv4.conf.eth0/1.x") == "net.ipv4.conf.eth0/1.x"
    assert sysctl_name("plain") == "plain"
    # The runtime knows the names with dots only: with slashes its own default might win.
    pod = make_pod(securityContext={"sysctls": [{"name": "net/ipv4/ip_unprivileged_port_start", "value": "80"}]})
    told = sandbox_config(config(), pod, 0).linux.sysctls
    assert dict(told) == {"net.ipv4.ip_unprivileged_port_start": "80"}


def test_room() -> None:
    asks = [make_pod(containers=[container("c", resources={"requests": {"cpu": "600m"}})]) for _ in range(4)]
    assert refusal(asks[0], asks[1:3], ROOM) is None
    text = "Node didn't have enough resource: pods, requested: 1, used: 3, capacity: 3"
    assert refusal(asks[0], asks[1:], ROOM) == ("OutOfpods", text)
    big = make_pod(containers=[container("c", resources={"requests": {"cpu": "1500m"}})])
    text = "Node didn't have enough resource: cpu, requested: 1500, used: 600, capacity: 2000"
    assert refusal(big, asks[:1], ROOM) == ("OutOfcpu", text)


def test_eviction() -> None:
    limit = {"limits": {"ephemeral-storage": "1Mi"}}
    volumes = [
        {"name": "e", "emptyDir": {"sizeLimit": "1Mi"}},
        {"name": "m", "emptyDir": {"sizeLimit": "1Mi", "medium": "Memory"}},
    ]
    pod = make_pod(containers=[container("a", resources=limit), container("b")], volumes=volumes)
    assert limited_volumes(pod) == {"e": "1Mi"}
    assert excess(pod, Usage({"e": 1 << 20}, {"a": 1 << 20, "b": 1 << 30})) is None
    full = excess(pod, Usage({"e": (1 << 20) + 1}))
    assert full == 'Usage of EmptyDir volume "e" exceeds the limit "1Mi". '
    greedy = excess(pod, Usage({}, {"a": (1 << 20) + 1}))
    assert greedy == 'Container a exceeded its local ephemeral storage limit "1Mi". '
    both = make_pod(containers=[container("a", resources=limit), container("b", resources=limit)])
    total = excess(both, Usage({"x": 1 << 20}, {"a": 1 << 20, "b": 1 << 10}))
    assert total == "Pod ephemeral local storage usage exceeds the total limit of containers 2Mi. "


def test_tree_size(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_bytes(b"x" * 10_000)
    (tmp_path / "again").hardlink_to(tmp_path / "d" / "f")
    assert 10_000 <= tree_size(tmp_path) < 20_000


def test_size_of_a_volume_in_memory() -> None:
    pod = make_pod(containers=[container("a", resources={"limits": {"memory": "32Mi"}}), container("b")])
    assert memory_size(pod, {}, {"memory": "1Gi"}) == 32 << 20
    assert memory_size(pod, {"sizeLimit": "1Mi"}, {"memory": "1Gi"}) == 1 << 20
    assert memory_size(make_pod(), {}, {"memory": "1Gi"}) == 1 << 30


def test_what_a_resize_changes() -> None:
    old = {"requests": {"cpu": "100m", "memory": "1Gi"}}
    assert changed_resources(old, {"requests": {"cpu": "0.1", "memory": "1024Mi"}}) == set()
    assert changed_resources(old, {**old, "limits": {"cpu": "1"}}) == {"cpu"}
    policy = {"resizePolicy": [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]}
    assert needs_restart(policy, {"memory"}) and not needs_restart(policy, {"cpu"})
    sidecar = container("s", restartPolicy="Always")
    pod = make_pod(initContainers=[container("i"), sidecar])
    assert [c["name"] for c in resizable(pod)] == ["s", "c"]
    granted = granted_pod(pod, {"c": old})
    assert granted["spec"]["containers"][0]["resources"] == old and "resources" not in pod["spec"]["containers"][0]


def test_a_resize_shows_in_the_status_and_leaves_it() -> None:
    pod = make_pod()
    given = {"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}
    memory = settled(allocated={"c": given}, resize_pending=("Deferred", "no room"), resizing=True)
    status = build(pod, observed(record("c", resources={"requests": {"cpu": "500m"}})), memory, "1.1.1.1", 1.0)
    shown = status["containerStatuses"][0]
    assert shown["resources"] == {"requests": {"cpu": "500m"}} and shown["allocatedResources"] == {"cpu": "1"}
    kinds = {c["type"]: c.get("reason") for c in status["conditions"]}
    assert kinds["PodResizePending"] == "Deferred" and "PodResizeInProgress" in kinds
    memory.resize_pending, memory.resizing = None, False
    after = build({**pod, "status": status}, observed(record("c")), memory, "1.1.1.1", 2.0)
    patch = difference(status, after)
    assert patch is not None
    gone = [c["type"] for c in patch["conditions"] if c.get("$patch") == "delete"]
    assert sorted(gone) == ["PodResizeInProgress", "PodResizePending"]


def test_a_replaced_container_starts_at_once_whatever_the_policy() -> None:
    pod = make_pod(restartPolicy="Never")
    memory = settled(backoff={"c": RestartBackoff(300.0, 90.0)})
    plan = make_plan(pod, observed(record("c", "exited", finished_at=99.0, replaced=True)), memory, 100.0)
    assert plan.actions == [StartContainer("main", "c", 1)] and not plan.over


def test_a_name_that_is_too_long_for_the_kernel() -> None:
    pod = make_pod(hostname="h" * 60, subdomain="sub", setHostnameAsFQDN=True)
    with pytest.raises(SandboxError, match="64 characters is the max"):
        hostname(config(), pod)


def test_what_the_machine_cannot_do_keeps_a_pod_waiting_or_out() -> None:
    confined = make_pod(containers=[container("c", securityContext={"appArmorProfile": {"type": "RuntimeDefault"}})])
    why = obstacle(confined, apparmor=False)
    assert why == ("AppArmor", "Cannot enforce AppArmor: AppArmor is not enabled on the host")
    assert obstacle(confined, apparmor=True) is None and obstacle(make_pod(), apparmor=False) is None
    status = build(confined, Observed(), Memory(blocked=why), "h", 1000.0)
    assert (status["phase"], status["reason"], status["message"]) == ("Pending", *why)
    assert status["containerStatuses"][0]["state"] == {"waiting": {"reason": "Blocked"}}
    strict = make_pod(securityContext={"supplementalGroupsPolicy": "Strict"})
    assert (refusal(strict, (), ROOM) or ("",))[0] == "SupplementalGroupsPolicyNotSupported"
    with pytest.raises(SandboxError, match="user namespaces is not supported by the runtime"):
        sandbox_config(config(), make_pod(hostUsers=False), 0)


def test_mounts_are_told_in_the_status() -> None:
    mounts = [{"name": "a", "mountPath": "/a"}, {"name": "b", "mountPath": "/b", "readOnly": True}]
    pod = make_pod(containers=[container("c", volumeMounts=mounts)])
    shown = build(pod, observed(record("c")), settled(), "h", 1000.0)["containerStatuses"][0]["volumeMounts"]
    assert shown == [mounts[0], {**mounts[1], "recursiveReadOnly": "Disabled"}]


def test_a_resize_for_which_the_node_has_become_too_small_is_in_vain() -> None:
    events: list[tuple[str, ...]] = []
    room = SimpleNamespace(allocatable=lambda: {"cpu": "1"}, event=lambda pod, *told: events.append(told))
    worker: Any = SimpleNamespace(
        pod=make_pod(containers=[container("c", resources={"requests": {"cpu": "2"}})]),
        memory=settled(allocated={"c": {"requests": {"cpu": "1"}}}),
        observed=Observed(),
        node=room,
        agent=SimpleNamespace(neighbours=lambda worker: ()),
    )
    follow(worker)
    why = "Node didn't have enough capacity: cpu, requested: 2000, capacity: 1000"
    assert worker.memory.resize_pending == ("Infeasible", why)
    assert events == [("Warning", "ResizeInfeasible", f"Pod resize Infeasible: {why}")]
