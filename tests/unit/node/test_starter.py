"""Starting a container while the runtime goes away."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from stablehand.node import starter
from stablehand.node.cri.client import CriError
from stablehand.node.plan import make_plan
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
    seen, memory = observed(created), settled()

    async def fail(*_: Any) -> None:
        raise error

    async def answer(*_: Any) -> Any:
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
