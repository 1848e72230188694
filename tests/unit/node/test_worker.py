"""What a worker makes of the runtime's lists and of odd moments; the runtime itself is played."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stablehand.aiokit.tasks import TaskSet
from stablehand.node import ending
from stablehand.node.config import NodeConfig
from stablehand.node.cri.client import CriError
from stablehand.node.plan import CreateSandbox, make_plan
from stablehand.node.state import Sandbox
from stablehand.node.worker import PodWorker
from tests.unit.node.pods import make_pod, observed, record


class Runtime:
    """Records the calls; containers and sandboxes end when asked to."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []

    async def stop_sandbox(self, name: str) -> None:
        self.calls.append(("stop", name))

    async def remove_sandbox(self, name: str) -> None:
        self.calls.append(("remove", name))

    async def container_status(self, name: str) -> Any:
        raise CriError("NOT_FOUND", name)


@pytest.fixture
def worker(tmp_path: Path) -> PodWorker:
    """A worker that is not running, of a pod with one running container."""
    config: Any = NodeConfig(client=None, data_dir=tmp_path, run_dir=tmp_path / "r")  # type: ignore[arg-type]
    objects = SimpleNamespace(watch=lambda *_: None)
    node: Any = SimpleNamespace(
        config=config,
        volumes=SimpleNamespace(config=config, objects=objects),
        runtime=Runtime(),
        background=TaskSet("test"),
        event=lambda *_: None,
        container_event=lambda *_: None,
    )
    agent: Any = SimpleNamespace(unregister=lambda _: None)
    found = PodWorker(agent, node, make_pod(), observed(record("c")))
    found.memory.volumes_ready = found.memory.sandbox_allowed = True
    return found


def test_a_list_says_nothing_of_what_began_after_it_was_asked_for(worker: PodWorker) -> None:
    """Else a container that was just started would be taken for lost, and a second one started beside it."""
    before = worker.up()
    young = record("young")
    worker.observed.add(young)
    worker.observed.sandboxes.insert(0, Sandbox("s1", 1, True, 0.0))
    worker.relisted(before, {"c-0": "running"}, {"s0": True})
    assert young.running and worker.observed.sandboxes[0].ready
    worker.relisted(worker.up(), {"c-0": "running"}, {"s0": True})
    assert young.state == "exited" and not worker.observed.sandboxes[0].ready


async def test_a_running_container_is_never_left_without_its_probes(
    worker: PodWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever went wrong while it was started: it would stay unready for ever."""
    begun: list[str] = []
    monkeypatch.setattr(worker.probing, "begin", lambda container, record, **_: begun.append(record.id))
    worker.memory.busy.add("c")
    worker.probing.keep()
    assert begun == []
    worker.memory.busy.clear()
    worker.probing.keep()
    assert begun == ["c-0"]


@pytest.mark.parametrize(("policy", "code", "over"), [("OnFailure", 0, False), ("Never", 137, True)])
async def test_a_job_is_not_done_because_its_sandbox_is_replaced(
    worker: PodWorker, monkeypatch: pytest.MonkeyPatch, policy: str, code: int, over: bool
) -> None:
    async def stop_containers(_: PodWorker) -> None:
        worker.exited("c-0", 0, 1.0)  # it ends well when it is asked to

    monkeypatch.setattr(ending, "stop_containers", stop_containers)
    worker.pod["spec"]["restartPolicy"] = policy
    worker.observed.sandboxes[0].ready = False
    await ending.retire(worker)
    for running in worker.observed.running():
        worker.mark_lost(running)
    last = worker.observed.latest("c")
    assert last is not None and (last.state, last.exit_code) == ("exited", code)
    plan = make_plan(worker.pod, worker.observed, worker.memory, 1e12)
    assert plan.over is over and plan.actions == ([] if over else [CreateSandbox(1, True)])


async def test_sandboxes_of_the_past_are_removed_with_their_last_container(worker: PodWorker) -> None:
    seen, runtime = worker.observed, worker.node.runtime
    assert isinstance(runtime, Runtime)
    seen.sandboxes = [Sandbox(f"s{n}", n, n == 3, 0.0) for n in (3, 2, 1, 0)]
    seen.containers = {"c": [record("c", attempt=1, sandbox="s3"), record("c", "exited", sandbox="s1")]}
    ending.drop_old_sandboxes(worker)
    while len(worker.node.background):
        await asyncio.sleep(0)
    assert [s.id for s in seen.sandboxes] == ["s3", "s1"]
    assert sorted(name for what, name in runtime.calls if what == "remove") == ["s0", "s2"]


async def test_a_status_that_cannot_be_made_is_tried_again(worker: PodWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []
    done = asyncio.Event()

    def difference() -> None:
        tried.append(1)
        if len(tried) == 1:
            raise RuntimeError("a fault of ours")
        done.set()

    monkeypatch.setattr(worker.status, "difference", difference)
    monkeypatch.setattr("stablehand.node.statuswriter.Backoff", lambda *_: SimpleNamespace(next=lambda: 0.0))
    worker.status.soon()
    async with asyncio.timeout(5):
        await done.wait()
