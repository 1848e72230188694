import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stablehand.machinery import fieldsets
from stablehand.machinery.ownership import ApplyConflict, ApplyError, apply, update_managed_fields

DEPLOYMENT: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "d", "namespace": "default", "labels": {"a": "b"}},
    "spec": {
        "replicas": 3,
        "selector": {"matchLabels": {"a": "b"}},
        "template": {
            "metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "image": "x", "ports": [{"containerPort": 80}]}]},
        },
    },
}


def run(live: Any, applied: Any, manager: str = "kubectl", force: bool = False, now: float = 0.0) -> dict[str, Any]:
    before = copy.deepcopy((live, applied))
    result = apply(live, applied, manager, force, "apps/v1", "", now)
    assert (live, applied) == before
    return result


def entries(obj: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {e["manager"]: e for e in obj["metadata"].get("managedFields") or ()}


def test_create_owns_what_it_sets() -> None:
    obj = copy.deepcopy(DEPLOYMENT)
    obj["status"] = {"replicas": 1}
    update_managed_fields(None, obj, "kubectl-create", now=0)
    entry = entries(obj)["kubectl-create"]
    assert (entry["operation"], entry["apiVersion"], entry["time"]) == ("Update", "apps/v1", "1970-01-01T00:00:00Z")
    fields = entry["fieldsV1"]
    assert fields["f:metadata"] == {"f:labels": {"f:a": {}, ".": {}}}
    assert fields["f:spec"]["f:selector"] == {}
    container = fields["f:spec"]["f:template"]["f:spec"]["f:containers"]['k:{"name":"c"}']
    assert container["f:ports"]['k:{"containerPort":80,"protocol":"TCP"}'] == {"f:containerPort": {}, ".": {}}
    assert "f:status" not in fields


def test_update_moves_ownership_and_keeps_time() -> None:
    old = copy.deepcopy(DEPLOYMENT)
    update_managed_fields(None, old, "one", now=0)
    new = copy.deepcopy(old)
    new["spec"]["replicas"] = 5
    update_managed_fields(old, new, "two", now=60)
    assert "f:replicas" not in entries(new)["one"]["fieldsV1"]["f:spec"]
    assert entries(new)["two"]["fieldsV1"] == {"f:spec": {"f:replicas": {}}}
    assert entries(new)["one"]["time"] == "1970-01-01T00:00:00Z"
    same = copy.deepcopy(new)
    update_managed_fields(new, same, "three", now=120)
    assert same["metadata"]["managedFields"] == new["metadata"]["managedFields"]
    gone = copy.deepcopy(new)
    del gone["spec"]["replicas"]
    update_managed_fields(new, gone, "one", now=180)
    assert set(entries(gone)) == {"one"}


def test_status_has_its_own_entry() -> None:
    old = copy.deepcopy(DEPLOYMENT)
    update_managed_fields(None, old, "ctl", now=0)
    new = copy.deepcopy(old)
    new["status"] = {"replicas": 1}
    update_managed_fields(old, new, "ctl", subresource="status", now=1)
    assert [e.get("subresource", "") for e in new["metadata"]["managedFields"]] == ["", "status"]


def test_untracked_objects_stay_untracked() -> None:
    old = copy.deepcopy(DEPLOYMENT)
    new = copy.deepcopy(DEPLOYMENT)
    new["spec"]["replicas"] = 1
    update_managed_fields(old, new, "x", now=1)
    assert "managedFields" not in new["metadata"]


def test_update_managers_are_capped() -> None:
    obj = copy.deepcopy(DEPLOYMENT)
    update_managed_fields(None, obj, "m0", now=0)
    for index in range(1, 15):
        new = copy.deepcopy(obj)
        new["metadata"]["labels"][f"l{index}"] = "x"
        update_managed_fields(obj, new, f"m{index}", now=index)
        obj = new
    managers = [e["manager"] for e in obj["metadata"]["managedFields"]]
    assert len(managers) == 10
    assert managers[0] == "ancient-changes"
    assert "f:l1" in entries(obj)["ancient-changes"]["fieldsV1"]["f:metadata"]["f:labels"]


def test_apply_twice_changes_nothing() -> None:
    live = run(None, DEPLOYMENT)
    assert "." not in entries(live)["kubectl"]["fieldsV1"]["f:metadata"]["f:labels"]
    assert run(live, DEPLOYMENT, now=9) is live


def test_conflicts_and_force() -> None:
    live = run(None, DEPLOYMENT, "one")
    scaled = copy.deepcopy(live)
    scaled["spec"]["replicas"] = 5
    update_managed_fields(live, scaled, "kubectl-edit", api_version="apps/v1", now=1)
    with pytest.raises(ApplyConflict) as caught:
        run(scaled, DEPLOYMENT, "one")
    assert caught.value.message == (
        'Apply failed with 1 conflict: conflict with "kubectl-edit" using apps/v1: .spec.replicas'
    )
    assert caught.value.causes == [('conflict with "kubectl-edit" using apps/v1', ".spec.replicas")]
    forced = run(scaled, DEPLOYMENT, "one", True)
    assert forced["spec"]["replicas"] == 3
    assert set(entries(forced)) == {"one"}
    other = copy.deepcopy(DEPLOYMENT)
    other["spec"]["template"]["spec"]["containers"][0]["image"] = "y"
    other["spec"]["replicas"] = 9
    with pytest.raises(ApplyConflict) as caught:
        run(live, other, "two")
    assert caught.value.message == (
        'Apply failed with 2 conflicts: conflicts with "one":\n'
        '- .spec.replicas\n- .spec.template.spec.containers[name="c"].image'
    )


def test_same_values_are_owned_together() -> None:
    live = run(None, DEPLOYMENT, "one")
    both = run(live, DEPLOYMENT, "two")
    assert set(entries(both)) == {"one", "two"}
    less = copy.deepcopy(DEPLOYMENT)
    del less["spec"]["replicas"]
    after = run(both, less, "one")
    assert after["spec"]["replicas"] == 3  # two still owns it
    gone = run(after, less, "two")
    assert "replicas" not in gone["spec"]


def test_what_is_no_longer_applied_goes() -> None:
    live = run(None, DEPLOYMENT)
    live["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] = "Always"  # a default, owned by no one
    less = copy.deepcopy(DEPLOYMENT)
    del less["metadata"]["labels"]
    less["spec"]["template"]["spec"]["containers"][0].pop("ports")
    after = run(live, less)
    assert "labels" not in after["metadata"]
    assert after["spec"]["template"]["spec"]["containers"] == [{"name": "c", "image": "x", "imagePullPolicy": "Always"}]
    swapped = copy.deepcopy(less)
    swapped["spec"]["template"]["spec"]["containers"] = [{"name": "n", "image": "z"}]
    assert run(after, swapped)["spec"]["template"]["spec"]["containers"] == [{"name": "n", "image": "z"}]


def test_first_apply_over_an_untracked_object() -> None:
    live = copy.deepcopy(DEPLOYMENT)
    other = copy.deepcopy(DEPLOYMENT)
    other["spec"]["replicas"] = 1
    with pytest.raises(ApplyConflict) as caught:
        run(live, other, "new")
    assert '"before-first-apply" using apps/v1' in caught.value.message


def test_kubectl_takes_over_from_client_side_apply() -> None:
    import orjson

    live = copy.deepcopy(DEPLOYMENT)
    last = orjson.dumps(DEPLOYMENT).decode()
    live["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": last}
    update_managed_fields(None, live, "kubectl-client-side-apply", now=0)
    wanted = copy.deepcopy(DEPLOYMENT)
    wanted["spec"]["replicas"] = 7
    done = run(live, wanted, "kubectl")
    assert done["spec"]["replicas"] == 7
    note = done["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"]
    assert orjson.loads(note)["spec"]["replicas"] == 7
    with pytest.raises(ApplyConflict):
        run(live, wanted, "someone")


def test_bad_configurations() -> None:
    bad = copy.deepcopy(DEPLOYMENT)
    bad["spec"]["template"]["spec"]["containers"] = [{"image": "x"}]
    with pytest.raises(ApplyError, match="omits key field"):
        run(None, bad)
    bad = copy.deepcopy(DEPLOYMENT)
    bad["metadata"]["managedFields"] = [{"manager": "x"}]
    with pytest.raises(ApplyError, match="must be nil"):
        run(None, bad)


_SETS = st.recursive(
    st.just({}),
    lambda children: st.dictionaries(st.sampled_from([".", "f:a", "f:b", 'k:{"name":"c"}']), children, max_size=3).map(
        lambda d: {k: ({} if k == "." else v) for k, v in d.items()}
    ),
    max_leaves=10,
).map(lambda d: {k: v for k, v in d.items() if k != "."})


@given(_SETS, _SETS)
def test_set_algebra(a: dict[str, Any], b: dict[str, Any]) -> None:
    before = copy.deepcopy((a, b))
    left, right = set(fieldsets.paths(a)), set(fieldsets.paths(b))
    assert set(fieldsets.paths(fieldsets.union(a, b))) == left | right
    assert set(fieldsets.paths(fieldsets.difference(a, b))) == left - right
    assert set(fieldsets.paths(fieldsets.intersection(a, b))) == left & right
    assert (a, b) == before


@given(st.lists(st.sampled_from("abcd"), unique=True), st.lists(st.sampled_from("abcd"), unique=True))
def test_apply_is_declarative(first: list[str], second: list[str]) -> None:
    def config(names: list[str]) -> dict[str, Any]:
        data = {"data": dict.fromkeys(names, "1")} if names else {}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, **data}

    live = apply(None, config(first), "m", False, "v1", "", 0)
    after = apply(live, config(second), "m", False, "v1", "", 1)
    assert sorted(after.get("data") or {}) == sorted(second)
    assert apply(after, config(second), "m", False, "v1", "", 2) is after
