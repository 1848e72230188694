"""Which writes an admission registration is about: its rules and its selectors. Webhooks and policies ask here.

Conditions in CEL are the callers'; here is only what rules, namespaceSelector and objectSelector say
(k8s.io/apiserver pkg/admission/plugin/webhook/predicates).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from stablehand.apiserver.core import Attributes, Core
from stablehand.machinery import meta, selectors
from stablehand.machinery.resources import Resource, resource
from stablehand.machinery.types import Obj

_NAMESPACES = resource("namespaces")
_GROUP = "admissionregistration.k8s.io"
# What registers admission is never subject to it, or a bad registration could not be taken back.
EXEMPT = frozenset(
    f"{plural}.{_GROUP}"
    for plural in (
        "mutatingwebhookconfigurations", "validatingwebhookconfigurations", "validatingadmissionpolicies",
        "validatingadmissionpolicybindings", "mutatingadmissionpolicies", "mutatingadmissionpolicybindings",
    )
)  # fmt: skip


def requested(a: Attributes) -> Resource:
    """The resource as the client named it (its version may not be the stored one)."""
    return a.request.info.resource or a.resource


def matching(core: Core, a: Attributes, rules: Sequence[Obj], match_policy: str | None) -> Resource | None:
    """The row (the requested one, or with matchPolicy Equivalent another version of it) that a rule names; None when
    no rule is about this write."""
    asked = requested(a)
    rows = core.registry.equivalent(asked) if match_policy != "Exact" else [asked]
    return next((row for row in rows if any(_applies(rule, row, a) for rule in rules)), None)


def _applies(rule: Obj, row: Resource, a: Attributes) -> bool:
    scope = rule.get("scope") or "*"
    namespaced = bool(a.namespace) and a.resource.key != "namespaces"
    if scope != "*" and (scope == "Namespaced") != namespaced:
        return False
    if not _among(rule.get("apiGroups"), row.group) or not _among(rule.get("apiVersions"), row.version):
        return False
    if not _among(rule.get("operations"), a.operation):
        return False
    if rule.get("resourceNames") and a.name not in rule["resourceNames"]:
        return False
    for text in rule.get("resources") or ():
        wanted, _, sub = text.partition("/")
        if wanted in ("*", row.plural) and sub in ("*", a.subresource):
            return True
    return False


def _among(wanted: Iterable[str] | None, value: str) -> bool:
    return any(w in ("*", value) for w in wanted or ())


def namespace_of(core: Core, a: Attributes) -> Obj | None:
    """The Namespace a write is in (for a Namespace itself: as it is written); None for what is cluster-scoped."""
    if a.resource.key == "namespaces":
        return a.obj if a.obj is not None and not a.subresource else a.old
    if not a.namespace:
        return None
    entry = core.storage.collection(_NAMESPACES).get(("", a.namespace))
    return entry.obj if entry is not None else {"metadata": {"name": a.namespace}}


def selected(core: Core, a: Attributes, namespace_selector: Obj | None, object_selector: Obj | None) -> bool:
    """Do the selectors (absent ones match everything) take in this write?"""
    if namespace_selector:
        namespace = namespace_of(core, a)
        if namespace is not None:
            chosen = selectors.from_label_selector(namespace_selector)
            if not chosen.matches(meta.labels(namespace)):
                return False
    if object_selector:
        chosen = selectors.from_label_selector(object_selector)
        return any(o is not None and "metadata" in o and chosen.matches(meta.labels(o)) for o in (a.obj, a.old))
    return True
