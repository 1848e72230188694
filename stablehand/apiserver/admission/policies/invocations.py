"""Which policies concern a write, by which bindings, and with which parameters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from stablehand.apiserver.admission import rules
from stablehand.apiserver.admission.policies.source import Hook
from stablehand.apiserver.core import Attributes, Core
from stablehand.apiserver.verbs import present
from stablehand.machinery import meta, selectors
from stablehand.machinery.resources import Resource
from stablehand.machinery.types import Obj

C = TypeVar("C")


@dataclass(frozen=True, slots=True)
class Invocation(Generic[C]):
    """One evaluation to do: `row` is the version in which the policy wants to be told of the write."""

    hook: Hook[C]
    binding: Obj
    row: Resource
    params: Obj | None


@dataclass(frozen=True, slots=True)
class Misconfigured(Generic[C]):
    """A policy (or a binding of it) that concerns the write and cannot be evaluated."""

    hook: Hook[C]
    binding: Obj | None
    error: str


class _ConfigurationError(Exception):
    pass


def invocations(core: Core, a: Attributes, hooks: list[Hook[C]]) -> Iterator[Invocation[C] | Misconfigured[C]]:
    """What there is to evaluate, in order."""
    for hook in hooks:
        spec = hook.policy.get("spec") or {}
        row = _matched(core, a, spec.get("matchConstraints") or {}, None)
        if row is None:
            continue
        for binding in hook.bindings:
            bound = binding.get("spec") or {}
            chosen = bound.get("matchResources")
            if chosen is not None and _matched(core, a, chosen, row) is None:
                continue
            try:
                found = _params(core, a, spec.get("paramKind"), bound.get("paramRef"))
            except _ConfigurationError as e:
                yield Misconfigured(hook, binding, f"failed to configure binding: {e}")
                continue
            for params in found:
                yield Invocation(hook, binding, row, params)


def _matched(core: Core, a: Attributes, match: Obj, default: Resource | None) -> Resource | None:
    """The row that matchConstraints or matchResources name; `default` where they name no resources."""
    policy = match.get("matchPolicy")
    if not rules.selected(core, a, match.get("namespaceSelector"), match.get("objectSelector")):
        return None
    excluded = match.get("excludeResourceRules")
    if excluded and rules.matching(core, a, excluded, policy) is not None:
        return None
    wanted = match.get("resourceRules")
    return rules.matching(core, a, wanted, policy) if wanted else default


def _params(core: Core, a: Attributes, kind: Obj | None, ref: Obj | None) -> list[Obj | None]:
    """The parameter objects of a binding: [None] when there are none to have. Raises _ConfigurationError."""
    if kind is None or ref is None:
        return [None]
    row = _row(core, kind)
    if row is None:
        shown = f"{kind.get('apiVersion')}, Kind={kind.get('kind')}"
        raise _ConfigurationError(f"failed to find resource referenced by paramKind: '{shown}'")
    namespace = ref.get("namespace") or ""
    if row.namespaced:
        namespace = namespace or ("" if a.resource.key == "namespaces" else a.namespace)
        if not namespace:
            raise _ConfigurationError(
                "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"
            )
    elif namespace:
        raise _ConfigurationError("paramRef.namespace must not be provided for a cluster-scoped `paramKind`")
    collection = core.storage.collection(row)
    if ref.get("name"):
        entry = collection.get((namespace, ref["name"]))
        found = [] if entry is None else [entry.obj]
    else:
        chosen = selectors.from_label_selector(ref.get("selector"))
        found = [e.obj for _, e in collection.ordered(namespace) if chosen.matches(meta.labels(e.obj))]
    if not found and ref.get("parameterNotFoundAction") == "Deny":
        raise _ConfigurationError("no params found for policy binding with `Deny` parameterNotFoundAction")
    return [present.to_version(row, obj) for obj in found]


def _row(core: Core, kind: Obj) -> Resource | None:
    api_version = kind.get("apiVersion") or ""
    return next((r for r in core.registry.rows() if r.api_version == api_version and r.kind == kind.get("kind")), None)
