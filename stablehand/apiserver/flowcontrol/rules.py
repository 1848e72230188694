"""Which FlowSchema a request falls under (apiserver/pkg/util/flowcontrol/rule.go). Pure."""

from __future__ import annotations

from collections.abc import Iterable

from stablehand.apiserver.contract import RequestInfo, User
from stablehand.machinery.types import Obj


def by_precedence(schema: Obj) -> tuple[int, str]:
    """The order in which schemas are asked."""
    return schema["spec"].get("matchingPrecedence") or 1000, schema["metadata"]["name"]


def matches(schema: Obj, user: User, info: RequestInfo) -> bool:
    return any(_policy(rule, user, info) for rule in schema["spec"].get("rules") or ())


def distinguisher(schema: Obj, user: User, info: RequestInfo) -> str:
    """What tells one flow of a schema from another."""
    method = (schema["spec"].get("distinguisherMethod") or {}).get("type")
    if method == "ByUser":
        return user.name
    return info.namespace if method == "ByNamespace" else ""


def _policy(rule: Obj, user: User, info: RequestInfo) -> bool:
    if not any(_subject(subject, user) for subject in rule.get("subjects") or ()):
        return False
    if info.is_resource:
        return any(_resource(r, info) for r in rule.get("resourceRules") or ())
    return any(_path(r, info) for r in rule.get("nonResourceRules") or ())


def _subject(subject: Obj, user: User) -> bool:
    kind = subject.get("kind")
    if kind == "User":
        name = (subject.get("user") or {}).get("name")
        return bool(name == "*" or name == user.name)
    if kind == "Group":
        name = (subject.get("group") or {}).get("name")
        return bool(name == "*" or name in user.groups)
    if kind == "ServiceAccount":
        account = subject.get("serviceAccount") or {}
        prefix = f"system:serviceaccount:{account.get('namespace')}:"
        name = account.get("name")
        return user.name.startswith(prefix) if name == "*" else user.name == f"{prefix}{name}"
    return False


def _listed(value: str, listed: Iterable[str] | None) -> bool:
    return any(item in ("*", value) for item in listed or ())


def _resource(rule: Obj, info: RequestInfo) -> bool:
    name = f"{info.plural}/{info.subresource}" if info.subresource else info.plural
    if not (
        _listed(info.verb, rule.get("verbs"))
        and _listed(info.group, rule.get("apiGroups"))
        and _listed(name, rule.get("resources"))
    ):
        return False
    return _listed(info.namespace, rule.get("namespaces")) if info.namespace else bool(rule.get("clusterScope"))


def _path(rule: Obj, info: RequestInfo) -> bool:
    if not _listed(info.verb, rule.get("verbs")):
        return False
    for path in rule.get("nonResourceURLs") or ():
        if path in ("*", info.path):
            return True
        # "/healthz/*" is all below /healthz/, and not /healthz itself.
        if path.endswith("/*") and info.path.startswith(path[:-1]):
            return True
    return False
