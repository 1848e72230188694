"""The rules of each kind: defaults, preparation of writes, validation.

`strategy_for` finds the strategy of a resource and imports its module only then, so that a server that never sees
an Ingress never loads its rules. What all kinds share is in base.py (the contract) and metadata.py.
"""

from __future__ import annotations

from importlib import import_module

from stablehand.apiserver.strategies.base import Strategy
from stablehand.machinery.resources import Resource

# Resource key -> module of this package, which has a class STRATEGIES[key].
_MODULES = {
    "configmaps": "config",
    "secrets": "config",
    "serviceaccounts": "config",
    "namespaces": "cluster",
    "nodes": "cluster",
    "events": "events",
    "events.events.k8s.io": "events",
    "limitranges": "limitranges",
    "resourcequotas": "quotas",
    "pods": "pod",
    "podtemplates": "workloads",
    "replicationcontrollers": "workloads",
    "replicasets.apps": "workloads",
    "deployments.apps": "deployment",
    "daemonsets.apps": "daemonset",
    "statefulsets.apps": "statefulset",
    "controllerrevisions.apps": "workloads",
    "jobs.batch": "batch",
    "cronjobs.batch": "batch",
    "services": "service",
    "endpoints": "endpoints",
    "endpointslices.discovery.k8s.io": "endpoints",
    "persistentvolumes": "volumes",
    "persistentvolumeclaims": "claims",
    "storageclasses.storage.k8s.io": "volumes",
    "csidrivers.storage.k8s.io": "csi",
    "csinodes.storage.k8s.io": "csi",
    "csistoragecapacities.storage.k8s.io": "csi",
    "volumeattachments.storage.k8s.io": "csi",
    "volumeattributesclasses.storage.k8s.io": "csi",
    "roles.rbac.authorization.k8s.io": "rbac",
    "clusterroles.rbac.authorization.k8s.io": "rbac",
    "rolebindings.rbac.authorization.k8s.io": "rbac",
    "clusterrolebindings.rbac.authorization.k8s.io": "rbac",
    "leases.coordination.k8s.io": "small",
    "poddisruptionbudgets.policy": "small",
    "priorityclasses.scheduling.k8s.io": "small",
    "runtimeclasses.node.k8s.io": "small",
    "horizontalpodautoscalers.autoscaling": "autoscaling",
    "ingresses.networking.k8s.io": "networking",
    "ingressclasses.networking.k8s.io": "networking",
    "networkpolicies.networking.k8s.io": "networking",
    "ipaddresses.networking.k8s.io": "addresses",
    "servicecidrs.networking.k8s.io": "addresses",
    "customresourcedefinitions.apiextensions.k8s.io": "crd",
    "certificatesigningrequests.certificates.k8s.io": "registration",
    "flowschemas.flowcontrol.apiserver.k8s.io": "flowcontrol",
    "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io": "flowcontrol",
    "apiservices.apiregistration.k8s.io": "registration",
    "deviceclasses.resource.k8s.io": "devices",
    "resourceclaims.resource.k8s.io": "devices",
    "resourceclaimtemplates.resource.k8s.io": "devices",
    "validatingwebhookconfigurations.admissionregistration.k8s.io": "registration",
    "mutatingwebhookconfigurations.admissionregistration.k8s.io": "registration",
    "validatingadmissionpolicies.admissionregistration.k8s.io": "policies",
    "mutatingadmissionpolicies.admissionregistration.k8s.io": "policies",
    "validatingadmissionpolicybindings.admissionregistration.k8s.io": "policies",
    "mutatingadmissionpolicybindings.admissionregistration.k8s.io": "policies",
}


def strategy_for(res: Resource) -> Strategy:
    """The strategy of a built-in resource's stored version."""
    name = _MODULES.get(res.key)
    if name is None:
        return Strategy(res)
    module = import_module(f"{__name__}.{name}")
    made: Strategy = module.STRATEGIES[res.key](res)
    return made


__all__ = ["Strategy", "strategy_for"]
