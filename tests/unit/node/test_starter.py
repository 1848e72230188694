"""Starting a container, or a sandbox, while the runtime goes away."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stablehand.aiokit.tasks import TaskSet
from stablehand.node import starter
from stablehand.node.cri.client import CriError
from stablehand.node.plan import CreateSandbox, make_plan
from stablehand.node.state import Record, Sandbox, State
from tests.unit.node.pods import make_pod, observed, record, settled


@pytest.mark.parametrize(
    ("error", "is_over"),
    [
        (CriError("UNAVAILABLE", "Socket closed"), False),
        (CriError("UNKNOWN", "Stream removed (recvmsg:Connection reset by peer (104))"), False),
        (CriError("UNKNOWN", "server is not initialized yet"), False),
        (CriError("UNKNOWN", 'exec: "nothing": executable file not found in $PATH'), True),
    ],
)
async def test_a_start_cut_short_by_the_runtime_is_tried_again(
    error: CriError, is_over: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
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
    config = SimpleNamespace(data_dir=tmp_path)
    node = SimpleNamespace(runtime=runtime, config=config, container_event=lambda *_: None, background=TaskSet("test"))
    worker: Any = SimpleNamespace(
        node=node,
        starting=set(),
        pod=pod,
        memory=memory,
        observed=seen,
        supplies=SimpleNamespace(image=answer, image_volumes=answer),
        refresh=fail,
    )
    monkeypatch.setattr(starter, "_configure", answer)
    monkeypatch.setattr(starter, "_create", answer)
    await starter.start_container(worker, "main", pod["spec"]["containers"][0], 0)
    assert (created.state == "exited") == is_over
    assert make_plan(pod, seen, memory, 1e12).over == is_over


@pytest.mark.parametrize("state", ["running", "exited"])
async def test_a_container_that_was_started_after_all_is_not_started_again(state: State, tmp_path: Path) -> None:
    """The runtime went away after it had begun the container, before it said so."""
    created = record("c", "created")
    begun: list[Record] = []
    woken: list[bool] = []

    async def refresh(which: Record) -> None:
        which.state = state

    pod = make_pod(restartPolicy="Never")
    worker: Any = SimpleNamespace(
        node=SimpleNamespace(container_event=lambda *_: None, config=SimpleNamespace(data_dir=tmp_path)),
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


@pytest.fixture
def sandboxed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A worker without a sandbox, its runtime to be given."""

    async def nothing(*_: Any) -> str:
        return ""

    network = SimpleNamespace(close_ports=nothing, open_ports=nothing)
    config = SimpleNamespace(address="10.0.0.1")
    worker: Any = SimpleNamespace(
        node=SimpleNamespace(network=network, event=lambda *_: None, config=config),
        pod=make_pod(hostNetwork=True),
        granted=make_pod,
        key=("ns", "web-0"),
        uid="u1",
        memory=settled(),
        observed=observed(),
        sandbox_failures=0,
        tidying=set(),
        node_register=lambda _: None,
    )
    worker.observed.sandboxes.clear()
    monkeypatch.setattr(starter, "_runtime_handler", nothing)
    monkeypatch.setattr(starter.cgroups, "apply", lambda *_: None)
    monkeypatch.setattr(starter, "sandbox_config", lambda config, pod, attempt: attempt)
    monkeypatch.setattr(starter, "log_directory", lambda *_: tmp_path / "logs")
    monkeypatch.setattr(starter, "hosts_path", lambda _: tmp_path / "hosts")
    monkeypatch.setattr(starter, "hosts_file", lambda *_: "")
    return worker


async def test_a_sandbox_cut_short_by_the_runtime_does_not_block_the_next(sandboxed: Any) -> None:
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

    sandboxed.node.runtime = SimpleNamespace(run_sandbox=run_sandbox, sandboxes=sandboxes, stop_sandbox=stop_sandbox)
    await starter.create_sandbox(sandboxed, 0, False)
    await starter.create_sandbox(sandboxed, 0, False)
    assert (asked, stopped) == ([0, 1], ["s0"])
    boxes = [(s.id, s.attempt, s.ready) for s in sandboxed.observed.sandboxes]
    assert boxes == [("s1", 1, True), ("s0", 0, False)]


async def test_no_sandbox_is_made_beside_one_that_could_not_be_stopped(sandboxed: Any) -> None:
    """Its containers may still run, and write to the same volumes."""
    made: list[int] = []

    async def run_sandbox(config: Any, handler: str) -> str:
        made.append(config)
        return "s1"

    async def stop_sandbox(name: str) -> None:
        raise CriError("UNAVAILABLE", "Socket closed")

    sandboxed.observed.sandboxes.append(Sandbox("s0", 0, False, 1.0))
    sandboxed.node.runtime = SimpleNamespace(run_sandbox=run_sandbox, stop_sandbox=stop_sandbox)
    await starter.create_sandbox(sandboxed, 1, True)
    assert not made and sandboxed.sandbox_failures == 1 and sandboxed.memory.sandbox_retry_at > 0


async def test_a_sandbox_whose_address_stays_unknown_is_not_used(sandboxed: Any) -> None:
    """Probes would ask at the node's address for ever."""

    async def run_sandbox(config: Any, handler: str) -> str:
        return "s0"

    async def sandbox_status(name: str) -> Any:
        raise CriError("UNAVAILABLE", "Socket closed")

    sandboxed.pod = make_pod()
    sandboxed.node.runtime = SimpleNamespace(run_sandbox=run_sandbox, sandbox_status=sandbox_status)
    await starter.create_sandbox(sandboxed, 0, False)
    assert [(s.id, s.ready) for s in sandboxed.observed.sandboxes] == [("s0", False)]
    action = make_plan(sandboxed.pod, sandboxed.observed, sandboxed.memory, 1e12).actions
    assert action == [CreateSandbox(1, True)]


async def test_a_sandbox_whose_files_were_deleted_is_replaced(tmp_path: Path) -> None:
    """No container could be started in it ever again: they are mounted into each."""
    pod, seen, memory = make_pod(), observed(), settled()
    told: list[str] = []
    node = SimpleNamespace(
        config=SimpleNamespace(data_dir=tmp_path),
        container_event=lambda pod, path, kind, reason, text: told.append(reason),
    )
    worker: Any = SimpleNamespace(node=node, pod=pod, memory=memory, observed=seen)
    folder = tmp_path / "containerd" / "io.containerd.grpc.v1.cri" / "sandboxes" / "s0"
    folder.mkdir(parents=True)
    await starter.start_container(worker, "main", pod["spec"]["containers"][0], 0)
    assert told == ["SandboxDamaged"]
    assert make_plan(pod, seen, memory, 1e12).actions == [CreateSandbox(1, True)]
