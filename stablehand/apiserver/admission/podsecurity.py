"""PodSecurity: the levels that a namespace's labels ask of its pods. Enforced on pods; workloads are only warned of, for
their pods will be refused (plugin/pkg/admission/security/podsecurity). What breaks a level is machinery.podsecurity's."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable

from stablehand.apiserver import errors
from stablehand.apiserver.core import Attributes, Core
from stablehand.apiserver.discovery import version
from stablehand.machinery.fielderrors import aggregate, invalid_message
from stablehand.machinery.meta import controller_of, nested
from stablehand.machinery.podsecurity.evaluate import details, evaluate, reasons
from stablehand.machinery.podsecurity.levels import PREFIX, PRIVILEGED, LevelVersion, is_labelled, policy_of, stricter
from stablehand.machinery.resources import resource
from stablehand.machinery.types import Obj

log = logging.getLogger("stablehand.audit")

_NAMESPACES, _PODS = resource("namespaces"), resource("pods")
_TEMPLATE = ("spec", "template")
_TEMPLATES = {
    "podtemplates": ("template",),
    "replicationcontrollers": _TEMPLATE,
    "replicasets.apps": _TEMPLATE,
    "deployments.apps": _TEMPLATE,
    "statefulsets.apps": _TEMPLATE,
    "daemonsets.apps": _TEMPLATE,
    "jobs.batch": _TEMPLATE,
    "cronjobs.batch": ("spec", "jobTemplate", "spec", "template"),
}
# The others carry the pod itself.
_IGNORED = frozenset({"exec", "attach", "binding", "eviction", "log", "portforward", "proxy", "status"})
_SECCOMP = "container.seccomp.security.alpha.kubernetes.io/"
# How many pods of a namespace are looked at, and for how long, when it becomes stricter.
MOST_PODS, MOST_SECONDS = 3000, 1.0
_AT_ONCE = 50


def check(core: Core, a: Attributes) -> Awaitable[None] | None:
    if a.obj is None or a.operation not in ("CREATE", "UPDATE"):
        return None
    key = a.resource.key
    if key == "pods":
        if a.subresource not in _IGNORED and (labels := _labels_of(core, a.namespace)):
            if a.operation == "CREATE" or (a.old is not None and _matters(a.old, a.obj)):
                _evaluate(core, a, labels, a.obj["metadata"], a.obj["spec"], enforced=True)
    elif a.subresource:
        return None
    elif key == "namespaces":
        return _namespace(core, a, a.obj)
    elif (path := _TEMPLATES.get(key)) and (labels := _labels_of(core, a.namespace)):
        if template := nested(a.obj, *path):
            _evaluate(core, a, labels, template.get("metadata") or {}, template.get("spec") or {}, enforced=False)
    return None


def _labels_of(core: Core, namespace: str) -> dict[str, str] | None:
    """The labels of a namespace that asks for anything."""
    entry = core.storage.collection(_NAMESPACES).get(("", namespace))
    labels: dict[str, str] | None = entry.obj["metadata"].get("labels") if entry is not None else None
    return labels if is_labelled(labels) else None


def _matters(old: Obj, new: Obj) -> bool:
    """Does an update of a pod change what its levels look at? Of what may change, these are the images and who is in it."""
    before, after = old["spec"], new["spec"]
    for kind in ("containers", "initContainers"):
        one, other = before.get(kind) or [], after.get(kind) or []
        if len(one) != len(other) or any(_differs(old, new, was, now) for was, now in zip(one, other, strict=True)):
            return True
    known = {c["name"]: c for c in before.get("ephemeralContainers") or ()}
    return any(
        (was := known.get(now["name"])) is None or _differs(old, new, was, now)
        for now in after.get("ephemeralContainers") or ()
    )


def _differs(old: Obj, new: Obj, was: Obj, now: Obj) -> bool:
    if was.get("image") != now.get("image"):
        return True
    key = _SECCOMP + now["name"]
    return bool(nested(old, "metadata", "annotations", key) != nested(new, "metadata", "annotations", key))


def _evaluate(core: Core, a: Attributes, labels: dict[str, str], meta: Obj, spec: Obj, *, enforced: bool) -> None:
    policy, wrong = policy_of(labels)
    if wrong:
        _write_down(a, "error", f"Failed to parse policy: {aggregate(wrong)}")
    refused = evaluate(policy.enforce, meta, spec) if enforced else ()
    if enforced:
        _count(core, a, "deny" if refused else "allow", "enforce", policy.enforce)
    if noted := evaluate(policy.audit, meta, spec):
        _count(core, a, "deny", "audit", policy.audit)
        _write_down(a, "audit-violations", f'would violate PodSecurity "{policy.audit}": {details(noted)}')
    if refused:
        raise errors.forbidden(a.resource, a.name, f'violates PodSecurity "{policy.enforce}": {details(refused)}')
    if warned := evaluate(policy.warn, meta, spec):
        _count(core, a, "deny", "warn", policy.warn)
        a.request.warnings.append(f'would violate PodSecurity "{policy.warn}": {details(warned)}')


def _count(core: Core, a: Attributes, decision: str, mode: str, level: LevelVersion) -> None:
    known = level.minor is None or level.minor <= int(version()["minor"])
    told = str(level).partition(":")[2] if known else "future"
    told = "latest" if level.level == PRIVILEGED else told
    kind = "pod" if a.resource.key == "pods" else "controller"
    core.pod_security[decision, level.level, told, mode, a.operation.lower(), kind, a.subresource] += 1


def _write_down(a: Attributes, annotation: str, text: str) -> None:
    log.info("%s%s %s %s/%s: %s", PREFIX, annotation, a.resource.key, a.namespace, a.name, text)


async def _namespace(core: Core, a: Attributes, namespace: Obj) -> None:
    """The labels must be right where they are new; who makes them stricter learns which pods would not be let in now."""
    labels, before = (o["metadata"].get("labels") if o else None for o in (namespace, a.old))
    if labels == before:
        return
    new, wrong = policy_of(labels)
    old, wrong_before = policy_of(before)
    if wrong and wrong != wrong_before:
        message = invalid_message("Namespace", a.name, wrong)
        raise errors.invalid("", "Namespace", a.name, message, [e.cause() for e in wrong])
    level = new.enforce
    if a.operation == "CREATE" or level == old.enforce or level.level == PRIVILEGED:
        return
    if level.minor == old.enforce.minor and not stricter(level, old.enforce):
        return
    a.request.warnings.extend(await _existing(core, a.name, level))


async def _existing(core: Core, namespace: str, level: LevelVersion) -> list[str]:
    """Warnings of the pods that break a level; one line for all that break the same rules."""
    pods = [entry.obj for _, entry in core.storage.collection(_PODS).ordered(namespace)]
    broken: dict[str, list[str]] = {}
    looked_at, end = 0, time.monotonic() + MOST_SECONDS
    for pod in _varied(pods)[:MOST_PODS]:
        if looked_at and not looked_at % _AT_ONCE:
            await asyncio.sleep(0)  # thousands of pods must not hold up every other request
        looked_at += 1
        if found := evaluate(level, pod["metadata"], pod["spec"]):
            broken.setdefault(reasons(found), []).append(pod["metadata"]["name"])
        if time.monotonic() > end:
            break
    warnings = []
    if looked_at < len(pods):
        warnings.append(
            f"new PodSecurity enforce level only checked against the first {looked_at} of {len(pods)} existing pods"
        )
    if broken:
        warnings.append(f'existing pods in namespace "{namespace}" violate the new PodSecurity enforce level "{level}"')
    return warnings + sorted(f"{_and_others(names)}: {why}" for why, names in broken.items())


def _varied(pods: list[Obj]) -> list[Obj]:
    """The first pod of each controller before its others, which will be like it."""
    first, others, seen = [], [], set()
    for pod in pods:
        owner = controller_of(pod)
        if owner is not None and owner["uid"] in seen:
            others.append(pod)
        else:
            first.append(pod)
            if owner is not None:
                seen.add(owner["uid"])
    return first + others


def _and_others(names: list[str]) -> str:
    others = len(names) - 1
    return min(names) + (f" (and {others} other pod{'s' if others > 1 else ''})" if others else "")
