"""The FlowSchemas and PriorityLevelConfigurations of every cluster (apiserver/pkg/apis/flowcontrol/bootstrap)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stablehand.machinery.resources import Resource, resource
from stablehand.machinery.types import Obj

GROUP = "flowcontrol.apiserver.k8s.io"
SCHEMAS = resource(f"flowschemas.{GROUP}")
LEVELS = resource(f"prioritylevelconfigurations.{GROUP}")
MANDATORY = ("exempt", "catch-all")
DANGLING = "Dangling"
AUTO_UPDATE = "apf.kubernetes.io/autoupdate-spec"

_ALL_RESOURCES: Obj = {
    "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": True, "namespaces": ["*"],
}  # fmt: skip
_ALL_PATHS: Obj = {"verbs": ["*"], "nonResourceURLs": ["*"]}
_EVERYBODY = ("system:unauthenticated", "system:authenticated")
_MANAGER, _SCHEDULER = "system:kube-controller-manager", "system:kube-scheduler"


def _limited(shares: int, lendable: int, queues: tuple[int, int, int] | None) -> Obj:
    """`queues` is (queues, hand size, queue length limit); None rejects at once."""
    response: Obj = {"type": "Reject"}
    if queues is not None:
        names = ("queues", "handSize", "queueLengthLimit")
        response = {"type": "Queue", "queuing": dict(zip(names, queues, strict=True))}
    return {
        "type": "Limited",
        "limited": {"nominalConcurrencyShares": shares, "limitResponse": response, "lendablePercent": lendable},
    }


_LEVEL_SPECS: dict[str, Obj] = {
    "exempt": {"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}},
    "catch-all": _limited(5, 0, None),
    "system": _limited(30, 33, (64, 6, 50)),
    "node-high": _limited(40, 25, (64, 6, 50)),
    "leader-election": _limited(10, 0, (16, 4, 50)),
    "workload-high": _limited(40, 50, (128, 6, 50)),
    "workload-low": _limited(100, 90, (128, 6, 50)),
    "global-default": _limited(20, 50, (128, 6, 50)),
}


def _groups(*names: str) -> list[Obj]:
    return [{"kind": "Group", "group": {"name": name}} for name in names]


def _users(*names: str) -> list[Obj]:
    return [{"kind": "User", "user": {"name": name}} for name in names]


def _accounts(*names: str) -> list[Obj]:
    """Service accounts of kube-system."""
    return [{"kind": "ServiceAccount", "serviceAccount": {"namespace": "kube-system", "name": name}} for name in names]


def _on(verbs: list[str], group: str, *plurals: str, cluster: bool = False) -> Obj:
    rule: Obj = {"verbs": verbs, "apiGroups": [group], "resources": list(plurals), "namespaces": ["*"]}
    return {**rule, "clusterScope": True} if cluster else rule


def _schema(level: str, precedence: int, method: str, subjects: list[Obj], **rules: list[Obj]) -> Obj:
    if not rules:
        rules = {"resourceRules": [_ALL_RESOURCES], "nonResourceRules": [_ALL_PATHS]}
    spec: Obj = {"priorityLevelConfiguration": {"name": level}, "matchingPrecedence": precedence}
    if method:
        spec["distinguisherMethod"] = {"type": method}
    return {**spec, "rules": [{"subjects": subjects, **rules}]}


_WRITE = ["get", "create", "update"]
_LEASES = _on(_WRITE, "coordination.k8s.io", "leases")
_SCHEMA_SPECS: dict[str, Obj] = {
    "exempt": _schema("exempt", 1, "", _groups("system:masters")),
    "catch-all": _schema("catch-all", 10000, "ByUser", _groups(*_EVERYBODY)),
    "probes": _schema(
        "exempt", 2, "", _groups(*_EVERYBODY),
        nonResourceRules=[{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}],
    ),
    "system-leader-election": _schema(
        "leader-election", 100, "ByUser", [*_users(_MANAGER, _SCHEDULER), *_accounts("*")],
        resourceRules=[_LEASES],
    ),
    "endpoint-controller": _schema(
        "workload-high", 150, "ByUser",
        [*_users(_MANAGER), *_accounts("endpoint-controller", "endpointslicemirroring-controller")],
        resourceRules=[_on(_WRITE, "", "endpoints")],
    ),
    "workload-leader-election": _schema(
        "leader-election", 200, "ByUser", _accounts("*"), resourceRules=[_LEASES]
    ),
    "system-node-high": _schema(
        "node-high", 400, "ByUser", _groups("system:nodes"),
        resourceRules=[
            _on(["*"], "", "nodes", "nodes/status", cluster=True),
            _on(["*"], "coordination.k8s.io", "leases"),
        ],
    ),
    "system-nodes": _schema("system", 500, "ByUser", _groups("system:nodes")),
    "kube-controller-manager": _schema("workload-high", 800, "ByNamespace", _users(_MANAGER)),
    "kube-scheduler": _schema("workload-high", 800, "ByNamespace", _users(_SCHEDULER)),
    "kube-system-service-accounts": _schema("workload-high", 900, "ByNamespace", _accounts("*")),
    "service-accounts": _schema("workload-low", 9000, "ByUser", _groups("system:serviceaccounts")),
    "global-default": _schema("global-default", 9900, "ByUser", _groups(*_EVERYBODY)),
}  # fmt: skip


def specs(res: Resource) -> dict[str, Obj]:
    """The spec of each object of every cluster, by name."""
    return _LEVEL_SPECS if res is LEVELS else _SCHEMA_SPECS


def fixed_spec(res_key: str, name: str) -> Any:
    """The only spec a mandatory object may have; None for all others."""
    if name not in MANDATORY:
        return None
    return (_LEVEL_SPECS if res_key == LEVELS.key else _SCHEMA_SPECS)[name]


def dangling(level: str, exists: bool) -> Obj:
    """The condition of a FlowSchema that names `level`, without its time."""
    where = f'This FlowSchema references the PriorityLevelConfiguration object named "{level}"'
    if exists:
        return {"type": DANGLING, "status": "False", "reason": "Found", "message": f"{where} and it exists"}
    text = f"{where} but there is no such object"
    return {"type": DANGLING, "status": "True", "reason": "NotFound", "message": text}


def made(res: Resource, name: str, now: str = "") -> Obj:
    """The object as it is first created; with `now`, a FlowSchema tells that its level exists."""
    status: Obj = {}
    if now and res is SCHEMAS:
        level = _SCHEMA_SPECS[name]["priorityLevelConfiguration"]["name"]
        status["conditions"] = [{**dangling(level, True), "lastTransitionTime": now}]
    return {
        "kind": res.kind,
        "apiVersion": res.api_version,
        "metadata": {"name": name, "generation": 1, "annotations": {AUTO_UPDATE: "true"}},
        "spec": specs(res)[name],
        "status": status,
    }


def all_objects(now: str = "") -> Iterator[tuple[Resource, Obj]]:
    for res in (LEVELS, SCHEMAS):
        for name in specs(res):
            yield res, made(res, name, now)
