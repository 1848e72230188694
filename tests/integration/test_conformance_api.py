"""The API machinery as upstream's [sig-api-machinery] conformance tests see it: chunks, tables, field validation,
watches, namespaces, custom resources, quotas and limits, discovery."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.integration.hollow import APPLY, JSON_PATCH, STRATEGIC, Api, Obj, pod_spec, template

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
GROUP = "conformance.example.com"
TABLE = "application/json;as=Table;v=v1beta1;g=meta.k8s.io"
DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=%s;as=APIGroupDiscoveryList"


# -- lists


def test_chunks_and_tables(api: Api) -> None:
    namespace = api.namespace("chunks")
    path = f"{namespace}/podtemplates"
    with ThreadPoolExecutor(8) as pool:
        bodies = [{"metadata": {"name": f"template-{i:04}"}, "template": template({})} for i in range(60)]
        list(pool.map(lambda body: api.post(path, body), bodies))
    names, token, version = [], "", ""
    while True:
        page = api.get(path, limit=17, **({"continue": token} if token else {}))
        version = version or page["metadata"]["resourceVersion"]
        assert page["metadata"]["resourceVersion"] == version and len(page["items"]) <= 17
        names += [o["metadata"]["name"] for o in page["items"]]
        token = page["metadata"].get("continue", "")
        assert page["metadata"].get("remainingItemCount", 0) == 60 - len(names)
        if not token:
            break
    assert names == [f"template-{i:04}" for i in range(60)]
    assert len(api.items(path, limit=61)) == 60

    page = api.call("GET", path, accept=TABLE, limit=2).body
    assert page["kind"] == "Table" and [r["cells"][0] for r in page["rows"]] == ["template-0000", "template-0001"]
    page = api.call("GET", path, accept=TABLE, **{"continue": page["metadata"]["continue"]}).body
    assert page["rows"][0]["cells"][0] == "template-0002"
    review = {"spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}}}
    reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    assert api.call("POST", reviews, review, accept=TABLE.replace("beta1", "")).code == 406
    api.delete(namespace)


# -- what is said of fields

DEPLOYMENT = b"""{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"my-dep",META "labels":{"app":"nginx"}},
"spec":{SPEC "selector":{"matchLabels":{"app":"nginx"}},"template":{"metadata":{"labels":{"app":"nginx"}},
"spec":{"containers":[{"name":"nginx","image":"nginx:latest"}]}}}}"""


def test_unknown_and_repeated_fields_of_a_built_in_kind(api: Api) -> None:
    path = "/apis/apps/v1/namespaces/default/deployments"
    text = DEPLOYMENT.replace(b"META", b"").replace(b"SPEC", b'"unknownField": "foo", "replicas": 2, "replicas": 3,')
    answer = api.call("POST", path, text, fieldValidation="Strict")
    assert answer.code == 400
    assert 'strict decoding error: unknown field "spec.unknownField", duplicate field "spec.replicas"' in answer.message
    text = DEPLOYMENT.replace(b"META", b'"unknownMeta": "foo",').replace(b"SPEC", b"")
    answer = api.call("POST", path, text, fieldValidation="Strict")
    assert 'strict decoding error: unknown field "metadata.unknownMeta"' in answer.message
    pod = b'{"apiVersion":"v1","kind":"Pod","spec":{"containers":[{"name":"c","image":"i","imgae":"x"}]}}'
    answer = api.call("PATCH", "/api/v1/namespaces/default/pods/p", pod, type=APPLY, fieldManager="m")
    assert (answer.code, answer.message) == (
        500,
        "failed to create typed patch object (default/p; /v1, Kind=Pod): "
        '.spec.containers[name="c"].imgae: field not declared in schema',
    )


def definition(name: str, schema: Obj, scope: str = "Cluster", **version: Any) -> Obj:
    kind = name.capitalize()
    names = {"plural": f"{name}s", "singular": name, "kind": kind, "listKind": f"{kind}List"}
    versions = [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}, **version}]
    meta = {"name": f"{name}s.{GROUP}", "labels": {"crd": name}}
    return {"metadata": meta, "spec": {"group": GROUP, "scope": scope, "names": names, "versions": versions}}


def defined(api: Api, name: str, schema: Obj, scope: str = "Cluster", **version: Any) -> str:
    """Makes the definition and waits until it is served; the path of its objects."""
    api.post(CRDS, definition(name, schema, scope, **version))
    path = f"/apis/{GROUP}/v1/{'namespaces/default/' if scope == 'Namespaced' else ''}{name}s"
    api.until(lambda: not api.gone(path))
    return path


SPEC: Obj = {
    "type": "object",
    "properties": {
        "foo": {"type": "string"},
        "template": {
            "type": "object",
            "x-kubernetes-embedded-resource": True,
            "properties": {"metadata": {"type": "object"}, "spec": {"type": "object"}},
        },
    },
}
BODY = """apiVersion: %s/v1
kind: %s
metadata:
  name: mytest
  finalizers:
  - test-finalizer
%s"""


def test_unknown_and_repeated_fields_of_custom_resources(api: Api) -> None:
    def apply(path: str, kind: str, rest: str) -> Any:
        text = (BODY % (GROUP, kind, rest)).encode()
        query = {"fieldManager": "m", "fieldValidation": "Strict"}
        return api.call("PATCH", f"{path}/mytest", text, type=APPLY, **query)

    path = defined(api, "strict", {"type": "object", "properties": {"spec": SPEC}})
    answer = apply(path, "Strict", "unknownField: unknown\nspec:\n  foo: foo1\n")
    assert ".unknownField: field not declared in schema" in answer.message
    inner = "  unknownMeta: x\nspec:\n  template:\n    apiVersion: v1\n    kind: S\n    metadata: {unknownSubMeta: y}\n"
    answer = apply(path, "Strict", inner)
    assert ".spec.template.metadata.unknownSubMeta: field not declared in schema" in answer.message
    assert ".metadata.unknownMeta: field not declared in schema" in answer.message
    answer = apply(path, "Strict", "spec:\n  foo: foo1\n")
    assert answer.code == 201 and "prefer a domain-qualified finalizer name" in answer.warnings
    api.patch(f"{path}/mytest", {"metadata": {"finalizers": None}})

    path = defined(api, "loose", {"type": "object", "x-kubernetes-preserve-unknown-fields": True})
    answer = apply(path, "Loose", "spec:\n  unknown: uk1\n  foo: foo1\n  foo: foo2\n")
    assert answer.code == 400 and 'line 10: key "foo" already set in map' in answer.message
    assert apply(path, "Loose", "spec:\n  unknown: uk1\n").code == 201
    api.patch(f"{path}/mytest", {"metadata": {"finalizers": None}})


# -- custom resources


def test_defaults_reach_what_is_stored_and_leave_it_again(api: Api) -> None:
    text = {"type": "string"}
    path = defined(api, "defaulted", {"type": "object", "properties": {"a": text, "b": text}}, "Namespaced")
    crd, kind = f"{CRDS}/defaulteds.{GROUP}", {"apiVersion": f"{GROUP}/v1", "kind": "Defaulted"}
    at = "/spec/versions/0/schema/openAPIV3Schema/properties"
    first = api.post(path, {**kind, "metadata": {"name": "one"}})
    api.patch(crd, [{"op": "add", "path": f"{at}/a/default", "value": "A"}], type=JSON_PATCH)
    api.until(lambda: api.get(f"{path}/one").get("a") == "A")
    assert api.items(path)[0]["a"] == "A"
    assert api.get(f"{path}/one")["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    assert api.post(path, {**kind, "metadata": {"name": "two"}})["a"] == "A"
    change = [{"op": "remove", "path": f"{at}/a/default"}, {"op": "add", "path": f"{at}/b/default", "value": "B"}]
    api.patch(crd, change, type=JSON_PATCH)
    api.until(lambda: api.get(f"{path}/one").get("b") == "B")
    assert "a" not in api.get(f"{path}/one")
    assert (api.get(f"{path}/two")["a"], api.get(f"{path}/two")["b"]) == ("A", "B")  # the first was stored
    api.delete(crd)
    api.until(lambda: api.gone(crd))


def test_published_openapi_follows_the_definition(api: Api) -> None:
    def published(version: str) -> bool:
        both = (
            f"com.example.conformance.{version}.Published" in api.get("/openapi/v2")["definitions"],
            f"apis/{GROUP}/{version}" in api.get("/openapi/v3")["paths"],
        )
        return all(both) if version != "v1" else both[0]

    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    defined(api, "published", schema)
    crd = f"{CRDS}/publisheds.{GROUP}"
    more = {"name": "v2", "served": True, "storage": False, "schema": {"openAPIV3Schema": schema}}
    api.patch(crd, [{"op": "add", "path": "/spec/versions/1", "value": more}], type=JSON_PATCH)
    api.until(lambda: published("v2"))
    api.patch(crd, [{"op": "replace", "path": "/spec/versions/1/name", "value": "v3"}], type=JSON_PATCH)
    api.until(lambda: published("v3") and not published("v2"))
    api.patch(crd, [{"op": "replace", "path": "/spec/versions/1/served", "value": False}], type=JSON_PATCH)
    api.until(lambda: not published("v3") and published("v1"))
    api.delete(crd)
    api.until(lambda: not published("v1"))


def test_selectable_fields_status_and_scale(api: Api) -> None:
    schema: Obj = {
        "type": "object",
        "properties": {
            "color": {"type": "string"},
            "spec": {"type": "object", "properties": {"replicas": {"type": "integer"}}},
            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        },
    }
    scale = {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}
    subs = {"status": {}, "scale": {**scale, "labelSelectorPath": ".status.sel"}}
    fields = [{"jsonPath": ".color"}]
    path = defined(api, "shirt", schema, "Namespaced", subresources=subs, selectableFields=fields)
    with api.watch(path, fieldSelector="color=blue") as watch:
        for number, color in enumerate(("blue", "blue", "red")):
            body = {"metadata": {"name": f"s{number}"}, "color": color, "status": {"replicas": 9}}
            api.post(path, {"apiVersion": f"{GROUP}/v1", "kind": "Shirt", "spec": {"replicas": 1}, **body})
        api.patch(f"{path}/s1", {"color": "red"})
        left = watch.until("DELETED")
        assert left["color"] == "blue"  # as it was when it was selected
    assert [o["metadata"]["name"] for o in api.items(path, fieldSelector="color=blue")] == ["s0"]
    assert "status" not in api.get(f"{path}/s0")
    told = api.patch(f"{path}/s0/status", {"status": {"replicas": 1, "sel": "a=b"}, "spec": {"replicas": 7}})
    assert (told["spec"], told["status"]["replicas"]) == ({"replicas": 1}, 1)
    scaled = api.get(f"{path}/s0/scale")
    assert scaled["status"] == {"replicas": 1, "selector": "a=b"}
    scaled["spec"]["replicas"] = 4
    api.put(f"{path}/s0/scale", scaled)
    assert api.get(f"{path}/s0")["spec"]["replicas"] == 4
    api.delete(path, fieldSelector="color=red")
    assert [o["metadata"]["name"] for o in api.items(path)] == ["s0"]
    groups = api.call("GET", "/apis", accept=DISCOVERY % "v2").body["items"]
    (group,) = [g for g in groups if g["metadata"]["name"] == GROUP]
    assert "shirts" in {r["resource"] for r in group["versions"][0]["resources"]}


def test_groups_of_the_community_need_approval(api: Api) -> None:
    crd = definition("foo", {"type": "object"})
    crd["metadata"]["name"], crd["spec"]["group"] = "foos.sub.k8s.io", "sub.k8s.io"
    answer = api.call("POST", CRDS, crd)
    assert answer.code == 422 and "protected groups must have approval annotation" in answer.message
    crd["metadata"]["annotations"] = {"api-approved.kubernetes.io": "unapproved, experimental"}
    api.post(CRDS, crd)
    api.delete(f"{CRDS}/foos.sub.k8s.io")
    api.until(lambda: api.gone(f"{CRDS}/foos.sub.k8s.io"))


def test_discovery(api: Api) -> None:
    for group in api.get("/apis")["groups"]:
        assert group["preferredVersion"] in group["versions"]
        assert api.get(f"/apis/{group['name']}")["preferredVersion"] == group["preferredVersion"]
    for version in ("v2", "v2beta1"):
        answer = api.call("GET", "/apis", accept=DISCOVERY % version)
        assert answer.headers["Content-Type"] == DISCOVERY % version
        assert answer.body["apiVersion"] == f"apidiscovery.k8s.io/{version}"
    version = api.get("/version")
    assert version["major"].isdigit() and version["minor"].isdigit()


# -- watches


def test_watches_of_selected_objects(api: Api) -> None:
    path = "/api/v1/namespaces/default/configmaps"
    with api.watch(path, labelSelector="w=A") as watch:
        start = api.post(path, {"metadata": {"name": "w", "labels": {"w": "A"}}})["metadata"]["resourceVersion"]
        watch.until("ADDED")
        api.patch(f"{path}/w", {"metadata": {"labels": {"w": "B"}}, "data": {"m": "1"}})
        gone = watch.until("DELETED")
        assert gone["metadata"]["labels"] == {"w": "A"} and "data" not in gone
        assert int(gone["metadata"]["resourceVersion"]) > int(start)
        api.patch(f"{path}/w", {"metadata": {"labels": {"w": "A"}}, "data": {"m": "2"}})
        watch.until("ADDED", lambda o: o["data"]["m"] == "2")
        api.delete(f"{path}/w")
        last = watch.until("DELETED")
    with api.watch(path, labelSelector="w=A", resourceVersion=start) as watch:
        events = [watch.next() for _ in range(3)]
    assert [e["type"] for e in events] == ["DELETED", "ADDED", "DELETED"]
    assert events[-1]["object"] == last


# -- namespaces


def test_namespace_status_finalizers_and_end(api: Api) -> None:
    path = api.namespace("ended")
    condition = {"type": "StatusPatch", "status": "True", "reason": "E2E", "message": "m"}
    told = api.patch(f"{path}/status", {"metadata": {"annotations": {"a": "b"}}, "status": {"conditions": [condition]}})
    assert told["metadata"]["annotations"] == {"a": "b"} and told["status"]["phase"] == "Active"
    assert [c["type"] for c in told["status"]["conditions"]] == ["StatusPatch"]
    api.patch(f"{path}/status", {"status": {"conditions": None}})
    mine = "e2e.example.com/fakeFinalizer"
    api.change(path, lambda o: o["spec"]["finalizers"].append(mine), "/finalize")
    assert api.get(path)["spec"]["finalizers"] == ["kubernetes", mine]
    api.change(path, lambda o: o["spec"]["finalizers"].remove(mine), "/finalize")
    api.post(f"{path}/configmaps", {"metadata": {"name": "keep"}})
    held = {"metadata": {"name": "p", "finalizers": ["example.com/x"]}, "spec": pod_spec()}
    api.post(f"{path}/pods", held)
    api.delete(path)
    refused = api.call("POST", f"{path}/configmaps", {"metadata": {"name": "late"}})
    assert refused.code == 403 and "because it is being terminated" in refused.message

    def remaining() -> str:
        conditions = api.get(path)["status"].get("conditions", ())
        return next((c["message"] for c in conditions if c["type"] == "NamespaceFinalizersRemaining"), "")

    api.until(lambda: "example.com/x in 1 resource instances" in remaining())
    assert not api.gone(f"{path}/configmaps/keep")  # pods first, the rest after them
    api.patch(f"{path}/pods/p", {"metadata": {"finalizers": None}})
    api.until(lambda: api.gone(path))


# -- quotas and limits


def test_quota_lifecycle(api: Api) -> None:
    namespace = api.namespace("quotas")
    path = f"{namespace}/resourcequotas"
    bad = api.call("POST", path, {"metadata": {"name": "bad"}, "spec": {"hard": {"bogus": "1"}}})
    assert 'spec.hard[bogus]: Invalid value: "bogus": must be a standard resource for quota' in bad.message
    bad = api.call(
        "POST", path, {"metadata": {"name": "bad"}, "spec": {"hard": {"cpu": "1"}, "scopes": ["BestEffort"]}}
    )
    assert "unsupported scope applied to resource" in bad.message
    for scope in ("Terminating", "NotTerminating", "BestEffort", "NotBestEffort"):
        api.post(path, {"metadata": {"name": scope.lower()}, "spec": {"hard": {"pods": "5"}, "scopes": [scope]}})
    api.post(path, {"metadata": {"name": "q"}, "spec": {"hard": {"cpu": "1", "memory": "500Mi", "secrets": "5"}}})
    api.until(lambda: all((o.get("status") or {}).get("used") for o in api.items(path)))

    def pod(name: str, cpu: str, **spec: Any) -> Any:
        container = {"name": "c", "image": "x", "resources": {"requests": {"cpu": cpu, "memory": "1Mi"}}}
        return api.call(
            "POST", f"{namespace}/pods", {"metadata": {"name": name}, "spec": {"containers": [container], **spec}}
        )

    def used() -> dict[str, str]:
        return {o["metadata"]["name"]: o["status"]["used"].get("pods", "") for o in api.items(path)}

    assert pod("fits", "500m").code == pod("ends", "100m", activeDeadlineSeconds=3600).code == 201
    refused = pod("large", "600m")
    assert (
        refused.code == 403
        and "exceeded quota: q, requested: cpu=600m, used: cpu=600m, limited: cpu=1" in refused.message
    )
    want = {"terminating": "1", "notterminating": "1", "besteffort": "0", "notbesteffort": "2", "q": ""}
    api.until(lambda: used() == want)
    api.delete(f"{namespace}/pods", {"gracePeriodSeconds": 0})
    api.until(lambda: set(used().values()) == {"0", ""})
    with api.watch(path, fieldSelector="metadata.name=q") as watch:
        api.patch(f"{path}/q/status", {"status": {"hard": {"cpu": "2"}}}, type=STRATEGIC)
        watch.until("MODIFIED", lambda o: o["status"]["hard"]["cpu"] == "2")
        watch.until("MODIFIED", lambda o: o["status"]["hard"]["cpu"] == "1")  # put right by the controller
    api.delete(namespace)


def test_limits_are_defaults_and_bounds(api: Api) -> None:
    namespace = api.namespace("limits")
    limit = {"type": "Container", "min": {"cpu": "50m"}, "max": {"cpu": "500m"}, "defaultRequest": {"cpu": "100m"}}
    api.post(f"{namespace}/limitranges", {"metadata": {"name": "l"}, "spec": {"limits": [limit]}})

    def pod(name: str, **resources: Any) -> Any:
        spec = {"containers": [{"name": "c", "image": "x", "resources": resources}]}
        return api.call("POST", f"{namespace}/pods", {"metadata": {"name": name}, "spec": spec})

    made = pod("p").body["spec"]["containers"][0]["resources"]
    assert made == {"requests": {"cpu": "100m"}, "limits": {"cpu": "500m"}}
    assert "minimum cpu usage per Container is 50m, but request is 10m" in pod("s", requests={"cpu": "10m"}).message
    assert "maximum cpu usage per Container is 500m, but limit is 600m" in pod("b", limits={"cpu": "600m"}).message
    api.delete(namespace)
