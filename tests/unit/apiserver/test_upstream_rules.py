"""What upstream's validation tests refuse, refused here with the same field and words (pkg/apis/*/validation)."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from stablehand.apiserver.strategies import strategy_for
from stablehand.machinery.resources import resource

from .test_strategies import CONTAINER, changed, made, workload

CSI = "csi.example.com"
NODE_SPEC = {"name": CSI, "nodeID": "n"}
LEVEL = {"type": "Limited", "limited": {"limitResponse": {"type": "Reject"}}}
RULE = {
    "subjects": [{"kind": "User", "user": {"name": "u"}}],
    "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"]}],
}


def service(**spec: Any) -> Any:
    return {"spec": {"ports": [{"port": 80}], **spec}}


def limit(**item: Any) -> Any:
    return {"spec": {"limits": [{"type": "Container", **item}]}}


def schema(**spec: Any) -> Any:
    return {"spec": {"priorityLevelConfiguration": {"name": "l"}, "rules": [RULE], **spec}}


def pod(**spec: Any) -> Any:
    return {"spec": {"containers": [CONTAINER], **spec}}


def ingress(**spec: Any) -> Any:
    return {"spec": {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}, **spec}}


REFUSED: list[tuple[str, Any, str]] = [
    ("csidrivers.storage.k8s.io", {"spec": {"volumeLifecycleModes": ["x"]}}, "spec.volumeLifecycleModes: Unsupported"),
    ("csidrivers.storage.k8s.io", {"spec": {"fsGroupPolicy": "x"}}, "spec.fsGroupPolicy: Unsupported value"),
    (
        "csidrivers.storage.k8s.io",
        {"spec": {"tokenRequests": [{"audience": "a"}, {"audience": "a"}]}},
        'spec.tokenRequests[1].audience: Duplicate value: "a"',
    ),
    (
        "csidrivers.storage.k8s.io",
        {"spec": {"tokenRequests": [{"expirationSeconds": 1}]}},
        "may not specify a duration less than 10 minutes",
    ),
    (
        "csidrivers.storage.k8s.io",
        {"spec": {"nodeAllocatableUpdatePeriodSeconds": 9}},
        "must be greater than or equal to 10 seconds",
    ),
    ("csinodes.storage.k8s.io", {"spec": {"drivers": [{"name": CSI}]}}, "spec.drivers[0].nodeID: Required value"),
    (
        "csinodes.storage.k8s.io",
        {"spec": {"drivers": [NODE_SPEC, NODE_SPEC]}},
        f'spec.drivers[1].name: Duplicate value: "{CSI}"',
    ),
    (
        "csinodes.storage.k8s.io",
        {"spec": {"drivers": [{**NODE_SPEC, "topologyKeys": ["k", "k"]}]}},
        'spec.drivers[0]: Duplicate value: "k"',
    ),
    ("csistoragecapacities.storage.k8s.io", {}, 'storageClassName: Invalid value: ""'),
    (
        "csistoragecapacities.storage.k8s.io",
        {"storageClassName": "c", "capacity": "-1"},
        "capacity: Invalid value",
    ),
    (
        "volumeattachments.storage.k8s.io",
        {"spec": {"attacher": CSI, "nodeName": "n", "source": {}}},
        "spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName",
    ),
    (
        "volumeattachments.storage.k8s.io",
        {"spec": {"attacher": CSI, "nodeName": "n", "source": {"inlineVolumeSpec": {"accessModes": ["ReadWriteOnce"]}}}},
        "spec.source.inlineVolumeSpec.csi: Required value: has to be specified in the context of inline volumes",
    ),
    (
        "volumeattributesclasses.storage.k8s.io",
        {"driverName": CSI},
        "parameters: Required value: must contain at least one key/value pair",
    ),
    (
        "storageclasses.storage.k8s.io",
        {"provisioner": "p", "allowedTopologies": [{"matchLabelExpressions": [{"key": "k"}]}]},
        "allowedTopologies[0].matchLabelExpressions[0].values: Required value",
    ),
    ("services", service(trafficDistribution="x"), "spec.trafficDistribution: Unsupported value"),
    ("services", service(externalIPs=["127.0.0.1"]), "may not be in the loopback range"),
    (
        "services",
        service(loadBalancerSourceRanges=["10.0.0.0/8"]),
        "spec.loadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'",
    ),
    ("services", service(allocateLoadBalancerNodePorts=True), "spec.allocateLoadBalancerNodePorts: Forbidden"),
    ("services", service(type="LoadBalancer", loadBalancerSourceRanges=["x"]), "must be a valid CIDR value"),
    ("services", service(ipFamilies=["IPv5"]), 'spec.ipFamilies[0]: Unsupported value: "IPv5"'),
    ("services", service(ipFamilies=["IPv4", "IPv4"]), 'spec.ipFamilies[1]: Duplicate value: "IPv4"'),
    ("services", service(ipFamilyPolicy="x"), "spec.ipFamilyPolicy: Unsupported value"),
    ("services", service(healthCheckNodePort=30001), "spec.healthCheckNodePort: Invalid value: 30001: may only be set"),
    ("services", service(ports=[{"port": 80, "appProtocol": "-"}]), "spec.ports[0].appProtocol: Invalid value"),
    (
        "networkpolicies.networking.k8s.io",
        {"spec": {"ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/24", "except": ["10.1.0.0/16"]}}]}]}},
        'spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: "10.1.0.0/16": must be a strict subset of `cidr`',
    ),
    (
        "networkpolicies.networking.k8s.io",
        {"spec": {"ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.1"}}]}]}},
        "must be a valid CIDR value",
    ),
    (
        "networkpolicies.networking.k8s.io",
        {"spec": {"policyTypes": ["Ingress", "Egress", "Ingress"]}},
        "may not specify more than two policyTypes",
    ),
    ("ingresses.networking.k8s.io", ingress(tls=[{"secretName": "A_"}]), "spec.tls[0].secretName: Invalid value"),
    (
        "ingresses.networking.k8s.io",
        ingress(defaultBackend={"resource": {"apiGroup": "a.b", "kind": "K"}}),
        "spec.defaultBackend.resource.name: Required value: name is required",
    ),
    (
        "ingresses.networking.k8s.io",
        {**ingress(ingressClassName="c"), "metadata": {"annotations": {"kubernetes.io/ingress.class": "d"}}},
        "annotations.kubernetes.io/ingress.class: Invalid value",
    ),
    (
        "ingressclasses.networking.k8s.io",
        {"spec": {"controller": "a/b", "parameters": {"kind": "K", "name": "n", "scope": "Namespace"}}},
        "spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'",
    ),
    ("nodes", {"spec": {"podCIDRs": ["x"]}}, "spec.podCIDRs[0]: Invalid value"),
    (
        "nodes",
        {"spec": {"podCIDRs": ["10.0.0.0/24", "10.0.1.0/24"]}},
        "may specify no more than one CIDR for each IP family",
    ),
    ("leases.coordination.k8s.io", {"spec": {"preferredHolder": "x"}}, "spec.preferredHolder: Forbidden"),
    (
        "runtimeclasses.node.k8s.io",
        {"handler": "h", "scheduling": {"tolerations": [{"operator": "x", "key": "k"}]}},
        "scheduling.tolerations[0].operator: Unsupported value",
    ),
    ("limitranges", limit(type="x"), "must be a standard limit type or fully qualified"),
    ("limitranges", limit(max={"cpu": "1"}, min={"cpu": "2"}), "min value 2 is greater than max value 1"),
    (
        "limitranges",
        limit(type="Pod", default={"cpu": "1"}),
        "spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'",
    ),
    (
        "limitranges",
        limit(type="PersistentVolumeClaim"),
        "either minimum or maximum storage value is required, but neither was provided",
    ),
    (
        "limitranges",
        limit(min={"cpu": "1"}, max={"cpu": "2"}, maxLimitRequestRatio={"cpu": "5"}),
        "ratio 5 is greater than max/min = 2.000000",
    ),
    ("limitranges", limit(maxLimitRequestRatio={"cpu": "500m"}), "ratio 500m is less than 1"),
    ("limitranges", {"spec": {"limits": [{"type": "Pod"}, {"type": "Pod"}]}}, 'spec.limits[1].type: Duplicate value: "Pod"'),
    (
        "limitranges",
        limit(default={"cpu": "1"}, defaultRequest={"cpu": "2"}),
        "default request value 2 is greater than default limit value 1",
    ),
    ("flowschemas.flowcontrol.apiserver.k8s.io", schema(matchingPrecedence=1), "only the schema named 'exempt'"),
    ("flowschemas.flowcontrol.apiserver.k8s.io", schema(matchingPrecedence=20000), "must not be greater than 10000"),
    (
        "flowschemas.flowcontrol.apiserver.k8s.io",
        schema(priorityLevelConfiguration={}),
        "spec.priorityLevelConfiguration.name: Required value: must reference a priority level",
    ),
    (
        "flowschemas.flowcontrol.apiserver.k8s.io",
        schema(rules=[{**RULE, "subjects": []}]),
        "spec.rules[0].subjects: Required value: subjects must contain at least one value",
    ),
    (
        "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io",
        {"spec": {"type": "Exempt"}},
        "type must be 'Exempt' if and only if name is 'exempt'",
    ),
    (
        "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io",
        {"spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Queue"}}}},
        "spec.limited.limitResponse.queuing: Required value",
    ),
    (
        "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io",
        {"metadata": {"name": "catch-all"}, "spec": LEVEL},
        "spec of 'catch-all' must equal the fixed value",
    ),
    (
        "cronjobs.batch",
        {"spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"selector": {}}}}},
        "spec.jobTemplate.spec.selector: Invalid value: {}: `selector` will be auto-generated",
    ),
    (
        "ipaddresses.networking.k8s.io",
        {"metadata": {"name": "2001:DB8::1"}, "spec": {"parentRef": {"resource": "services", "name": "s"}}},
        'metadata.name: Invalid value: "2001:DB8::1": must be in canonical form ("2001:db8::1")',
    ),
    ("ipaddresses.networking.k8s.io", {"metadata": {"name": "10.0.0.1"}}, "spec.parentRef: Required value"),
    ("servicecidrs.networking.k8s.io", {"spec": {"cidrs": ["10.0.0.0/24", "10.0.1.0/24"]}}, "no more than one IP for each"),
    (
        "validatingwebhookconfigurations.admissionregistration.k8s.io",
        {"webhooks": [{"name": "a.b.c", "rules": [{"operations": ["CREATE", "*"]}]}]},
        "webhooks[0].rules[0].operations: Invalid value: [\"CREATE\",\"*\"]: if '*' is present",
    ),
    (
        "validatingwebhookconfigurations.admissionregistration.k8s.io",
        {"webhooks": [{"name": "a.b.c", "rules": [{"operations": ["x"]}]}]},
        "webhooks[0].rules[0].apiGroups: Required value",
    ),
    (
        "mutatingwebhookconfigurations.admissionregistration.k8s.io",
        {"webhooks": [{"name": "a.b.c", "reinvocationPolicy": "x"}]},
        "webhooks[0].reinvocationPolicy: Unsupported value",
    ),
    # -- pods
    ("pods", pod(shareProcessNamespace=True, hostPID=True), "ShareProcessNamespace and HostPID cannot both be enabled"),
    ("pods", pod(hostUsers=False, hostPID=True), "spec.hostPID: Forbidden: when `hostUsers` is false"),
    (
        "pods",
        pod(os={"name": "windows"}, hostPID=True),
        "spec.hostPID: Forbidden: cannot be set for a windows pod",
    ),
    (
        "pods",
        pod(hostnameOverride="x.y", hostNetwork=True),
        "spec.hostnameOverride: Forbidden: may not be set when hostNetwork is true",
    ),
    (
        "pods",
        pod(resourceClaims=[{"name": "a"}]),
        "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
    ),
    (
        "pods",
        pod(topologySpreadConstraints=[
            {"maxSkew": 1, "topologyKey": "k", "whenUnsatisfiable": "DoNotSchedule", "nodeAffinityPolicy": "x"}
        ]),
        "spec.topologySpreadConstraints[0].nodeAffinityPolicy: Unsupported value",
    ),
    ("pods", pod(dnsConfig={"searches": ["-a"]}), "spec.dnsConfig.searches[0]: Invalid value"),
    ("pods", pod(readinessGates=[{"conditionType": "-"}]), "spec.readinessGates[0].conditionType: Invalid value"),
    ("pods", pod(securityContext={"supplementalGroupsPolicy": "x"}), "supplementalGroupsPolicy: Unsupported value"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "obj", "text"), REFUSED, ids=lambda v: v if isinstance(v, str) else "")
def test_refused(key: str, obj: Any, text: str) -> None:
    _, errors = made(key, obj)
    assert any(text in error for error in errors), errors


ACCEPTED: list[tuple[str, Any]] = [
    ("csidrivers.storage.k8s.io", {"metadata": {"name": CSI}}),
    ("csinodes.storage.k8s.io", {"spec": {"drivers": [{**NODE_SPEC, "topologyKeys": ["topology.kubernetes.io/zone"]}]}}),
    ("volumeattachments.storage.k8s.io", {"spec": {"attacher": CSI, "nodeName": "n", "source": {"persistentVolumeName": "p"}}}),
    ("services", service(type="LoadBalancer", loadBalancerSourceRanges=["10.0.0.0/8"], loadBalancerClass="a.b/c")),
    ("services", service(trafficDistribution="PreferSameNode", ipFamilies=["IPv4"], ipFamilyPolicy="SingleStack")),
    ("limitranges", limit(max={"cpu": "2", "memory": "1Gi"}, min={"cpu": "100m"}, default={"cpu": "1"})),
    ("limitranges", limit(type="PersistentVolumeClaim", max={"storage": "1Gi"})),
    ("flowschemas.flowcontrol.apiserver.k8s.io", schema()),
    ("prioritylevelconfigurations.flowcontrol.apiserver.k8s.io", {"spec": LEVEL}),
    ("runtimeclasses.node.k8s.io", {"handler": "runc", "scheduling": {"tolerations": [{"operator": "Exists"}]}}),
    ("pods", pod(hostnameOverride="a.b.c")),
]  # fmt: skip


@pytest.mark.parametrize(("key", "obj"), ACCEPTED, ids=lambda v: v if isinstance(v, str) else "")
def test_accepted(key: str, obj: Any) -> None:
    _, errors = made(key, obj)
    assert errors == []


def test_the_clusters_own_flow_objects_are_valid() -> None:
    from stablehand.apiserver.flowcontrol import objects

    for res, obj in objects.all_objects():
        obj = copy.deepcopy(obj)
        obj["metadata"]["uid"] = "u"
        strategy = strategy_for(res)
        before = copy.deepcopy(obj["spec"])
        strategy.default(obj)
        assert obj["spec"] == before and strategy.validate_create(obj) == [], obj["metadata"]["name"]


IMMUTABLE: list[tuple[str, Any, Any, str]] = [
    (
        "csidrivers.storage.k8s.io",
        {"spec": {}},
        lambda o: o["spec"].update(attachRequired=False),
        "spec.attachedRequired: Invalid value: false: field is immutable",
    ),
    (
        "csinodes.storage.k8s.io",
        {"spec": {"drivers": [NODE_SPEC]}},
        lambda o: o["spec"]["drivers"][0].update(nodeID="other"),
        "spec.drivers: Invalid value",
    ),
    (
        "volumeattachments.storage.k8s.io",
        {"spec": {"attacher": CSI, "nodeName": "n", "source": {"persistentVolumeName": "p"}}},
        lambda o: o["spec"].update(nodeName="m"),
        "field is immutable",
    ),
    (
        "volumeattributesclasses.storage.k8s.io",
        {"driverName": CSI, "parameters": {"a": "b"}},
        lambda o: o.update(parameters={"a": "c"}),
        "parameters: Forbidden: updates to parameters are forbidden.",
    ),
    (
        "services",
        service(type="LoadBalancer", loadBalancerClass="a.b/c"),
        lambda o: o["spec"].update(loadBalancerClass="a.b/d"),
        "spec.loadBalancerClass: Invalid value: \"a.b/d\": may not change once set",
    ),
    (
        "jobs.batch",
        {"spec": {"completions": 3, "template": {"spec": {"containers": [CONTAINER], "restartPolicy": "Never"}}}},
        lambda o: o["spec"].update(completions=4),
        "spec.completions: Invalid value: 4: field is immutable",
    ),
    (
        "servicecidrs.networking.k8s.io",
        {"spec": {"cidrs": ["10.0.0.0/24"]}},
        lambda o: o["spec"].update(cidrs=["10.1.0.0/24"]),
        'spec.cidrs[0]: Invalid value: "10.1.0.0/24": field is immutable',
    ),
    ("deployments.apps", workload(), lambda o: o["spec"].update(selector={"matchLabels": {"a": "c"}}), "spec.selector"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "obj", "change", "text"), IMMUTABLE, ids=lambda v: v if isinstance(v, str) else "")
def test_what_may_not_change(key: str, obj: Any, change: Any, text: str) -> None:
    old, errors = made(key, obj)
    assert errors == []
    _, errors = changed(key, old, change)
    assert any(text in error for error in errors), errors


# -- statuses


def status_errors(key: str, obj: Any, before: Any, after: Any) -> list[str]:
    old, _ = made(key, obj)
    old["status"] = before
    new = {**copy.deepcopy(old), "status": after}
    return [e.message() for e in strategy_for(resource(key)).validate_status_update(new, old)]


def condition(kind: str) -> dict[str, str]:
    return {"type": kind, "status": "True"}


JOB = {"spec": {"managedBy": "a.b/c", "template": {"spec": {"containers": [CONTAINER], "restartPolicy": "Never"}}}}
BEGUN, ENDED = "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"
DONE = {
    "startTime": BEGUN, "completionTime": ENDED, "succeeded": 1,
    "conditions": [condition("SuccessCriteriaMet"), condition("Complete")],
}  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        ({}, DONE, ""),
        (DONE, {**DONE, "succeeded": 0}, "cannot decrease the succeeded counter"),
        (DONE, {**DONE, "conditions": []}, "cannot disable the terminal Complete=True condition"),
        ({}, {**DONE, "conditions": [condition("Complete")]}, "without the SuccessCriteriaMet=true condition"),
        ({}, {"startTime": BEGUN, "conditions": [condition("Failed")]}, "without the FailureTarget=true condition"),
        ({}, {**DONE, "completionTime": None}, "completionTime is required for Complete jobs"),
        ({}, {**DONE, "startTime": None}, "startTime is required for finished job"),
        ({}, {**DONE, "completionTime": "2025-01-01T00:00:00Z"}, "must be equal to or after `startTime`"),
        ({}, {**DONE, "active": 1}, "active>0 is invalid for finished job"),
        ({}, {**DONE, "terminating": 1}, "terminating>0 is invalid for finished job"),
        ({}, {**DONE, "uncountedTerminatedPods": {"succeeded": ["u"]}}, "must be empty for finished job"),
        ({}, {"active": 1, "ready": 2}, "cannot set more ready pods than active"),
        ({}, {"completedIndexes": "0"}, "cannot set non-empty completedIndexes when non-indexed completion mode"),
        ({}, {"failedIndexes": "0"}, "cannot set non-null failedIndexes when backoffLimitPerIndex is null"),
        ({"startTime": BEGUN}, {"startTime": ENDED}, "startTime cannot be removed for unsuspended job"),
        ({}, {"completionTime": ENDED}, "cannot set completionTime when there is no Complete=True condition"),
        ({}, {"uncountedTerminatedPods": {"failed": ["a", "a"]}}, "Duplicate value"),
    ],
)
def test_a_jobs_status_fits_together(before: Any, after: Any, text: str) -> None:
    errors = status_errors("jobs.batch", JOB, before, {k: v for k, v in after.items() if v is not None})
    assert (not errors) if not text else any(text in e for e in errors), errors


def test_indexes_of_an_indexed_job() -> None:
    job = {"spec": {**JOB["spec"], "completionMode": "Indexed", "completions": 5, "backoffLimitPerIndex": 1}}
    assert status_errors("jobs.batch", job, {}, {"completedIndexes": "0,2-3", "failedIndexes": "1"}) == []
    for status, text in (
        ({"completedIndexes": "3,1"}, "error parsing completedIndexes: non-increasing order, previous: 3, current: 1"),
        ({"completedIndexes": "7"}, "too large index"),
        ({"completedIndexes": "a"}, "cannot convert string to integer"),
        ({"completedIndexes": "0-3", "failedIndexes": "2"}, "failedIndexes and completedIndexes overlap at index: 2"),
    ):
        assert any(text in e for e in status_errors("jobs.batch", job, {}, status)), text


def test_other_statuses() -> None:
    points = {"loadBalancer": {"ingress": [{"ip": "1.2.3.4", "ipMode": "VIP"}]}}
    assert "may only be used when `spec.type` is 'LoadBalancer'" in status_errors("services", service(), {}, points)[0]
    balanced = service(type="LoadBalancer")
    assert status_errors("services", balanced, {}, points) == []
    points = {"loadBalancer": {"ingress": [{"hostname": "1.2.3.4"}]}}
    assert "must be a DNS name, not an IP address" in str(status_errors("services", balanced, {}, points))
    assert "must be a DNS name" in str(status_errors("ingresses.networking.k8s.io", ingress(), {}, points))
    budget = {"conditions": [{"type": "A", "status": "True", "lastTransitionTime": BEGUN}], "currentHealthy": -1}
    errors = status_errors("poddisruptionbudgets.policy", {}, {}, budget)
    assert [e.split(":")[0] for e in errors] == ["status.conditions[0].reason", "status.currentHealthy"]
    twice = {"addresses": [{"type": "InternalIP", "address": "1.2.3.4"}] * 2}
    assert "status.addresses[1]: Duplicate value" in str(status_errors("nodes", {}, {}, twice))


def test_a_pods_status() -> None:
    def state(kind: str, **more: Any) -> Any:
        return {"containerStatuses": [{"name": "c", "state": {kind: more}}]}

    ended, failed = state("terminated", exitCode=0), state("terminated", exitCode=1)
    never, retried = pod(restartPolicy="Never"), pod(restartPolicy="OnFailure")
    text = "status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"
    assert status_errors("pods", never, ended, state("running")) == [text]
    assert status_errors("pods", retried, ended, state("waiting")) == [text]
    assert status_errors("pods", retried, failed, state("running")) == []
    assert status_errors("pods", pod(), ended, state("running")) == []
    assert status_errors("pods", never, state("running"), ended) == []
    two = {"podIPs": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]}
    assert "may specify no more than one IP for each IP family" in str(status_errors("pods", pod(), {}, two))
    assert status_errors("pods", pod(), {}, {"podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}) == []
    assert "status.qosClass" in str(status_errors("pods", pod(), {"qosClass": "BestEffort"}, {"qosClass": "Burstable"}))
