import copy
from typing import Any

import pytest

from stablehand.apiserver.strategies import strategy_for
from stablehand.apiserver.strategies.custom import CustomStrategy
from stablehand.apiserver.strategies.pod import qos_class
from stablehand.apiserver.strategies.poddefaults import pull_policy
from stablehand.machinery.resources import RESOURCES, Resource, resource

CONTAINER = {"name": "c", "image": "nginx"}


def made(key: str, obj: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """An object as a create leaves it, and what validation says."""
    res = resource(key)
    obj = copy.deepcopy(obj)
    meta = obj.setdefault("metadata", {})
    meta.setdefault("name", "x")
    meta.setdefault("uid", "u-1")
    if res.namespaced:
        meta.setdefault("namespace", "default")
    obj.setdefault("apiVersion", res.api_version)
    obj.setdefault("kind", res.kind)
    strategy = strategy_for(res)
    strategy.default(obj)
    strategy.prepare_create(obj)
    return obj, [e.message() for e in strategy.validate_create(obj)]


def changed(key: str, old: dict[str, Any], change: Any) -> tuple[dict[str, Any], list[str]]:
    new = copy.deepcopy(old)
    change(new)
    strategy = strategy_for(resource(key))
    before = copy.deepcopy(old)
    strategy.default(new)
    strategy.prepare_update(new, old)
    errors = [e.message() for e in strategy.validate_update(new, old)]
    assert old == before
    return new, errors


def workload(**spec: Any) -> dict[str, Any]:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [CONTAINER]}}
    return {"spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template, **spec}}


def test_defaults_are_idempotent_and_empty_updates_change_nothing() -> None:
    for res in RESOURCES:
        if res.legacy or res.storage[1]:
            continue
        obj, _ = made(res.key, {})
        again = copy.deepcopy(obj)
        strategy_for(res).default(again)
        assert again == obj, res
        new, _ = changed(res.key, obj, lambda o: None)
        assert new == obj, res


def test_pod_defaults() -> None:
    pod, errors = made("pods", {"spec": {"containers": [{**CONTAINER, "resources": {"limits": {"cpu": "1"}}}]}})
    assert errors == []
    spec = pod["spec"]
    assert spec["containers"][0]["resources"] == {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}}
    assert spec["containers"][0]["imagePullPolicy"] == "Always"
    assert (spec["restartPolicy"], spec["dnsPolicy"], spec["enableServiceLinks"]) == ("Always", "ClusterFirst", True)
    assert pod["status"] == {"phase": "Pending", "qosClass": "Burstable"}
    assert pod["metadata"]["generation"] == 1


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("nginx:1", "IfNotPresent"),
        ("host:5000/nginx", "Always"),
        ("host:5000/nginx:2", "IfNotPresent"),
        ("nginx@sha256:0", "IfNotPresent"),
    ],
)
def test_pull_policy(image: str, policy: str) -> None:
    assert pull_policy(image) == policy


def test_qos() -> None:
    whole = {"cpu": "1", "memory": "1Gi"}
    assert qos_class({"containers": [{}]}) == "BestEffort"
    assert qos_class({"containers": [{"resources": {"limits": whole, "requests": whole}}]}) == "Guaranteed"
    assert qos_class({"containers": [{"resources": {"limits": whole, "requests": whole}}, {}]}) == "Burstable"


FROM_FILE = {"name": "E", "valueFrom": {"fileKeyRef": {"volumeName": "v", "path": "f", "key": "K"}}}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({}, "spec.containers: Required value"),
        ({"containers": [{"name": "c"}]}, "spec.containers[0].image: Required value"),
        ({"containers": [CONTAINER, CONTAINER]}, 'spec.containers[1].name: Duplicate value: "c"'),
        (
            {"containers": [{**CONTAINER, "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]},
            'spec.containers[0].volumeMounts[0].name: Not found: "v"',
        ),
        (
            {"containers": [CONTAINER], "volumes": [{"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}}]},
            "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type",
        ),
        (
            {"containers": [{**CONTAINER, "resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}}]},
            'spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1',
        ),
        (
            {"containers": [CONTAINER], "restartPolicy": "Sometimes"},
            'spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "OnFailure", "Never"',
        ),
        (
            {"containers": [{**CONTAINER, "ports": [{"containerPort": 70000}]}]},
            "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
        ),
        (
            {"containers": [{**CONTAINER, "livenessProbe": {}}]},
            "spec.containers[0].livenessProbe: Required value: must specify a handler type",
        ),
        (
            {"containers": [CONTAINER], "dnsPolicy": "None"},
            "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None",
        ),
        (
            {"containers": [{**CONTAINER, "lifecycle": {"preStop": {"sleep": {"seconds": 31}}}}]},
            "spec.containers[0].lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than "
            "terminationGracePeriodSeconds (30)",
        ),
        (
            {"containers": [{**CONTAINER, "securityContext": {"procMount": "Unmasked"}}]},
            'spec.containers[0].securityContext.procMount: Invalid value: "Unmasked": `hostUsers` must be false to use '
            "`Unmasked`",
        ),
        (
            {"containers": [CONTAINER], "resources": {"requests": {"ephemeral-storage": "1"}}},
            'spec.resources.requests[ephemeral-storage]: Unsupported value: "ephemeral-storage": supported values: "cpu", '
            '"memory"',
        ),
        (
            {
                "containers": [{**CONTAINER, "resources": {"requests": {"cpu": "2"}}}],
                "resources": {"requests": {"cpu": "1"}},
            },
            'spec.resources.requests[cpu]: Invalid value: "1": must be greater than or equal to aggregate container '
            "requests of 2",
        ),
        (
            {"containers": [{**CONTAINER, "env": [FROM_FILE]}]},
            'spec.containers[0].env[0].valueFrom.fileKeyRef.volumeName: Not found: "v"',
        ),
        (
            {
                "containers": [{**CONTAINER, "env": [FROM_FILE]}],
                "volumes": [{"name": "v", "secret": {"secretName": "s"}}],
            },
            'spec.containers[0].env[0].valueFrom.fileKeyRef.volumeName: Invalid value: "v": referenced volume must be of '
            "type emptyDir",
        ),
        (
            {"containers": [CONTAINER], "securityContext": {"sysctls": [{"name": "bar..", "value": "1"}]}},
            'spec.securityContext.sysctls[0].name: Invalid value: "bar..": must have at most 253 characters and match '
            "regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$",
        ),
    ],
)
def test_pod_validation(spec: dict[str, Any], message: str) -> None:
    _, errors = made("pods", {"spec": spec})
    assert message in errors


def test_what_a_pod_asks_for_as_a_whole() -> None:
    containers = [{**CONTAINER, "resources": {"requests": {"cpu": "300m"}}}]
    limits = {"cpu": "1", "memory": "64Mi"}
    pod, _ = made("pods", {"spec": {"containers": containers, "resources": {"limits": limits}}})
    assert pod["spec"]["resources"]["requests"] == {"cpu": "300m", "memory": "64Mi"}
    assert qos_class(pod["spec"]) == "Burstable"
    assert qos_class({"containers": containers, "resources": {"limits": limits, "requests": limits}}) == "Guaranteed"


def test_a_hook_may_sleep_for_no_time_at_all() -> None:
    hooks = {"preStop": {"sleep": {"seconds": 0}}}
    _, errors = made("pods", {"spec": {"containers": [{**CONTAINER, "lifecycle": hooks}]}})
    assert errors == []


def test_pod_updates() -> None:
    pod, _ = made("pods", {"spec": {"containers": [CONTAINER]}})
    new, errors = changed("pods", pod, lambda p: p["spec"]["containers"][0].update(image="nginx:2"))
    assert errors == []
    assert new["metadata"]["generation"] == 2
    _, errors = changed("pods", pod, lambda p: p["spec"].update(hostname="other"))
    assert errors[0].startswith(
        "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`"
    )
    _, errors = changed("pods", pod, lambda p: p["spec"]["containers"].append({"name": "d", "image": "x"}))
    assert errors == ["spec.containers: Forbidden: pod updates may not add or remove containers"]
    _, errors = changed("pods", pod, lambda p: p["spec"].update(tolerations=[{"operator": "Exists"}]))
    assert errors == []


def test_pod_resizes() -> None:
    strategy = strategy_for(resource("pods"))
    limits = {"cpu": "1", "memory": "1Gi", "ephemeral-storage": "1Gi"}
    requests = {**limits, "cpu": "500m"}
    spec = {
        "containers": [{**CONTAINER, "resources": {"limits": limits, "requests": requests}}],
        "initContainers": [{**CONTAINER, "name": "i", "resources": {"limits": limits}}],
    }
    old, _ = made("pods", {"spec": spec})

    def resized(field: str = "containers", **resources: Any) -> str:
        wanted = {"spec": {field: [{"name": old["spec"][field][0]["name"], "resources": resources}]}}
        new = {**old, **wanted}
        strategy.prepare_subresource(new, old, "resize")
        return "; ".join(e.message() for e in strategy.validate_subresource(new, old, "resize"))

    more = {**requests, "cpu": "600m"}
    assert resized(limits={**limits, "cpu": "2"}, requests=more) == ""
    cut = resized(limits={"cpu": "1", "ephemeral-storage": "1Gi"}, requests=more)
    assert "resources.limits: Forbidden: resource limits cannot be removed" in cut
    other = {**limits, "ephemeral-storage": "2Gi"}
    assert resized(limits=other, requests=more) == "spec: Forbidden: only cpu and memory resources are mutable"
    assert "QOS Class may not change" in resized(limits=limits, requests=limits)
    assert "non-sidecar init containers are immutable" in resized("initContainers", limits={"cpu": "1"})


def test_metadata() -> None:
    _, errors = made("configmaps", {"metadata": {"name": "Bad_Name", "labels": {"a/b/c": "x y"}}})
    assert errors[0].startswith(
        'metadata.name: Invalid value: "Bad_Name": a lowercase RFC 1123 subdomain must consist of'
    )
    assert any(e.startswith('metadata.labels: Invalid value: "x y": a valid label must be') for e in errors)
    config, _ = made("configmaps", {})
    _, errors = changed("configmaps", config, lambda c: c["metadata"].update(annotations={"a": "x" * 300_000}))
    assert errors == ["metadata.annotations: Too long: may not be more than 262144 bytes"]


# --- stateful sets (shared/behaviours.md, section 1)


def test_statefulset_defaults() -> None:
    claim = {"metadata": {"name": "www"}, "spec": {"accessModes": ["ReadWriteOnce"]}}
    claim["spec"]["resources"] = {"requests": {"storage": "1Gi"}}  # type: ignore[index]
    sts, errors = made("statefulsets.apps", workload(volumeClaimTemplates=[claim]))
    assert errors == []
    spec = sts["spec"]
    assert (spec["replicas"], spec["podManagementPolicy"], spec["serviceName"]) == (1, "OrderedReady", "")
    assert spec["updateStrategy"] == {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}
    assert spec["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    assert spec["volumeClaimTemplates"][0]["kind"] == "PersistentVolumeClaim"
    assert spec["volumeClaimTemplates"][0]["status"] == {"phase": "Pending"}
    assert sts["status"] == {"replicas": 0, "availableReplicas": 0}
    explicit, _ = made("statefulsets.apps", workload(updateStrategy={"type": "RollingUpdate"}))
    assert explicit["spec"]["updateStrategy"] == {"type": "RollingUpdate"}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"selector": None}, "spec.selector: Required value"),
        ({"replicas": -1}, "spec.replicas: Invalid value: -1: must be greater than or equal to 0"),
        (
            {"selector": {"matchLabels": {"a": "c"}}},
            'spec.template.metadata.labels: Invalid value: {"a":"b"}: `selector` does not match template `labels`',
        ),
        (
            {"updateStrategy": {"type": "OnDelete", "rollingUpdate": {"partition": 1}}},
            'spec.updateStrategy.rollingUpdate: Invalid value: {"partition":1}: only allowed for updateStrategy '
            "'RollingUpdate'",
        ),
        ({"ordinals": {"start": -1}}, "spec.ordinals.start: Invalid value: -1: must be greater than or equal to 0"),
    ],
)
def test_statefulset_validation(spec: dict[str, Any], message: str) -> None:
    _, errors = made("statefulsets.apps", workload(**spec))
    assert message in errors


def test_statefulset_names_are_labels() -> None:
    _, errors = made("statefulsets.apps", {**workload(), "metadata": {"name": "a.b"}})
    assert errors[0].startswith('metadata.name: Invalid value: "a.b": a lowercase RFC 1123 label must consist of')


def test_statefulset_updates() -> None:
    sts, _ = made("statefulsets.apps", workload())
    new, errors = changed("statefulsets.apps", sts, lambda s: s["spec"].update(replicas=5))
    assert (errors, new["metadata"]["generation"]) == ([], 2)
    _, errors = changed("statefulsets.apps", sts, lambda s: s["spec"].update(serviceName="other"))
    assert errors == [
        "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', "
        "'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are "
        "forbidden"
    ]
    new, errors = changed(
        "statefulsets.apps", sts, lambda s: s["spec"]["updateStrategy"]["rollingUpdate"].update(maxUnavailable=2)
    )
    assert (errors, new["metadata"]["generation"]) == ([], 1)
    assert "maxUnavailable" not in new["spec"]["updateStrategy"]["rollingUpdate"]


def test_statefulset_status() -> None:
    sts, _ = made("statefulsets.apps", workload())
    strategy = strategy_for(resource("statefulsets.apps"))
    new = copy.deepcopy(sts)
    new["spec"]["replicas"] = 9
    new["status"] = {"replicas": 1, "readyReplicas": 2}
    strategy.prepare_status_update(new, sts)
    assert new["spec"]["replicas"] == 1
    assert [e.message() for e in strategy.validate_status_update(new, sts)] == [
        "status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas"
    ]


# --- other workloads


def test_deployments() -> None:
    deployment, errors = made("deployments.apps", workload())
    assert errors == []
    rolling = {"maxUnavailable": "25%", "maxSurge": "25%"}
    assert deployment["spec"]["strategy"] == {"type": "RollingUpdate", "rollingUpdate": rolling}
    new, errors = changed("deployments.apps", deployment, lambda d: d["metadata"].update(annotations={"a": "b"}))
    assert (errors, new["metadata"]["generation"]) == ([], 2)
    _, errors = changed(
        "deployments.apps",
        deployment,
        lambda d: d["spec"]["selector"].update(matchExpressions=[{"key": "a", "operator": "Exists"}]),
    )
    assert errors[0].endswith("field is immutable")
    _, errors = made("deployments.apps", workload(strategy={"type": "Recreate", "rollingUpdate": {}}))
    assert "may not be specified when strategy `type` is 'Recreate'" in errors[0]


def test_jobs() -> None:
    template = {"spec": {"containers": [CONTAINER], "restartPolicy": "Never"}}
    job, errors = made("jobs.batch", {"spec": {"template": template}})
    assert errors == []
    assert job["spec"]["selector"] == {"matchLabels": {"batch.kubernetes.io/controller-uid": "u-1"}}
    assert job["spec"]["template"]["metadata"]["labels"]["batch.kubernetes.io/job-name"] == "x"
    assert (job["spec"]["completions"], job["spec"]["parallelism"], job["spec"]["backoffLimit"]) == (1, 1, 6)
    _, errors = changed("jobs.batch", job, lambda j: j["spec"]["template"]["spec"].update(hostname="h"))
    assert errors[0].startswith("spec.template: Invalid value:") and errors[0].endswith("field is immutable")
    cron, errors = made(
        "cronjobs.batch", {"spec": {"schedule": "* * *", "jobTemplate": {"spec": {"template": template}}}}
    )
    assert errors == ['spec.schedule: Invalid value: "* * *": expected exactly 5 fields, found 3: [* * *]']
    assert cron["spec"]["concurrencyPolicy"] == "Allow"


# --- storage and configuration


CLAIM = {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}


def test_claims() -> None:
    claim, errors = made("persistentvolumeclaims", CLAIM)
    assert (errors, claim["status"], claim["spec"]["volumeMode"]) == ([], {"phase": "Pending"}, "Filesystem")
    _, errors = changed("persistentvolumeclaims", claim, lambda c: c["spec"].update(storageClassName="late"))
    assert errors == []
    _, errors = changed("persistentvolumeclaims", claim, lambda c: c["spec"].update(volumeName="pv"))
    assert errors == []

    def grow(obj: dict[str, Any]) -> None:
        obj["spec"]["resources"]["requests"]["storage"] = "2Gi"

    _, errors = changed("persistentvolumeclaims", claim, grow)
    assert errors[0].startswith("spec: Forbidden: spec is immutable after creation except resources.requests and")
    bound = copy.deepcopy(claim)
    bound["spec"]["volumeName"] = "pv"
    bound["status"] = {"phase": "Bound", "capacity": {"storage": "1Gi"}}
    assert changed("persistentvolumeclaims", bound, grow)[1] == []
    _, errors = changed("persistentvolumeclaims", bound, lambda c: c["spec"].update(volumeName="other"))
    assert errors[0].startswith("spec: Forbidden")


def test_volumes_and_classes() -> None:
    nfs = {"server": "s", "path": "/p"}
    volume, errors = made(
        "persistentvolumes",
        {"spec": {"accessModes": ["ReadWriteMany"], "capacity": {"storage": "1Gi"}, "nfs": nfs}},
    )
    assert (errors, volume["spec"]["persistentVolumeReclaimPolicy"]) == ([], "Retain")
    _, errors = changed("persistentvolumes", volume, lambda v: v["spec"]["nfs"].update(path="/q"))
    assert errors[0].startswith("spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable")
    kind, errors = made("storageclasses.storage.k8s.io", {"provisioner": "example.com/nfs"})
    assert (errors, kind["reclaimPolicy"], kind["volumeBindingMode"]) == ([], "Delete", "Immediate")
    _, errors = changed("storageclasses.storage.k8s.io", kind, lambda c: c.update(provisioner="other"))
    assert errors == ["provisioner: Forbidden: updates to provisioner are forbidden."]


def test_secrets_and_config_maps() -> None:
    secret, errors = made("secrets", {"stringData": {"a": "b"}})
    assert (errors, secret["type"], secret["data"]) == ([], "Opaque", {"a": "Yg=="})
    assert "stringData" not in secret
    _, errors = made("secrets", {"type": "kubernetes.io/tls"})
    assert errors == ["data[tls.crt]: Required value", "data[tls.key]: Required value"]
    config, _ = made("configmaps", {"data": {"a": "1"}, "immutable": True})
    _, errors = changed("configmaps", config, lambda c: c["data"].update(a="2"))
    assert errors == ["data: Forbidden: field is immutable when `immutable` is set"]
    _, errors = made("configmaps", {"data": {"a b": ""}})
    assert errors[0].startswith('data[a b]: Invalid value: "a b": a valid config key must consist of')


# --- the rest


def test_services() -> None:
    service, errors = made("services", {"spec": {"ports": [{"port": 80}]}})
    assert errors == []
    assert service["spec"]["ports"] == [{"port": 80, "protocol": "TCP", "targetPort": 80}]
    assert service["spec"]["internalTrafficPolicy"] == "Cluster"
    service["spec"].update(clusterIP="10.0.0.1", clusterIPs=["10.0.0.1"])
    new, errors = changed("services", service, lambda s: [s["spec"].pop("clusterIP"), s["spec"].pop("clusterIPs")])
    assert (errors, new["spec"]["clusterIP"]) == ([], "10.0.0.1")
    _, errors = changed("services", service, lambda s: s["spec"].update(clusterIP="10.0.0.2", clusterIPs=["10.0.0.2"]))
    assert errors == ['spec.clusterIPs[0]: Invalid value: ["10.0.0.2"]: may not change once set']
    # A load balancer's class is set at the beginning or not at all; with the type its status goes.
    balancer, _ = made("services", {"spec": {"type": "LoadBalancer", "ports": [{"port": 80}]}})
    _, errors = changed("services", balancer, lambda s: s["spec"].update(loadBalancerClass="a.b/c"))
    assert errors == ['spec.loadBalancerClass: Invalid value: "a.b/c": may not change once set']
    balancer["status"] = {"loadBalancer": {"ingress": [{"ip": "192.0.2.1", "ipMode": "VIP"}]}}
    new, errors = changed("services", balancer, lambda s: s["spec"].update(type="ClusterIP"))
    assert (errors, new["status"]) == ([], {"loadBalancer": {}})
    _, errors = made("services", {"spec": {"ports": [{"port": 80}, {"port": 81}]}})
    assert errors == ["spec.ports[0].name: Required value", "spec.ports[1].name: Required value"]
    _, errors = made("services", {"spec": {"clusterIP": "None"}})
    assert errors == []
    _, errors = made("services", {"metadata": {"name": "1a"}, "spec": {"clusterIP": "None"}})
    assert "a DNS-1035 label must consist of" in errors[0]


def test_namespaces_and_rbac() -> None:
    namespace, errors = made("namespaces", {})
    assert (errors, namespace["spec"], namespace["status"]) == ([], {"finalizers": ["kubernetes"]}, {"phase": "Active"})
    assert namespace["metadata"]["labels"] == {"kubernetes.io/metadata.name": "x"}
    binding = {"roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "u"}]}
    key = "rolebindings.rbac.authorization.k8s.io"
    binding, errors = made(key, {**binding, "metadata": {"name": "system:x"}})
    assert errors == []
    assert binding["subjects"][0]["apiGroup"] == "rbac.authorization.k8s.io"
    _, errors = changed(key, binding, lambda b: b["roleRef"].update(name="other"))
    assert errors[0].endswith("cannot change roleRef")
    # Patroni's own manifest leaves a RoleBinding's subject without a namespace: it is the binding's.
    account = {"roleRef": binding["roleRef"], "subjects": [{"kind": "ServiceAccount", "name": "s"}]}
    assert made(key, account)[1] == []
    of_all = {**account, "roleRef": {"kind": "ClusterRole", "name": "r"}}
    assert made("clusterrolebindings.rbac.authorization.k8s.io", of_all)[1] == ["subjects[0].namespace: Required value"]


CRD = {
    "metadata": {"name": "foos.example.com"},
    "spec": {
        "group": "example.com",
        "scope": "Namespaced",
        "names": {"plural": "foos", "kind": "Foo"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {"type": "object", "properties": {"n": {"type": "integer", "default": 2}}},
                            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                        },
                    }
                },
                "subresources": {"status": {}},
                "selectableFields": [{"jsonPath": ".spec.n"}],
            }
        ],
    },
}


def test_custom_resource_definitions() -> None:
    crd, errors = made("customresourcedefinitions.apiextensions.k8s.io", CRD)
    assert errors == []
    assert crd["spec"]["names"] == {"plural": "foos", "kind": "Foo", "singular": "foo", "listKind": "FooList"}
    assert crd["status"]["storedVersions"] == ["v1"]
    bad = copy.deepcopy(CRD)
    bad["metadata"]["name"] = "bars.example.com"  # type: ignore[index]
    _, errors = made("customresourcedefinitions.apiextensions.k8s.io", bad)
    assert errors == ['metadata.name: Invalid value: "bars.example.com": must be spec.names.plural+"."+spec.group']


def test_custom_resources() -> None:
    res = Resource("example.com", "v1", "Foo", "foos", subresources=("status",), custom=True)
    strategy = CustomStrategy(res, CRD, CRD["spec"]["versions"][0])  # type: ignore[index]
    assert (strategy.storage_api_version, strategy.selectable) == ("example.com/v1", ("spec.n",))
    foo = {"metadata": {"name": "f", "namespace": "d"}, "spec": {}, "status": {"x": 1}}
    strategy.default(foo)
    strategy.prepare_create(foo)
    assert foo == {"metadata": {"name": "f", "namespace": "d", "generation": 1}, "spec": {"n": 2}}
    assert strategy.validate_create(foo) == []
    new = copy.deepcopy(foo)
    new["spec"]["n"] = "x"  # type: ignore[index]
    strategy.prepare_update(new, foo)
    assert new["metadata"]["generation"] == 2  # type: ignore[index]
    assert [e.message() for e in strategy.validate_update(new, foo)] == [
        'spec.n: Invalid value: "string": spec.n in body must be of type integer: "string"'
    ]
    status = copy.deepcopy(foo)
    status["spec"]["n"] = 9  # type: ignore[index]
    status["status"] = {"ok": True}
    strategy.prepare_status_update(status, foo)
    assert (status["spec"], status["status"]) == ({"n": 2}, {"ok": True})


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ({"hard": {"bogus": "1"}}, 'spec.hard[bogus]: Invalid value: "bogus": must be a standard resource for quota'),
        ({"hard": {"count/foos.example.com": "1", "hugepages-2Mi": "1"}}, ""),
        ({"hard": {"services": "1"}, "scopes": ["BestEffort"]}, "unsupported scope applied to resource"),
        ({"hard": {"pods": "1"}, "scopes": ["BestEffort", "NotBestEffort"]}, "conflicting scopes"),
        ({"hard": {"pods": "1"}, "scopes": ["Sometimes"]}, "unsupported scope"),
        (
            {"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In"}]}},
            "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
        ),
        (
            {"scopeSelector": {"matchExpressions": [{"scopeName": "BestEffort", "operator": "In", "values": ["x"]}]}},
            "must be 'Exist' when scope is any of",
        ),
    ],
)
def test_quotas(spec: dict[str, Any], complaint: str) -> None:
    _, errors = made("resourcequotas", {"spec": spec})
    assert any(complaint in e for e in errors) if complaint else errors == []


def test_finalizers_need_a_domain_but_on_definitions() -> None:
    meta = {"name": "foos.example.com", "finalizers": ["mine"]}
    _, errors = made("configmaps", {"metadata": dict(meta)})
    assert "name is neither a standard finalizer name nor is it fully qualified" in errors[0]
    names = {"plural": "foos", "kind": "Foo"}
    schema = {"openAPIV3Schema": {"type": "object"}}
    versions = [{"name": "v1", "served": True, "storage": True, "schema": schema}]
    spec = {"group": "example.com", "scope": "Cluster", "names": names, "versions": versions}
    _, errors = made("customresourcedefinitions.apiextensions.k8s.io", {"metadata": meta, "spec": spec})
    assert errors == []


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("", "Required value: protected groups must have approval annotation"),
        ("yes", 'with either a URL or a reason starting with "unapproved"'),
        ("unapproved, an experiment", ""),
        ("https://github.com/kubernetes/kubernetes/pull/78458", ""),
    ],
)
def test_groups_of_the_community_need_approval(value: str, complaint: str) -> None:
    schema = {"openAPIV3Schema": {"type": "object"}}
    versions = [{"name": "v1", "served": True, "storage": True, "schema": schema}]
    names = {"plural": "foos", "kind": "Foo"}
    spec = {"group": "sub.k8s.io", "scope": "Cluster", "names": names, "versions": versions}
    meta = {"name": "foos.sub.k8s.io", "annotations": {"api-approved.kubernetes.io": value} if value else {}}
    _, errors = made("customresourcedefinitions.apiextensions.k8s.io", {"metadata": meta, "spec": spec})
    assert any(complaint in e for e in errors) if complaint else errors == []
