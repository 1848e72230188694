"""What plan decides, and what holds for every pod it is asked about."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stablehand.node.plan import CreateSandbox, KillContainer, StartContainer, go_duration, make_plan
from stablehand.node.state import Memory, Observed, RestartBackoff
from tests.unit.node.pods import container, make_pod, observed, record, settled

NOW = 1000.0


def starts(plan: Any) -> list[tuple[str, int]]:
    return [(a.name, a.attempt) for a in plan.actions if isinstance(a, StartContainer)]


def test_first_the_sandbox_then_the_containers() -> None:
    pod = make_pod("a", "b")
    assert make_plan(pod, Observed(), Memory(), NOW).actions == []
    assert make_plan(pod, Observed(), settled(), NOW).actions == [CreateSandbox(0, False)]
    assert starts(make_plan(pod, observed(), settled(), NOW)) == [("a", 0), ("b", 0)]
    assert starts(make_plan(pod, observed(), Memory(sandbox_allowed=True), NOW)) == []  # volumes are not ready
    assert starts(make_plan(pod, observed(), settled(busy={"a"}), NOW)) == [("b", 0)]


def test_containers_with_post_start_hooks_start_one_after_another() -> None:
    hook = {"lifecycle": {"postStart": {"sleep": {"seconds": 1}}}}
    pod = make_pod(containers=[container("a", **hook), container("b")])
    assert starts(make_plan(pod, observed(), settled(), NOW)) == [("a", 0)]
    assert starts(make_plan(pod, observed(record("a")), settled(busy={"a"}), NOW)) == []
    assert starts(make_plan(pod, observed(record("a")), settled(), NOW)) == [("b", 0)]


def test_init_containers_run_in_order() -> None:
    pod = make_pod(initContainers=[container("one"), container("side", restartPolicy="Always"), container("two")])
    one, side, two = record("one", "exited"), record("side"), record("two", "exited")
    assert starts(make_plan(pod, observed(), settled(), NOW)) == [("one", 0)]
    assert starts(make_plan(pod, observed(record("one")), settled(), NOW)) == []
    assert starts(make_plan(pod, observed(one), settled(), NOW)) == [("side", 0)]
    assert starts(make_plan(pod, observed(one, side), settled(), NOW)) == []
    started = settled(started={"side-0"})
    assert starts(make_plan(pod, observed(one, side), started, NOW)) == [("two", 0)]
    assert starts(make_plan(pod, observed(one, side, two), started, NOW)) == [("c", 0)]
    # A sidecar that ends later is started again beside the running main container.
    dead = record("side", "exited")
    assert starts(make_plan(pod, observed(one, dead, two, record("c")), started, NOW)) == [("side", 1)]


@pytest.mark.parametrize(
    ("policy", "code", "again"),
    [("Always", 0, True), ("Always", 1, True), ("OnFailure", 0, False), ("OnFailure", 1, True), ("Never", 1, False)],
)
def test_restart_policy(policy: str, code: int, again: bool) -> None:
    plan = make_plan(make_pod(restartPolicy=policy), observed(record("c", "exited", exit_code=code)), settled(), NOW)
    assert starts(plan) == ([("c", 1)] if again else [])
    assert plan.over is not again


def test_a_failed_init_container_ends_the_pod_where_nothing_restarts() -> None:
    pod = make_pod(initContainers=[container("one")], restartPolicy="Never")
    assert make_plan(pod, observed(record("one", "exited", exit_code=1)), settled(), NOW).over
    assert not make_plan(pod, observed(record("one", "exited", exit_code=0)), settled(), NOW).over


def test_back_off_grows_and_is_forgotten() -> None:
    backoff = RestartBackoff()
    delays = []
    now = NOW
    for _ in range(8):
        backoff.next(now)
        delays.append(backoff.delay)
        now += backoff.delay
    assert delays == [10, 20, 40, 80, 160, 300, 300, 300]
    assert backoff.remaining(now, now + 1) == 299
    assert backoff.remaining(now, now + 700) == 0
    backoff.next(now + 700)
    assert backoff.delay == 10
    memory = settled(backoff={"c": RestartBackoff(40, NOW - 5)})
    plan = make_plan(make_pod(), observed(record("c", "exited", exit_code=1, finished_at=NOW - 1)), memory, NOW)
    assert starts(plan) == [] and plan.wake_at == NOW + 39
    assert plan.waiting["c"].message == "back-off 40s restarting failed container=c pod=web-0_ns(u1)"


def test_a_lost_sandbox_is_made_again_and_everything_in_it() -> None:
    pod = make_pod(initContainers=[container("one")])
    lost = observed(record("one", "exited"), record("c", "exited", exit_code=255), ready=False)
    assert make_plan(pod, lost, settled(), NOW).actions == [CreateSandbox(1, True)]
    again = observed(record("one", "exited"), record("c", "exited", exit_code=255), sandbox="s1", attempt=1)
    assert starts(make_plan(pod, again, settled(), NOW)) == [("one", 1)]
    over = make_pod(restartPolicy="Never")
    assert make_plan(over, observed(record("c", "exited"), ready=False), settled(), NOW).over


def test_deadline_liveness_and_counts_from_the_status() -> None:
    late = make_pod(activeDeadlineSeconds=10, status={"startTime": "1970-01-01T00:16:00Z"})
    plan = make_plan(late, observed(record("c")), settled(), NOW)
    assert plan.failed is not None and plan.failed[0] == "DeadlineExceeded"
    memory = settled(to_kill={"c-0": ("Killing", "text")})
    assert make_plan(make_pod(), observed(record("c")), memory, NOW).actions == [
        KillContainer("c-0", "c", "Killing", "text")
    ]
    assert starts(make_plan(make_pod(), observed(), settled(restarts={"c": 4}), NOW)) == [("c", 4)]
    assert make_plan(make_pod(), observed(record("c")), settled(terminating=True), NOW).actions == []


_STATES = st.sampled_from(["created", "running", "exited", "unknown"])
_NAMES = st.sampled_from(["one", "side", "a", "b"])
_POLICIES = st.sampled_from(["Always", "OnFailure", "Never"])
_RECORDS = st.lists(
    st.tuples(
        st.sampled_from(["one", "side", "a", "b"]),
        _STATES,
        st.integers(0, 3),
        st.sampled_from(["s0", "old"]),
        st.integers(0, 1),
    ),
    max_size=8,
)


@given(
    _RECORDS, st.sampled_from(["Always", "OnFailure", "Never"]), st.booleans(), st.sets(st.sampled_from(["one", "a"]))
)
def test_invariants(records: list[Any], policy: str, ready: bool, busy: set[str]) -> None:
    pod = make_pod("a", "b", restartPolicy=policy)
    pod["spec"]["initContainers"] = [container("one"), container("side", restartPolicy="Always")]
    seen = observed(
        *(record(n, s, i, box, exit_code=c, finished_at=NOW - 1) for n, s, i, box, c in records), ready=ready
    )
    plan = make_plan(pod, seen, settled(busy=set(busy)), NOW)
    names = [name for name, _ in starts(plan)]
    assert len(names) == len(set(names)) and not set(names) & busy
    for name, attempt in starts(plan):
        latest = seen.latest(name)
        assert not (latest is not None and latest.running and latest.sandbox == "s0")
        assert latest is None or attempt >= latest.attempt
    if plan.over:
        assert not plan.actions
    if not ready and not plan.over:
        assert plan.actions == [CreateSandbox(1, True)]
    if {"a", "b"} & set(names):
        one = seen.latest("one")
        begun = any((r := seen.latest(n)) is not None and r.sandbox == "s0" for n in ("a", "b"))
        assert begun or (one is not None and one.state == "exited" and one.exit_code == 0)


def test_go_durations() -> None:
    assert [go_duration(s) for s in (10, 160, 300, 3600)] == ["10s", "2m40s", "5m0s", "1h0m0s"]


def test_a_clock_that_was_put_back_holds_nothing_up() -> None:
    """What was put off till a moment that is hours ahead now is done at once, or after its own delay."""
    pod, hours = make_pod(), NOW + 7200
    assert make_plan(pod, Observed(), settled(sandbox_retry_at=hours), NOW).actions == [CreateSandbox(0, False)]
    assert starts(make_plan(pod, observed(), settled(retry_at={"c": hours}), NOW)) == [("c", 0)]
    assert RestartBackoff(10.0, hours).remaining(hours, NOW) == 10.0
