"""What lists, watches and applies say: continued lists, objects that leave a selection, unknown fields, defaults."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stablehand.apiserver.decode import applied_path
from stablehand.apiserver.storage.collection import Collection
from stablehand.apiserver.storage.watchers import Entry, Event, Watcher
from stablehand.apiserver.verbs.list import CONSISTENT_FOR
from stablehand.machinery.schema import schema_for
from tests.unit.apiserver.server import serving

CONFIGS = "/api/v1/namespaces/default/configmaps"


async def test_a_list_goes_on_though_its_moment_has_passed() -> None:
    async with serving() as server:
        for i in range(5):
            await server.made(CONFIGS, {"metadata": {"name": f"c{i}", "labels": {"l": "x"}}})
        now = server.api.core.clock()
        server.api.core.clock = lambda: now
        _, page = await server.call("GET", CONFIGS, query={"limit": "2"})
        token = page["metadata"]["continue"]
        await server.made(CONFIGS, {"metadata": {"name": "c9"}})
        _, page = await server.call("GET", CONFIGS, query={"limit": "9", "continue": token})
        assert [o["metadata"]["name"] for o in page["items"]] == ["c2", "c3", "c4"]  # as it was
        now += CONSISTENT_FOR + 1
        code, status = await server.call("GET", CONFIGS, query={"limit": "2", "continue": token})
        assert (code, status["reason"]) == (410, "Expired") and "inconsistent list" in status["message"]
        query = {"limit": "2", "continue": status["metadata"]["continue"]}
        _, page = await server.call("GET", CONFIGS, query=query)
        assert [o["metadata"]["name"] for o in page["items"]] == ["c2", "c3"]
        assert page["metadata"]["remainingItemCount"] == 2
        query["continue"] = page["metadata"]["continue"]
        _, rest = await server.call("GET", CONFIGS, query=query)
        assert [o["metadata"]["name"] for o in rest["items"]] == ["c4", "c9"]
        assert rest["metadata"]["resourceVersion"] == page["metadata"]["resourceVersion"]


def test_a_watch_from_too_long_ago_is_refused_within_its_stream() -> None:
    collection = Collection("configmaps/", 5)
    watcher = collection.watch("", None, 4, 9)
    assert watcher.closed and watcher.failure is not None
    assert (watcher.failure.code, watcher.failure.reason) == (410, "Expired")
    assert collection.watch("", None, 5, 9).failure is None


def test_who_leaves_a_selection_is_told_as_it_was() -> None:
    def entry(color: str, revision: int) -> Entry:
        meta = {"name": "x", "labels": {"color": color}, "resourceVersion": str(revision)}
        return Entry({"kind": "ConfigMap", "apiVersion": "v1", "metadata": meta}, b"{}", revision)

    blue, red = entry("blue", 3), entry("red", 4)
    watcher = Watcher("", lambda obj: obj["metadata"]["labels"]["color"] == "blue", set())
    watcher.offer(Event("MODIFIED", ("", "x"), red, blue))
    ((kind, event),) = watcher._queue
    assert (kind, event.type, event.revision) == ("DELETED", "DELETED", 4)
    assert event.entry.obj["metadata"] == {"name": "x", "labels": {"color": "blue"}, "resourceVersion": "4"}
    assert event.line(kind).startswith(b'{"type":"DELETED","object":{"kind":"ConfigMap"')
    assert blue.obj["metadata"]["resourceVersion"] == "3"


@pytest.mark.parametrize(
    ("path", "want"),
    [
        ("metadata.nope", ".metadata.nope"),
        ("spec.containers[1].nope", '.spec.containers[name="b"].nope'),
        ("spec.containers[0].ports[0].nope", '.spec.containers[name="a"].ports[containerPort=80,protocol="TCP"].nope'),
        ("spec.tolerations[0].nope", ".spec.tolerations[0].nope"),
    ],
)
def test_paths_as_apply_writes_them(path: str, want: str) -> None:
    schema = schema_for("v1", "Pod")
    assert schema is not None
    ports = [{"containerPort": 80, "protocol": "TCP"}]
    pod = {"spec": {"containers": [{"name": "a", "ports": ports}, {"name": "b"}], "tolerations": [{}]}}
    assert applied_path(schema, pod, path) == want


def _definition(properties: dict[str, Any]) -> dict[str, Any]:
    schema = {"openAPIV3Schema": {"type": "object", "properties": properties}}
    versions = [{"name": "v1", "served": True, "storage": True, "schema": schema}]
    names = {"plural": "foos", "kind": "Foo"}
    spec = {"group": "example.com", "scope": "Cluster", "names": names, "versions": versions}
    return {"metadata": {"name": "foos.example.com"}, "spec": spec}


async def test_stored_custom_resources_follow_their_schema() -> None:
    crds, foos = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", "/apis/example.com/v1/foos"
    text, defaulted = {"type": "string"}, {"type": "string", "default": "A"}
    async with serving() as server:
        await server.made(crds, _definition({"a": text, "b": text}))
        for _ in range(1000):
            await asyncio.sleep(0)  # lets the definition be established
            if (await server.call("GET", foos))[0] == 200:
                break
        foo = {"apiVersion": "example.com/v1", "kind": "Foo", "metadata": {"name": "f"}, "b": "kept"}
        first = await server.made(foos, foo)

        async def read() -> tuple[Any, Any]:
            """What a and b are, alone and in a list."""
            _, one = await server.call("GET", f"{foos}/f")
            _, many = await server.call("GET", foos)
            assert many["items"] == [one] and one["metadata"] == first["metadata"]
            return one.get("a"), one.get("b")

        async def redefine(properties: dict[str, Any]) -> None:
            _, crd = await server.call("GET", f"{crds}/foos.example.com")
            change = {**crd, "spec": _definition(properties)["spec"]}
            code, _ = await server.call("PUT", f"{crds}/foos.example.com", change)
            assert code == 200

        await redefine({"a": defaulted, "b": text})
        assert await read() == ("A", "kept")
        await redefine({"a": text})
        assert await read() == (None, None)  # pruned
        await redefine({"a": text, "b": text})
        assert await read() == (None, "kept")  # it was stored all the while
