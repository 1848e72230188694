"""The ttl that Nodes carry: by the cluster's size, without flapping at a step."""

from __future__ import annotations

from stablehand.controllers.nodettl import ANNOTATION, TtlController, step_for
from stablehand.machinery.resources import resource
from tests.unit.controllers.fakes import FakeServer, settle
from tests.unit.controllers.harness import running


def test_steps_overlap() -> None:
    assert [step_for(n, 0) for n in (0, 100, 101, 501, 5000)] == [0, 0, 1, 2, 4]
    assert [step_for(n, 1) for n in (95, 90, 89)] == [1, 1, 0]


async def test_nodes_are_told() -> None:
    server = FakeServer()
    client = server.client()
    async with running(server, TtlController):
        await client.create(resource("nodes"), {"metadata": {"name": "n"}, "spec": {}})
        node = ("", "n")
        await settle(lambda: server.objects["nodes"][node]["metadata"].get("annotations") == {ANNOTATION: "0"})
