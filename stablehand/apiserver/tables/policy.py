"""Cells of access rules, certificates, admission, flow control and API extension."""

from __future__ import annotations

from typing import Any

from stablehand.apiserver.tables.columns import printer
from stablehand.apiserver.tables.format import NONE, UNSET, age, condition, human_duration
from stablehand.machinery.types import Obj


def _name(obj: Obj) -> str:
    name: str = obj["metadata"].get("name", "")
    return name


def _created(obj: Obj, now: float) -> list[Any]:
    return [_name(obj), obj["metadata"].get("creationTimestamp") or ""]


def _binding(obj: Obj, now: float) -> list[Any]:
    ref = obj.get("roleRef") or {}
    users, groups, accounts = [], [], []
    for subject in obj.get("subjects") or ():
        name = subject.get("name", "")
        if subject.get("kind") == "ServiceAccount":
            accounts.append(f"{subject.get('namespace', '')}/{name}")
        elif subject.get("kind") == "Group":
            groups.append(name)
        else:
            users.append(name)
    return [
        _name(obj),
        f"{ref.get('kind', '')}/{ref.get('name', '')}",
        age(obj, now),
        ", ".join(users),
        ", ".join(groups),
        ", ".join(accounts),
    ]


def _csr(obj: Obj, now: float) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    kinds = {c.get("type") for c in status.get("conditions") or ()}
    state = "Denied" if "Denied" in kinds else "Approved" if "Approved" in kinds else "Pending"
    if "Failed" in kinds:
        state += ",Failed"
    if status.get("certificate"):
        state += ",Issued"
    seconds = spec.get("expirationSeconds")
    return [
        _name(obj),
        age(obj, now),
        spec.get("signerName") or NONE,
        spec.get("username") or "",
        human_duration(seconds) if seconds is not None else NONE,
        state,
    ]


def _webhooks(obj: Obj, now: float) -> list[Any]:
    return [_name(obj), len(obj.get("webhooks") or ()), age(obj, now)]


def _admission_policy(obj: Obj, now: float) -> list[Any]:
    spec = obj.get("spec") or {}
    kind = spec.get("paramKind")
    rules = spec.get("validations") or spec.get("mutations") or ()
    shown = f"{kind.get('apiVersion', '')}/{kind.get('kind', '')}" if kind else UNSET
    return [_name(obj), len(rules), shown, age(obj, now)]


def _admission_binding(obj: Obj, now: float) -> list[Any]:
    spec = obj.get("spec") or {}
    ref = spec.get("paramRef")
    shown = UNSET
    if ref:
        namespace = ref.get("namespace") or "*"
        shown = f"{namespace}/{ref['name']}" if ref.get("name") else f"{namespace}/selector"
    return [_name(obj), spec.get("policyName") or "", shown, age(obj, now)]


def _flow_schema(obj: Obj, now: float) -> list[Any]:
    spec = obj.get("spec") or {}
    dangling = condition(obj, "Dangling")
    return [
        _name(obj),
        (spec.get("priorityLevelConfiguration") or {}).get("name") or "",
        spec.get("matchingPrecedence") or 0,
        (spec.get("distinguisherMethod") or {}).get("type") or NONE,
        age(obj, now),
        dangling.get("status", "?") if dangling else "?",
    ]


def _priority_level(obj: Obj, now: float) -> list[Any]:
    spec = obj.get("spec") or {}
    limited = spec.get("limited") or spec.get("exempt") or {}
    queuing = ((spec.get("limited") or {}).get("limitResponse") or {}).get("queuing") or {}
    return [
        _name(obj),
        spec.get("type") or "",
        limited.get("nominalConcurrencyShares", NONE),
        queuing.get("queues", NONE),
        queuing.get("handSize", NONE),
        queuing.get("queueLengthLimit", NONE),
        age(obj, now),
    ]


def _api_service(obj: Obj, now: float) -> list[Any]:
    service = (obj.get("spec") or {}).get("service")
    shown = f"{service.get('namespace', '')}/{service.get('name', '')}" if service else "Local"
    available = condition(obj, "Available")
    state = "Unknown"
    if available is not None:
        state = available.get("status", "Unknown")
        if state != "True":
            state += f" ({available.get('reason', '')})"
    return [_name(obj), shown, state, age(obj, now)]


_BINDING = "Name,Role,Age,*Users,*Groups,*ServiceAccounts"
_ADMISSION = "admissionregistration.k8s.io"
PRINTERS = {
    "roles.rbac.authorization.k8s.io": printer("Name,@Created At", _created),
    "clusterroles.rbac.authorization.k8s.io": printer("Name,@Created At", _created),
    "rolebindings.rbac.authorization.k8s.io": printer(_BINDING, _binding),
    "clusterrolebindings.rbac.authorization.k8s.io": printer(_BINDING, _binding),
    "certificatesigningrequests.certificates.k8s.io": printer(
        "Name,Age,SignerName,Requestor,RequestedDuration,Condition", _csr
    ),
    f"mutatingwebhookconfigurations.{_ADMISSION}": printer("Name,#Webhooks,Age", _webhooks),
    f"validatingwebhookconfigurations.{_ADMISSION}": printer("Name,#Webhooks,Age", _webhooks),
    f"validatingadmissionpolicies.{_ADMISSION}": printer("Name,#Validations,ParamKind,Age", _admission_policy),
    f"mutatingadmissionpolicies.{_ADMISSION}": printer("Name,#Mutations,ParamKind,Age", _admission_policy),
    f"validatingadmissionpolicybindings.{_ADMISSION}": printer("Name,PolicyName,ParamRef,Age", _admission_binding),
    f"mutatingadmissionpolicybindings.{_ADMISSION}": printer("Name,PolicyName,ParamRef,Age", _admission_binding),
    "flowschemas.flowcontrol.apiserver.k8s.io": printer(
        "Name,PriorityLevel,#MatchingPrecedence,DistinguisherMethod,Age,MissingPL", _flow_schema
    ),
    "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io": printer(
        "Name,Type,NominalConcurrencyShares,Queues,HandSize,QueueLengthLimit,Age", _priority_level
    ),
    "customresourcedefinitions.apiextensions.k8s.io": printer("Name,@Created At", _created),
    "apiservices.apiregistration.k8s.io": printer("Name,Service,Available,Age", _api_service),
}
