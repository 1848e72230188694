"""The one table of built-in resources: it drives routing, discovery, RBAC and server-side tables.

A new built-in kind is a row here and, where it needs one, a strategy in the API server. What a kind's fields
are lives in the schema (machinery.schema), not here.
"""

from __future__ import annotations

from dataclasses import dataclass, field

ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
CREATE_ONLY = ("create",)


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource type. `plural` is the path segment; `key` ("statefulsets.apps", "pods") names it uniquely.

    `storage_version` is the (group, version) its objects are stored as: several rows can share one store
    (extensions/v1beta1 and apps/v1 Deployments; events in core and events.k8s.io).
    """

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool = True
    short: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ALL_VERBS
    subresources: tuple[str, ...] = ()
    singular: str = ""
    storage: tuple[str, str] = ("", "")  # (group, version) of the stored form; empty: this row's own
    legacy: bool = False  # a version upstream has removed; answered with a deprecation Warning
    custom: bool = field(default=False, compare=False)  # from a CustomResourceDefinition

    @property
    def key(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def storage_gv(self) -> tuple[str, str]:
        return self.storage if self.storage[1] else (self.group, self.version)

    @property
    def list_kind(self) -> str:
        return self.kind + "List"

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """The URL path of a collection, an object or a subresource. Names must already be URL-safe (API names are)."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        if self.namespaced and namespace:
            root += f"/namespaces/{namespace}"
        root += f"/{self.plural}"
        if name:
            root += f"/{name}"
        if subresource:
            root += f"/{subresource}"
        return root


def _r(gv: str, kind: str, plural: str, **kw: object) -> Resource:
    group, _, version = gv.rpartition("/")
    return Resource(group, version, kind, plural, **kw)  # type: ignore[arg-type]


_STATUS = ("status",)
_SCALE = ("status", "scale")
_CLUSTER: dict[str, object] = {"namespaced": False}
_ALL: dict[str, object] = {"categories": ("all",)}
_EXT = {"categories": ("api-extensions",)}
_NO_DC = ("create", "delete", "get", "list", "patch", "update", "watch")

_REVIEW: dict[str, object] = {"verbs": CREATE_ONLY}

RESOURCES: tuple[Resource, ...] = (
    # core
    _r("v1", "Binding", "bindings", verbs=CREATE_ONLY),
    _r("v1", "ComponentStatus", "componentstatuses", namespaced=False, short=("cs",), verbs=("get", "list")),
    _r("v1", "ConfigMap", "configmaps", short=("cm",)),
    _r("v1", "Endpoints", "endpoints", short=("ep",)),
    _r("v1", "Event", "events", short=("ev",)),
    _r("v1", "LimitRange", "limitranges", short=("limits",)),
    _r(
        "v1",
        "Namespace",
        "namespaces",
        namespaced=False,
        short=("ns",),
        verbs=_NO_DC,
        subresources=("status", "finalize"),
    ),
    _r("v1", "Node", "nodes", namespaced=False, short=("no",), subresources=("status", "proxy")),
    _r("v1", "PersistentVolumeClaim", "persistentvolumeclaims", short=("pvc",), subresources=_STATUS),
    _r("v1", "PersistentVolume", "persistentvolumes", namespaced=False, short=("pv",), subresources=_STATUS),
    _r(
        "v1",
        "Pod",
        "pods",
        short=("po",),
        categories=("all",),
        subresources=(
            "status",
            "binding",
            "eviction",
            "ephemeralcontainers",
            "resize",
            "exec",
            "attach",
            "portforward",
            "log",
            "proxy",
        ),
    ),
    _r("v1", "PodTemplate", "podtemplates"),
    _r(
        "v1", "ReplicationController", "replicationcontrollers", short=("rc",), categories=("all",), subresources=_SCALE
    ),
    _r("v1", "ResourceQuota", "resourcequotas", short=("quota",), subresources=_STATUS),
    _r("v1", "Secret", "secrets"),
    _r("v1", "ServiceAccount", "serviceaccounts", short=("sa",), subresources=("token",)),
    _r("v1", "Service", "services", short=("svc",), categories=("all",), subresources=("status", "proxy")),
    # admissionregistration
    _r(
        "admissionregistration.k8s.io/v1",
        "MutatingAdmissionPolicy",
        "mutatingadmissionpolicies",
        namespaced=False,
        **_EXT,
    ),
    _r(
        "admissionregistration.k8s.io/v1",
        "MutatingAdmissionPolicyBinding",
        "mutatingadmissionpolicybindings",
        namespaced=False,
        **_EXT,
    ),
    _r(
        "admissionregistration.k8s.io/v1",
        "MutatingWebhookConfiguration",
        "mutatingwebhookconfigurations",
        namespaced=False,
        **_EXT,
    ),
    _r(
        "admissionregistration.k8s.io/v1",
        "ValidatingAdmissionPolicy",
        "validatingadmissionpolicies",
        namespaced=False,
        subresources=_STATUS,
        **_EXT,
    ),
    _r(
        "admissionregistration.k8s.io/v1",
        "ValidatingAdmissionPolicyBinding",
        "validatingadmissionpolicybindings",
        namespaced=False,
        **_EXT,
    ),
    _r(
        "admissionregistration.k8s.io/v1",
        "ValidatingWebhookConfiguration",
        "validatingwebhookconfigurations",
        namespaced=False,
        **_EXT,
    ),
    # apiextensions, apiregistration
    _r(
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        namespaced=False,
        short=("crd", "crds"),
        subresources=_STATUS,
        **_EXT,
    ),
    _r("apiregistration.k8s.io/v1", "APIService", "apiservices", namespaced=False, subresources=_STATUS, **_EXT),
    # apps
    _r("apps/v1", "ControllerRevision", "controllerrevisions"),
    _r("apps/v1", "DaemonSet", "daemonsets", short=("ds",), categories=("all",), subresources=_STATUS),
    _r("apps/v1", "Deployment", "deployments", short=("deploy",), categories=("all",), subresources=_SCALE),
    _r("apps/v1", "ReplicaSet", "replicasets", short=("rs",), categories=("all",), subresources=_SCALE),
    _r("apps/v1", "StatefulSet", "statefulsets", short=("sts",), categories=("all",), subresources=_SCALE),
    # authentication, authorization
    _r("authentication.k8s.io/v1", "SelfSubjectReview", "selfsubjectreviews", namespaced=False, **_REVIEW),
    _r("authentication.k8s.io/v1", "TokenReview", "tokenreviews", namespaced=False, **_REVIEW),
    _r("authorization.k8s.io/v1", "LocalSubjectAccessReview", "localsubjectaccessreviews", **_REVIEW),
    _r("authorization.k8s.io/v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews", namespaced=False, **_REVIEW),
    _r("authorization.k8s.io/v1", "SelfSubjectRulesReview", "selfsubjectrulesreviews", namespaced=False, **_REVIEW),
    _r("authorization.k8s.io/v1", "SubjectAccessReview", "subjectaccessreviews", namespaced=False, **_REVIEW),
    # autoscaling
    _r(
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        "horizontalpodautoscalers",
        short=("hpa",),
        categories=("all",),
        subresources=_STATUS,
    ),
    _r(
        "autoscaling/v1",
        "HorizontalPodAutoscaler",
        "horizontalpodautoscalers",
        short=("hpa",),
        categories=("all",),
        subresources=_STATUS,
        storage=("autoscaling", "v2"),
    ),
    # batch
    _r("batch/v1", "CronJob", "cronjobs", short=("cj",), categories=("all",), subresources=_STATUS),
    _r("batch/v1", "Job", "jobs", categories=("all",), subresources=_STATUS),
    # certificates
    _r(
        "certificates.k8s.io/v1",
        "CertificateSigningRequest",
        "certificatesigningrequests",
        namespaced=False,
        short=("csr",),
        subresources=("approval", "status"),
    ),
    # coordination, discovery, events, flowcontrol
    _r("coordination.k8s.io/v1", "Lease", "leases"),
    _r("discovery.k8s.io/v1", "EndpointSlice", "endpointslices"),
    _r("events.k8s.io/v1", "Event", "events", short=("ev",), storage=("", "v1")),
    _r("flowcontrol.apiserver.k8s.io/v1", "FlowSchema", "flowschemas", namespaced=False, subresources=_STATUS),
    _r(
        "flowcontrol.apiserver.k8s.io/v1",
        "PriorityLevelConfiguration",
        "prioritylevelconfigurations",
        namespaced=False,
        subresources=_STATUS,
    ),
    # networking
    _r("networking.k8s.io/v1", "Ingress", "ingresses", short=("ing",), subresources=_STATUS),
    _r("networking.k8s.io/v1", "IngressClass", "ingressclasses", namespaced=False),
    _r("networking.k8s.io/v1", "IPAddress", "ipaddresses", namespaced=False, short=("ip",)),
    _r("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies", short=("netpol",)),
    _r("networking.k8s.io/v1", "ServiceCIDR", "servicecidrs", namespaced=False, subresources=_STATUS),
    # node, policy
    _r("node.k8s.io/v1", "RuntimeClass", "runtimeclasses", namespaced=False),
    _r("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets", short=("pdb",), subresources=_STATUS),
    # rbac
    _r("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles", namespaced=False),
    _r("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clusterrolebindings", namespaced=False),
    _r("rbac.authorization.k8s.io/v1", "Role", "roles"),
    _r("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings"),
    # resource (DRA)
    _r("resource.k8s.io/v1", "DeviceClass", "deviceclasses", namespaced=False),
    _r("resource.k8s.io/v1", "ResourceClaim", "resourceclaims", subresources=_STATUS),
    _r("resource.k8s.io/v1", "ResourceClaimTemplate", "resourceclaimtemplates"),
    _r("resource.k8s.io/v1", "ResourceSlice", "resourceslices", namespaced=False),
    # scheduling, storage
    _r("scheduling.k8s.io/v1", "PriorityClass", "priorityclasses", namespaced=False, short=("pc",)),
    _r("storage.k8s.io/v1", "CSIDriver", "csidrivers", namespaced=False),
    _r("storage.k8s.io/v1", "CSINode", "csinodes", namespaced=False),
    _r("storage.k8s.io/v1", "CSIStorageCapacity", "csistoragecapacities"),
    _r("storage.k8s.io/v1", "StorageClass", "storageclasses", namespaced=False, short=("sc",)),
    _r("storage.k8s.io/v1", "VolumeAttachment", "volumeattachments", namespaced=False, subresources=_STATUS),
    _r("storage.k8s.io/v1", "VolumeAttributesClass", "volumeattributesclasses", namespaced=False, short=("vac",)),
    # Versions that upstream removed, served and converted (docs/decisions/legacy-versions.md).
    _r(
        "extensions/v1beta1",
        "Deployment",
        "deployments",
        subresources=_SCALE,
        storage=("apps", "v1"),
        legacy=True,
    ),
    _r(
        "extensions/v1beta1",
        "ReplicaSet",
        "replicasets",
        subresources=_SCALE,
        storage=("apps", "v1"),
        legacy=True,
    ),
    _r(
        "extensions/v1beta1",
        "DaemonSet",
        "daemonsets",
        subresources=_STATUS,
        storage=("apps", "v1"),
        legacy=True,
    ),
    _r(
        "apps/v1beta1",
        "Deployment",
        "deployments",
        subresources=_SCALE,
        storage=("apps", "v1"),
        legacy=True,
    ),
    _r(
        "apps/v1beta1",
        "StatefulSet",
        "statefulsets",
        subresources=_SCALE,
        storage=("apps", "v1"),
        legacy=True,
    ),
    _r("apps/v1beta1", "ControllerRevision", "controllerrevisions", storage=("apps", "v1"), legacy=True),
    _r(
        "apps/v1beta2",
        "Deployment",
        "deployments",
        subresources=_SCALE,
        storage=("apps", "v1"),
        legacy=True,
    ),
    _r(
        "apps/v1beta2",
        "StatefulSet",
        "statefulsets",
        subresources=_SCALE,
        storage=("apps", "v1"),
        legacy=True,
    ),
    _r(
        "apps/v1beta2",
        "ReplicaSet",
        "replicasets",
        subresources=_SCALE,
        storage=("apps", "v1"),
        legacy=True,
    ),
    _r(
        "apps/v1beta2",
        "DaemonSet",
        "daemonsets",
        subresources=_STATUS,
        storage=("apps", "v1"),
        legacy=True,
    ),
    _r("apps/v1beta2", "ControllerRevision", "controllerrevisions", storage=("apps", "v1"), legacy=True),
)

_BY_KEY: dict[str, Resource] = {}
_BY_GVK: dict[tuple[str, str], Resource] = {}
for _row in RESOURCES:
    if not _row.legacy:
        _BY_KEY.setdefault(_row.key, _row)
    _BY_GVK.setdefault((_row.api_version, _row.kind), _row)


def resource(key: str) -> Resource:
    """The preferred row of a key such as "pods" or "statefulsets.apps". Raises KeyError."""
    return _BY_KEY[key]


def resource_for(api_version: str, kind: str) -> Resource | None:
    """The row of an object's apiVersion and kind, or None."""
    return _BY_GVK.get((api_version, kind))
