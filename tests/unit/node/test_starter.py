"""Starting a container, or a sandbox, while the runtime goes away."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stablehand.node import starter
from stablehand.node.cri.client import CriError
from stablehand.node.plan import make_plan
from stablehand.node.state import Record, State
from tests.unit.node.pods import make_pod, observed, record, settled


@pytest.mark.parametrize(
    ("error", "is_over"),
    [
        (CriError("UNAVAILABLE", "Socket closed"), False),
        (CriError("UNKNOWN", "Stream removed (recvmsg:Connection reset by peer (104))"), False),
        (CriError("UNKNOWN", 'exec: "nothing": executable file not found in $PATH'), True),
    ],
)
async def test_a_start_cut_short_by_the_runtime_is_tried_again(
    error: CriError, is_over: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pod that is never restarted must not have failed because containerd was killed; only by its own fault."""
    pod = make_pod(restartPolicy="Never")
    created = record("c", "created")
    seen, memory = observed(), settled()

    async def fail(*_: Any) -> None:
        raise error

    async def answer(*_: Any) -> Any:
        if not seen.containers:
            seen.add(created)
        return created

    runtime = SimpleNamespace(start_container=fail)
    node = SimpleNamespace(runtime=runtime, container_event=lambda *_: None)
    worker: Any = SimpleNamespace(
        node=node,
        pod=pod,
        memory=memory,
        observed=seen,
        supplies=SimpleNamespace(image=answer),
        refresh=fail,
    )
    monkeypatch.setattr(starter, "_configure", answer)
    monkeypatch.setattr(starter, "_create", answer)
    await starter.start_container(worker, "main", pod["spec"]["containers"][0], 0)
    assert (created.state == "exited") == is_over
    assert make_plan(pod, seen, memory, 1e12).over == is_over


@pytest.mark.parametrize("state", ["running", "exited"])
async def test_a_container_that_was_started_after_all_is_not_started_again(state: State) -> None:
    """The runtime went away after it had begun the container, before it said so."""
    created = record("c", "created")
    begun: list[Record] = []
    woken: list[bool] = []

    async def refresh(which: Record) -> None:
        which.state = state

    pod = make_pod(restartPolicy="Never")
    worker: Any = SimpleNamespace(
        node=SimpleNamespace(container_event=lambda *_: None),
        pod=pod,
        memory=settled(),
        observed=observed(created),
        refresh=refresh,
        wake=lambda: woken.append(True),
        probing=SimpleNamespace(begin=lambda container, record: begun.append(record)),
    )
    await starter.start_container(worker, "main", pod["spec"]["containers"][0], 0)
    assert woken
    assert begun == ([created] if state == "running" else [])
    assert worker.observed.containers == {"c": [created]}


async def test_a_sandbox_cut_short_by_the_runtime_does_not_block_the_next(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The half-made one holds the name of its attempt in containerd, which nobody else would ever take down."""
    asked: list[int] = []
    stopped: list[str] = []

    async def run_sandbox(config: Any, handler: str) -> str:
        asked.append(config)
        if len(asked) == 1:
            raise CriError("UNAVAILABLE", "Socket closed")
        return "s1"

    async def sandboxes(labels: Any) -> Any:
        assert list(labels.values()) == ["u1"]
        return [SimpleNamespace(id="s0", metadata=SimpleNamespace(attempt=0), created_at=1)]

    async def stop_sandbox(name: str) -> None:
        stopped.append(name)

    async def nothing(*_: Any) -> str:
        return ""

    runtime = SimpleNamespace(run_sandbox=run_sandbox, sandboxes=sandboxes, stop_sandbox=stop_sandbox)
    network = SimpleNamespace(close_ports=nothing, open_ports=nothing)
    config = SimpleNamespace(address="10.0.0.1")
    worker: Any = SimpleNamespace(
        node=SimpleNamespace(runtime=runtime, network=network, event=lambda *_: None, config=config),
        pod=make_pod(hostNetwork=True),
        key=("ns", "web-0"),
        uid="u1",
        memory=settled(),
        observed=observed(),
        sandbox_failures=0,
        node_register=lambda _: None,
    )
    worker.observed.sandboxes.clear()
    monkeypatch.setattr(starter, "_runtime_handler", nothing)
    monkeypatch.setattr(starter, "sandbox_config", lambda config, pod, attempt: attempt)
    monkeypatch.setattr(starter, "log_directory", lambda *_: tmp_path / "logs")
    monkeypatch.setattr(starter, "hosts_path", lambda _: tmp_path / "hosts")
    monkeypatch.setattr(starter, "hosts_file", lambda *_: "")
    await starter.create_sandbox(worker, 0, False)
    await starter.create_sandbox(worker, 0, False)
    assert (asked, stopped) == ([0, 1], ["s0"])
    assert [(s.id, s.attempt, s.ready) for s in worker.observed.sandboxes] == [("s1", 1, True), ("s0", 0, False)]
