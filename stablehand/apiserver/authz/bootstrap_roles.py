"""The roles and bindings every cluster has (plugin/pkg/auth/authorizer/rbac/bootstrappolicy), as data.

A rule is "verbs | groups | resources [| resource names]"; a path rule "verbs | url url". "core" is the empty group.
"""

from __future__ import annotations

from stablehand.apiserver.authz.controller_roles import ROLE_BINDINGS, ROLES, controller_roles
from stablehand.machinery.types import Obj

R = "get,list,watch"
W = "create,delete,deletecollection,patch,update"
RW = f"{R},{W}"
_LABEL = "rbac.authorization.k8s.io/aggregate-to-"
_AUTO = {"rbac.authorization.kubernetes.io/autoupdate": "true"}
_BOOT = {"kubernetes.io/bootstrapping": "rbac-defaults"}

_EVENTS = ["create,patch,update | core,events.k8s.io | events"]
_LEASES = ["create,get,list,update,patch,watch | coordination.k8s.io | leases"]

_VIEW = [
    f"{R} | core | configmaps,endpoints,persistentvolumeclaims,persistentvolumeclaims/status,pods,replicationcontrollers,"
    "replicationcontrollers/scale,serviceaccounts,services,services/status",
    f"{R} | core | bindings,events,limitranges,namespaces/status,pods/log,pods/status,replicationcontrollers/status,"
    "resourcequotas,resourcequotas/status",
    f"{R} | core | namespaces",
    f"{R} | discovery.k8s.io | endpointslices",
    f"{R} | apps,extensions | controllerrevisions,daemonsets,daemonsets/status,deployments,deployments/scale,"
    "deployments/status,replicasets,replicasets/scale,replicasets/status,statefulsets,statefulsets/scale,"
    "statefulsets/status",
    f"{R} | autoscaling | horizontalpodautoscalers,horizontalpodautoscalers/status",
    f"{R} | batch | cronjobs,cronjobs/status,jobs,jobs/status",
    f"{R} | policy | poddisruptionbudgets,poddisruptionbudgets/status",
    f"{R} | networking.k8s.io | ingresses,ingresses/status,networkpolicies",
    f"{R} | resource.k8s.io | resourceclaims,resourceclaims/status,resourceclaimtemplates",
]
_EDIT = [
    f"{R} | core | pods/attach,pods/exec,pods/portforward,pods/proxy,secrets,services/proxy",
    "impersonate | core | serviceaccounts",
    f"{W} | core | pods,pods/attach,pods/exec,pods/portforward,pods/proxy",
    "create | core | pods/eviction",
    f"{W} | core | configmaps,events,persistentvolumeclaims,replicationcontrollers,replicationcontrollers/scale,secrets,"
    "serviceaccounts,services,services/proxy",
    "create | core | serviceaccounts/token",
    f"{W} | apps,extensions | daemonsets,deployments,deployments/rollback,deployments/scale,replicasets,"
    "replicasets/scale,statefulsets,statefulsets/scale",
    f"{W} | autoscaling | horizontalpodautoscalers",
    f"{W} | batch | cronjobs,jobs",
    f"{W} | policy | poddisruptionbudgets",
    f"{W} | networking.k8s.io | ingresses,networkpolicies",
    f"{W} | resource.k8s.io | resourceclaims,resourceclaimtemplates",
    f"{RW} | coordination.k8s.io | leases",
]
_ADMIN = [
    "create | authorization.k8s.io | localsubjectaccessreviews",
    f"{RW} | rbac.authorization.k8s.io | rolebindings,roles",
]

CLUSTER_ROLES: dict[str, list[str]] = {
    "cluster-admin": ["* | * | *", "* | *"],
    "system:aggregate-to-view": _VIEW,
    "system:aggregate-to-edit": _EDIT,
    "system:aggregate-to-admin": _ADMIN,
    "system:aggregated-metrics-reader": [f"{R} | metrics.k8s.io | nodes,pods"],  # as metrics-server brings it
    "system:discovery": [
        "get | /api /api/* /apis /apis/* /healthz /livez /openapi /openapi/* /readyz /version /version/"
    ],
    "system:public-info-viewer": ["get | /healthz /livez /readyz /version /version/"],
    "system:basic-user": [
        "create | authorization.k8s.io | selfsubjectaccessreviews,selfsubjectrulesreviews",
        "create | authentication.k8s.io | selfsubjectreviews",
    ],
    "system:monitoring": [
        "get | /healthz /healthz/* /livez /livez/* /metrics /metrics/slis /readyz /readyz/* /statusz /flagz"
    ],
    "system:service-account-issuer-discovery": ["get | /.well-known/openid-configuration /openid/v1/jwks"],
    "system:auth-delegator": [
        "create | authentication.k8s.io | tokenreviews",
        "create | authorization.k8s.io | subjectaccessreviews",
    ],
    "system:node": [
        "create | authentication.k8s.io | tokenreviews",
        "create | authorization.k8s.io | localsubjectaccessreviews,subjectaccessreviews",
        f"{R} | core | services",
        "create,get,list,watch | core | nodes",
        "patch,update | core | nodes,nodes/status",
        "create,patch,update | core,events.k8s.io | events",
        f"{R} | core | pods",
        "create,delete | core | pods",
        "get,patch,update | core | pods/status",
        "create | core | pods/eviction",
        f"{R} | core | configmaps,secrets",
        "get | core | endpoints,persistentvolumeclaims,persistentvolumes",
        "get,patch,update | core | persistentvolumeclaims/status",
        "create | core | serviceaccounts/token",
        "create,delete,get,patch,update | coordination.k8s.io | leases",
        f"{R} | node.k8s.io | runtimeclasses",
        f"{R} | storage.k8s.io | csidrivers,csinodes,volumeattachments",
        "create,delete,get,patch,update | storage.k8s.io | csinodes",
        "create,get,list,watch | certificates.k8s.io | certificatesigningrequests",
        "create,delete,get,list,patch,update,watch | resource.k8s.io | resourceslices",
        "get | resource.k8s.io | resourceclaims",
    ],
    "system:node-bootstrapper": ["create,get,list,watch | certificates.k8s.io | certificatesigningrequests"],
    "system:node-problem-detector": ["get | core | nodes", "patch | core | nodes/status", *_EVENTS],
    "system:node-proxier": [
        "list,watch | core | endpoints,services",
        f"{R} | core | nodes",
        *_EVENTS,
        "list,watch | discovery.k8s.io | endpointslices",
        "list,watch | networking.k8s.io | servicecidrs",
        # Ours: the part that is kube-proxy here enforces NetworkPolicies too (docs/networking.md).
        "list,watch | core | namespaces,pods",
        "list,watch | networking.k8s.io | networkpolicies",
    ],
    "system:kubelet-api-admin": [
        f"{R},proxy | core | nodes",
        "* | core | nodes/log,nodes/metrics,nodes/proxy,nodes/stats,nodes/configz,nodes/healthz,nodes/pods",
    ],
    "system:heapster": [f"{R} | core | events,namespaces,nodes,pods", f"{R} | extensions | deployments"],
    "system:kube-dns": [
        "list,watch | core | endpoints,services,namespaces",
        "list,watch | discovery.k8s.io | endpointslices",
    ],
    "system:persistent-volume-provisioner": [
        "create,delete,get,list,watch | core | persistentvolumes",
        "get,list,update,watch,patch | core | persistentvolumeclaims",
        f"{R} | storage.k8s.io | storageclasses",
        f"{R} | core | nodes",
        "watch | core | events",
        *_EVENTS,
        "create,get,list,update,patch,watch | core | endpoints",
        *_LEASES,
    ],
    # What upstream gives to its external resizer, which is apart from the provisioner there.
    "stablehand:volume-resizer": [
        "get,list,watch,patch | core | persistentvolumes",
        f"{R} | core | persistentvolumeclaims",
        "patch | core | persistentvolumeclaims/status",
    ],
    "system:volume-scheduler": [
        f"{R},patch,update | core | persistentvolumes,persistentvolumeclaims",
        f"{R} | storage.k8s.io | storageclasses,csinodes,csidrivers,csistoragecapacities",
    ],
    "system:kube-scheduler": [
        *_EVENTS,
        *_LEASES,
        f"{R} | core | nodes,namespaces",
        "delete,get,list,watch | core | pods",
        "create | core | bindings,pods/binding",
        "patch,update | core | pods/status",
        f"{R} | core | replicationcontrollers,services,persistentvolumeclaims,persistentvolumes",
        "patch,update | core | persistentvolumeclaims,persistentvolumes",
        f"{R} | apps,extensions | replicasets,statefulsets",
        f"{R} | policy | poddisruptionbudgets",
        f"{R} | storage.k8s.io | csidrivers,csinodes,csistoragecapacities,storageclasses,volumeattachments",
        f"{R} | resource.k8s.io | deviceclasses,resourceclaims,resourceslices",
        "patch,update | resource.k8s.io | resourceclaims,resourceclaims/status",
        "create | authentication.k8s.io | tokenreviews",
        "create | authorization.k8s.io | subjectaccessreviews",
        f"{R} | scheduling.k8s.io | *",
    ],
    "system:kube-controller-manager": [
        *_EVENTS,
        *_LEASES,
        "create | core | secrets,serviceaccounts,serviceaccounts/token",
        "delete | core | secrets",
        "get | core | namespaces,secrets,serviceaccounts,configmaps",
        "update | core | secrets,serviceaccounts",
        "create | authentication.k8s.io | tokenreviews",
        "create | authorization.k8s.io | subjectaccessreviews",
        "list,watch | * | *",
        # Stablehand's controllers share one identity; upstream gives each controller its own role.
        "* | core,apps,batch,autoscaling,policy,storage.k8s.io,discovery.k8s.io,networking.k8s.io,coordination.k8s.io,"
        "resource.k8s.io,certificates.k8s.io,events.k8s.io | *",
        "delete,get,list,patch,update,watch,deletecollection | * | *",
        "get,list,watch,update,patch,escalate | rbac.authorization.k8s.io | *",
        "get | /healthz /healthz/* /api /api/* /apis /apis/*",
    ],
    "system:certificates.k8s.io:certificatesigningrequests:nodeclient": [
        "create | certificates.k8s.io | certificatesigningrequests/nodeclient"
    ],
    "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient": [
        "create | certificates.k8s.io | certificatesigningrequests/selfnodeclient"
    ],
    **{
        f"system:certificates.k8s.io:{name}-approver": [
            f"approve | certificates.k8s.io | signers | kubernetes.io/{name}"
        ]
        for name in ("kube-apiserver-client", "kube-apiserver-client-kubelet", "kubelet-serving", "legacy-unknown")
    },
    "system:kube-aggregator": [f"{R} | core | endpoints,services"],
    **controller_roles(),
}

AGGREGATED = {"admin": ("admin", "edit", "view"), "edit": ("edit", "view"), "view": ("view",)}
_AGGREGATE_LABELS = {
    "system:aggregate-to-view": "view",
    "system:aggregate-to-edit": "edit",
    "system:aggregate-to-admin": "admin",
    "system:aggregated-metrics-reader": "view",
    "view": "edit",
    "edit": "admin",
}

BINDINGS: dict[str, tuple[str, list[tuple[str, str]]]] = {
    "cluster-admin": ("cluster-admin", [("Group", "system:masters")]),
    "system:discovery": ("system:discovery", [("Group", "system:authenticated")]),
    "system:basic-user": ("system:basic-user", [("Group", "system:authenticated")]),
    "system:public-info-viewer": (
        "system:public-info-viewer",
        [("Group", "system:authenticated"), ("Group", "system:unauthenticated")],
    ),
    "system:monitoring": ("system:monitoring", [("Group", "system:monitoring")]),
    "system:service-account-issuer-discovery": (
        "system:service-account-issuer-discovery",
        [("Group", "system:serviceaccounts")],
    ),
    "system:node": ("system:node", []),  # its rules are the node authorizer's
    "system:node-proxier": ("system:node-proxier", [("User", "system:kube-proxy")]),
    "system:kube-dns": ("system:kube-dns", [("ServiceAccount", "kube-system/kube-dns"), ("User", "system:kube-dns")]),
    "system:kube-scheduler": ("system:kube-scheduler", [("User", "system:kube-scheduler")]),
    "system:volume-scheduler": ("system:volume-scheduler", [("User", "system:kube-scheduler")]),
    "system:kube-controller-manager": (
        "system:kube-controller-manager",
        [("User", "system:kube-controller-manager")],
    ),
    **{name: (name, [("ServiceAccount", f"kube-system/{name.rpartition(':')[2]}")]) for name in controller_roles()},
    "stablehand:provisioner": ("system:persistent-volume-provisioner", [("User", "system:stablehand:provisioner")]),
    "stablehand:volume-resizer": ("stablehand:volume-resizer", [("User", "system:stablehand:provisioner")]),
    "stablehand:kubelet-api-admin": ("system:kubelet-api-admin", [("User", "kube-apiserver-kubelet-client")]),
}


def rule(text: str) -> Obj:
    """A PolicyRule from its line."""
    parts = [p.strip() for p in text.split("|")]
    verbs = parts[0].split(",")
    if len(parts) == 2:
        return {"verbs": verbs, "nonResourceURLs": parts[1].split()}
    groups = ["" if g == "core" else g for g in parts[1].split(",")]
    out: Obj = {"verbs": verbs, "apiGroups": groups, "resources": parts[2].split(",")}
    if len(parts) > 3:
        out["resourceNames"] = parts[3].split(",")
    return out


def cluster_roles() -> list[Obj]:
    """All built-in ClusterRoles; the aggregated ones come with their rules filled in."""
    out = []
    for name, lines in CLUSTER_ROLES.items():
        labels = dict(_BOOT)
        if name in _AGGREGATE_LABELS:
            labels[_LABEL + _AGGREGATE_LABELS[name]] = "true"
        out.append(_object("ClusterRole", name, labels, rules=[rule(line) for line in lines]))
    for name, pieces in AGGREGATED.items():
        labels = dict(_BOOT)
        if name in _AGGREGATE_LABELS:
            labels[_LABEL + _AGGREGATE_LABELS[name]] = "true"
        selectors = [{"matchLabels": {_LABEL + name: "true"}}]
        rules = [rule(line) for piece in pieces for line in CLUSTER_ROLES[f"system:aggregate-to-{piece}"]]
        role = _object("ClusterRole", name, labels, rules=rules)
        role["aggregationRule"] = {"clusterRoleSelectors": selectors}
        out.append(role)
    return out


def cluster_role_bindings() -> list[Obj]:
    out = []
    for name, (role, subjects) in BINDINGS.items():
        binding = _object("ClusterRoleBinding", name, dict(_BOOT))
        binding["roleRef"] = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}
        binding["subjects"] = [_subject(kind, who) for kind, who in subjects]
        out.append(binding)
    return out


def roles() -> list[Obj]:
    out = []
    for (namespace, name), lines in ROLES.items():
        role = _object("Role", name, dict(_BOOT), rules=[rule(line) for line in lines])
        role["metadata"]["namespace"] = namespace
        out.append(role)
    return out


def role_bindings() -> list[Obj]:
    out = []
    for (namespace, name), (role, subjects) in ROLE_BINDINGS.items():
        binding = _object("RoleBinding", name, dict(_BOOT))
        binding["metadata"]["namespace"] = namespace
        binding["roleRef"] = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role}
        binding["subjects"] = [_subject(kind, who) for kind, who in subjects]
        out.append(binding)
    return out


def reconciled(stored: Obj, wanted: Obj) -> Obj | None:
    """A stored role or binding with what this version's has and it lacks; None when nothing is missing, or when its
    autoupdate annotation says to leave it alone. What somebody added stays (upstream's reconciliation at start)."""
    if (stored["metadata"].get("annotations") or {}).get(next(iter(_AUTO))) == "false":
        return None
    out = dict(stored)
    field = "subjects" if "subjects" in wanted else "rules"
    if "aggregationRule" not in wanted:
        have = stored.get(field) or []
        missing = [item for item in wanted.get(field) or () if item not in have]
        if missing:
            out[field] = [*have, *missing]
    labels, have_labels = wanted["metadata"]["labels"], stored["metadata"].get("labels") or {}
    if any(have_labels.get(k) != v for k, v in labels.items()):
        out["metadata"] = {**stored["metadata"], "labels": {**have_labels, **labels}}
    if wanted["kind"] == "ClusterRoleBinding" and wanted["metadata"]["name"] == "system:node":
        # Earlier versions bound all nodes, past the node authorizer.
        out["subjects"] = [s for s in out.get("subjects") or () if s.get("name") != "system:nodes"]
    if out == stored:
        return None
    return {**out, "metadata": dict(out["metadata"])}


def _object(kind: str, name: str, labels: dict[str, str], **fields: object) -> Obj:
    meta = {"name": name, "labels": labels, "annotations": dict(_AUTO)}
    return {"kind": kind, "apiVersion": "rbac.authorization.k8s.io/v1", "metadata": meta, **fields}


def _subject(kind: str, who: str) -> Obj:
    if kind == "ServiceAccount":
        namespace, _, name = who.partition("/")
        return {"kind": kind, "name": name, "namespace": namespace}
    return {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": who}
