"""The checks of the restricted level: what pods need not have, and what they have to give up."""

from __future__ import annotations

from stablehand.machinery.podsecurity import baseline
from stablehand.machinery.podsecurity.words import (
    Check,
    Violation,
    containers,
    context,
    in_user_namespace,
    is_windows,
    named,
    plural,
    quoted,
    setters,
    uses,
)
from stablehand.machinery.types import Obj

_VOLUMES = (
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected", "secret",
)  # fmt: skip
_OTHER_VOLUMES = (
    "hostPath", "gcePersistentDisk", "awsElasticBlockStore", "gitRepo", "nfs", "iscsi", "glusterfs", "rbd",
    "flexVolume", "cinder", "cephfs", "flocker", "fc", "azureFile", "vsphereVolume", "quobyte", "azureDisk",
    "photonPersistentDisk", "portworxVolume", "scaleIO", "storageos",
)  # fmt: skip


def not_on_windows(check: Check) -> Check:
    """What Linux alone has, from 1.25 on."""
    return lambda meta, spec: None if is_windows(spec) else check(meta, spec)


def not_in_user_namespace(check: Check) -> Check:
    """Where root is nobody on the host, from 1.35 on."""
    return lambda meta, spec: None if in_user_namespace(spec) else check(meta, spec)


def privilege_escalation(meta: Obj, spec: Obj) -> Violation | None:
    bad = [c["name"] for c in containers(spec) if context(c).get("allowPrivilegeEscalation") is not False]
    if not bad:
        return None
    detail = f"{named(bad)} must set securityContext.allowPrivilegeEscalation=false"
    return Violation("allowPrivilegeEscalation != false", detail)


def capabilities(meta: Obj, spec: Obj) -> Violation | None:
    """All are dropped, and only that to listen on low ports is taken back."""
    keeping, adding = [], []
    more: set[str] = set()
    for container in containers(spec):
        given = context(container).get("capabilities") or {}
        if "ALL" not in (given.get("drop") or ()):
            keeping.append(container["name"])
        if others := {c for c in given.get("add") or () if c != "NET_BIND_SERVICE"}:
            adding.append(container["name"])
            more |= others
    told = [f'{named(keeping)} must set securityContext.capabilities.drop=["ALL"]'] if keeping else []
    if adding:
        told.append(f"{named(adding)} must not include {quoted(sorted(more))} in securityContext.capabilities.add")
    return Violation("unrestricted capabilities", "; ".join(told)) if told else None


def volumes(meta: Obj, spec: Obj) -> Violation | None:
    bad, kinds = [], set()
    for volume in spec.get("volumes") or ():
        if not any(volume.get(kind) is not None for kind in _VOLUMES):
            bad.append(volume["name"])
            kinds.add(next((kind for kind in _OTHER_VOLUMES if volume.get(kind) is not None), "unknown"))
    if not bad:
        return None
    what = plural("restricted volume type", kinds)
    detail = f"{plural('volume', bad)} {quoted(bad)} {uses(bad)} {what} {quoted(sorted(kinds))}"
    return Violation("restricted volume types", detail)


def run_as_non_root(meta: Obj, spec: Obj) -> Violation | None:
    """Said by the pod for all its containers, or by each of them."""
    reason, of_pod = "runAsNonRoot != true", context(spec).get("runAsNonRoot")
    said = [(c["name"], context(c).get("runAsNonRoot")) for c in containers(spec)]
    if who := setters(of_pod is False, [name for name, value in said if value is False]):
        return Violation(reason, f"{who} must not set securityContext.runAsNonRoot=false")
    silent = [name for name, value in said if value is None] if of_pod is not True else []
    return Violation(reason, f"pod or {named(silent)} must set securityContext.runAsNonRoot=true") if silent else None


def run_as_user(meta: Obj, spec: Obj) -> Violation | None:
    bad = [c["name"] for c in containers(spec) if context(c).get("runAsUser") == 0]
    who = setters(context(spec).get("runAsUser") == 0, bad)
    return Violation("runAsUser=0", f"{who} must not set runAsUser=0") if who else None


def seccomp(meta: Obj, spec: Obj) -> Violation | None:
    """As on the baseline level, and somebody has to say something."""
    if wrong := baseline.seccomp(meta, spec):
        return wrong
    if context(spec).get("seccompProfile") is not None:
        return None
    silent = [c["name"] for c in containers(spec) if context(c).get("seccompProfile") is None]
    if not silent:
        return None
    detail = f'pod or {named(silent)} must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost"'
    return Violation("seccompProfile", detail)
