"""ReplicaSets, ReplicationControllers, Deployments and DaemonSets as upstream's [sig-apps] conformance tests see them;
a hollow kubelet plays the nodes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.hollow import STRATEGIC, Api, Kubelet, Obj, pod_spec, template, workload

NAMESPACE = "apps"
NS = "/api/v1/namespaces/apps"
APPS = "/apis/apps/v1/namespaces/apps"
RCS, RSS = f"{NS}/replicationcontrollers", f"{APPS}/replicasets"
DEPLOYMENTS, DAEMONS, REVISIONS = f"{APPS}/deployments", f"{APPS}/daemonsets", f"{APPS}/controllerrevisions"


def rc(name: str, labels: Obj, replicas: int) -> Obj:
    spec = {"replicas": replicas, "selector": labels, "template": template(labels)}
    return {"metadata": {"name": name, "labels": labels}, "spec": spec}


def rs(name: str, labels: Obj, replicas: int) -> Obj:
    return workload(name, labels, replicas=replicas)


def pods(api: Api, selector: str) -> list[Obj]:
    return api.items(f"{NS}/pods", labelSelector=selector)


def image_of(obj: Obj) -> str:
    return str(obj["spec"]["template"]["spec"]["containers"][0]["image"])


def set_image(api: Api, path: str, image: str, hollow: str = "") -> None:
    def change(o: Obj) -> None:
        o["spec"]["template"]["spec"]["containers"][0]["image"] = image
        o["spec"]["template"]["metadata"]["annotations"] = {"hollow": hollow} if hollow else {}

    api.change(path, change)


@pytest.mark.parametrize(("path", "make"), [(RCS, rc), (RSS, rs)], ids=["rc", "rs"])
def test_a_quota_shows_as_failure(api: Api, kubelet: Kubelet, path: str, make: Any) -> None:
    namespace = api.namespace("tight-" + path.rsplit("/", 1)[1])
    path = path.replace("/namespaces/apps/", f"/namespaces/{namespace.rsplit('/', 1)[1]}/")
    api.post(f"{namespace}/resourcequotas", {"metadata": {"name": "q"}, "spec": {"hard": {"pods": "2"}}})
    api.until(lambda: (api.get(f"{namespace}/resourcequotas/q").get("status") or {}).get("used"))
    api.post(path, make("x", {"n": "x"}, 3))
    seen = api.until(lambda: (api.get(f"{path}/x").get("status") or {}).get("conditions"))
    assert [(c["type"], c["status"], c["reason"]) for c in seen] == [("ReplicaFailure", "True", "FailedCreate")]
    assert "exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2" in seen[0]["message"]
    api.change(f"{path}/x", lambda o: o["spec"].update(replicas=2))
    api.until(lambda: "conditions" not in api.get(f"{path}/x")["status"])
    api.delete(namespace)


@pytest.mark.parametrize(("path", "make"), [(RCS, rc), (RSS, rs)], ids=["rc", "rs"])
def test_adopts_and_releases(api: Api, kubelet: Kubelet, path: str, make: Any) -> None:
    name = "adopts-" + path.rsplit("/", 1)[1]
    one = f"{NS}/pods/{name}"
    api.post(f"{NS}/pods", {"metadata": {"name": name, "labels": {"name": name}}, "spec": pod_spec()})
    owner = api.post(path, make(name, {"name": name}, 1))
    refs = api.until(lambda: api.get(one)["metadata"].get("ownerReferences"))
    assert [(r["uid"], r["controller"], r["blockOwnerDeletion"]) for r in refs] == [
        (owner["metadata"]["uid"], True, True)
    ]
    api.patch(one, {"metadata": {"labels": {"name": "not-matching"}}})
    api.until(lambda: not api.get(one)["metadata"].get("ownerReferences"))
    api.until(lambda: len(pods(api, f"name={name}")) == 1)  # in its place
    api.delete(f"{path}/{name}", {"propagationPolicy": "Background"})


def test_replication_controller_lifecycle(api: Api, kubelet: Kubelet) -> None:
    one = f"{RCS}/life"

    def ready(count: int) -> Any:
        return lambda o: (o.get("status") or {}).get("readyReplicas", 0) == count

    with api.watch(RCS, labelSelector="rc=life") as watch:
        api.post(RCS, rc("life", {"rc": "life"}, 1))
        watch.until("MODIFIED", ready(1))
        api.patch(one, {"metadata": {"labels": {"x": "y"}}, "spec": {"replicas": 2}}, type=STRATEGIC)
        watch.until("MODIFIED", ready(2))
        api.patch(f"{one}/status", {"status": {"readyReplicas": 0, "availableReplicas": 0}}, type=STRATEGIC)
        watch.until("MODIFIED", ready(0))
        watch.until("MODIFIED", ready(2))  # put right by the controller
        scale = api.get(f"{one}/scale")
        scale["spec"]["replicas"] = 3
        api.put(f"{one}/scale", scale)
        watch.until("MODIFIED", ready(3))
        api.delete(RCS, labelSelector="rc=life")
        watch.until("DELETED")


def test_deployment_lifecycle(api: Api, kubelet: Kubelet) -> None:
    one, labels = f"{DEPLOYMENTS}/life", {"dep": "life"}

    def settled(count: int) -> Any:
        def check(o: Obj) -> bool:
            s = o.get("status") or {}
            counts = {s.get(f) for f in ("replicas", "readyReplicas", "updatedReplicas", "availableReplicas")}
            return counts == {count} and s["observedGeneration"] == o["metadata"]["generation"]

        return check

    with api.watch(DEPLOYMENTS, labelSelector="dep=life") as watch:
        api.post(DEPLOYMENTS, workload("life", labels, replicas=2))
        watch.until("MODIFIED", settled(2))
        inner = {"spec": {"containers": [{"name": "c", "image": "pause"}]}}
        api.patch(one, {"spec": {"replicas": 1, "template": inner}}, type=STRATEGIC)
        watch.until("MODIFIED", settled(1))
        wrong = {"metadata": {"labels": {"dep": "other"}}, "status": {"readyReplicas": 0, "availableReplicas": 0}}
        told = api.patch(f"{one}/status", wrong, type=STRATEGIC)
        assert told["metadata"]["labels"] == labels  # a status update does not change them
        watch.until("MODIFIED", lambda o: o["status"].get("readyReplicas", 0) == 0)
        watch.until("MODIFIED", settled(1))
        scale = api.get(f"{one}/scale")
        assert scale["status"]["selector"] == "dep=life"
        scale["spec"]["replicas"] = 2
        api.put(f"{one}/scale", scale)
        watch.until("MODIFIED", settled(2))
        api.delete(DEPLOYMENTS, labelSelector="dep=life")
        watch.until("DELETED")
    api.until(lambda: not pods(api, "dep=life") and not api.items(RSS, labelSelector="dep=life"))


def test_deployment_adopts_an_old_set_and_goes_on_counting(api: Api, kubelet: Kubelet) -> None:
    old = rs("olden", {"name": "sample", "pod": "httpd"}, 1)
    old["metadata"]["annotations"] = {"deployment.kubernetes.io/revision": "3546343826724305832"}
    api.post(RSS, old)
    api.until(lambda: (api.get(f"{RSS}/olden").get("status") or {}).get("readyReplicas") == 1)
    api.post(DEPLOYMENTS, workload("newer", {"name": "sample"}, replicas=1))
    one = f"{DEPLOYMENTS}/newer"

    def settled() -> bool:
        status = api.get(one).get("status") or {}
        return {status.get(f) for f in ("replicas", "updatedReplicas", "availableReplicas")} == {1}

    api.until(settled)
    revision = api.get(one)["metadata"]["annotations"]["deployment.kubernetes.io/revision"]
    assert revision == "3546343826724305833"
    adopted = api.get(f"{RSS}/olden")
    assert adopted["spec"]["replicas"] == 0 and adopted["metadata"]["ownerReferences"][0]["name"] == "newer"


def test_recreate_waits_for_the_old_pods(api: Api, kubelet: Kubelet) -> None:
    one = f"{DEPLOYMENTS}/rec"
    api.post(DEPLOYMENTS, workload("rec", {"name": "rec"}, replicas=2, strategy={"type": "Recreate"}))
    api.until(lambda: (api.get(one).get("status") or {}).get("availableReplicas") == 2)
    with api.watch(f"{NS}/pods", labelSelector="name=rec") as watch:
        set_image(api, one, "new")
        api.until(lambda: api.get(one)["status"].get("updatedReplicas") == 2)
        watch.until("ADDED", lambda o: o["spec"]["containers"][0]["image"] == "new")
        images = [e["object"]["spec"]["containers"][0]["image"] for e in watch.seen]
    assert images == sorted(images)  # httpd, all of them, and then new


def test_history_proportion_and_rollover(api: Api, kubelet: Kubelet) -> None:
    def sets(name: str) -> dict[str, int]:
        return {image_of(r): r["spec"]["replicas"] for r in api.items(RSS, labelSelector=f"name={name}")}

    api.post(DEPLOYMENTS, workload("hist", {"name": "hist"}, replicas=1, revisionHistoryLimit=0))
    api.until(lambda: (api.get(f"{DEPLOYMENTS}/hist").get("status") or {}).get("availableReplicas") == 1)
    set_image(api, f"{DEPLOYMENTS}/hist", "new")
    api.until(lambda: sets("hist") == {"new": 1})

    slow = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}}
    api.post(DEPLOYMENTS, workload("prop", {"name": "prop"}, replicas=10, strategy=slow))
    one = f"{DEPLOYMENTS}/prop"
    api.until(lambda: (api.get(one).get("status") or {}).get("availableReplicas") == 10)
    set_image(api, one, "404", hollow="pending")
    api.until(lambda: sets("prop") == {"httpd": 8, "404": 5})
    api.until(lambda: api.get(one)["status"]["availableReplicas"] == 8)
    api.change(one, lambda o: o["spec"].update(replicas=30))
    api.until(lambda: sets("prop") == {"httpd": 20, "404": 13})  # the surplus is shared out
    set_image(api, one, "good")  # before the second has finished
    api.until(lambda: sets("prop") == {"httpd": 0, "404": 0, "good": 30}, 30)
    api.delete(DEPLOYMENTS, {"propagationPolicy": "Background"})


def test_daemonset_revisions(api: Api, kubelet: Kubelet) -> None:
    labels, one = {"ds": "rev"}, f"{DAEMONS}/rev"

    def revisions() -> list[Obj]:
        return api.items(REVISIONS, labelSelector="ds=rev")

    api.post(DAEMONS, workload("rev", labels))
    api.until(lambda: (api.get(one).get("status") or {}).get("numberAvailable") == 2)
    (first,) = revisions()
    refs = first["metadata"]["ownerReferences"]
    meta = {"name": "rev-new", "labels": labels, "ownerReferences": refs}
    api.post(REVISIONS, {"metadata": meta, "data": first["data"], "revision": first["revision"] + 1})
    api.delete(f"{REVISIONS}/{first['metadata']['name']}")
    api.change(f"{REVISIONS}/rev-new", lambda o: o["metadata"]["labels"].update(new="updated"))
    patch = {"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 1}}}}
    api.patch(one, patch, type=STRATEGIC)
    api.until(lambda: len(revisions()) == 2)
    api.delete(REVISIONS, labelSelector="new=updated")
    assert [r["revision"] for r in revisions()] == [3]
    api.until(lambda: api.get(one)["status"].get("updatedNumberScheduled") == 2)
    api.delete(one)


def test_daemonset_heals_rolls_back_and_follows_labels(api: Api, kubelet: Kubelet) -> None:
    one = f"{DAEMONS}/d"
    api.post(DAEMONS, workload("d", {"ds": "d"}))

    def mine() -> list[Obj]:
        return pods(api, "ds=d")

    def healthy() -> bool:
        return bool((api.get(one).get("status") or {}).get("numberAvailable") == 2)

    api.until(healthy)
    failed = mine()[0]
    kubelet.set(failed, phase="Failed")
    api.until(lambda: len([p for p in mine() if p["metadata"]["uid"] != failed["metadata"]["uid"]]) == 2)
    api.until(healthy)
    set_image(api, one, "404", hollow="pending")
    api.until(lambda: any(p["spec"]["containers"][0]["image"] == "404" for p in mine()))
    good = {p["metadata"]["uid"] for p in mine() if p["spec"]["containers"][0]["image"] != "404"}
    set_image(api, one, "httpd")
    api.until(lambda: healthy() and all(p["spec"]["containers"][0]["image"] == "httpd" for p in mine()))
    assert good <= {p["metadata"]["uid"] for p in mine()}  # what was good has not been restarted

    api.patch(one, {"spec": {"template": {"spec": {"nodeSelector": {"color": "blue"}}}}}, type=STRATEGIC)
    api.until(lambda: not mine())
    api.patch("/api/v1/nodes/one", {"metadata": {"labels": {"color": "blue"}}})
    api.until(lambda: [p["spec"].get("nodeName") for p in mine()] == ["one"])
    api.patch("/api/v1/nodes/one", {"metadata": {"labels": {"color": None}}})
    api.until(lambda: not mine())
    api.patch(f"{one}/status", {"status": {"conditions": [{"type": "StatusPatched", "status": "True"}]}})
    assert api.get(f"{one}/status")["status"]["conditions"][0]["type"] == "StatusPatched"
    api.delete(one)


def test_daemonset_surge(api: Api, kubelet: Kubelet) -> None:
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    api.post(DAEMONS, workload("surge", {"ds": "surge"}, updateStrategy=strategy))
    one = f"{DAEMONS}/surge"
    api.until(lambda: (api.get(one).get("status") or {}).get("numberAvailable") == 2)
    with api.watch(f"{NS}/pods", labelSelector="ds=surge") as watch:
        set_image(api, one, "new")
        ready = []
        while len(ready) < 2:
            gone = watch.until("DELETED")
            ready = [e for e in watch.seen if e["type"] == "DELETED"]
            beside = [
                e["object"]
                for e in watch.seen
                if e["object"]["spec"].get("nodeName") == gone["spec"]["nodeName"]
                and e["object"]["spec"]["containers"][0]["image"] == "new"
                and e["object"]["status"].get("phase") == "Running"
            ]
            assert beside  # the new one ran before the old one went
    api.delete(one)
