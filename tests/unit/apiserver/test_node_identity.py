"""What a kubelet may ask and change (node authorizer, NodeRestriction), and what reviews tell of reasons."""

from __future__ import annotations

from typing import Any

import pytest
from multidict import CIMultiDict

from stablehand.apiserver.contract import Request, Response, User

from .server import ADMIN, Server, serving

KUBELET = User("system:node:n1", ("system:nodes", "system:authenticated"))
DEFAULT = "/api/v1/namespaces/default"
REVIEWS = "/apis/authorization.k8s.io/v1"


def pod(name: str, node: str, **spec: Any) -> Any:
    return {"metadata": {"name": name}, "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}], **spec}}


async def furnish(s: Server) -> None:
    for name in ("n1", "n2"):
        await s.made("/api/v1/nodes", {"metadata": {"name": name}})
    await s.made(f"{DEFAULT}/serviceaccounts", {"metadata": {"name": "default"}})
    volume = {"name": "v", "secret": {"secretName": "mine"}}
    claim = {"name": "w", "persistentVolumeClaim": {"claimName": "claim"}}
    await s.made(f"{DEFAULT}/pods", pod("p1", "n1", volumes=[volume, claim]))
    await s.made(f"{DEFAULT}/pods", pod("p2", "n2", volumes=[{"name": "v", "secret": {"secretName": "theirs"}}]))
    for name in ("mine", "theirs"):
        await s.made(f"{DEFAULT}/secrets", {"metadata": {"name": name}})


@pytest.mark.parametrize(
    ("method", "path", "selector", "why"),
    [
        ("GET", "/api/v1/nodes/n1", "", None),
        ("GET", "/api/v1/nodes", "metadata.name=n1", None),
        ("GET", "/api/v1/nodes", "", "cannot read all nodes, only its own Node object"),
        ("GET", "/api/v1/nodes/n2", "", "node 'n1' cannot read 'n2', only its own Node object"),
        ("DELETE", "/api/v1/nodes/n1", "", ""),
        ("GET", "/api/v1/pods", "spec.nodeName=n1", None),
        ("GET", "/api/v1/pods", "spec.nodeName=n2", "can only list/watch pods with spec.nodeName field selector"),
        ("GET", f"{DEFAULT}/pods/p1", "", None),
        ("GET", f"{DEFAULT}/pods/p2", "", "no relationship found between node 'n1' and this object"),
        ("GET", f"{DEFAULT}/secrets/mine", "", None),
        ("GET", f"{DEFAULT}/secrets", "metadata.name=mine", None),
        ("GET", f"{DEFAULT}/secrets/theirs", "", "no relationship found"),
        ("GET", f"{DEFAULT}/secrets", "", "No Object name found"),
        ("GET", "/api/v1/persistentvolumeclaims", "", "can only get individual resources of this type"),
        ("GET", "/api/v1/services", "", None),
        ("GET", "/apis/node.k8s.io/v1/runtimeclasses", "", None),
        ("GET", "/apis/resource.k8s.io/v1/resourceslices", "spec.nodeName=n1", None),
        ("GET", "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/n1", "", 'in the "kube-node-lease"'),
        ("GET", "/apis/storage.k8s.io/v1/csinodes/n2", "", "can only access CSINode with the same name"),
        ("GET", "/apis/apps/v1/deployments", "", ""),
    ],
)
async def test_what_a_kubelet_may_read(method: str, path: str, selector: str, why: str | None) -> None:
    async with serving() as s:
        await furnish(s)
        query = {"fieldSelector": selector} if selector else {}
        code, answer = await s.call(method, path, user=KUBELET, query=query)
        if why is None:
            assert code == 200, answer
        else:
            assert code == 403 and why in answer["message"], answer


async def test_what_a_kubelet_may_change() -> None:
    async with serving() as s:
        await furnish(s)
        merge = "application/merge-patch+json"

        async def refusal(method: str, path: str, obj: Any) -> str:
            kind = merge if method == "PATCH" else "application/json"
            code, answer = await s.call(method, path, obj, content_type=kind, user=KUBELET)
            return "" if code < 400 else str(answer["message"])

        assert await refusal("PATCH", "/api/v1/nodes/n1", {"metadata": {"labels": {"kubernetes.io/os": "linux"}}}) == ""
        for labels in ({"node-restriction.kubernetes.io/x": "1"}, {"node-role.kubernetes.io/control-plane": ""}):
            text = await refusal("PATCH", "/api/v1/nodes/n1", {"metadata": {"labels": labels}})
            assert f"is not allowed to modify labels: {next(iter(labels))}" in text
        taints = {"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}}
        assert "is not allowed to modify taints" in await refusal("PATCH", "/api/v1/nodes/n1", taints)
        owners = [{"apiVersion": "v1", "kind": "Node", "name": "n2", "uid": "u"}]
        text = await refusal("PATCH", "/api/v1/nodes/n1", {"metadata": {"ownerReferences": owners}})
        assert "is not allowed to modify ownerReferences" in text
        text = await refusal("PATCH", "/api/v1/nodes/n2/status", {"status": {"phase": "x"}})
        assert 'node "n1" is not allowed to modify node "n2"' in text
        running = {"status": {"phase": "Running"}}
        assert await refusal("PATCH", f"{DEFAULT}/pods/p1/status", running) == ""
        assert "spec.nodeName set to itself" in await refusal("PATCH", f"{DEFAULT}/pods/p2/status", running)
        text = await refusal("PATCH", f"{DEFAULT}/pods/p1/status", {"metadata": {"labels": {"a": "b"}}})
        assert "cannot update labels through pod status" in text
        assert "can only create mirror pods" in await refusal("POST", f"{DEFAULT}/pods", pod("p3", "n1"))
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": []}}
        tokens = f"{DEFAULT}/serviceaccounts/default/token"
        assert "node requested token not bound to a pod" in await refusal("POST", tokens, request)
        _, bound = await s.call("GET", f"{DEFAULT}/pods/p1")
        reference = {"apiVersion": "v1", "kind": "Pod", "name": "p1", "uid": bound["metadata"]["uid"]}
        assert await refusal("POST", tokens, {**request, "spec": {"audiences": [], "boundObjectRef": reference}}) == ""
        lease = {"metadata": {"name": "n2"}, "spec": {}}
        text = await refusal("POST", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases", lease)
        assert "can only access node lease with the same name as the requesting node" in text


async def test_a_mirror_pod_is_its_nodes_and_refers_to_nothing() -> None:
    async with serving() as s:
        await furnish(s)
        _, node = await s.call("GET", "/api/v1/nodes/n1")
        owner = {"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": node["metadata"]["uid"], "controller": True}
        path = "/api/v1/namespaces/kube-system/pods"
        mirror = pod("etcd-n1", "n1")
        mirror["metadata"] |= {"annotations": {"kubernetes.io/config.mirror": "x"}, "ownerReferences": [owner]}
        code, made = await s.call("POST", path, mirror, user=KUBELET)
        assert code == 201 and "serviceAccountName" not in made["spec"], made
        for change, why in (
            ({"ownerReferences": []}, "can only create pods with an owner reference set to itself"),
            ({"ownerReferences": [{**owner, "controller": False}]}, "a controller owner reference set to itself"),
            ({"ownerReferences": [{**owner, "uid": "other"}]}, "UID mismatch"),
        ):
            wrong = {**mirror, "metadata": {**mirror["metadata"], "name": "x", **change}}
            code, answer = await s.call("POST", path, wrong, user=KUBELET)
            assert code == 403 and why in answer["message"], answer
        secret = {"volumes": [{"name": "v", "secret": {"secretName": "s"}}]}
        wrong = {**mirror, "metadata": {**mirror["metadata"], "name": "y"}, "spec": {**mirror["spec"], **secret}}
        code, answer = await s.call("POST", path, wrong, user=KUBELET)
        assert code == 403 and "reference secrets" in answer["message"]


async def test_reviews_give_reasons_and_name_wrong_fields() -> None:
    async with serving() as s:
        path = f"{REVIEWS}/subjectaccessreviews"

        async def status(user: str, groups: list[str], **attributes: Any) -> Any:
            spec = {
                "user": user,
                "groups": groups,
                "resourceAttributes": {"verb": "list", "resource": "pods", **attributes},
            }
            return (await s.made(path, {"spec": spec}))["status"]

        name = "system:kube-scheduler"
        assert await status(name, []) == {
            "allowed": True,
            "reason": f'RBAC: allowed by ClusterRoleBinding "{name}" of ClusterRole "{name}" to User "{name}"',
        }
        assert await status("bob", []) == {"allowed": False}
        assert await status(KUBELET.name, ["system:nodes"]) == {
            "allowed": False,
            "reason": "can only list/watch pods with spec.nodeName field selector",
        }
        selected = {"fieldSelector": {"requirements": [{"key": "spec.nodeName", "operator": "In", "values": ["n1"]}]}}
        assert (await status(KUBELET.name, ["system:nodes"], **selected))["allowed"]
        binding = {
            "metadata": {"name": "b"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "gone"},
            "subjects": [{"kind": "ServiceAccount", "name": "a", "namespace": "default"}],
        }
        await s.made("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding)
        found = await status("system:serviceaccount:default:a", [])
        assert found["reason"] == 'RBAC: clusterrole.rbac.authorization.k8s.io "gone" not found'
        wrong = await s.refused("POST", path, {"spec": {}})
        assert wrong["code"] == 422
        assert [c["field"] for c in wrong["details"]["causes"]] == ["spec.resourceAttributes", "spec.user"]
        token = {"spec": {"token": ""}}
        assert (await s.refused("POST", "/apis/authentication.k8s.io/v1/tokenreviews", token))["code"] == 400


async def test_a_bound_pod_gets_the_zone_of_its_node() -> None:
    async with serving() as s:
        zone, region = "topology.kubernetes.io/zone", "topology.kubernetes.io/region"
        labels = {zone: "z", region: "r", "other": "x"}
        await s.made("/api/v1/nodes", {"metadata": {"name": "n1", "labels": labels}})
        await s.made(f"{DEFAULT}/serviceaccounts", {"metadata": {"name": "default"}})
        bare = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
        await s.made(f"{DEFAULT}/pods", bare)
        await s.made(f"{DEFAULT}/pods/p/binding", {"target": {"kind": "Node", "name": "n1"}})
        _, bound = await s.call("GET", f"{DEFAULT}/pods/p")
        assert bound["metadata"]["labels"] == {zone: "z", region: "r"}
        made = await s.made(f"{DEFAULT}/pods", pod("q", "n1"))
        assert made["metadata"]["labels"] == {zone: "z", region: "r"}


async def test_a_kubelets_rules_cannot_be_listed() -> None:
    async with serving() as s:
        review = {"spec": {"namespace": "default"}}
        path = f"{REVIEWS}/selfsubjectrulesreviews"
        code, found = await s.call("POST", path, review, user=KUBELET)
        assert code == 201 and found["status"]["incomplete"], found
        assert "node authorizer" in found["status"]["evaluationError"]
        assert not (await s.made(path, review))["status"]["incomplete"]


async def test_who_is_impersonated() -> None:
    async with serving() as s:

        async def whoami(*headers: tuple[str, str]) -> Any:
            raw = b'{"kind":"SelfSubjectReview","apiVersion":"authentication.k8s.io/v1"}'
            path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
            request = Request("POST", path, {}, CIMultiDict(headers), raw)
            answer = await s.api.handle(request, ADMIN)
            assert isinstance(answer, Response)
            return answer.obj["status"]["userInfo"] if answer.code == 201 else answer.obj

        extra = [("Impersonate-Extra-Scopes", "a"), ("Impersonate-Extra-Scopes", "b"), ("Impersonate-Uid", "7")]
        groups = [("Impersonate-Group", "g")]
        assert await whoami(("Impersonate-User", "jane"), *groups, *extra) == {
            "username": "jane", "groups": ["g", "system:authenticated"], "uid": "7", "extra": {"scopes": ["a", "b"]},
        }  # fmt: skip
        account = await whoami(("Impersonate-User", "system:serviceaccount:ns:a"))
        assert account["groups"] == ["system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated"]
        refused = await whoami(("Impersonate-User", "system:anonymous"))
        assert refused["code"] == 403  # the anonymous may not even ask who they are
        assert (await whoami(*groups))["code"] == 400


async def test_a_new_node_takes_no_pods_yet() -> None:
    async with serving() as s:
        wait = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
        own = {"key": "a", "effect": "NoExecute"}
        made = await s.made("/api/v1/nodes", {"metadata": {"name": "n1"}, "spec": {"taints": [own]}})
        assert made["spec"]["taints"] == [own, wait]
        made = await s.made("/api/v1/nodes", {"metadata": {"name": "n2"}, "spec": {"taints": [wait]}})
        assert made["spec"]["taints"] == [wait]


async def test_decisions_are_remembered_only_as_far_as_they_hold() -> None:
    async with serving() as s:
        group = "rbac.authorization.k8s.io"
        named = {"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["one"]}
        role = {"metadata": {"name": "r"}, "rules": [named]}
        binding = {
            "metadata": {"name": "b"},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "r"},
            "subjects": [{"apiGroup": group, "kind": "User", "name": "jane"}],
        }
        await s.made(f"/apis/{group}/v1/clusterroles", role)
        await s.made(f"/apis/{group}/v1/clusterrolebindings", binding)
        jane = User("jane", ("system:authenticated",))

        async def codes() -> list[int]:
            return [(await s.call("GET", f"{DEFAULT}/secrets/{n}", user=jane))[0] for n in ("one", "two", "one")]

        assert await codes() == [404, 403, 404]
        wider = {"rules": [{**named, "resourceNames": []}]}
        merge = "application/merge-patch+json"
        await s.call("PATCH", f"/apis/{group}/v1/clusterroles/r", wider, content_type=merge)
        assert await codes() == [404, 404, 404]
        await s.call("DELETE", f"/apis/{group}/v1/clusterrolebindings/b")
        assert await codes() == [403, 403, 403]
