"""Events of events.k8s.io/v1: once, as a series, and again when the object has changed."""

from __future__ import annotations

from typing import Any

import pytest

from stablehand.client import NotFound
from stablehand.runtime import NewEventRecorder, newevents

POD = {
    "kind": "Pod", "apiVersion": "v1",
    "metadata": {"name": "p", "namespace": "default", "uid": "u", "resourceVersion": "5"},
}  # fmt: skip


class Recorded:
    """A client that keeps what is written; `gone` makes the next patch fail."""

    def __init__(self) -> None:
        self.created: list[Any] = []
        self.patched: list[tuple[str, Any]] = []
        self.gone = False

    async def create(self, res: Any, obj: Any) -> Any:
        self.created.append((res.key, obj))
        return obj

    async def patch(self, res: Any, name: str, change: Any, namespace: str, kind: str) -> Any:
        if self.gone:
            self.gone = False
            raise NotFound({"code": 404, "message": "gone"})
        self.patched.append((name, change))


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    moment = [1_767_225_600.000001]
    monkeypatch.setattr(newevents.time, "time", lambda: moment[0])  # type: ignore[attr-defined]
    return moment


async def test_an_event_its_series_and_the_next(now: list[float]) -> None:
    client = Recorded()
    recorder = NewEventRecorder(client, "default-scheduler")  # type: ignore[arg-type]

    async def tell(pod: Any = POD, **more: Any) -> None:
        recorder.event(pod, "Warning", "FailedScheduling", "Scheduling", "0/1 nodes", **more)
        await recorder.flush()

    await tell()
    ((key, event),) = client.created
    assert key == "events.events.k8s.io"
    assert event["eventTime"] == "2026-01-01T00:00:00.000001Z"
    assert (event["reportingController"], event["action"], event["note"]) == (
        "default-scheduler",
        "Scheduling",
        "0/1 nodes",
    )
    assert event["reportingInstance"].startswith("default-scheduler-")
    assert event["regarding"]["resourceVersion"] == "5" and event["type"] == "Warning"
    now[0] += 10
    await tell()
    await tell()
    ((name, change),) = client.patched  # the third waits for the series' next writing
    assert name == event["metadata"]["name"]
    assert change == {"series": {"count": 2, "lastObservedTime": "2026-01-01T00:00:10.000001Z"}}
    now[0] += 100
    changed = {**POD, "metadata": {**POD["metadata"], "resourceVersion": "6"}}  # type: ignore[dict-item]
    await tell(changed, related=POD)
    assert len(client.created) == 2 and client.created[1][1]["related"]["uid"] == "u"
    now[0] += newevents._FORGET
    await tell()
    assert len(client.created) == 3  # too long ago to be the same


async def test_a_series_whose_event_was_deleted_goes_on_in_a_new_one(now: list[float]) -> None:
    client = Recorded()
    recorder = NewEventRecorder(client, "c")  # type: ignore[arg-type]
    for gone in (False, True):
        client.gone = gone
        recorder.event(POD, "Normal", "R", "A", "n")
        await recorder.flush()
    assert [obj.get("series", {}).get("count") for _, obj in client.created] == [None, 2]
