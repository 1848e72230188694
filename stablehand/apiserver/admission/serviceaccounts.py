"""ServiceAccount: pods get their account, its pull secrets, and its token as a projected volume."""

from __future__ import annotations

import random

from stablehand.apiserver import errors
from stablehand.apiserver.core import Attributes, Core
from stablehand.machinery.resources import resource
from stablehand.machinery.types import Obj

MOUNT_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
_ACCOUNTS = resource("serviceaccounts")
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


def admit(core: Core, a: Attributes) -> None:
    if a.operation != "CREATE" or a.resource.key != "pods" or a.subresource or a.obj is None:
        return
    pod = a.obj
    spec = pod["spec"]
    if "kubernetes.io/config.mirror" in (pod["metadata"].get("annotations") or {}):
        return
    name = spec.get("serviceAccountName") or "default"
    spec["serviceAccountName"] = spec["serviceAccount"] = name
    entry = core.storage.collection(_ACCOUNTS).get((a.namespace, name))
    if entry is None:
        raise errors.forbidden(
            a.resource,
            a.told_name,
            f'error looking up service account {a.namespace}/{name}: {_ACCOUNTS.plural[:-1]} "{name}" not found',
        )
    account = entry.obj
    if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
        spec["imagePullSecrets"] = [dict(s) for s in account["imagePullSecrets"]]
    automount = spec.get("automountServiceAccountToken")
    if automount is None:
        automount = account.get("automountServiceAccountToken")
    if automount is not False:
        _mount_token(spec)


def _mount_token(spec: Obj) -> None:
    containers = [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]
    wanting = [c for c in containers if all(m.get("mountPath") != MOUNT_PATH for m in c.get("volumeMounts") or ())]
    volume = next((v["name"] for v in spec.get("volumes") or () if v["name"].startswith("kube-api-access-")), "")
    if not wanting:
        return
    if not volume:
        volume = "kube-api-access-" + "".join(random.choices(_ALPHABET, k=5))
        spec["volumes"] = [*(spec.get("volumes") or []), token_volume(volume)]
    for container in wanting:
        mount = {"name": volume, "readOnly": True, "mountPath": MOUNT_PATH}
        container["volumeMounts"] = [*(container.get("volumeMounts") or []), mount]


def token_volume(name: str) -> Obj:
    """The projected volume of token, CA and namespace that every pod gets (KEP-1205)."""
    return {
        "name": name,
        "projected": {
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {
                    "downwardAPI": {
                        "items": [
                            {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
                        ]
                    }
                },
            ],
            "defaultMode": 420,
        },
    }
