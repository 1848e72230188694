"""Restart rules of containers, and the restart of a whole pod in place."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from stablehand.node import restartall
from stablehand.node.plan import StartContainer, backs_off, make_plan, matching_rule, may_restart_all
from stablehand.node.state import Memory
from stablehand.node.status import build
from tests.unit.node.pods import container, make_pod, observed, record, settled

NOW = 1000.0


def rules(action: str, operator: str = "In") -> dict[str, Any]:
    return {"restartPolicyRules": [{"action": action, "exitCodes": {"operator": operator, "values": [42]}}]}


def starts(pod: Any, seen: Any, memory: Memory) -> list[str]:
    return [a.name for a in make_plan(pod, seen, memory, NOW).actions if isinstance(a, StartContainer)]


@pytest.mark.parametrize(
    ("code", "operator", "action"), [(42, "In", "Restart"), (1, "In", ""), (1, "NotIn", "Restart")]
)
def test_rules(code: int, operator: str, action: str) -> None:
    pod = make_pod(restartPolicy="Never", containers=[container("c", **rules("Restart", operator))])
    assert matching_rule(pod["spec"]["containers"][0], code) == action
    assert starts(pod, observed(record("c", "exited", exit_code=code)), settled()) == (["c"] if action else [])


def test_the_whole_pod_begins_again() -> None:
    side = container("side", restartPolicy="Always")
    source = container("c", **rules("RestartAllContainers"))
    pod = make_pod(restartPolicy="Never", initContainers=[container("i"), side], containers=[source, container("d")])
    assert may_restart_all(pod) and not may_restart_all(make_pod())
    seen = observed(record("i", "exited"), record("side"), record("c", "exited", exit_code=42), record("d"))
    stopped: list[str] = []

    def spawn(name: str, work: Any) -> None:
        work.close()
        stopped.append(name)

    memory = settled(started={"side-0"})
    worker: Any = SimpleNamespace(pod=pod, observed=seen, memory=memory, spawn=spawn)
    restartall.follow(worker)
    assert memory.restarting_all and stopped == ["restart/side", "restart/d"]
    assert starts(pod, seen, memory) == []
    told = {c["type"]: c for c in build(pod, seen, memory, "h", NOW)["conditions"]}
    assert told["AllContainersRestarting"]["status"] == "True"
    for name in ("side", "d"):
        seen.containers[name][0].state, seen.containers[name][0].exit_code = "exited", 137
    assert not make_plan(pod, seen, memory, NOW).over  # though no rule restarts d
    assert build(pod, seen, memory, "h", NOW)["phase"] == "Running"
    memory.busy.clear()
    restartall.follow(worker)
    assert not memory.restarting_all
    assert starts(pod, seen, memory) == ["i"]
    status = build(pod, seen, memory, "h", NOW)["containerStatuses"][1]
    assert "waiting" in status["state"] and status["lastState"]["terminated"]["exitCode"] == 137
    # Whoever brought it about may have to wait before it starts again; the others need not.
    assert backs_off(source, seen.containers["c"][0]) and not backs_off(container("d"), seen.containers["d"][0])
    assert not restartall.due(pod, seen)
