"""What other objects a pod or a PersistentVolume names (pkg/api/v1/pod's and persistentvolume's visitors). Pure."""

from __future__ import annotations

from stablehand.machinery.meta import nested
from stablehand.machinery.types import Obj

# Volume sources whose secret lies under secretRef.
_SECRET_REF = ("cephfs", "cinder", "flexVolume", "rbd", "scaleIO", "iscsi", "storageos")
_GROUPS = ("initContainers", "containers", "ephemeralContainers")


def references(pod: Obj, plural: str) -> set[str]:
    """Names of the secrets, configmaps, claims or resource claims that a pod refers to, in its own namespace."""
    found: set[str | None] = set()
    if plural == "persistentvolumeclaims":
        found = _claims(pod)
    elif plural == "resourceclaims":
        found = _resource_claims(pod)
    elif plural == "secrets":
        found = _secrets(pod)
    elif plural == "configmaps":
        found = _keyed(pod, "configMap", "name", "configMapKeyRef", "configMapRef")
    return {name for name in found if name}


def _claims(pod: Obj) -> set[str | None]:
    found: set[str | None] = set()
    for volume in pod["spec"].get("volumes") or ():
        found.add(nested(volume, "persistentVolumeClaim", "claimName"))
        if volume.get("ephemeral"):
            found.add(f"{pod['metadata']['name']}-{volume['name']}")
    return found


def _resource_claims(pod: Obj) -> set[str | None]:
    found: set[str | None] = {c.get("resourceClaimName") for c in pod["spec"].get("resourceClaims") or ()}
    status = pod.get("status") or {}
    found.update(c.get("resourceClaimName") for c in status.get("resourceClaimStatuses") or ())
    found.add(nested(status, "extendedResourceClaimStatus", "resourceClaimName"))
    return found


def _keyed(pod: Obj, source: str, name_field: str, env_field: str, from_field: str) -> set[str | None]:
    spec = pod["spec"]
    found: set[str | None] = set()
    for volume in spec.get("volumes") or ():
        found.add((volume.get(source) or {}).get(name_field))
        found.update((p.get(source) or {}).get("name") for p in nested(volume, "projected", "sources") or ())
    for group in _GROUPS:
        for container in spec.get(group) or ():
            found.update(nested(env, "valueFrom", env_field, "name") for env in container.get("env") or ())
            found.update((s.get(from_field) or {}).get("name") for s in container.get("envFrom") or ())
    return found


def _secrets(pod: Obj) -> set[str | None]:
    found = _keyed(pod, "secret", "secretName", "secretKeyRef", "secretRef")
    found.update(s.get("name") for s in pod["spec"].get("imagePullSecrets") or ())
    for volume in pod["spec"].get("volumes") or ():
        found.update(nested(volume, kind, "secretRef", "name") for kind in _SECRET_REF)
        found.add(nested(volume, "azureFile", "secretName"))
        found.add(nested(volume, "csi", "nodePublishSecretRef", "name"))
    return found


def volume_secrets(volume: Obj) -> set[str]:
    """Names of the secrets that a kubelet needs to mount a PersistentVolume, all in its claim's namespace."""
    spec = volume["spec"]
    namespace = nested(spec, "claimRef", "namespace")
    named = [nested(spec, kind, "secretRef") for kind in _SECRET_REF]
    named += [nested(spec, "csi", f) for f in ("nodePublishSecretRef", "nodeStageSecretRef", "nodeExpandSecretRef")]
    found = {r["name"] for r in named if r and r.get("name") and r.get("namespace") in (None, "", namespace)}
    if name := nested(spec, "azureFile", "secretName"):
        found.add(name)
    return found
