"""Role-based access control: rules of a user, in a namespace, from roles and bindings (plugin/pkg/auth/authorizer/rbac).

Compiled per user and namespace, and thrown away when any role or binding changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from stablehand.apiserver.contract import RequestInfo, User
from stablehand.apiserver.storage.storage import Storage
from stablehand.machinery.resources import resource
from stablehand.machinery.types import Obj

_GROUP = "rbac.authorization.k8s.io"
_KINDS = ("clusterroles", "clusterrolebindings", "roles", "rolebindings")
_ALWAYS = "system:masters"


def allows(rule: Obj, info: RequestInfo) -> bool:
    """Whether one PolicyRule allows a request (rbac.RuleAllows)."""
    verbs = rule.get("verbs") or ()
    if "*" not in verbs and info.verb not in verbs:
        return False
    if not info.is_resource:
        return any(
            url == "*" or url == info.path or (url.endswith("*") and info.path.startswith(url[:-1]))
            for url in rule.get("nonResourceURLs") or ()
        )
    groups = rule.get("apiGroups") or ()
    if "*" not in groups and info.group not in groups:
        return False
    if not _resource_matches(rule.get("resources") or (), info):
        return False
    names = rule.get("resourceNames")
    return not names or (bool(info.name) and info.name in names)


def _resource_matches(resources: Iterable[str], info: RequestInfo) -> bool:
    combined = f"{info.plural}/{info.subresource}" if info.subresource else info.plural
    for candidate in resources:
        if candidate == "*" or candidate == combined:
            return True
        if info.subresource and candidate == f"*/{info.subresource}":
            return True
    return False


class Rbac:
    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._cache: dict[tuple[str, tuple[str, ...], str], list[Obj]] = {}
        self._version = -1
        self._collections = {kind: storage.collection(resource(f"{kind}.{_GROUP}")) for kind in _KINDS}

    def authorize(self, user: User, info: RequestInfo) -> bool:
        if _ALWAYS in user.groups:
            return True
        return any(allows(rule, info) for rule in self.rules(user, info.namespace))

    def rules(self, user: User, namespace: str) -> list[Obj]:
        """All rules of a user in a namespace ("": cluster-wide ones only)."""
        version = sum(c.version for c in self._collections.values())
        if version != self._version or len(self._cache) > 4096:
            self._cache.clear()
            self._version = version
        key = (user.name, user.groups, namespace)
        rules = self._cache.get(key)
        if rules is None:
            rules = self._cache[key] = list(self._compile(user, namespace))
        return rules

    def _compile(self, user: User, namespace: str) -> Iterator[Obj]:
        for _, entry in self._collections["clusterrolebindings"].ordered():
            if self._applies(user, entry.obj.get("subjects"), ""):
                yield from self.role_rules(entry.obj.get("roleRef") or {}, "")
        if namespace:
            for _, entry in self._collections["rolebindings"].ordered(namespace):
                if self._applies(user, entry.obj.get("subjects"), namespace):
                    yield from self.role_rules(entry.obj.get("roleRef") or {}, namespace)

    @staticmethod
    def _applies(user: User, subjects: Iterable[Obj] | None, namespace: str) -> bool:
        for subject in subjects or ():
            kind, name = subject.get("kind"), subject.get("name")
            if kind == "User" and name == user.name:
                return True
            if kind == "Group" and name in user.groups:
                return True
            if kind == "ServiceAccount":
                where = subject.get("namespace") or namespace
                if where and user.name == f"system:serviceaccount:{where}:{name}":
                    return True
        return False

    def role_rules(self, reference: Obj, namespace: str) -> list[Obj]:
        """The rules of a role that a binding refers to; none when it does not exist."""
        if reference.get("kind") == "ClusterRole":
            entry = self._collections["clusterroles"].get(("", reference.get("name", "")))
        else:
            entry = self._collections["roles"].get((namespace, reference.get("name", "")))
        return (entry.obj.get("rules") or []) if entry is not None else []

    def covers(self, user: User, namespace: str, wanted: Iterable[Obj]) -> list[Obj]:
        """The simple rules among `wanted` that the user does not hold: what would be an escalation."""
        if _ALWAYS in user.groups:
            return []
        held = self.rules(user, namespace)
        return [piece for rule in wanted for piece in _break_down(rule) if not any(_covers(h, piece) for h in held)]


def _break_down(rule: Obj) -> Iterator[Obj]:
    for verb in rule.get("verbs") or ():
        for url in rule.get("nonResourceURLs") or ():
            yield {"verbs": [verb], "nonResourceURLs": [url]}
        for group in rule.get("apiGroups") or ():
            for plural in rule.get("resources") or ():
                base = {"verbs": [verb], "apiGroups": [group], "resources": [plural]}
                names = rule.get("resourceNames") or ()
                if not names:
                    yield base
                for name in names:
                    yield {**base, "resourceNames": [name]}


def _covers(held: Obj, piece: Obj) -> bool:
    def within(field: str) -> bool:
        have, want = held.get(field) or (), piece[field][0]
        return "*" in have or want in have

    if not within("verbs"):
        return False
    if "nonResourceURLs" in piece:
        url = piece["nonResourceURLs"][0]
        return any(u == url or (u.endswith("*") and url.startswith(u[:-1])) for u in held.get("nonResourceURLs") or ())
    if not within("apiGroups"):
        return False
    want = piece["resources"][0]
    have = held.get("resources") or ()
    subresource = want.partition("/")[2]
    if not ("*" in have or want in have or (subresource and f"*/{subresource}" in have)):
        return False
    names = held.get("resourceNames") or ()
    return not names or (bool(piece.get("resourceNames")) and piece["resourceNames"][0] in names)
