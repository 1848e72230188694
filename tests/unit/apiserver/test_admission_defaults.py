"""The admission plugins that are on by default: what they fill in, and what they refuse."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from stablehand.machinery.types import copy_object

from .server import Server, serving

DEFAULT = "/api/v1/namespaces/default"
STRATEGIC = {"content_type": "application/strategic-merge-patch+json"}


def pod(*, name: str = "p", annotations: dict[str, str] | None = None, **spec: Any) -> Any:
    containers = spec.pop("containers", [{"name": "c", "image": "i"}])
    return {"metadata": {"name": name, "annotations": annotations or {}}, "spec": {"containers": containers, **spec}}


async def account(s: Server, **fields: Any) -> None:
    await s.made(f"{DEFAULT}/serviceaccounts", {"metadata": {"name": "default"}, **fields})


def ingress_class(name: str, default: str) -> Any:
    annotations = {"ingressclass.kubernetes.io/is-default-class": default}
    return {"metadata": {"name": name, "annotations": annotations}, "spec": {"controller": "example.com/c"}}


async def test_an_ingress_gets_the_default_class() -> None:
    async with serving() as s:
        path, classes = (
            "/apis/networking.k8s.io/v1/namespaces/default/ingresses",
            "/apis/networking.k8s.io/v1/ingressclasses",
        )
        backend = {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}}

        async def given(name: str, annotations: Any = None, **spec: Any) -> Any:
            made = await s.made(
                path, {"metadata": {"name": name, "annotations": annotations or {}}, "spec": {**backend, **spec}}
            )
            return made["spec"].get("ingressClassName")

        await s.made(classes, ingress_class("other", "false"))
        assert await given("none") is None
        await s.made(classes, ingress_class("b", "true"))
        assert await given("default") == "b"
        assert await given("own", ingressClassName="x") == "x"
        assert await given("old", {"kubernetes.io/ingress.class": "x"}) is None
        s.api.core.clock = lambda: 4e9
        await s.made(classes, ingress_class("c", "true"))
        await s.made(classes, ingress_class("d", "true"))
        assert await given("newest") == "c"  # of the same age: by name


async def test_one_priority_class_is_the_default() -> None:
    async with serving() as s:
        path = "/apis/scheduling.k8s.io/v1/priorityclasses"
        await s.made(path, {"metadata": {"name": "a"}, "value": 5, "globalDefault": True})
        status = await s.refused("POST", path, {"metadata": {"name": "b"}, "value": 6, "globalDefault": True})
        assert status["message"] == (
            'priorityclasses.scheduling.k8s.io "b" is forbidden: PriorityClass a is already marked as default. '
            "Only one default can exist"
        )
        made = copy_object(await s.made(path, {"metadata": {"name": "b"}, "value": 6}))
        assert (await s.refused("PUT", f"{path}/b", {**made, "globalDefault": True}))["code"] == 403
        code, again = await s.call("GET", f"{path}/a")
        assert (await s.call("PUT", f"{path}/a", {**copy_object(again), "description": "d"}))[0] == code == 200


async def test_priorities_are_computed() -> None:
    async with serving() as s:
        await account(s)
        await s.made(
            "/apis/scheduling.k8s.io/v1/priorityclasses",
            {"metadata": {"name": "a"}, "value": 5, "preemptionPolicy": "Never"},
        )
        made = await s.made(f"{DEFAULT}/pods", pod(priorityClassName="a", priority=5))
        assert (made["spec"]["priority"], made["spec"]["preemptionPolicy"]) == (5, "Never")
        for given, why in (
            ({"priority": 6}, "the integer value of priority (6) must not be provided in pod spec; priority admission controller computed 5"),
            ({"preemptionPolicy": "PreemptLowerPriority"}, "the string value of PreemptionPolicy (PreemptLowerPriority) must not be provided in pod spec; priority admission controller computed Never"),
        ):  # fmt: skip
            status = await s.refused("POST", f"{DEFAULT}/pods", pod(priorityClassName="a", **given))
            assert status["message"] == f'pods "p" is forbidden: {why} from the given PriorityClass name'
        unnamed = {**pod(priorityClassName="none"), "metadata": {"generateName": "web-"}}
        status = await s.refused("POST", f"{DEFAULT}/pods", unnamed)
        assert status["message"] == 'pods "web-" is forbidden: no PriorityClass with name none was found'
        # System classes are anybody's, as upstream's are.
        made = await s.made(f"{DEFAULT}/pods", pod(name="critical", priorityClassName="system-node-critical"))
        assert made["spec"]["priority"] == 2000001000


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"serviceAccountName": "default"}, "a mirror pod may not reference service accounts"),
        ({"volumes": [{"name": "v", "secret": {"secretName": "s"}}]}, "a mirror pod may not reference secrets"),
        ({"imagePullSecrets": [{"name": "s"}]}, "a mirror pod may not reference secrets"),
        (
            {"volumes": [{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]},
            "a mirror pod may not use ServiceAccountToken volume projections",
        ),
    ],
)
async def test_mirror_pods_get_at_nothing(spec: Any, why: str) -> None:
    async with serving() as s:
        await account(s)
        mirror = {"kubernetes.io/config.mirror": "x"}
        status = await s.refused("POST", f"{DEFAULT}/pods", pod(annotations=mirror, nodeName="n", **spec))
        assert status["message"] == f'pods "p" is forbidden: {why}'


def env(secret: str) -> Any:
    return [{"name": "E", "valueFrom": {"secretKeyRef": {"name": secret, "key": "k"}}}]


UNNAMED = "is not allowed because service account default does not reference that"


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"volumes": [{"name": "v", "secret": {"secretName": "mine"}}], "imagePullSecrets": [{"name": "pull"}]}, ""),
        ({"volumes": [{"name": "v", "secret": {"secretName": "x"}}]}, f'volume with secret.secretName="x" {UNNAMED} secret'),
        (
            {"initContainers": [{"name": "i", "image": "i", "env": env("x")}]},
            f'init container i with envVar E referencing secret.secretName="x" {UNNAMED} secret',
        ),
        (
            {"containers": [{"name": "c", "image": "i", "envFrom": [{"secretRef": {"name": "x"}}], "env": env("mine")}]},
            f'container c with envFrom referencing secret.secretName="x" {UNNAMED} secret',
        ),
        ({"imagePullSecrets": [{"name": "pull"}, {"name": "x"}]}, f'imagePullSecrets[1].name="x" {UNNAMED} imagePullSecret'),
    ],
)  # fmt: skip
async def test_an_account_may_say_which_secrets_its_pods_use(spec: Any, why: str) -> None:
    async with serving() as s:
        strict = {"metadata": {"name": "default", "annotations": {"kubernetes.io/enforce-mountable-secrets": "true"}}}
        await s.made(
            f"{DEFAULT}/serviceaccounts",
            {**strict, "secrets": [{"name": "mine"}], "imagePullSecrets": [{"name": "pull"}]},
        )
        code, out = await s.call("POST", f"{DEFAULT}/pods", pod(**spec))
        assert out["message"] == f'pods "p" is forbidden: {why}' if why else code == 201, out
        if not why:
            debug = {"spec": {"ephemeralContainers": [{"name": "e", "image": "i", "env": env("x")}]}}
            status = await s.refused("PATCH", f"{DEFAULT}/pods/p/ephemeralcontainers", debug, **STRATEGIC)
            assert 'ephemeral container e with envVar E referencing secret.secretName="x"' in status["message"]


async def test_new_nodes_are_tainted() -> None:
    async with serving() as s:
        made = await s.made("/api/v1/nodes", {"metadata": {"name": "n"}})
        taint = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
        assert made["spec"]["taints"] == [taint]
        own = {"key": "a", "effect": "NoExecute"}
        made = await s.made("/api/v1/nodes", {"metadata": {"name": "m"}, "spec": {"taints": [own, taint]}})
        assert made["spec"]["taints"] == [own, taint]


async def test_no_pod_grows_beyond_its_node() -> None:
    async with serving() as s:
        await account(s)
        there = {"allocatable": {"cpu": "2", "memory": "1Gi"}}
        await s.made(
            "/api/v1/nodes", {"metadata": {"name": "n", "labels": {"kubernetes.io/os": "linux"}}, "status": there}
        )
        await s.made(
            "/api/v1/nodes", {"metadata": {"name": "w", "labels": {"kubernetes.io/os": "windows"}}, "status": there}
        )
        requests = {"cpu": "1", "memory": "1Mi"}
        for name, node in (("p", "n"), ("w", "w"), ("gone", "gone")):
            containers = [{"name": "c", "image": "i", "resources": {"requests": requests}}]
            await s.made(f"{DEFAULT}/pods", pod(name=name, nodeName=node, containers=containers))

        async def resized(name: str, **requests: str) -> tuple[int, Any]:
            patch = {"spec": {"containers": [{"name": "c", "resources": {"requests": requests}}]}}
            return await s.call("PATCH", f"{DEFAULT}/pods/{name}/resize", patch, **STRATEGIC)

        assert (await resized("p", cpu="2"))[0] == 200
        _, out = await resized("p", cpu="2500m", memory="2Gi")
        assert out["message"] == (
            'pods "p" is forbidden: Node didn\'t have enough allocatable resources: cpu, requested: 2500, '
            "allocatable: 2000; memory, requested: 2147483648, allocatable: 1073741824"
        )
        assert out["details"]["causes"] == [{"reason": "NodeCapacity"}]
        _, out = await resized("w", cpu="2")
        assert out["message"].endswith('pod resize is only supported on linux nodes, node "w" is "windows"')
        _, out = await resized("gone", cpu="2")
        assert out["message"] == 'pods "gone" is forbidden: node "gone" not found'


async def test_a_node_must_know_how_to_resize() -> None:
    async with serving() as s:
        await account(s)
        labels, there = {"kubernetes.io/os": "linux"}, {"cpu": "4", "memory": "4Gi"}
        features = ["GuaranteedQoSPodCPUResize"]
        for name, more in (("old", {}), ("new", {"declaredFeatures": features})):
            await s.made(
                "/api/v1/nodes",
                {"metadata": {"name": name, "labels": labels}, "status": {"allocatable": there, **more}},
            )
            sized = {"cpu": "1", "memory": "64Mi"}
            containers = [{"name": "c", "image": "i", "resources": {"requests": sized, "limits": sized}}]
            await s.made(f"{DEFAULT}/pods", pod(name=name, nodeName=name, containers=containers))

        async def resized(name: str, cpu: str, memory: str) -> tuple[int, Any]:
            sized = {"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": cpu, "memory": memory}}
            patch = {"spec": {"containers": [{"name": "c", "resources": sized}]}}
            return await s.call("PATCH", f"{DEFAULT}/pods/{name}/resize", patch, **STRATEGIC)

        assert [(await resized(name, "1", "128Mi"))[0] for name in ("old", "new")] == [200, 200]
        assert (await resized("new", "2", "128Mi"))[0] == 200
        _, out = await resized("old", "2", "128Mi")
        assert out["message"] == (
            'pods "old" is forbidden: pod update requires features GuaranteedQoSPodCPUResize '
            'which are not available on node "old"'
        )


def csr(*groups: str) -> str:
    names = [x509.NameAttribute(NameOID.COMMON_NAME, "me")]
    names += [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(names))
    pem = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()).public_bytes(Encoding.PEM)
    return base64.b64encode(pem).decode()


async def test_nobody_is_made_an_administrator() -> None:
    async with serving() as s:
        path, signer = "/apis/certificates.k8s.io/v1/certificatesigningrequests", "kubernetes.io/kube-apiserver-client"

        def asking(name: str, signer: str, *groups: str) -> Any:
            return {
                "metadata": {"name": name},
                "spec": {"signerName": signer, "usages": ["client auth"], "request": csr(*groups)},
            }

        status = await s.refused("POST", path, asking("a", signer, "x", "system:masters"))
        assert status["message"] == (
            'certificatesigningrequests.certificates.k8s.io "a" is forbidden: '
            f"use of {signer} signer with system:masters group is not allowed"
        )
        await s.made(path, asking("b", signer, "x"))
        await s.made(path, asking("c", "example.com/s", "system:masters"))


async def test_what_a_runtime_class_adds() -> None:
    async with serving() as s:
        await account(s)
        toleration = {"key": "k", "operator": "Exists"}
        scheduling = {"nodeSelector": {"a": "b"}, "tolerations": [toleration]}
        runtime = {
            "metadata": {"name": "r"},
            "handler": "h",
            "overhead": {"podFixed": {"cpu": "100m"}},
            "scheduling": scheduling,
        }
        await s.made("/apis/node.k8s.io/v1/runtimeclasses", runtime)
        made = await s.made(
            f"{DEFAULT}/pods", pod(runtimeClassName="r", nodeSelector={"c": "d"}, overhead={"cpu": "0.1"})
        )
        assert made["spec"]["overhead"] == {"cpu": "100m"} and made["spec"]["nodeSelector"] == {"a": "b", "c": "d"}
        assert toleration in made["spec"]["tolerations"]
        for spec, why in (
            ({"runtimeClassName": "r", "nodeSelector": {"a": "x"}}, "conflict: runtimeClass.scheduling.nodeSelector[a] = b; pod.spec.nodeSelector[a] = x"),
            ({"runtimeClassName": "r", "overhead": {"cpu": "1"}}, "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"),
            ({"overhead": {"cpu": "1"}}, "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"),
            ({"runtimeClassName": "x"}, 'pod rejected: RuntimeClass "x" not found'),
        ):  # fmt: skip
            status = await s.refused("POST", f"{DEFAULT}/pods", pod(name="q", **spec))
            assert status["message"] == f'pods "q" is forbidden: {why}'


async def test_namespaces_that_stay_and_go() -> None:
    async with serving() as s:
        status = await s.refused("DELETE", "/api/v1/namespaces/kube-system")
        assert status["message"] == 'namespaces "kube-system" is forbidden: this namespace may not be deleted'
        await s.made("/api/v1/namespaces", {"metadata": {"name": "n"}})
        assert (await s.call("DELETE", "/api/v1/namespaces/n"))[0] in (200, 202)
        status = await s.refused("POST", "/api/v1/namespaces/n/configmaps", {"metadata": {"generateName": "c-"}})
        assert status["message"] == (
            'configmaps "c-" is forbidden: unable to create new content in namespace n because it is being terminated'
        )
        assert status["details"]["causes"] == [
            {
                "reason": "NamespaceTerminating",
                "message": "namespace n is being terminated",
                "field": "metadata.namespace",
            }
        ]
        status = await s.refused("POST", "/api/v1/namespaces/none/configmaps", {"metadata": {"name": "c"}})
        assert (status["code"], status["message"]) == (404, 'namespaces "none" not found')
