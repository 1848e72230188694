"""Reads request bodies in Kubernetes' protobuf form, which kubectl's typed commands send (create, auth can-i, …).

Answers are always JSON. The table below holds the messages those commands use: "number:field[:type]", with a
type of s (string, default), i (integer), b (boolean), y (bytes), t (Time), m (map of strings), M (map of bytes),
q (map of quantities), S (strings), I (IntOrString), or the name of a message; "*" before a type makes a list.
A message that is not in the table is refused (415), never read in part: an unknown field number is an error too.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterator
from typing import Any

from stablehand.apiserver import errors
from stablehand.machinery.times import format_time
from stablehand.machinery.types import Obj

log = logging.getLogger("stablehand.protobuf")

CONTENT_TYPE = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\x00"

_TABLE = {
    "ObjectMeta": "1:name 2:generateName 3:namespace 4:selfLink 5:uid 6:resourceVersion 7:generation:i "
    "8:creationTimestamp:t 9:deletionTimestamp:t 10:deletionGracePeriodSeconds:i 11:labels:m 12:annotations:m "
    "13:ownerReferences:*OwnerReference 14:finalizers:S",
    "OwnerReference": "1:kind 3:name 4:uid 5:apiVersion 6:controller:b 7:blockOwnerDeletion:b",
    "DeleteOptions": "1:gracePeriodSeconds:i 2:preconditions:Preconditions 3:orphanDependents:b 4:propagationPolicy 5:dryRun:S",
    "Preconditions": "1:uid 2:resourceVersion",
    "LabelSelector": "1:matchLabels:m 2:matchExpressions:*Requirement",
    "Requirement": "1:key 2:operator 3:values:S",
    "v1/ConfigMap": "1:metadata:ObjectMeta 2:data:m 3:binaryData:M 4:immutable:b",
    "v1/Secret": "1:metadata:ObjectMeta 2:data:M 3:type 4:stringData:m 5:immutable:b",
    "v1/Namespace": "1:metadata:ObjectMeta 2:spec:NamespaceSpec 3:status:NamespaceStatus",
    "NamespaceSpec": "1:finalizers:S",
    "NamespaceStatus": "1:phase",
    "v1/ServiceAccount": "1:metadata:ObjectMeta 2:secrets:*ObjectReference 3:imagePullSecrets:*LocalRef "
    "4:automountServiceAccountToken:b",
    "ObjectReference": "1:kind 2:namespace 3:name 4:uid 5:apiVersion 6:resourceVersion 7:fieldPath",
    "LocalRef": "1:name",
    "v1/ResourceQuota": "1:metadata:ObjectMeta 2:spec:QuotaSpec 3:status:Empty",
    "QuotaSpec": "1:hard:q 2:scopes:S",
    "Empty": "",
    "v1/Service": "1:metadata:ObjectMeta 2:spec:ServiceSpec 3:status:ServiceStatus",
    "ServiceStatus": "1:loadBalancer:Empty",
    "ServiceSpec": "1:ports:*ServicePort 2:selector:m 3:clusterIP 4:type 5:externalIPs:S 7:sessionAffinity "
    "8:loadBalancerIP 9:loadBalancerSourceRanges:S 10:externalName 11:externalTrafficPolicy 12:healthCheckNodePort:i "
    "13:publishNotReadyAddresses:b 17:ipFamilyPolicy 18:clusterIPs:S 19:ipFamilies:S "
    "20:allocateLoadBalancerNodePorts:b 21:loadBalancerClass 22:internalTrafficPolicy",
    "ServicePort": "1:name 2:protocol 3:port:i 4:targetPort:I 5:nodePort:i 6:appProtocol",
    "apps/v1/Deployment": "1:metadata:ObjectMeta 2:spec:DeploymentSpec 3:status:Empty",
    "DeploymentSpec": "1:replicas:i 2:selector:LabelSelector 3:template:PodTemplate 4:strategy:Strategy "
    "5:minReadySeconds:i 6:revisionHistoryLimit:i 7:paused:b 9:progressDeadlineSeconds:i",
    "Strategy": "1:type",
    "PodTemplate": "1:metadata:ObjectMeta 2:spec:PodSpec",
    "PodSpec": "2:containers:*Container 3:restartPolicy 4:terminationGracePeriodSeconds:i 6:dnsPolicy 8:serviceAccountName "
    "9:serviceAccount 7:nodeSelector:m 10:nodeName 11:hostNetwork:b 12:hostPID:b 13:hostIPC:b 14:securityContext:Empty 15:imagePullSecrets:*LocalRef 16:hostname 17:subdomain 19:schedulerName "
    "5:activeDeadlineSeconds:i 20:initContainers:*Container 21:automountServiceAccountToken:b 24:priorityClassName 25:priority:i "
    "30:enableServiceLinks:b 31:preemptionPolicy",
    "Container": "1:name 2:image 3:command:S 4:args:S 5:workingDir 6:ports:*ContainerPort 7:env:*Env 8:resources:Resources "
    "13:terminationMessagePath 14:imagePullPolicy 16:stdin:b 17:stdinOnce:b 18:tty:b 20:terminationMessagePolicy",
    "ContainerPort": "1:name 2:hostPort:i 3:containerPort:i 4:protocol 5:hostIP",
    "Env": "1:name 2:value",
    "Resources": "1:limits:q 2:requests:q",
    "v1/Pod": "1:metadata:ObjectMeta 2:spec:PodSpec 3:status:Empty",
    "batch/v1/Job": "1:metadata:ObjectMeta 2:spec:JobSpec 3:status:Empty",
    "JobSpec": "1:parallelism:i 2:completions:i 3:activeDeadlineSeconds:i 4:selector:LabelSelector 5:manualSelector:b "
    "6:template:PodTemplate 7:backoffLimit:i 8:ttlSecondsAfterFinished:i 9:completionMode 10:suspend:b",
    "batch/v1/CronJob": "1:metadata:ObjectMeta 2:spec:CronJobSpec 3:status:Empty",
    "CronJobSpec": "1:schedule 2:startingDeadlineSeconds:i 3:concurrencyPolicy 4:suspend:b 5:jobTemplate:JobTemplate "
    "6:successfulJobsHistoryLimit:i 7:failedJobsHistoryLimit:i 8:timeZone",
    "JobTemplate": "1:metadata:ObjectMeta 2:spec:JobSpec",
    "policy/v1/PodDisruptionBudget": "1:metadata:ObjectMeta 2:spec:BudgetSpec 3:status:BudgetStatus",
    "BudgetSpec": "1:minAvailable:I 2:selector:LabelSelector 3:maxUnavailable:I 4:unhealthyPodEvictionPolicy",
    "BudgetStatus": "1:observedGeneration:i 3:disruptionsAllowed:i 4:currentHealthy:i 5:desiredHealthy:i 6:expectedPods:i",
    "policy/v1/Eviction": "1:metadata:ObjectMeta 2:deleteOptions:DeleteOptions",
    "scheduling.k8s.io/v1/PriorityClass": "1:metadata:ObjectMeta 2:value:i 3:globalDefault:b 4:description 5:preemptionPolicy",
    "rbac.authorization.k8s.io/v1/Role": "1:metadata:ObjectMeta 2:rules:*Rule",
    "rbac.authorization.k8s.io/v1/ClusterRole": "1:metadata:ObjectMeta 2:rules:*Rule 3:aggregationRule:Aggregation",
    "Aggregation": "1:clusterRoleSelectors:*LabelSelector",
    "Rule": "1:verbs:S 2:apiGroups:S 3:resources:S 4:resourceNames:S 5:nonResourceURLs:S",
    "rbac.authorization.k8s.io/v1/RoleBinding": "1:metadata:ObjectMeta 2:subjects:*Subject 3:roleRef:RoleRef",
    "rbac.authorization.k8s.io/v1/ClusterRoleBinding": "1:metadata:ObjectMeta 2:subjects:*Subject 3:roleRef:RoleRef",
    "Subject": "1:kind 2:apiGroup 3:name 4:namespace",
    "RoleRef": "1:apiGroup 2:kind 3:name",
    "authorization.k8s.io/v1/SelfSubjectAccessReview": "1:metadata:ObjectMeta 2:spec:SelfAccess 3:status:AccessStatus",
    "SelfAccess": "1:resourceAttributes:ResourceAttributes 2:nonResourceAttributes:PathAttributes",
    "ResourceAttributes": "1:namespace 2:verb 3:group 4:version 5:resource 6:subresource 7:name",
    "PathAttributes": "1:path 2:verb",
    "AccessStatus": "1:allowed:b 2:reason 3:evaluationError 4:denied:b",
    "authorization.k8s.io/v1/SelfSubjectRulesReview": "1:metadata:ObjectMeta 2:spec:RulesSpec 3:status:RulesStatus",
    "RulesSpec": "1:namespace",
    "RulesStatus": "3:incomplete:b",
    "authentication.k8s.io/v1/SelfSubjectReview": "1:metadata:ObjectMeta 2:status:SelfStatus",
    "SelfStatus": "1:userInfo:Empty",
    "authentication.k8s.io/v1/TokenRequest": "1:metadata:ObjectMeta 2:spec:TokenSpec 3:status:TokenStatus",
    "TokenSpec": "1:audiences:S 3:boundObjectRef:BoundRef 4:expirationSeconds:i",
    "BoundRef": "1:kind 2:apiVersion 3:name 4:uid",
    "TokenStatus": "1:token 2:expirationTimestamp:t",
}
_FIELDS: dict[str, dict[int, tuple[str, str]]] = {}


class _Unknown(Exception):
    """A message or field that the table does not hold."""


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) of every field; values are integers or bytes."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        wire = tag & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield tag >> 3, value
        elif wire == 2:
            size, at = _varint(data, at)
            if at + size > len(data):
                raise IndexError
            yield tag >> 3, data[at : at + size]
            at += size
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
            yield tag >> 3, data[at : at + size]
            at += size
        else:
            raise _Unknown(f"wire type {wire}")


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _text(value: int | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _scalar(kind: str, value: int | bytes) -> Any:
    if kind == "s":
        return _text(value)
    if kind == "i":
        return _signed(value) if isinstance(value, int) else 0
    if kind == "b":
        return bool(value)
    assert isinstance(value, bytes)
    if kind == "y":
        return base64.b64encode(value).decode()
    if kind == "t":
        seconds = next((_signed(v) for n, v in _fields(value) if n == 1 and isinstance(v, int)), None)
        return format_time(seconds) if seconds is not None else None
    if kind == "Q":
        return next((_text(v) for n, v in _fields(value) if n == 1), "0")
    if kind == "I":
        parts = dict(_fields(value))
        return _text(parts.get(3, b"")) if parts.get(1) == 1 else _signed(int(parts.get(2, 0)))
    return _message(kind, value)


def _message(name: str, data: bytes) -> Obj:
    table = _FIELDS.get(name)
    if table is None:
        if name not in _TABLE:
            raise _Unknown(name)
        table = {}
        for entry in _TABLE[name].split():
            digits, field, *given = entry.split(":")
            table[int(digits)] = (field, given[0] if given else "s")
        _FIELDS[name] = table
    out: Obj = {}
    for number, value in _fields(data):
        if number not in table:
            if name == "Empty" or name.endswith("Status"):
                continue  # a client's status says nothing that a write would keep
            raise _Unknown(f"field {number} of {name}")
        field, kind = table[number]
        if kind in ("m", "M", "q"):
            assert isinstance(value, bytes)
            pair = dict(_fields(value))
            inner = {"m": "s", "M": "y", "q": "Q"}[kind]
            out.setdefault(field, {})[_text(pair.get(1, b""))] = _scalar(inner, pair.get(2, b""))
        elif kind == "S":
            out.setdefault(field, []).append(_text(value))
        elif kind.startswith("*"):
            out.setdefault(field, []).append(_scalar(kind[1:], value))
        else:
            decoded = _scalar(kind, value)
            if decoded not in ("", None):
                out[field] = decoded
    return out


def decode(raw: bytes) -> Obj:
    """The object of a runtime.Unknown envelope. Raises StatusError 400 or 415."""
    if not raw.startswith(_MAGIC):
        raise errors.bad_request("the body is not in the Kubernetes protobuf form")
    try:
        envelope = dict(_fields(raw[len(_MAGIC) :]))
        kind_of = dict(_fields(envelope.get(1, b"")))  # type: ignore[arg-type]
        api_version, kind = _text(kind_of.get(1, b"")), _text(kind_of.get(2, b""))
        name = kind if kind == "DeleteOptions" else f"{api_version}/{kind}"
        body = envelope.get(2, b"")
        assert isinstance(body, bytes)
        return {"kind": kind, "apiVersion": api_version, **_message(name, body)}
    except _Unknown as e:
        log.info("a protobuf body was refused: %s", e)
        raise errors.unsupported_media_type(CONTENT_TYPE, "application/json, application/yaml") from None
    except (IndexError, UnicodeDecodeError, AssertionError, ValueError) as e:
        raise errors.bad_request("the protobuf body is malformed") from e
