"""Leader election: one leads at a time, the next takes over at once when the first gives up."""

from __future__ import annotations

import asyncio

from stablehand.runtime.leases import LeaderElection
from tests.unit.controllers.fakes import FakeServer, settle


async def test_one_leads_and_hands_over() -> None:
    server = FakeServer()
    leading: list[str] = []

    async def work(name: str) -> None:
        leading.append(name)
        try:
            await asyncio.Event().wait()
        finally:
            leading.remove(name)

    def elect(name: str) -> asyncio.Task[None]:
        election = LeaderElection(server.client(), "kube-system", "x", name, period=0.02)
        return asyncio.create_task(election.lead(lambda: work(name)))

    first = elect("a")
    await settle(lambda: leading == ["a"])
    second = elect("b")
    await asyncio.sleep(0.05)
    assert leading == ["a"]
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await settle(lambda: leading == ["b"])
    lease = server.objects["leases.coordination.k8s.io"][("kube-system", "x")]
    assert lease["spec"]["holderIdentity"] == "b" and lease["spec"]["leaseTransitions"] == 1
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
