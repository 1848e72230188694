"""The roles of controllers that run under service accounts of their own (kube-controller-manager's
--use-service-account-credentials), and the roles of the system's namespaces, as data in bootstrap_roles' notation.

Each role is bound to the service account of its name in kube-system.
"""

from __future__ import annotations

_R = "get,list,watch"
_EVENTS = "create,patch,update | core,events.k8s.io | events"
_APPS = "apps,extensions"


def _workload(plural: str, groups: str, verbs: str = f"{_R},update") -> list[str]:
    return [
        f"{verbs} | {groups} | {plural}",
        f"update | {groups} | {plural}/status",
        f"update | {groups} | {plural}/finalizers",
    ]


# By the controller's name, without "system:controller:".
CONTROLLER_ROLES: dict[str, list[str]] = {
    "attachdetach-controller": [
        "list,watch | core | persistentvolumeclaims,persistentvolumes",
        f"{_R} | core | nodes",
        "patch,update | core | nodes/status",
        "list,watch | core | pods",
        "create,delete,get,list,watch | storage.k8s.io | volumeattachments",
        f"{_R} | storage.k8s.io | csidrivers",
        f"{_R} | storage.k8s.io | csinodes",
    ],
    "certificate-controller": [
        "delete,get,list,watch | certificates.k8s.io | certificatesigningrequests",
        "update | certificates.k8s.io | certificatesigningrequests/approval,certificatesigningrequests/status",
        "approve | certificates.k8s.io | signers | kubernetes.io/kube-apiserver-client-kubelet",
        "sign | certificates.k8s.io | signers | kubernetes.io/kube-apiserver-client,"
        "kubernetes.io/kube-apiserver-client-kubelet,kubernetes.io/kubelet-serving,kubernetes.io/legacy-unknown",
        "create | authorization.k8s.io | subjectaccessreviews",
    ],
    "clusterrole-aggregation-controller": [
        "escalate,get,list,patch,update,watch | rbac.authorization.k8s.io | clusterroles"
    ],
    "cronjob-controller": [
        *_workload("cronjobs", "batch"),
        "create,delete,get,list,patch,update,watch | batch | jobs",
        "delete,list,watch | core | pods",
    ],
    "daemon-set-controller": [
        *_workload("daemonsets", _APPS, _R),
        "list,watch | core | nodes",
        "create,delete,list,patch,watch | core | pods",
        "create | core | pods/binding",
        "create,delete,get,list,patch,update,watch | apps | controllerrevisions",
    ],
    "deployment-controller": [
        *_workload("deployments", _APPS),
        f"create,delete,get,list,patch,update,watch | {_APPS} | replicasets",
        f"{_R},update | core | pods",
    ],
    "disruption-controller": [
        f"{_R} | {_APPS} | deployments",
        f"{_R} | {_APPS} | replicasets",
        f"{_R} | core | replicationcontrollers",
        f"{_R} | policy | poddisruptionbudgets",
        f"{_R} | apps | statefulsets",
        "update | policy | poddisruptionbudgets/status",
        "patch,update | core | pods/status",
        "get | * | */scale",
    ],
    "endpoint-controller": [
        f"{_R} | core | pods,services",
        "create,delete,get,list,update,watch | core | endpoints",
        "create | core | endpoints/restricted",
    ],
    "endpointslice-controller": [
        f"{_R} | core | nodes,pods,services",
        "update | core | services/finalizers",
        "create,delete,get,list,update,watch | discovery.k8s.io | endpointslices",
    ],
    "endpointslicemirroring-controller": [
        f"{_R} | core | endpoints,services",
        "update | core | services/finalizers",
        "update | core | endpoints/finalizers",
        "create,delete,get,list,update,watch | discovery.k8s.io | endpointslices",
    ],
    "ephemeral-volume-controller": [
        f"{_R} | core | pods",
        "update | core | pods/finalizers",
        "create,get,list,watch | core | persistentvolumeclaims",
    ],
    "expand-controller": [
        "get,list,patch,update,watch | core | persistentvolumes",
        "patch,update | core | persistentvolumeclaims/status",
        f"{_R} | core | persistentvolumeclaims",
        "get | core | services",
    ],
    "generic-garbage-collector": ["delete,get,list,patch,update,watch | * | *"],
    "horizontal-pod-autoscaler": [
        f"{_R} | autoscaling | horizontalpodautoscalers",
        "update | autoscaling | horizontalpodautoscalers/status",
        "get,update | * | */scale",
        "list,watch | core | pods",
        "list,watch | metrics.k8s.io | pods",
        f"{_R} | custom.metrics.k8s.io | *",
        f"{_R} | external.metrics.k8s.io | *",
    ],
    "job-controller": [
        *_workload("jobs", "batch", "get,list,patch,update,watch"),
        "create,delete,list,patch,watch | core | pods",
    ],
    "legacy-service-account-token-cleaner": [
        "get | core | configmaps | kube-apiserver-legacy-service-account-token-tracking",
        "delete,patch | core | secrets",
    ],
    "namespace-controller": [
        "delete,get,list,watch | core | namespaces",
        "update | core | namespaces/finalize,namespaces/status",
        "delete,deletecollection,get,list,watch | * | *",
    ],
    "node-controller": [
        "delete,get,list,patch,update,watch | core | nodes",
        "patch,update | core | nodes/status",
        "patch,update | core | pods/status",
        "delete,get,list,watch | core | pods",
    ],
    "persistent-volume-binder": [
        "create,delete,get,list,update,watch | core | persistentvolumes",
        "update | core | persistentvolumes/status",
        f"{_R},update | core | persistentvolumeclaims",
        "update | core | persistentvolumeclaims/status",
        "create,delete,get,list,watch | core | pods",
        f"{_R} | storage.k8s.io | storageclasses",
        "list,watch | core | nodes",
        "watch | core | events",
        "get | core | services",
    ],
    "pod-garbage-collector": [
        "delete,list,watch | core | pods",
        f"{_R} | core | nodes",
        "patch | core | pods/status",
    ],
    "pv-protection-controller": [f"{_R},update | core | persistentvolumes"],
    "pvc-protection-controller": [f"{_R},update | core | persistentvolumeclaims", f"{_R} | core | pods"],
    "replicaset-controller": [
        *_workload("replicasets", _APPS),
        "create,delete,list,patch,watch | core | pods",
    ],
    "replication-controller": [
        *_workload("replicationcontrollers", "core"),
        "create,delete,list,patch,watch | core | pods",
    ],
    "resource-claim-controller": [
        f"{_R} | core | pods",
        "update | core | pods/finalizers",
        "create,delete,get,list,watch | resource.k8s.io | resourceclaims",
        "patch,update | resource.k8s.io | resourceclaims,resourceclaims/status",
        "patch,update | core | pods/status",
    ],
    "resourcequota-controller": ["list,watch | * | *", "update | core | resourcequotas/status"],
    "root-ca-cert-publisher": ["create,update | core | configmaps"],
    "route-controller": ["list,watch | core | nodes", "patch | core | nodes/status"],
    "selinux-warning-controller": [
        f"{_R} | core | persistentvolumes",
        f"{_R} | core | persistentvolumeclaims",
        f"{_R} | core | pods",
        f"{_R} | storage.k8s.io | csidrivers",
    ],
    "service-account-controller": ["create | core | serviceaccounts"],
    "service-cidrs-controller": [
        "get,list,patch,update,watch | networking.k8s.io | servicecidrs",
        "patch,update | networking.k8s.io | servicecidrs/finalizers",
        "patch,update | networking.k8s.io | servicecidrs/status",
        f"{_R} | networking.k8s.io | ipaddresses",
    ],
    "service-controller": [
        f"{_R} | core | services",
        "patch,update | core | services/status",
        "list,watch | core | nodes",
    ],
    "statefulset-controller": [
        "list,watch | core | pods",
        *_workload("statefulsets", "apps", _R),
        "create,delete,get,patch,update | core | pods",
        "create,delete,get,list,patch,update,watch | apps | controllerrevisions",
        "create,get,list,watch | core | persistentvolumeclaims",
        "delete,update | core | persistentvolumeclaims",
        "update | core | pods/finalizers",
    ],
    "ttl-after-finished-controller": ["delete,get,list,watch | batch | jobs"],
    "ttl-controller": ["list,patch,update,watch | core | nodes"],
    "validatingadmissionpolicy-status-controller": [
        f"{_R} | admissionregistration.k8s.io | validatingadmissionpolicies",
        "get,patch,update | admissionregistration.k8s.io | validatingadmissionpolicies/status",
    ],
    "volumeattributesclass-protection-controller": [
        f"{_R} | core | persistentvolumeclaims",
        f"{_R} | core | persistentvolumes",
        f"{_R},update | storage.k8s.io | volumeattributesclasses",
    ],
}
_NO_EVENTS = frozenset(
    {"clusterrole-aggregation-controller", "legacy-service-account-token-cleaner", "namespace-controller",
     "pod-garbage-collector"}
)  # fmt: skip


def controller_roles() -> dict[str, list[str]]:
    """All of them by full name, with the right to write events where they have it."""
    return {
        f"system:controller:{name}": [*lines, *(() if name in _NO_EVENTS else (_EVENTS,))]
        for name, lines in CONTROLLER_ROLES.items()
    }


_SECRETS = f"{_R} | core | secrets"

# Roles of namespaces: (namespace, name) -> rules.
ROLES: dict[tuple[str, str], list[str]] = {
    ("kube-system", "extension-apiserver-authentication-reader"): [
        f"{_R} | core | configmaps | extension-apiserver-authentication"
    ],
    ("kube-system", "system:controller:bootstrap-signer"): [_SECRETS],
    ("kube-system", "system:controller:cloud-provider"): ["create,get,list,watch | core | configmaps"],
    ("kube-system", "system:controller:token-cleaner"): ["delete,get,list,watch | core | secrets", _EVENTS],
    ("kube-system", "system::leader-locking-kube-controller-manager"): [
        "watch | core | configmaps",
        "get,update | core | configmaps | kube-controller-manager",
        "create,get,list,update,watch | coordination.k8s.io | leases",
    ],
    ("kube-system", "system::leader-locking-kube-scheduler"): [
        "watch | core | configmaps",
        "get,update | core | configmaps | kube-scheduler",
    ],
    ("kube-public", "system:controller:bootstrap-signer"): [
        f"{_R} | core | configmaps",
        "update | core | configmaps | cluster-info",
        _EVENTS,
    ],
}
_MANAGER, _SCHEDULER = ("User", "system:kube-controller-manager"), ("User", "system:kube-scheduler")

# Bindings of namespaces: (namespace, name) -> (role, subjects).
ROLE_BINDINGS: dict[tuple[str, str], tuple[str, list[tuple[str, str]]]] = {
    ("kube-system", "system::extension-apiserver-authentication-reader"): (
        "extension-apiserver-authentication-reader",
        [_MANAGER, _SCHEDULER],
    ),
    ("kube-system", "system::leader-locking-kube-controller-manager"): (
        "system::leader-locking-kube-controller-manager",
        [
            _MANAGER,
            ("ServiceAccount", "kube-system/kube-controller-manager"),
            ("ServiceAccount", "kube-system/leader-election-controller"),
        ],
    ),
    ("kube-system", "system::leader-locking-kube-scheduler"): (
        "system::leader-locking-kube-scheduler",
        [_SCHEDULER, ("ServiceAccount", "kube-system/kube-scheduler")],
    ),
    **{
        ("kube-system", f"system:controller:{name}"): (
            f"system:controller:{name}",
            [("ServiceAccount", f"kube-system/{name}")],
        )
        for name in ("bootstrap-signer", "cloud-provider", "token-cleaner")
    },
    ("kube-public", "system:controller:bootstrap-signer"): (
        "system:controller:bootstrap-signer",
        [("ServiceAccount", "kube-system/bootstrap-signer")],
    ),
}
