"""ServiceAccount: pods get their account, its pull secrets, and its token as a projected volume."""

from __future__ import annotations

import random
from collections.abc import Iterator

from stablehand.apiserver import errors
from stablehand.apiserver.authz.node import MIRROR
from stablehand.apiserver.authz.references import references
from stablehand.apiserver.core import Attributes, Core
from stablehand.machinery.meta import nested
from stablehand.machinery.resources import resource
from stablehand.machinery.types import Obj

MOUNT_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
_ACCOUNTS = resource("serviceaccounts")
_ENFORCE = "kubernetes.io/enforce-mountable-secrets"
_TRUE = ("1", "t", "T", "TRUE", "true", "True")  # as strconv.ParseBool has it
_KINDS = {"initContainers": "init container", "containers": "container", "ephemeralContainers": "ephemeral container"}
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


def admit(core: Core, a: Attributes) -> None:
    if a.operation != "CREATE" or a.resource.key != "pods" or a.subresource or a.obj is None:
        return
    pod = a.obj
    spec = pod["spec"]
    if MIRROR in (pod["metadata"].get("annotations") or {}):
        _check_mirror(a, pod)
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


def check(core: Core, a: Attributes) -> None:
    """What an account says of itself holds for what webhooks made of the pod too, and for ephemeral containers."""
    if a.resource.key != "pods" or a.obj is None:
        return
    if a.operation == "CREATE" and not a.subresource:
        if MIRROR in (a.obj["metadata"].get("annotations") or {}):
            _check_mirror(a, a.obj)
            return
        groups: tuple[str, ...] = ("initContainers", "containers")
    elif a.operation == "UPDATE" and a.subresource == "ephemeralcontainers":
        groups = ("ephemeralContainers",)
    else:
        return
    entry = core.storage.collection(_ACCOUNTS).get((a.namespace, a.obj["spec"].get("serviceAccountName") or ""))
    if entry is not None and (entry.obj["metadata"].get("annotations") or {}).get(_ENFORCE) in _TRUE:
        _check_secrets(a, entry.obj, groups)


def _check_mirror(a: Attributes, pod: Obj) -> None:
    """Nobody but the kubelet makes mirror pods, which must not get at what others own."""
    sources = [s for v in pod["spec"].get("volumes") or () for s in nested(v, "projected", "sources") or ()]
    if pod["spec"].get("serviceAccountName"):
        why = "a mirror pod may not reference service accounts"
    elif references(pod, "secrets"):
        why = "a mirror pod may not reference secrets"
    elif any(s.get("serviceAccountToken") for s in sources):
        why = "a mirror pod may not use ServiceAccountToken volume projections"
    else:
        return
    raise errors.forbidden(a.resource, a.told_name, why)


def _check_secrets(a: Attributes, account: Obj, groups: tuple[str, ...]) -> None:
    """Of secrets a pod may use those that its account names."""
    assert a.obj is not None
    spec, name = a.obj["spec"], account["metadata"]["name"]
    allowed = {s.get("name") for s in account.get("secrets") or ()}
    unnamed = f"is not allowed because service account {name} does not reference that"

    def used() -> Iterator[tuple[str, str]]:
        if "containers" in groups:
            yield from (
                (v["secret"].get("secretName"), "volume with ") for v in spec.get("volumes") or () if v.get("secret")
            )
        for group in groups:
            kind = _KINDS[group]
            for container in spec.get(group) or ():
                who = f"{kind} {container['name']} with "
                for env in container.get("env") or ():
                    if key := nested(env, "valueFrom", "secretKeyRef"):
                        yield key.get("name"), f"{who}envVar {env['name']} referencing "
                for source in container.get("envFrom") or ():
                    if source.get("secretRef"):
                        yield source["secretRef"].get("name"), f"{who}envFrom referencing "

    for secret, where in used():
        if secret not in allowed:
            raise errors.forbidden(a.resource, a.told_name, f'{where}secret.secretName="{secret}" {unnamed} secret')
    if "containers" not in groups:
        return
    pulling = {s.get("name") for s in account.get("imagePullSecrets") or ()}
    for index, one in enumerate(spec.get("imagePullSecrets") or ()):
        if one.get("name") not in pulling:
            why = f'imagePullSecrets[{index}].name="{one.get("name")}" {unnamed} imagePullSecret'
            raise errors.forbidden(a.resource, a.told_name, why)


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
