"""Garbage collection, evictions and identities as upstream's [sig-api-machinery], [sig-apps] and [sig-auth]
conformance tests see them; a hollow kubelet plays the nodes."""

from __future__ import annotations

from tests.integration.hollow import STRATEGIC, Api, Kubelet, Obj, pod_spec, template, workload

NAMESPACE = "gc"
NS = "/api/v1/namespaces/gc"
RCS, PODS = f"{NS}/replicationcontrollers", f"{NS}/pods"
DEPLOYMENTS, RSS = "/apis/apps/v1/namespaces/gc/deployments", "/apis/apps/v1/namespaces/gc/replicasets"
BUDGETS = "/apis/policy/v1/namespaces/gc/poddisruptionbudgets"


def controller(api: Api, name: str, replicas: int) -> Obj:
    """A ReplicationController, once its pods are ready."""
    labels = {"app": name}
    spec = {"replicas": replicas, "selector": labels, "template": template(labels)}
    made = api.post(RCS, {"metadata": {"name": name}, "spec": spec})
    api.until(lambda: (api.get(f"{RCS}/{name}").get("status") or {}).get("readyReplicas", 0) == replicas)
    return dict(made)


def pods(api: Api, name: str) -> list[Obj]:
    return api.items(PODS, labelSelector=f"app={name}")


def test_background_foreground_and_orphans(api: Api, kubelet: Kubelet) -> None:
    controller(api, "bg", 2)
    api.delete(f"{RCS}/bg", {"propagationPolicy": "Background"})
    api.until(lambda: not pods(api, "bg"))

    controller(api, "orphan", 3)
    api.delete(f"{RCS}/orphan", {"propagationPolicy": "Orphan"})
    api.until(lambda: api.gone(f"{RCS}/orphan"))
    assert [p["metadata"].get("ownerReferences") for p in pods(api, "orphan")] == [None] * 3

    controller(api, "fg", 3)
    with api.watch(RCS, fieldSelector="metadata.name=fg") as watch:
        told = api.delete(f"{RCS}/fg", {"propagationPolicy": "Foreground"})
        assert told["metadata"]["finalizers"] == ["foregroundDeletion"]
        watch.until("DELETED")
    assert not pods(api, "fg")

    for policy, left in (("Background", 0), ("Orphan", 2)):
        name = f"d-{policy.lower()}"
        api.post(DEPLOYMENTS, workload(name, {"app": name}, replicas=2))
        api.until(lambda: len(pods(api, name)) == 2)  # noqa: B023
        api.delete(f"{DEPLOYMENTS}/{name}", {"propagationPolicy": policy})
        api.until(lambda: api.gone(f"{DEPLOYMENTS}/{name}") and len(pods(api, name)) == left)  # noqa: B023
        sets = api.items(RSS, labelSelector=f"app={name}")
        assert [s["metadata"].get("ownerReferences") for s in sets] == [None] * (left // 2)


def test_two_owners_and_circles(api: Api, kubelet: Kubelet) -> None:
    controller(api, "first", 4)
    second = controller(api, "second", 0)["metadata"]
    for pod in pods(api, "first")[:2]:
        ref = {"apiVersion": "v1", "kind": "ReplicationController", "name": "second", "uid": second["uid"]}
        patch = {"metadata": {"ownerReferences": [ref]}}
        api.patch(f"{PODS}/{pod['metadata']['name']}", patch, type=STRATEGIC)
    api.delete(f"{RCS}/first", {"propagationPolicy": "Foreground"})
    api.until(lambda: api.gone(f"{RCS}/first"))
    left = [p["metadata"] for p in pods(api, "first")]
    assert [[r["name"] for r in m["ownerReferences"]] for m in left] == [["second"]] * 2
    assert not any(m.get("deletionTimestamp") for m in left)

    circle = [{"metadata": {"name": f"c{i}", "labels": {"app": "circle"}}, "spec": pod_spec()} for i in range(3)]
    uids = [api.post(PODS, pod)["metadata"]["uid"] for pod in circle]
    for i in range(3):
        ref = {"apiVersion": "v1", "kind": "Pod", "name": f"c{i - 1 if i else 2}", "uid": uids[i - 1]}
        refs = [{**ref, "controller": True, "blockOwnerDeletion": True}]
        api.patch(f"{PODS}/c{i}", {"metadata": {"ownerReferences": refs}})
    api.delete(f"{PODS}/c0", {"propagationPolicy": "Foreground"})
    api.until(lambda: not pods(api, "circle"))


def test_an_owner_in_another_namespace_is_none(api: Api, kubelet: Kubelet) -> None:
    owner = api.post("/api/v1/namespaces/default/configmaps", {"metadata": {"name": "owner"}})["metadata"]
    ref = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["uid"]}
    api.post(f"{NS}/configmaps", {"metadata": {"name": "owned", "ownerReferences": [ref]}})
    api.until(lambda: api.gone(f"{NS}/configmaps/owned"))
    (event,) = api.until(lambda: api.items(f"{NS}/events", fieldSelector="reason=OwnerRefInvalidNamespace"))
    assert event["type"] == "Warning"
    assert event["message"] == (
        f'ownerRef [v1/ConfigMap, namespace: gc, name: owner, uid: {owner["uid"]}] does not exist in namespace "gc"'
    )


def test_evictions_wait_for_the_budget(api: Api, kubelet: Kubelet) -> None:
    def eviction(name: str) -> tuple[int, str]:
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
        answer = api.call("POST", f"{PODS}/{name}/eviction", body)
        causes = (answer.body.get("details") or {}).get("causes") or [{"message": answer.message}]
        return answer.code, causes[0]["message"]

    labels = {"app": "budget"}
    selector = {"selector": {"matchLabels": labels}}
    with api.watch(BUDGETS) as watch:
        api.post(BUDGETS, {"metadata": {"name": "b"}, "spec": {"minAvailable": 1, **selector}})
        for i in range(2):
            api.post(PODS, {"metadata": {"name": f"b{i}", "labels": labels}, "spec": pod_spec()})
        allowed = watch.until("MODIFIED", lambda o: o["status"].get("disruptionsAllowed") == 1)["status"]
        assert (allowed["currentHealthy"], allowed["desiredHealthy"], allowed["expectedPods"]) == (2, 1, 2)
        api.patch(f"{BUDGETS}/b", {"spec": {"minAvailable": 3}}, type=STRATEGIC)
        watch.until("MODIFIED", lambda o: o["status"]["disruptionsAllowed"] == 0)
        assert eviction("b0") == (429, "The disruption budget b needs 3 healthy pods and has 2 currently")
        api.patch(f"{BUDGETS}/b", {"spec": {"minAvailable": 1}}, type=STRATEGIC)
        watch.until("MODIFIED", lambda o: o["status"]["disruptionsAllowed"] == 1)
        assert eviction("b0")[0] == 201
        api.until(lambda: api.gone(f"{PODS}/b0"))
        api.post(BUDGETS, {"metadata": {"name": "c"}, "spec": {"maxUnavailable": 0, **selector}})
        text = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
        assert eviction("b1") == (500, text)
        api.delete(BUDGETS)
        assert not api.items(BUDGETS)


def test_service_accounts(api: Api, kubelet: Kubelet) -> None:
    accounts = f"{NS}/serviceaccounts"
    api.delete(f"{accounts}/default")
    api.until(lambda: not api.gone(f"{accounts}/default"))
    bundle = f"{NS}/configmaps/kube-root-ca.crt"
    api.until(lambda: not api.gone(bundle))
    api.patch(bundle, {"data": {"ca.crt": ""}})
    api.until(lambda: "BEGIN CERTIFICATE" in api.get(bundle)["data"]["ca.crt"])
    api.delete(bundle)
    api.until(lambda: not api.gone(bundle))

    for mounts in (True, False):
        api.post(accounts, {"metadata": {"name": str(mounts).lower()}, "automountServiceAccountToken": mounts})
    for account, pod, want in (
        ("default", None, True),
        ("default", False, False),
        ("true", None, True),
        ("true", False, False),
        ("false", None, False),
        ("false", True, True),
    ):
        spec = pod_spec(serviceAccountName=account, **({} if pod is None else {"automountServiceAccountToken": pod}))
        made = api.post(PODS, {"metadata": {"generateName": "t-"}, "spec": spec}, dryRun="All")
        where = [m["mountPath"] for m in made["spec"]["containers"][0].get("volumeMounts", ())]
        assert ("/var/run/secrets/kubernetes.io/serviceaccount" in where) == want

    request = {"spec": {"audiences": ["mine"], "expirationSeconds": 600}}
    token = api.post(f"{accounts}/default/token", request)["status"]["token"]
    review = "/apis/authentication.k8s.io/v1/tokenreviews"
    status = api.post(review, {"spec": {"token": token, "audiences": ["mine"]}})["status"]
    assert status["user"]["username"] == "system:serviceaccount:gc:default" and status["audiences"] == ["mine"]
    assert not api.post(review, {"spec": {"token": token}})["status"].get("authenticated")
    token = api.post(f"{accounts}/default/token", {"spec": {}})["status"]["token"]
    me = Api(api.kubeconfig, token=token)
    assert me.get("/.well-known/openid-configuration")["jwks_uri"].endswith("/openid/v1/jwks")
    assert me.get("/openid/v1/jwks")["keys"]
    refused = me.call("GET", PODS)
    assert (
        refused.code == 403 and 'cannot list resource "pods" in API group "" in the namespace "gc"' in refused.message
    )
