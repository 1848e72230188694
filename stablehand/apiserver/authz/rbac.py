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
_DECISIONS = 16384


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
        self._cache: dict[tuple[str, tuple[str, ...], str], tuple[list[Obj], list[str], list[str]]] = {}
        self._decided: dict[tuple[object, ...], bool] = {}
        self._version = -1
        self._collections = {kind: storage.collection(resource(f"{kind}.{_GROUP}")) for kind in _KINDS}

    def authorize(self, user: User, info: RequestInfo) -> bool:
        if _ALWAYS in user.groups:
            return True
        rules = self.rules(user, info.namespace)
        if not info.is_resource:
            return any(allows(rule, info) for rule in rules)
        # What is asked for by rules without names is asked again and again; names are many.
        key = (user.name, user.groups, info.namespace, info.verb, info.group, info.plural, info.subresource)
        known = self._decided.get(key)
        if known is None:
            known = any(not rule.get("resourceNames") and allows(rule, info) for rule in rules)
            if len(self._decided) >= _DECISIONS:
                self._decided.clear()
            self._decided[key] = known
        return known or any(rule.get("resourceNames") and allows(rule, info) for rule in rules)

    def explain(self, user: User, info: RequestInfo) -> tuple[bool, str]:
        """The same, with what allows it, or which roles could not be found."""
        if _ALWAYS in user.groups:
            return True, ""
        rules, sources, broken = self._held(user, info.namespace)
        for rule, source in zip(rules, sources, strict=True):
            if allows(rule, info):
                return True, f"RBAC: allowed by {source}"
        return False, self._not_found(broken)

    def refusal(self, user: User, info: RequestInfo) -> str:
        """Why a request that was not allowed was not: roles that do not exist, or nothing."""
        return self._not_found(self._held(user, info.namespace)[2])

    @staticmethod
    def _not_found(broken: list[str]) -> str:
        texts = list(dict.fromkeys(broken))
        if not texts:
            return ""
        return f"RBAC: {texts[0]}" if len(texts) == 1 else f"RBAC: [{', '.join(texts)}]"

    def rules(self, user: User, namespace: str) -> list[Obj]:
        """All rules of a user in a namespace ("": cluster-wide ones only)."""
        return self._held(user, namespace)[0]

    def _held(self, user: User, namespace: str) -> tuple[list[Obj], list[str], list[str]]:
        """A user's rules, where each comes from, and what is wrong with the user's bindings."""
        version = sum(c.version for c in self._collections.values())
        if version != self._version or len(self._cache) > 4096:
            self._cache.clear()
            self._decided.clear()
            self._version = version
        key = (user.name, user.groups, namespace)
        held = self._cache.get(key)
        if held is None:
            held = self._cache[key] = ([], [], [])
            self._compile(user, namespace, held)
        return held

    def _compile(self, user: User, namespace: str, held: tuple[list[Obj], list[str], list[str]]) -> None:
        rules, sources, broken = held
        bindings = [("ClusterRoleBinding", "", e.obj) for _, e in self._collections["clusterrolebindings"].ordered()]
        if namespace:
            inside = self._collections["rolebindings"].ordered(namespace)
            bindings += [("RoleBinding", namespace, e.obj) for _, e in inside]
        for kind, where, binding in bindings:
            subject = self._applies(user, binding.get("subjects"), where)
            if subject is None:
                continue
            role = binding.get("roleRef") or {}
            found = self.role(role, where)
            if found is None:
                plural = f"{role.get('kind', '').lower()}.{_GROUP}"
                broken.append(f'{plural} "{role.get("name")}" not found')
                continue
            name = binding["metadata"]["name"] + (f"/{where}" if where else "")
            source = f'{kind} "{name}" of {role.get("kind")} "{role.get("name")}" to {_described(subject, where)}'
            rules += found
            sources += [source] * len(found)

    @staticmethod
    def _applies(user: User, subjects: Iterable[Obj] | None, namespace: str) -> Obj | None:
        """The first of a binding's subjects that is this user."""
        for subject in subjects or ():
            kind, name = subject.get("kind"), subject.get("name")
            if kind == "User" and name == user.name:
                return subject
            if kind == "Group" and name in user.groups:
                return subject
            if kind == "ServiceAccount":
                where = subject.get("namespace") or namespace
                if where and user.name == f"system:serviceaccount:{where}:{name}":
                    return subject
        return None

    def role_rules(self, reference: Obj, namespace: str) -> list[Obj]:
        """The rules of a role that a binding refers to; none when it does not exist."""
        return self.role(reference, namespace) or []

    def role(self, reference: Obj, namespace: str) -> list[Obj] | None:
        """The same; None when it does not exist."""
        if reference.get("kind") == "ClusterRole":
            entry = self._collections["clusterroles"].get(("", reference.get("name", "")))
        else:
            entry = self._collections["roles"].get((namespace, reference.get("name", "")))
        return (entry.obj.get("rules") or []) if entry is not None else None

    def covers(self, user: User, namespace: str, wanted: Iterable[Obj]) -> list[Obj]:
        """The simple rules among `wanted` that the user does not hold: what would be an escalation."""
        if _ALWAYS in user.groups:
            return []
        held = self.rules(user, namespace)
        return [piece for rule in wanted for piece in _break_down(rule) if not any(_covers(h, piece) for h in held)]


def _described(subject: Obj, namespace: str) -> str:
    name = subject.get("name")
    if subject.get("kind") == "ServiceAccount":
        name = f"{name}/{subject.get('namespace') or namespace}"
    return f'{subject.get("kind")} "{name}"'


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
