"""The status of a pod as computed, and that its patch leads to it under the API's own strategic merge."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from stablehand.machinery.conditions import get_condition
from stablehand.machinery.patch import strategic_merge_patch
from stablehand.machinery.schema import schema_for
from stablehand.machinery.types import Obj
from stablehand.node.state import Memory, Observed, Trouble
from stablehand.node.status import build, difference
from tests.unit.node.pods import container, make_pod, observed, record, settled

NOW = 1000.0


def condition(status: Obj, kind: str) -> tuple[str, str]:
    found = get_condition(status, kind)
    assert found is not None
    return found["status"], found.get("reason", "")


def test_from_nothing_to_ready() -> None:
    pod = make_pod()
    status = build(pod, Observed(), Memory(), "10.0.0.1", NOW)
    assert status["phase"] == "Pending" and "podIP" not in status
    assert status["containerStatuses"][0]["state"] == {"waiting": {"reason": "ContainerCreating"}}
    assert condition(status, "Ready") == ("False", "ContainersNotReady")
    assert condition(status, "PodReadyToStartContainers") == ("False", "")
    memory = settled(started={"c-0"})
    status = build(pod, observed(record("c", started_at=NOW)), memory, "10.0.0.1", NOW)
    assert (status["phase"], status["podIP"], status["hostIP"]) == ("Running", "10.0.0.5", "10.0.0.1")
    for kind in ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"):
        assert condition(status, kind)[0] == "True"
    assert status["containerStatuses"][0]["containerID"] == "containerd://c-0"


def test_a_deleted_pod_ends_as_one_that_is_over() -> None:
    status = build(make_pod(), Observed(), Memory(terminating=True, final=True), "h", NOW)
    assert status["phase"] == "Failed" and condition(status, "Ready") == ("False", "PodFailed")
    assert status["containerStatuses"][0]["state"]["terminated"]["reason"] == "ContainerStatusUnknown"
    begun = make_pod(initContainers=[container("i")])
    status = build(begun, observed(record("i", "exited", exit_code=1)), Memory(final=True), "h", NOW)
    assert status["phase"] == "Failed" and "waiting" in status["containerStatuses"][0]["state"]


def test_readiness_needs_probe_and_gates() -> None:
    pod = make_pod(containers=[container("c", readinessProbe={"tcpSocket": {"port": 1}})])
    memory = settled(started={"c-0"})
    assert condition(build(pod, observed(record("c")), memory, "h", NOW), "Ready")[0] == "False"
    memory.ready["c-0"] = True
    assert condition(build(pod, observed(record("c")), memory, "h", NOW), "Ready")[0] == "True"
    pod["spec"]["readinessGates"] = [{"conditionType": "my/gate"}]
    status = build(pod, observed(record("c")), memory, "h", NOW)
    assert condition(status, "Ready") == ("False", "ReadinessGatesNotReady")
    assert condition(status, "ContainersReady")[0] == "True"
    pod["status"] = {"conditions": [{"type": "my/gate", "status": "True"}]}
    assert condition(build(pod, observed(record("c")), memory, "h", NOW), "Ready")[0] == "True"


def test_crash_loop_and_image_trouble() -> None:
    memory = settled(waiting={"c": Trouble("CrashLoopBackOff", "back-off")})
    gone = record("c", "exited", 2, exit_code=137, reason="OOMKilled", finished_at=NOW)
    status = build(make_pod(), observed(gone), memory, "h", NOW)["containerStatuses"][0]
    assert status["state"] == {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
    assert status["lastState"]["terminated"]["reason"] == "OOMKilled"
    assert status["restartCount"] == 2
    memory = settled(waiting={"c": Trouble("ErrImagePull", "no")})
    status = build(make_pod(), observed(), memory, "h", NOW)
    assert status["containerStatuses"][0]["state"]["waiting"]["reason"] == "ErrImagePull"
    assert status["phase"] == "Pending"


def test_ends() -> None:
    done = make_pod(restartPolicy="Never")
    ok, bad = record("c", "exited"), record("c", "exited", exit_code=2)
    assert build(done, observed(ok), settled(), "h", NOW)["phase"] == "Succeeded"
    assert condition(build(done, observed(ok), settled(), "h", NOW), "Ready") == ("False", "PodCompleted")
    assert build(done, observed(bad), settled(), "h", NOW)["phase"] == "Failed"
    assert build(make_pod(), observed(ok), settled(terminating=True), "h", NOW)["phase"] == "Succeeded"
    failed = settled(failed=("DeadlineExceeded", "text"), terminating=True)
    status = build(make_pod(), observed(record("c")), failed, "h", NOW)
    assert (status["phase"], status["reason"]) == ("Failed", "DeadlineExceeded")
    finished = make_pod(status={"phase": "Succeeded"})
    assert build(finished, observed(), settled(), "h", NOW)["phase"] == "Succeeded"


def test_init_containers_show() -> None:
    pod = make_pod(initContainers=[container("one"), container("side", restartPolicy="Always")])
    status = build(pod, observed(record("one")), settled(), "h", NOW)
    assert status["containerStatuses"][0]["state"]["waiting"]["reason"] == "PodInitializing"
    assert condition(status, "Initialized") == ("False", "ContainersNotInitialized")
    assert get_condition(status, "Initialized")["message"] == "containers with incomplete status: [one side]"  # type: ignore[index]
    memory = settled(started={"side-0", "c-0"})
    status = build(pod, observed(record("one", "exited"), record("side"), record("c")), memory, "h", NOW)
    assert condition(status, "Initialized")[0] == "True" and condition(status, "Ready")[0] == "True"


def test_nothing_changed_is_no_patch_and_foreign_conditions_stay() -> None:
    pod = make_pod()
    memory = settled(started={"c-0"}, start_time=NOW)
    status = build(pod, observed(record("c")), memory, "h", NOW)
    status["conditions"].append({"type": "DisruptionTarget", "status": "True"})
    pod["status"] = status
    assert difference(status, build(pod, observed(record("c")), memory, "h", NOW + 50)) is None


_RECORD = st.tuples(st.sampled_from(["created", "running", "exited"]), st.integers(0, 3), st.integers(0, 2))


@given(st.lists(_RECORD, max_size=3), st.lists(_RECORD, max_size=3), st.booleans(), st.sampled_from(["10.0.0.6", ""]))
def test_patch_leads_to_the_status(before: list[Any], after: list[Any], ready: bool, ip: str) -> None:
    schema = schema_for("v1", "Pod")
    assert schema is not None

    def look(records: list[Any]) -> Observed:
        return observed(*(record("c", s, i, exit_code=c, finished_at=NOW) for s, i, c in records))

    pod = make_pod(restartPolicy="OnFailure")
    first = build(pod, look(before), settled(started={"c-0"}, start_time=NOW), "h", NOW)
    gate = {"type": "my/gate", "status": "True"}
    pod["status"] = {**first, "conditions": [*first["conditions"], gate]}
    seen = look(after)
    seen.sandboxes[0].ready, seen.sandboxes[0].ip = ready, ip
    wanted = build(pod, seen, settled(started={"c-0", "c-1"}, start_time=NOW), "h", NOW + 9)
    patch = difference(pod["status"], wanted)
    merged = strategic_merge_patch(pod, {"status": patch}, schema)["status"] if patch else pod["status"]
    assert gate in merged["conditions"]
    assert difference(merged, wanted) is None
    assert merged.get("podIPs") == wanted.get("podIPs")
