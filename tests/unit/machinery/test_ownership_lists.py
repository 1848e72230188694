"""Server-side apply on lists and maps of every kind: the situations of structured-merge-diff's own tests
(merge/{duplicates,default_keys,nested,schema_change,set,key}_test.go), on a custom resource's schema."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from stablehand.machinery.ownership import ApplyConflict, ApplyError, apply, update_managed_fields
from stablehand.machinery.structural import compile_structural

Obj = dict[str, Any]
STRING, NUMBER = {"type": "string"}, {"type": "integer"}


def struct(**fields: Obj) -> Obj:
    return {"type": "object", "properties": fields}


def keyed(*keys: str, **fields: Obj) -> Obj:
    listed = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}
    return {"type": "array", "items": struct(**fields), **listed}


def unique(items: Obj) -> Obj:
    return {"type": "array", "items": items, "x-kubernetes-list-type": "set"}


def mapped(values: Obj) -> Obj:
    return {"type": "object", "additionalProperties": values}


SPEC = struct(
    list=keyed("name", name=STRING, value1=NUMBER, value2=NUMBER, deep=struct(a=NUMBER, b=NUMBER)),
    set=unique(NUMBER),
    ports=keyed("port", "protocol", port=NUMBER, protocol={"type": "string", "default": "TCP"}, name=STRING),
    book=keyed(
        "chapter", "section", chapter={**NUMBER, "default": 1}, section={**STRING, "default": "A"}, title=STRING
    ),
    maps=mapped(mapped(STRING)),
    lists=mapped(unique(STRING)),
    plain={"type": "array", "items": STRING},
    struct=struct(numeric=NUMBER, string=STRING),
    atomic={**struct(numeric=NUMBER, string=STRING), "x-kubernetes-map-type": "atomic"},
    free={"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    unrelated=NUMBER,
)
ROOT = compile_structural(struct(spec=SPEC))


class World:
    """One object, and who writes it."""

    def __init__(self, root: Any = ROOT) -> None:
        self.live: Obj | None = None
        self.root = root
        self.now = 0

    def wrapped(self, spec: Obj) -> Obj:
        return {"apiVersion": "e.com/v1", "kind": "E", "metadata": {"name": "e"}, "spec": copy.deepcopy(spec)}

    def update(self, manager: str, **spec: Any) -> None:
        new = self.wrapped(spec)
        if self.live is not None and "managedFields" in self.live["metadata"]:
            new["metadata"]["managedFields"] = self.live["metadata"]["managedFields"]
        self.now += 1
        update_managed_fields(self.live, new, manager, api_version="e.com/v1", now=self.now, schema=self.root)
        self.live = new

    def apply(self, manager: str, force: bool = False, /, **spec: Any) -> None:
        self.now += 1
        before = copy.deepcopy(self.live)
        live = apply(self.live, self.wrapped(spec), manager, force, "e.com/v1", "", self.now, self.root)
        assert before == self.live
        self.live = live

    def conflicts(self, manager: str, **spec: Any) -> list[str]:
        with pytest.raises(ApplyConflict) as caught:
            self.apply(manager, **spec)
        return [f"{owner.split()[0]} {path}" for owner, path in caught.value.conflicts]

    def refused(self, **spec: Any) -> str:
        with pytest.raises(ApplyError) as caught:
            self.apply("a", **spec)
        return caught.value.message

    @property
    def spec(self) -> Any:
        assert self.live is not None
        return self.live["spec"]

    def owned(self, manager: str) -> Any:
        assert self.live is not None
        for entry in self.live["metadata"].get("managedFields") or ():
            if entry["manager"] == manager:
                return entry["fieldsV1"].get("f:spec")
        return None


@pytest.fixture
def world() -> World:
    return World()


def item(name: str, *fields: str) -> Obj:
    return {f'k:{{"name":"{name}"}}': {**{f"f:{f}": {} for f in fields}, **({".": {}} if fields else {})}}


# --- items that are there twice


def test_duplicates_are_owned_once_and_as_a_whole(world: World) -> None:
    world.update("u", set=[1, 1, 3], list=[{"name": "a", "value1": 1}, {"name": "a", "value1": 2}, {"name": "b"}])
    assert world.owned("u") == {
        "f:set": {".": {}, "v:1": {}, "v:3": {}},
        "f:list": {".": {}, **item("a"), **item("b", "name")},
    }


def test_who_makes_or_ends_a_duplicate_owns_it(world: World) -> None:
    one, two = [{"name": "a", "value1": 1}, {"name": "b"}], [{"name": "a", "value1": 1}, {"name": "a"}, {"name": "b"}]
    world.update("one", set=[1, 3], list=one)
    world.update("two", set=[1, 1, 3], list=two)
    assert world.owned("one") == {"f:set": {".": {}, "v:3": {}}, "f:list": {".": {}, **item("b", "name")}}
    assert world.owned("two") == {"f:set": {"v:1": {}}, "f:list": item("a")}
    world.update("three", set=[1, 3], list=one)
    assert world.owned("two") is None
    assert world.owned("three") == {"f:set": {"v:1": {}}, "f:list": item("a", "name", "value1")}


def test_applying_leaves_foreign_duplicates_alone(world: World) -> None:
    listed = [{"name": "a", "value1": 1}, {"name": "a", "value1": 2}, {"name": "b", "value1": 3}]
    world.update("u", set=[1, 1, 3], list=listed)
    world.apply("a", set=[5], unrelated=5)
    assert world.spec["set"] == [1, 1, 3, 5] and world.spec["list"] == listed
    world.apply("b", True, list=[{"name": "b", "value1": 4}])
    assert world.spec["list"] == [*listed[:2], {"name": "b", "value1": 4}]
    assert world.owned("u")["f:list"] == {".": {}, **item("a"), **item("b", "name")}


def test_applying_one_of_several_replaces_them_all(world: World) -> None:
    world.update("u", set=[1, 1, 3], list=[{"name": "a", "value1": 1}, {"name": "a", "value1": 2}, {"name": "b"}])
    assert world.conflicts("a", set=[1]) == ['"u" .spec.set[=1]']
    assert world.conflicts("a", list=[{"name": "a", "value1": 2}]) == ['"u" .spec.list[name="a"]']
    world.apply("a", True, set=[1], list=[{"name": "a", "value1": 3}])
    assert world.spec == {"set": [1, 3], "list": [{"name": "a", "value1": 3}, {"name": "b"}]}
    assert world.owned("a") == {"f:set": {"v:1": {}}, "f:list": item("a", "name", "value1")}


def test_duplicates_of_others_stay_when_one_stops_to_apply(world: World) -> None:
    world.apply("a", list=[{"name": "a", "value1": 1}, {"name": "b"}])
    world.update("u", list=[{"name": "a", "value1": 1}, {"name": "a", "value1": 2}, {"name": "b"}])
    world.apply("a", list=[{"name": "b"}])
    assert [i["name"] for i in world.spec["list"]] == ["a", "a", "b"]
    assert world.owned("u") == {"f:list": item("a")}


def test_nobody_applies_duplicates(world: World) -> None:
    start = "failed to create typed patch object (/e; e.com/v1, Kind=E): "
    assert world.refused(set=[1, 1]) == start + ".spec.set: duplicate entries for key [=1]"
    assert world.refused(list=[{"name": "a"}, {"name": "a"}]) == (
        start + '.spec.list: duplicate entries for key [name="a"]'
    )
    assert world.refused(ports=[{"port": 80}, {"port": 80, "protocol": "TCP"}]) == (
        start + '.spec.ports: duplicate entries for key [port=80,protocol="TCP"]'
    )


# --- keys


def test_keys_have_defaults(world: World) -> None:
    world.apply("one", ports=[{"port": 80}, {"port": 80, "protocol": "UDP"}], book=[{"title": "x"}])
    assert world.owned("one") == {
        "f:ports": {
            'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:port": {}},
            'k:{"port":80,"protocol":"UDP"}': {".": {}, "f:port": {}, "f:protocol": {}},
        },
        "f:book": {'k:{"chapter":1,"section":"A"}': {".": {}, "f:title": {}}},
    }
    world.apply("one", ports=[{"port": 80, "name": "a"}])
    assert world.conflicts("two", ports=[{"port": 80, "protocol": "TCP", "name": "b"}]) == [
        '"one" .spec.ports[port=80,protocol="TCP"].name'
    ]


def test_keys_without_default_must_be_there(world: World) -> None:
    assert world.refused(ports=[{"protocol": "TCP"}]) == (
        "failed to create typed patch object (/e; e.com/v1, Kind=E): .spec.ports: element 0: associative list with keys "
        'has an element that omits key field "port" (and doesn\'t have default value)'
    )


# --- nested


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"list": [{"name": "a", "deep": {"a": 1}}]}, {"list": [{"name": "a", "deep": {"b": 1}}]}),
        ({"list": [{"name": "a", "deep": {"a": 1}}]}, {"list": [{"name": "b", "deep": {"b": 2}}]}),
        ({"lists": {"a": ["b", "c"]}}, {"lists": {"a": ["a", "c"]}}),
        ({"lists": {"a": ["b", "c"]}}, {"lists": {"b": ["a", "c"]}}),
        ({"maps": {"a": {"b": "x", "c": "y"}}}, {"maps": {"a": {"a": "x", "c": "z"}}}),
        ({"maps": {"a": {"b": "x"}}}, {"maps": {"b": {"a": "x"}}}),
        ({"free": {"a": {"b": 1, "c": [1]}}}, {"free": {"a": {"c": [2]}}}),
        ({"plain": ["a", "b"]}, {"plain": ["b"]}),
        ({"struct": {"numeric": 1}}, {"struct": {"string": "x"}}),
        ({"atomic": {"numeric": 1}}, {"atomic": {"string": "x"}}),
        ({"maps": {"a": {}}}, {"maps": {}}),
    ],
)
def test_one_applier_gets_what_it_applies(world: World, before: Obj, after: Obj) -> None:
    world.apply("a", **before)
    world.apply("a", **after)
    assert world.spec == after
    fresh = World()
    fresh.apply("a", **after)
    assert world.owned("a") == fresh.owned("a")


def test_several_own_parts_of_a_map(world: World) -> None:
    world.apply("one", maps={"a": {"b": "x"}})
    world.apply("two", maps={"a": {"c": "y"}})
    assert world.spec == {"maps": {"a": {"b": "x", "c": "y"}}}
    world.apply("one")
    assert world.spec == {"maps": {"a": {"c": "y"}}}
    world.apply("two")
    assert "maps" not in (world.spec or {})


def test_sets_of_several_appliers(world: World) -> None:
    world.apply("one", set=[1, 2, 4])
    world.apply("two", set=[2, 3])
    assert sorted(world.spec["set"]) == [1, 2, 3, 4]
    world.apply("one", set=[1, 4])
    assert sorted(world.spec["set"]) == [1, 2, 3, 4]
    world.apply("two", set=[3])
    assert sorted(world.spec["set"]) == [1, 3, 4]


def test_order_of_what_is_applied_wins(world: World) -> None:
    world.update("u", list=[{"name": n} for n in "abc"])
    world.apply("a", True, list=[{"name": n} for n in "cxa"])
    assert [i["name"] for i in world.spec["list"]] == ["b", "c", "x", "a"]


def test_atomic_values_conflict_as_wholes(world: World) -> None:
    world.apply("one", atomic={"numeric": 1}, plain=["a"])
    assert world.conflicts("two", atomic={"string": "x"}, plain=["a", "b"]) == [
        '"one" .spec.atomic',
        '"one" .spec.plain',
    ]


def test_empty_values(world: World) -> None:
    world.apply("a", list=[], maps={}, plain=[], atomic={})
    assert world.spec == {"list": [], "maps": {}, "plain": [], "atomic": {}}
    assert world.owned("a") == {"f:maps": {}, "f:plain": {}, "f:atomic": {}}


def test_null_is_a_value(world: World) -> None:
    world.apply("one", unrelated=None, struct={"numeric": 1, "string": None})
    assert world.owned("one") == {"f:unrelated": {}, "f:struct": {"f:numeric": {}, "f:string": {}}}
    assert world.conflicts("two", unrelated=1) == ['"one" .spec.unrelated']
    world.apply("two", True, unrelated=1)
    assert world.spec["unrelated"] == 1
    world.apply("two", unrelated=None)
    assert world.spec["unrelated"] is None
    world.update("u", struct={"numeric": 1, "string": None})
    assert world.owned("two") is None and world.owned("one") == {"f:struct": {"f:numeric": {}, "f:string": {}}}
    world.update("u", struct={"numeric": None})
    assert world.owned("u") == {"f:struct": {"f:numeric": {}}} and world.owned("one") is None


# --- schemas that change


def changed(**fields: Obj) -> Any:
    return compile_structural(struct(spec={**SPEC, "properties": {**SPEC["properties"], **fields}}))


def test_what_becomes_atomic_is_owned_whole(world: World) -> None:
    world.apply("one", struct={"numeric": 1}, list=[{"name": "a", "value1": 1}])
    world.root = changed(
        struct={**SPEC["properties"]["struct"], "x-kubernetes-map-type": "atomic"},
        list={**SPEC["properties"]["list"], "x-kubernetes-list-type": "atomic"},
    )
    assert world.conflicts("two", struct={"string": "x"}) == ['"one" .spec.struct']
    assert world.conflicts("two", list=[]) == ['"one" .spec.list']
    world.apply("two", True, struct={"string": "x"})
    assert world.spec["struct"] == {"string": "x"}
    assert world.owned("two") == {"f:struct": {}}
    assert world.owned("one") == {"f:list": {}}


def test_what_becomes_granular_is_anyones(world: World) -> None:
    world.apply("one", atomic={"numeric": 1, "string": "a"})
    world.root = changed(atomic=SPEC["properties"]["struct"])
    world.apply("two", atomic={"string": "b"})
    assert world.spec["atomic"] == {"numeric": 1, "string": "b"}
    assert world.owned("one") == {"f:atomic": {}}
    assert world.owned("two") == {"f:atomic": {"f:string": {}}}
