"""The provisioners' leader election: what is given up can be taken at once."""

from __future__ import annotations

import asyncio
import json

from stablehand.storage.provisioner.election import LEADER, EndpointsElection
from tests.unit.controllers.fakes import FakeServer, settle


async def test_the_next_provisioner_need_not_wait_for_the_lock_to_run_out() -> None:
    server = FakeServer()
    leading: list[str] = []

    async def work(name: str) -> None:
        leading.append(name)
        try:
            await asyncio.Event().wait()
        finally:
            leading.remove(name)

    def elect(name: str) -> asyncio.Task[None]:
        election = EndpointsElection(server.client(), "default", "bdqn", name, period=0.02)
        return asyncio.create_task(election.lead(lambda: work(name)))

    first = elect("a")
    await settle(lambda: leading == ["a"])
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert leading == []
    second = elect("b")
    await settle(lambda: leading == ["b"])
    lock = server.objects["endpoints"][("default", "bdqn")]
    record = json.loads(lock["metadata"]["annotations"][LEADER])
    assert record["holderIdentity"] == "b" and record["leaderTransitions"] == 1
    assert record["leaseDurationSeconds"] == 15
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
