"""What operators, charts and GitOps tools do with definitions and their objects, through kubectl."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration import operatorcrds as crds
from tests.integration.conftest import Cluster
from tests.integration.hollow import APPLY, MERGE, Api
from tests.integration.test_conversion import convert, version
from tests.integration.test_webhooks import Hooks, patch, register, rule

Obj = dict[str, Any]


def put(c: Cluster, text: str | Obj, *how: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    verb = how or ("apply",)
    return c.kubectl(*verb, "-f", "-", stdin=text if isinstance(text, str) else json.dumps(text), check=check)


@pytest.fixture(scope="module")
def c(control_plane: Cluster) -> Iterator[Cluster]:
    for text in (crds.PORTAL, crds.CLUSTER):
        put(control_plane, text, "create")
    control_plane.kubectl("wait", "--for=condition=Established", "crd", "-l", "suite=operators")
    yield control_plane
    control_plane.kubectl("delete", "crd", "-l", "suite=operators")


def managers(c: Cluster, *what: str) -> dict[str, Obj]:
    found = c.get(*what, "--show-managed-fields")["metadata"]["managedFields"]
    return {f"{m['manager']}/{m.get('subresource', '')}": m for m in found}


def test_definitions_are_taken_in_every_way(c: Cluster) -> None:
    for text in (crds.PORTAL, crds.CLUSTER):
        put(c, text, "replace")
        put(c, text)
        put(c, text, "apply", "--server-side", "--force-conflicts")
        assert c.kubectl("diff", "--server-side", "--force-conflicts", "-f", "-", stdin=text).stdout == ""
    assert c.get("crd", "portals.edge.stablehand.dev")["status"]["storedVersions"] == ["v1"]


def test_objects_are_defaulted_checked_printed_and_explained(c: Cluster) -> None:
    put(c, crds.GOOD_PORTAL)
    portal = c.get("por", "front")
    assert portal["spec"]["addresses"][0] == {"type": "IP", "value": "10.0.0.1"}
    assert portal["spec"]["doors"][1]["tls"]["mode"] == "Terminate"
    assert portal["spec"]["doors"][0]["allowed"] == {"from": {"scope": "Same"}}
    assert portal["status"]["conditions"][0]["reason"] == "Pending"
    assert c.kubectl("get", "por", "--no-headers").stdout.split() == ["front", "a", "Unknown"]
    assert "Where to come in." in c.kubectl("explain", "portals.spec.doors").stdout
    doors = [{"name": "x", "port": 80, "protocol": "HTTP", "tls": {"mode": "Pass"}}] * 2
    change = {"spec": {"doors": doors, "addresses": [{"value": "x"}], "timeout": "soon"}}
    said = c.kubectl("patch", "por", "front", "--type=merge", "-p", json.dumps(change), check=False).stderr
    for text in (
        'spec.addresses[0]: Invalid value: "": "spec.addresses[0]" must validate one and only one schema (oneOf)',
        'spec.doors[1]: Duplicate value: {"name":"x"}',
        "spec.doors: Invalid value: a door without encryption has no certificates",
        "spec.timeout in body should match '^([0-9]{1,5}(h|m|s|ms)){1,4}$'",
    ):
        assert text in said
    c.kubectl("delete", "por", "front")


def test_a_database_cluster(c: Cluster) -> None:
    put(c, crds.GOOD_CLUSTER)
    assert c.kubectl("get", "dbc", "--field-selector", "spec.engine=pg", "--no-headers").stdout.split()[1:3] == [
        "pg",
        "3",
    ]
    old = c.kubectl("get", "dbclusters.v1beta1.data.stablehand.dev", "main", "-o", "json")
    assert json.loads(old.stdout)["apiVersion"].endswith("/v1beta1") and "is deprecated" in old.stderr
    c.kubectl("scale", "dbc", "main", "--replicas=5")
    c.kubectl("wait", "dbc/main", "--for=jsonpath={.spec.instances}=5", "--timeout=5s")
    refused = c.kubectl("scale", "dbc", "main", "--replicas=10", check=False).stderr
    assert "at most nine, not 10" in refused
    engine = c.kubectl("patch", "dbc", "main", "--type=merge", "-p", '{"spec":{"engine":"my"}}', check=False).stderr
    assert "spec.engine: Forbidden: the engine stays" in engine
    status = {"status": {"instances": 5, "selector": "x=y", "conditions": [{"type": "Ready", "status": "True"}]}}
    c.kubectl("patch", "dbc", "main", "--subresource=status", "--type=merge", "-p", json.dumps(status))
    c.kubectl("wait", "dbc/main", "--for=condition=Ready", "--timeout=5s")
    with c.start_kubectl("get", "dbc", "--watch", "--no-headers", stdout=subprocess.PIPE) as watch:
        assert watch.stdout is not None and watch.stdout.readline().split()[:4] == [b"main", b"pg", b"5", b"True"]
        c.kubectl("patch", "dbc", "main", "--type=merge", "-p", '{"spec":{"instances":4}}')
        assert watch.stdout.readline().split()[2] == b"4"
        watch.terminate()
    changed = crds.GOOD_CLUSTER.replace("engine: pg", "engine: my")
    put(c, changed, "replace", "--force")  # deletes and makes it anew
    assert c.get("dbc", "main")["spec"]["engine"] == "my"
    c.kubectl("delete", "dbc", "main")


def test_what_is_written_in_an_old_version_reads_as_the_stored_one(c: Cluster) -> None:
    old = {"apiVersion": "data.stablehand.dev/v1beta1", "kind": "DbCluster", "metadata": {"name": "old"}}
    told = put(c, {**old, "spec": {"engine": "pg", "unknown": 1}}, "apply", "--server-side").stderr
    assert "data.stablehand.dev/v1beta1 DbCluster is deprecated; use data.stablehand.dev/v1 DbCluster" in told
    assert c.get("dbc", "old")["spec"] == {"engine": "pg", "instances": 3}
    assert managers(c, "dbc", "old")["kubectl/"]["apiVersion"] == "data.stablehand.dev/v1beta1"
    c.kubectl("delete", "dbc", "old")


def test_what_definitions_may_not_say(c: Cluster) -> None:
    def refused(**properties: Obj) -> str:
        crd = {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": "bads.data.stablehand.dev"},
            "spec": {
                "group": "data.stablehand.dev",
                "scope": "Namespaced",
                "names": {"plural": "bads", "kind": "Bad"},
                "versions": [
                    {
                        "name": "v1",
                        "served": True,
                        "storage": True,
                        "schema": {"openAPIV3Schema": {"type": "object", "properties": properties}},
                    }
                ],
            },
        }
        return put(c, crd, "create", check=False).stderr

    at = "spec.validation.openAPIV3Schema.properties[a]"
    assert f'{at}.pattern: Invalid value: "(": must be a valid regular expression' in refused(
        a={"type": "string", "pattern": "("}
    )
    assert f"{at}.default: Invalid value: " in refused(a={"type": "integer", "default": "x"})
    listed = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"]}
    item = {"type": "object", "properties": {"k": {"type": "string"}}}
    assert (
        f"{at}.items.properties[k].default: Required value: this property is in x-kubernetes-list-map-keys"
        in refused(a={"type": "array", "items": item, **listed})
    )
    text = {"type": "string", "x-kubernetes-validations": [{"rule": "self.matches('x')"}]}
    dear = refused(a={"type": "array", "items": text})
    assert (
        f"{at}.items.x-kubernetes-validations[0].rule: Forbidden: estimated rule cost exceeds budget by factor" in dear
    )


def test_objects_may_keep_what_a_stricter_definition_forbids(c: Cluster) -> None:
    put(c, crds.GOOD_CLUSTER)
    parameters = {"type": "object", "additionalProperties": {"type": "string", "pattern": "^[a-z]+$"}}
    where = "/spec/versions/1/schema/openAPIV3Schema/properties/spec/properties/parameters"
    crd, strict = "dbclusters.data.stablehand.dev", [{"op": "replace", "path": where, "value": parameters}]
    c.kubectl("patch", "crd", crd, "--type=json", "-p", json.dumps(strict))

    def change(text: str) -> str:
        return c.kubectl("patch", "dbc", "main", "--type=merge", "-p", text, check=False).stderr

    assert change('{"spec":{"instances":2,"parameters":{"b":"x"}}}') == ""
    assert 'spec.parameters.a: Invalid value: "2": spec.parameters.a in body should match' in change(
        '{"spec":{"parameters":{"a":"2"}}}'
    )
    assert "spec.parameters.b in body should match" in change('{"spec":{"parameters":{"b":"X"}}}')
    put(c, crds.CLUSTER, "replace")
    c.kubectl("delete", "dbc", "main")


def test_names_versions_and_the_end_of_definitions(c: Cluster) -> None:
    def thing(plural: str, kind: str, *versions: str, short: str = "") -> Obj:
        schema = {"openAPIV3Schema": {"type": "object"}}
        names: Obj = {"plural": plural, "kind": kind, **({"shortNames": [short]} if short else {})}
        listed = [{"name": v, "served": True, "storage": i == 0, "schema": schema} for i, v in enumerate(versions)]
        spec = {"group": "ends.stablehand.dev", "scope": "Cluster", "names": names, "versions": listed}
        name = f"{plural}.ends.stablehand.dev"
        api = "apiextensions.k8s.io/v1"
        return {"apiVersion": api, "kind": "CustomResourceDefinition", "metadata": {"name": name}, "spec": spec}

    put(c, thing("ones", "One", "v1", short="thing"))
    put(c, thing("twos", "Two", "v1", short="thing"))
    conditions = c.until(lambda: c.get("crd", "twos.ends.stablehand.dev")["status"].get("conditions"))
    assert {x["type"]: x["reason"] for x in conditions} == {
        "NamesAccepted": "ShortNamesConflict",
        "Established": "NotAccepted",
    }
    put(c, thing("ones", "One", "v2", "v1", short="thing"))
    one = "ones.ends.stablehand.dev"
    assert c.get("crd", one)["status"]["storedVersions"] == ["v1", "v2"]
    refused = put(c, thing("ones", "One", "v2", short="thing"), check=False).stderr
    assert 'status.storedVersions[0]: Invalid value: "v1": missing from spec.versions' in refused
    migrated = '{"status":{"storedVersions":["v2"]}}'
    c.kubectl("patch", "crd", one, "--subresource=status", "--type=merge", "-p", migrated)
    put(c, thing("ones", "One", "v2", short="thing"))

    held = {
        "apiVersion": "ends.stablehand.dev/v2",
        "kind": "One",
        "metadata": {"name": "a", "finalizers": ["x.dev/hold"]},
    }
    put(c, held, "create")
    c.kubectl("delete", "crd", one, "--wait=false")
    c.until(lambda: c.get(one, "a")["metadata"].get("deletionTimestamp"))
    late = put(c, {**held, "metadata": {"name": "b"}}, "create", check=False).stderr
    assert "create not allowed while custom resource definition is terminating" in late
    c.kubectl("patch", one, "a", "--type=json", "-p", '[{"op":"remove","path":"/metadata/finalizers"}]')
    c.kubectl("wait", f"crd/{one}", "--for=delete", "--timeout=10s")
    # The names are free now; and objects of a version that is not served any more go with their definition, too.
    two = "twos.ends.stablehand.dev"
    c.kubectl("wait", "--for=condition=Established", f"crd/{two}", "--timeout=10s")
    meta = {"apiVersion": "ends.stablehand.dev/v1", "kind": "Two", "metadata": {"name": "a"}}
    c.until(lambda: put(c, meta, "create", check=False).returncode == 0)
    hidden = '[{"op":"replace","path":"/spec/versions/0/served","value":false}]'
    c.kubectl("patch", "crd", two, "--type=json", "-p", hidden)
    c.kubectl("delete", "crd", two, "--timeout=10s")
    put(c, thing("twos", "Two", "v1"))
    c.kubectl("wait", "--for=condition=Established", f"crd/{two}")
    assert c.get(two)["items"] == []
    c.kubectl("delete", "crd", two)


def test_applying_together(c: Cluster) -> None:
    def users(manager: str, *names: str, force: bool = False) -> subprocess.CompletedProcess[str]:
        spec = {"users": [{"name": n, "roles": [manager]} for n in names]}
        obj = {
            "apiVersion": "data.stablehand.dev/v1",
            "kind": "DbCluster",
            "metadata": {"name": "shared"},
            "spec": spec,
        }
        flags = ("--force-conflicts",) if force else ()
        return put(c, obj, "apply", "--server-side", f"--field-manager={manager}", *flags, check=False)

    users("one", "a", "b")
    users("two", "b", "c")  # roles are a set: each has its own
    listed = {u["name"]: sorted(u["roles"]) for u in c.get("dbc", "shared")["spec"]["users"]}
    assert listed == {"a": ["one"], "b": ["one", "two"], "c": ["two"]}
    assert '.spec.users: duplicate entries for key [host="%",name="d"]' in users("one", "d", "d").stderr
    users("one", "a")
    assert [u["name"] for u in c.get("dbc", "shared")["spec"]["users"]] == ["a", "b", "c"]
    assert 'k:{"host":"%","name":"a"}' in managers(c, "dbc", "shared")["one/"]["fieldsV1"]["f:spec"]["f:users"]
    status = {"apiVersion": "data.stablehand.dev/v1", "kind": "DbCluster", "metadata": {"name": "shared"}}
    put(
        c,
        {**status, "status": {"instances": 1}},
        "apply",
        "--server-side",
        "--subresource=status",
        "--field-manager=ctl",
    )
    assert managers(c, "dbc", "shared")["ctl/status"]["fieldsV1"] == {"f:status": {"f:instances": {}}}
    c.kubectl("scale", "dbc", "shared", "--replicas=2")
    assert managers(c, "dbc", "shared")["kubectl/scale"]["fieldsV1"] == {"f:spec": {"f:instances": {}}}
    c.kubectl("patch", "dbc", "shared", "--type=merge", "-p", '{"metadata":{"managedFields":[{}]}}')
    assert "managedFields" not in c.get("dbc", "shared", "--show-managed-fields")["metadata"]
    c.kubectl("delete", "dbc", "shared")


def test_scales_are_applied_too(c: Cluster, api: Api) -> None:
    meta = {"apiVersion": "data.stablehand.dev/v1", "kind": "DbCluster", "metadata": {"name": "scaled"}}
    put(c, {**meta, "spec": {"instances": 1}}, "apply", "--server-side", "--field-manager=gitops")
    scale = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "scaled"}, "spec": {"replicas": 4}}
    path = "/apis/data.stablehand.dev/v1/namespaces/default/dbclusters/scaled/scale"

    def apply(**query: str) -> Obj:
        answer: Obj = api.call("PATCH", path, scale, type=APPLY, **query).body
        return answer

    assert apply(fieldManager="scaler")["message"] == (
        'Apply failed with 1 conflict: conflict with "gitops": .spec.instances'
    )
    assert apply(fieldManager="scaler", force="true")["spec"] == {"replicas": 4}
    found = managers(c, "dbc", "scaled")
    assert found["scaler/scale"]["operation"] == "Apply" and found["scaler/scale"]["fieldsV1"] == {
        "f:spec": {"f:instances": {}}
    }
    put(
        c, {**meta, "spec": {}}, "apply", "--server-side", "--field-manager=gitops"
    )  # as GitOps tools do beside scalers
    assert c.get("dbc", "scaled")["spec"]["instances"] == 4
    c.kubectl("delete", "dbc", "scaled")


def test_options_of_writes_are_checked(c: Cluster, api: Api) -> None:
    c.kubectl("create", "cm", "optional")
    path = "/api/v1/namespaces/default/configmaps/optional"

    def said(body: Obj, kind: str, **query: str) -> str:
        return str(api.call("PATCH", path, body, type=kind, **query).body["message"])

    start = 'PatchOptions.meta.k8s.io "" is invalid: '
    assert said({}, MERGE, force="true") == (f"{start}force: Forbidden: may not be specified for non-apply patch")
    assert said({}, APPLY) == (f"{start}fieldManager: Required value: is required for apply patch")
    assert "fieldManager: Too long" in said({}, MERGE, fieldManager="m" * 129)
    wrong = {"apiVersion": "v2", "kind": "ConfigMap"}
    assert said(wrong, APPLY, fieldManager="m") == (
        "Incorrect version specified in apply patch. Specified patch version: v2, expected: v1"
    )
    c.kubectl("delete", "cm", "optional")


def test_from_client_side_to_server_side_apply(c: Cluster) -> None:
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: moved}\ndata: {a: '1', b: '2'}\n"
    put(c, text)
    put(c, text, "apply", "--server-side")
    found = managers(c, "cm", "moved")
    assert "kubectl-client-side-apply/" not in found and found["kubectl/"]["operation"] == "Apply"
    put(c, text.replace(", b: '2'", ""), "apply", "--server-side")  # so that what goes from the manifest goes
    assert c.get("cm", "moved")["data"] == {"a": "1"}
    c.kubectl("delete", "cm", "moved")


def test_json_patches_that_do_not_apply(c: Cluster) -> None:
    c.kubectl("create", "cm", "patched", "--from-literal=a=1")
    for operations in (
        [{"op": "test", "path": "/data/a", "value": "2"}],
        [{"op": "remove", "path": "/data/b"}],
        [{"op": "add", "path": "/metadata/labels/x", "value": "y"}],
    ):
        said = c.kubectl("patch", "cm", "patched", "--type=json", "-p", json.dumps(operations), check=False).stderr
        assert "The request is invalid: the server rejected our request due to an error in our request" in said
        assert "Warning: " in said
    c.kubectl("delete", "cm", "patched")


def test_sets_of_manifests(c: Cluster, tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "db.yaml").write_text(crds.GOOD_CLUSTER)
    (tmp_path / "base" / "kustomization.yaml").write_text("resources: [db.yaml]\nnamePrefix: k-\n")
    c.kubectl("apply", "-k", str(tmp_path / "base"))
    assert c.get("dbc", "k-main")["spec"]["instances"] == 3
    (tmp_path / "base" / "db.yaml").write_text(crds.GOOD_CLUSTER.replace("port: sql", "port: 5432"))
    shown = c.kubectl("diff", "-k", str(tmp_path / "base"), check=False)
    assert shown.returncode == 1 and "+  port: 5432" in shown.stdout
    c.kubectl("delete", "-k", str(tmp_path / "base"))
    both = "\n---\n".join(
        f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, labels: {{set: pruned}}}}" for name in ("p1", "p2")
    )
    put(c, both, "apply", "--prune", "-l", "set=pruned", "--prune-allowlist=core/v1/ConfigMap")
    only = both.partition("\n---\n")[0]
    told = put(c, only, "apply", "--prune", "-l", "set=pruned", "--prune-allowlist=core/v1/ConfigMap").stdout
    assert "configmap/p2 pruned" in told
    c.kubectl("delete", "cm", "p1")


@pytest.fixture
def hooks(control_plane: Cluster, tmp_path: Path) -> Iterator[Hooks]:
    served = Hooks(tmp_path / "pki")
    try:
        yield served
    finally:
        kinds = ("webhookconfiguration", "admissionpolicybinding", "admissionpolicy")
        for kind in (f"{how}{kind}" for how in ("mutating", "validating") for kind in kinds):
            control_plane.kubectl("delete", kind, "--all")
        control_plane.kubectl("delete", "crd", "links.told.stablehand.dev", "--ignore-not-found")
        served.server.shutdown()
        served.server.server_close()


def test_webhooks_are_told_in_the_version_they_know(c: Cluster, hooks: Hooks) -> None:
    """matchPolicy Equivalent with a conversion webhook: asked about v2, the hook for v1 sees v1, and may change it."""
    told: list[Obj] = []

    def judge(request: Obj) -> Obj:
        told.append(request)
        return patch({"op": "replace", "path": "/spec/hostPort", "value": request["object"]["spec"]["hostPort"] + "1"})

    group = "told.stablehand.dev"
    hooks.answers = {"/convert": convert, "/judge": judge}
    client = {"url": f"https://127.0.0.1:{hooks.server.server_port}/convert", "caBundle": hooks.ca}
    conversion = {"strategy": "Webhook", "webhook": {"clientConfig": client, "conversionReviewVersions": ["v1"]}}
    versions = [version("v1", True, "hostPort"), version("v2", False, "host", "port")]
    spec = {"group": group, "scope": "Namespaced", "names": {"plural": "links", "kind": "Link"}, "versions": versions}
    api = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition"}
    put(c, {**api, "metadata": {"name": f"links.{group}"}, "spec": {**spec, "conversion": conversion}})
    c.kubectl("wait", "--for=condition=Established", f"crd/links.{group}")
    register(c, "MutatingWebhookConfiguration", "links", hooks.hook("j", "/judge", [rule("links", "*", group=group)]))
    link = {"apiVersion": f"{group}/v2", "kind": "Link", "metadata": {"name": "l"}, "spec": {"host": "h", "port": "8"}}
    put(c, link, "create")
    asked = told[0]
    assert asked["object"]["apiVersion"] == f"{group}/v1" and asked["object"]["spec"] == {"hostPort": "h:8"}
    assert (asked["resource"]["version"], asked["requestResource"]["version"]) == ("v1", "v2")
    assert asked["kind"]["version"] == "v1" and asked["requestKind"]["version"] == "v2"
    assert c.get(f"links.v2.{group}", "l")["spec"] == {"host": "h", "port": "81"}
    c.kubectl("patch", f"links.v2.{group}", "l", "--type=merge", "-p", '{"spec":{"port":"9"}}')
    assert told[-1]["operation"] == "UPDATE" and told[-1]["oldObject"]["spec"] == {"hostPort": "h:81"}
    assert told[-1]["options"]["kind"] == "UpdateOptions"
    assert c.get(f"links.v2.{group}", "l")["spec"]["port"] == "91"

    # Policies see, and change, the version that they name, too.
    c.kubectl("delete", "mutatingwebhookconfiguration", "links")
    matched = {"resourceRules": [rule("links", "CREATE", "UPDATE", group=group)]}
    seven = "[JSONPatch{op: 'replace', path: '/spec/hostPort', value: object.spec.hostPort + '7'}]"
    mutation = {"patchType": "JSONPatch", "jsonPatch": {"expression": seven}}
    admission: Obj = {"apiVersion": "admissionregistration.k8s.io/v1"}
    changes = {"matchConstraints": matched, "reinvocationPolicy": "Never", "mutations": [mutation]}
    denies = {"matchConstraints": matched, "validations": [{"expression": "object.spec.hostPort != 'no:17'"}]}
    actions = {"Validating": {"validationActions": ["Deny"]}, "Mutating": {}}
    for kind, policy in (("Mutating", changes), ("Validating", denies)):
        meta = {"metadata": {"name": "links"}}
        put(c, {**admission, **meta, "kind": f"{kind}AdmissionPolicy", "spec": policy})
        bound = {"policyName": "links", **actions[kind]}
        put(c, {**admission, **meta, "kind": f"{kind}AdmissionPolicyBinding", "spec": bound})
    link = {**link, "metadata": {"name": "p"}, "spec": {"host": "h", "port": "1"}}
    put(c, link, "create")
    assert c.get(f"links.v2.{group}", "p")["spec"] == {"host": "h", "port": "17"}
    refused = put(c, {**link, "metadata": {"name": "q"}, "spec": {"host": "no", "port": "1"}}, "create", check=False)
    assert "failed expression: object.spec.hostPort != 'no:17'" in refused.stderr


def test_what_webhooks_add_is_nobodys(c: Cluster, hooks: Hooks) -> None:
    hooks.answers = {"/add": lambda request: patch({"op": "add", "path": "/data/added", "value": "x"})}
    chosen = {"matchLabels": {"hooked": "yes"}}
    register(
        c,
        "MutatingWebhookConfiguration",
        "adds",
        hooks.hook("a", "/add", [rule("configmaps", "CREATE")], objectSelector=chosen),
    )
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: hooked, labels: {hooked: 'yes'}}\ndata: {a: '1'}\n"
    put(c, text, "create")
    (entry,) = managers(c, "cm", "hooked").values()
    assert entry["fieldsV1"]["f:data"] == {".": {}, "f:a": {}}
    mine = text.replace("a: '1'", "added: mine")
    put(c, mine, "apply", "--server-side", "--field-manager=me")  # so that nobody is in its way
    assert c.get("cm", "hooked")["data"] == {"a": "1", "added": "mine"}
    c.kubectl("delete", "cm", "hooked")


def test_a_validating_webhook_may_not_patch(c: Cluster, hooks: Hooks) -> None:
    hooks.answers = {"/v": lambda request: patch({"op": "add", "path": "/data", "value": {}})}
    secrets = [rule("secrets", "CREATE")]
    register(c, "ValidatingWebhookConfiguration", "v", hooks.hook("v", "/v", secrets))
    refused = c.kubectl("create", "secret", "generic", "s", check=False).stderr
    assert 'failed calling webhook "v.stablehand.dev": validating webhook may not return response.patch' in refused
