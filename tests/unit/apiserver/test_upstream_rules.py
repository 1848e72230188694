"""What upstream's validation tests refuse, refused here with the same field and words (pkg/apis/*/validation)."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from stablehand.apiserver.strategies import strategy_for

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


def container(**fields: Any) -> Any:
    return {"spec": {"containers": [{**CONTAINER, **fields}]}}


def mounted(**fields: Any) -> Any:
    mount = {"name": "v", "mountPath": "/x", **fields}
    return {
        "spec": {"containers": [{**CONTAINER, "volumeMounts": [mount]}], "volumes": [{"name": "v", "emptyDir": {}}]}
    }


VOLUME = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"}}
RESIZE = {"resourceName": "cpu", "restartPolicy": "RestartContainer"}
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


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
    (
        "endpointslices.discovery.k8s.io",
        {"addressType": "IPv4", "endpoints": [{"addresses": ["fd00::1"]}]},
        'endpoints[0].addresses[0]: Invalid value: "fd00::1": must be a valid IPv4 address',
    ),
    (
        "endpointslices.discovery.k8s.io",
        {"addressType": "IPv4", "endpoints": [], "ports": [{"appProtocol": "-"}]},
        "ports[0].appProtocol: Invalid value",
    ),
    (
        "persistentvolumes",
        {"spec": {**VOLUME, "volumeAttributesClassName": ""}},
        "spec.volumeAttributesClassName: Required value: an empty string is disallowed",
    ),
    (
        "cronjobs.batch",
        {"spec": {"schedule": "61 * * * *", "jobTemplate": {}}},
        'spec.schedule: Invalid value: "61 * * * *": ',
    ),
    # -- pods
    (
        "pods",
        container(resources={"claims": [{"name": "x"}]}),
        "must be one of the names in pod.spec.resourceClaims which is empty",
    ),
    ("pods", container(resources={"limits": {"hugepages-2Mi": "2Mi"}}), "HugePages require cpu or memory"),
    (
        "pods",
        {"spec": {"restartPolicy": "Never", "containers": [{**CONTAINER, "resizePolicy": [RESIZE]}]}},
        "must be 'NotRequired' when `restartPolicy` is 'Never'",
    ),
    ("pods", container(resizePolicy=[RESIZE, RESIZE]), 'spec.containers[0].resizePolicy[1]: Duplicate value: "cpu"'),
    (
        "pods",
        container(restartPolicyRules=[{"action": "Restart", "exitCodes": {"operator": "In", "values": [1]}}]),
        "spec.containers[0].restartPolicy: Required value: must specify restartPolicy when restart rules are used",
    ),
    (
        "pods",
        container(restartPolicy="Never", restartPolicyRules=[{"action": "Restart"}]),
        "spec.containers[0].restartPolicyRules[0].exitCodes: Required value",
    ),
    (
        "pods",
        container(securityContext={"seccompProfile": {"type": "RuntimeDefault", "localhostProfile": "x"}}),
        "can only be set when seccomp type is Localhost",
    ),
    (
        "pods",
        container(securityContext={"seccompProfile": {"type": "Localhost", "localhostProfile": "/x"}}),
        "must be a relative path",
    ),
    ("pods", mounted(recursiveReadOnly="Enabled"), "may only be specified when readOnly is true"),
    (
        "pods",
        mounted(mountPropagation="Bidirectional"),
        "Bidirectional mount propagation is available only to privileged containers",
    ),
    (
        "pods",
        pod(volumes=[{"name": "v", "projected": {"sources": [
            {"secret": {"name": "a", "items": [{"key": "k", "path": "p"}]}},
            {"configMap": {"name": "b", "items": [{"key": "k", "path": "p"}]}},
        ]}}]),
        'spec.volumes[0].projected: Invalid value: "b": conflicting duplicate paths',
    ),
    ("pods", pod(volumes=[{"name": "v", "image": {}}]), "spec.volumes[0].image.reference: Required value"),
    (
        "pods",
        pod(affinity={"podAffinity": {REQUIRED: [{"topologyKey": "k", "matchLabelKeys": ["a"]}]}}),
        "matchLabelKeys: Forbidden: must not be specified when labelSelector is not set",
    ),
    (
        "pods",
        pod(affinity={"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [
            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["a", "b"]}]}
        ]}}}),
        "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
    ),
    (
        "pods",
        pod(hostNetwork=True, securityContext={"sysctls": [{"name": "net.core.somaxconn", "value": "1"}]}),
        "may not be specified when 'hostNetwork' is true",
    ),
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
