"""Escalation: nobody grants a right they do not hold, unless they may "escalate" or "bind" (registry/rbac)."""

from __future__ import annotations

from stablehand.apiserver import errors
from stablehand.apiserver.contract import RequestInfo
from stablehand.apiserver.core import Attributes, Core
from stablehand.machinery.types import Obj

_GROUP = "rbac.authorization.k8s.io"


async def no_escalation(core: Core, a: Attributes) -> None:
    if a.resource.group != _GROUP or a.operation == "DELETE" or a.obj is None:
        return
    user = a.request.user
    if "system:masters" in user.groups:
        return
    rbac = core.authorize.rbac  # type: ignore[attr-defined]
    if a.resource.kind in ("Role", "ClusterRole"):
        if a.old is not None and a.old.get("rules") == a.obj.get("rules"):
            return
        if (await core.authorize(user, _ask(a, "escalate", a.resource.plural, a.name)))[0]:
            return
        wanted: list[Obj] = a.obj.get("rules") or []
    else:
        reference = a.obj.get("roleRef") or {}
        if a.old is not None and a.old.get("subjects") == a.obj.get("subjects"):
            return
        plural = "clusterroles" if reference.get("kind") == "ClusterRole" else "roles"
        if (await core.authorize(user, _ask(a, "bind", plural, reference.get("name", ""))))[0]:
            return
        wanted = rbac.role_rules(reference, a.namespace)
    missing = rbac.covers(user, a.namespace, wanted)
    if missing:
        raise errors.forbidden(
            a.resource,
            a.name,
            f'user "{user.name}" (groups={list(user.groups)}) is attempting to grant RBAC permissions not currently held:\n'
            + "\n".join(_text(rule) for rule in missing),
        )


def _ask(a: Attributes, verb: str, plural: str, name: str) -> RequestInfo:
    return RequestInfo("", verb, True, _GROUP, "v1", a.namespace, plural, name)


def _text(rule: Obj) -> str:
    names = {"apiGroups": "APIGroups", "resources": "Resources", "resourceNames": "ResourceNames", "verbs": "Verbs"}
    parts = []
    for field, label in {**names, "nonResourceURLs": "NonResourceURLs"}.items():
        if rule.get(field):
            parts.append(f"{label}:[" + " ".join(f'"{v}"' for v in rule[field]) + "]")
    return "{" + ", ".join(parts) + "}"
