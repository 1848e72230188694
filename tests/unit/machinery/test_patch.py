import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stablehand.machinery.patch import PatchError, json_patch, merge_patch, strategic_merge_patch
from stablehand.machinery.schema import Schema, schema_for


def schema(api_version: str, kind: str) -> Schema:
    found = schema_for(api_version, kind)
    assert found is not None
    return found


POD = {
    "metadata": {"name": "p", "finalizers": ["a", "b"], "labels": {"x": "1"}},
    "spec": {
        "containers": [
            {"name": "a", "image": "1", "ports": [{"containerPort": 80}], "args": ["x"]},
            {"name": "b", "image": "2"},
        ],
        "volumes": [{"name": "v", "emptyDir": {}}],
        "nodeSelector": {"k": "v"},
    },
}


def smp(patch: dict[str, Any], obj: dict[str, Any] = POD, kind: str = "Pod", version: str = "v1") -> dict[str, Any]:
    before = copy.deepcopy(obj)
    result = strategic_merge_patch(obj, patch, schema(version, kind))
    assert obj == before
    return result


def test_strategic_merge_by_key() -> None:
    done = smp({"spec": {"containers": [{"name": "b", "image": "3"}, {"name": "c", "image": "4"}]}})
    assert [(c["name"], c["image"]) for c in done["spec"]["containers"]] == [("a", "1"), ("b", "3"), ("c", "4")]
    assert done["spec"]["containers"][0] is POD["spec"]["containers"][0]  # type: ignore[index]


def test_strategic_directives() -> None:
    assert [
        c["name"] for c in smp({"spec": {"containers": [{"name": "a", "$patch": "delete"}]}})["spec"]["containers"]
    ] == ["b"]
    replaced = smp({"spec": {"containers": [{"$patch": "replace"}, {"name": "z"}]}})
    assert replaced["spec"]["containers"] == [{"name": "z"}]
    assert smp({"spec": {"nodeSelector": {"$patch": "replace", "n": "1"}}})["spec"]["nodeSelector"] == {"n": "1"}
    assert smp({"spec": {"nodeSelector": {"$patch": "delete"}}})["spec"]["nodeSelector"] == {}
    assert smp({"spec": {"nodeSelector": None}})["spec"].get("nodeSelector") is None
    volume = smp({"spec": {"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/"}}]}})
    assert volume["spec"]["volumes"] == [{"name": "v", "hostPath": {"path": "/"}}]
    assert smp({"spec": {"containers": [{"name": "a", "args": ["y"]}]}})["spec"]["containers"][0]["args"] == ["y"]


def test_strategic_primitive_lists() -> None:
    assert smp({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}})["metadata"]["finalizers"] == ["b"]
    assert smp({"metadata": {"finalizers": ["c"]}})["metadata"]["finalizers"] == ["c", "a", "b"]
    done = smp({"metadata": {"$setElementOrder/finalizers": ["b", "a", "c"], "finalizers": ["c"]}})
    assert done["metadata"]["finalizers"] == ["b", "a", "c"]


def test_strategic_element_order() -> None:
    done = smp(
        {
            "spec": {
                "$setElementOrder/containers": [{"name": "c"}, {"name": "a"}],
                "containers": [{"name": "c", "image": "9"}, {"name": "b", "$patch": "delete"}],
            }
        }
    )
    assert [c["name"] for c in done["spec"]["containers"]] == ["c", "a"]


def test_service_ports_merge_by_port() -> None:
    service = {"spec": {"ports": [{"port": 80, "targetPort": 1}, {"port": 81}]}}
    done = smp({"spec": {"ports": [{"port": 80, "targetPort": 2}]}}, service, "Service")
    assert done["spec"]["ports"] == [{"port": 80, "targetPort": 2}, {"port": 81}]
    with pytest.raises(PatchError, match="does not contain declared merge key: port"):
        smp({"spec": {"ports": [{"name": "x"}]}}, service, "Service")


def test_revision_rollback_replaces_the_template() -> None:
    sts = {"spec": {"replicas": 3, "template": {"metadata": {"labels": {"a": "1"}}, "spec": {"containers": []}}}}
    patch = {"spec": {"template": {"$patch": "replace", "metadata": {"labels": {"b": "2"}}}}}
    done = smp(patch, sts, "StatefulSet", "apps/v1")
    assert done["spec"] == {"replicas": 3, "template": {"metadata": {"labels": {"b": "2"}}}}


def test_json_patch() -> None:
    before = copy.deepcopy(POD)
    done = json_patch(
        POD,
        [
            {"op": "test", "path": "/metadata/name", "value": "p"},
            {"op": "add", "path": "/metadata/labels/a~1b", "value": "2"},
            {"op": "replace", "path": "/spec/containers/0/image", "value": "9"},
            {"op": "add", "path": "/spec/containers/-", "value": {"name": "z"}},
            {"op": "remove", "path": "/spec/volumes/0"},
            {"op": "copy", "from": "/metadata/name", "path": "/metadata/other"},
            {"op": "move", "from": "/metadata/finalizers", "path": "/gone"},
        ],
    )
    assert before == POD
    assert done["metadata"] == {"name": "p", "labels": {"x": "1", "a/b": "2"}, "other": "p"}
    assert [c["name"] for c in done["spec"]["containers"]] == ["a", "b", "z"]
    assert done["gone"] == ["a", "b"]


@pytest.mark.parametrize(
    ("operation", "code"),
    [
        ({"op": "test", "path": "/metadata/name", "value": "q"}, 422),
        ({"op": "replace", "path": "/metadata/none", "value": 1}, 422),
        ({"op": "remove", "path": "/a/b"}, 422),
        ({"op": "add", "path": "/spec/containers/9", "value": 1}, 422),
        ({"op": "dance", "path": "/a"}, 422),
        ("nonsense", 400),
    ],
)
def test_json_patch_errors(operation: Any, code: int) -> None:
    with pytest.raises(PatchError) as caught:
        json_patch(POD, [operation])
    assert caught.value.code == code


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["a", "b"]),
    lambda children: st.dictionaries(st.sampled_from("abcd"), children, max_size=3) | st.lists(children, max_size=2),
    max_leaves=12,
)
_OBJECTS = st.dictionaries(st.sampled_from("abcd"), _JSON, max_size=4)


def rfc7386(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = rfc7386(result.get(key), value)
    return result


@given(_OBJECTS, _OBJECTS)
def test_merge_patch_is_rfc7386(obj: dict[str, Any], patch: dict[str, Any]) -> None:
    before = copy.deepcopy((obj, patch))
    assert merge_patch(obj, patch) == rfc7386(obj, patch)
    assert (obj, patch) == before


@given(
    st.lists(st.sampled_from("abcde"), unique=True, min_size=1),
    st.lists(st.sampled_from("abcde"), unique=True, min_size=1),
)
def test_strategic_merge_is_idempotent(have: list[str], want: list[str]) -> None:
    obj = {"spec": {"containers": [{"name": n, "image": "old"} for n in have]}}
    patch = {"spec": {"containers": [{"name": n, "image": "new"} for n in want]}}
    once = strategic_merge_patch(obj, patch, schema("v1", "Pod"))
    images = {c["name"]: c["image"] for c in once["spec"]["containers"]}
    assert images == {**dict.fromkeys(have, "old"), **dict.fromkeys(want, "new")}
    again = strategic_merge_patch(once, patch, schema("v1", "Pod"))
    assert {c["name"]: c["image"] for c in again["spec"]["containers"]} == images
