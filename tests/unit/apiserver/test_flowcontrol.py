"""Priority and fairness: who falls under what, who waits for whom, and what comes back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stablehand.apiserver.contract import RequestInfo, User
from stablehand.apiserver.flowcontrol import objects, rules
from stablehand.apiserver.flowcontrol.levels import Level, Levels, Rejected

from .server import serving

GROUP = "/apis/flowcontrol.apiserver.k8s.io/v1"
PODS = RequestInfo("", "list", True, "", "v1", "default", "pods")
SCHEMAS = sorted(
    (objects.made(objects.SCHEMAS, name) for name in objects.specs(objects.SCHEMAS)), key=rules.by_precedence
)


def account(namespace: str, name: str) -> User:
    return User(f"system:serviceaccount:{namespace}:{name}", ("system:serviceaccounts", "system:authenticated"))


@pytest.mark.parametrize(
    ("user", "info", "schema"),
    [
        (User("a", ("system:masters",)), PODS, "exempt"),
        (User("a", ("system:authenticated",)), RequestInfo("/readyz", "get"), "probes"),
        (User("a", ("system:authenticated",)), RequestInfo("/readyz/ping", "get"), "global-default"),
        (User("system:node:n", ("system:nodes",)), PODS, "system-nodes"),
        (
            User("system:node:n", ("system:nodes",)),
            RequestInfo("", "patch", True, "", "v1", "", "nodes", "n", "status"),
            "system-node-high",
        ),
        (
            User("system:kube-scheduler", ("system:authenticated",)),
            RequestInfo("", "update", True, "coordination.k8s.io", "v1", "kube-system", "leases", "kube-scheduler"),
            "system-leader-election",
        ),
        (User("system:kube-controller-manager", ("system:authenticated",)), PODS, "kube-controller-manager"),
        (account("kube-system", "x"), PODS, "kube-system-service-accounts"),
        (account("default", "x"), PODS, "service-accounts"),
        (User("jane", ("system:authenticated",)), PODS, "global-default"),
    ],
)
def test_a_request_falls_under_the_first_schema_that_matches(user: User, info: RequestInfo, schema: str) -> None:
    assert next(s["metadata"]["name"] for s in SCHEMAS if rules.matches(s, user, info)) == schema


def level(name: str, shares: int, queuing: Any = None, **limited: Any) -> Any:
    response = {"type": "Reject"} if queuing is None else {"type": "Queue", "queuing": queuing}
    spec = {"type": "Limited", "limited": {"nominalConcurrencyShares": shares, "limitResponse": response, **limited}}
    return {"metadata": {"name": name}, "spec": spec}


def test_seats_are_shared_out_and_lent() -> None:
    levels = Levels(10)
    levels.configure([level("a", 1), level("b", 1, lendablePercent=60)])
    a, b = levels.by_name["a"], levels.by_name["b"]
    assert (a.nominal, b.nominal, b.lendable) == (5, 5, 3)
    a.running = 7
    assert levels.free(a)  # five of its own, three lent by b
    a.running = 8
    assert not levels.free(a) and levels.free(b)
    b.running = 3
    a.running = 7
    assert not levels.free(a)  # b uses one of those it lends


async def test_flows_take_turns() -> None:
    levels = Levels(1)
    levels.configure([level("a", 1, {"queues": 4, "handSize": 1, "queueLengthLimit": 2})])
    only = levels.by_name["a"]
    await levels.enter(only, ("s", "x"))
    order: list[str] = []

    async def go(flow: str) -> None:
        await levels.enter(only, ("s", flow))
        order.append(flow)

    tasks = [asyncio.create_task(go(flow)) for flow in ("greedy", "greedy", "modest")]
    await asyncio.sleep(0)
    assert (only.running, only.waiting) == (1, 3)
    with pytest.raises(Rejected, match="queue-full"):
        await levels.enter(only, ("s", "greedy"))
    for expected in (["greedy"], ["greedy", "modest"], ["greedy", "modest", "greedy"]):
        levels.leave(only)
        while len(order) < len(expected):
            await asyncio.sleep(0)
        assert order == expected
    await asyncio.gather(*tasks)
    levels.leave(only)
    assert (only.running, only.waiting) == (0, 0)
    assert levels.rejected == {("a", "s", "queue-full"): 1} and levels.dispatched == {("a", "s"): 4}


async def test_a_level_that_rejects_does_so_at_once() -> None:
    levels = Levels(1)
    levels.configure([level("a", 1)])
    await levels.enter(levels.by_name["a"], ("s", "x"))
    with pytest.raises(Rejected, match="concurrency-limit"):
        await levels.enter(levels.by_name["a"], ("s", "x"))


async def test_who_gives_up_waiting_leaves_the_line() -> None:
    levels = Levels(1)
    levels.configure([level("a", 1, {"queues": 1, "handSize": 1, "queueLengthLimit": 5})])
    only: Level = levels.by_name["a"]
    await levels.enter(only, ("s", "x"))
    task = asyncio.create_task(levels.enter(only, ("s", "y")))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (only.running, only.waiting, only.lines) == (1, 0, {})


async def _until(check: Any) -> Any:
    async with asyncio.timeout(5):
        while not (found := await check()):
            await asyncio.sleep(0)
    return found


async def test_mandatory_objects_come_back_and_dangling_is_told() -> None:
    async with serving() as server:
        path = f"{GROUP}/flowschemas/catch-all"
        _, before = await server.call("GET", path)
        await server.call("DELETE", path)

        async def again() -> Any:
            code, found = await server.call("GET", path)
            return code == 200 and found["metadata"]["uid"] != before["metadata"]["uid"] and found

        assert (await _until(again))["spec"] == before["spec"]
        changed = {**before["spec"], "matchingPrecedence": 9}
        refused = await server.refused("PUT", path, {**before, "metadata": {"name": "catch-all"}, "spec": changed})
        assert "must equal the fixed value" in refused["message"]
        rule = {
            "subjects": [{"kind": "User", "user": {"name": "u"}}],
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"]}],
        }
        spec = {"priorityLevelConfiguration": {"name": "mine"}, "rules": [rule]}
        await server.made(f"{GROUP}/flowschemas", {"metadata": {"name": "mine"}, "spec": spec})

        async def condition(status: str) -> Any:
            _, found = await server.call("GET", f"{GROUP}/flowschemas/mine")
            conditions = (found.get("status") or {}).get("conditions") or [{}]
            return conditions[0].get("status") == status and conditions[0]

        assert "there is no such object" in (await _until(lambda: condition("True")))["message"]
        own = level("mine", 5)["spec"]
        await server.made(f"{GROUP}/prioritylevelconfigurations", {"metadata": {"name": "mine"}, "spec": own})
        assert "and it exists" in (await _until(lambda: condition("False")))["message"]
        place = server.api.flow.place(User("u", ("system:authenticated",)), PODS)
        assert place is not None and place.flow[0] == "mine" and place.level.name == "mine"
        assert set(place.headers) == {"X-Kubernetes-Pf-Flowschema-Uid", "X-Kubernetes-Pf-Prioritylevel-Uid"}
