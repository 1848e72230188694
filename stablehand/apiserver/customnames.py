"""Which of its names a CustomResourceDefinition gets, and what its conditions say of that. No I/O.

Follows apiextensions-apiserver pkg/controller/status/naming_controller.go and apiapproval. Names are looked up among
the accepted ones of the other definitions of the group.
"""

from __future__ import annotations

from collections.abc import Iterable

from stablehand.machinery.conditions import get_condition, set_condition
from stablehand.machinery.types import Obj, copy_object

_APPROVED = "api-approved.kubernetes.io"
_PROTECTED = ("k8s.io", "kubernetes.io")


def set_conditions(crd: Obj, others: Iterable[Obj], now: float) -> bool:
    """Brings status.acceptedNames and the conditions of a definition up to date, in place; whether that changed it."""
    status = crd.setdefault("status", {})
    accepted, clash = _accepted(crd, others)
    changed = bool(status.get("acceptedNames") != accepted)
    status["acceptedNames"] = accepted
    if clash:
        changed |= set_condition(status, "NamesAccepted", "False", clash[0], clash[1], now)
    else:
        changed |= set_condition(status, "NamesAccepted", "True", "NoConflicts", "no conflicts found", now)
    established = (get_condition(status, "Established") or {}).get("status") == "True"
    if not clash and not established:
        text = "the initial names have been accepted"
        changed |= set_condition(status, "Established", "True", "InitialNamesAccepted", text, now)
    elif clash and not established:
        # What is established once stays so, with the names that it has.
        changed |= set_condition(status, "Established", "False", "NotAccepted", "not all names are accepted", now)
    return _approve(crd, now) or changed


def _accepted(crd: Obj, others: Iterable[Obj]) -> tuple[Obj, tuple[str, str] | None]:
    """The accepted names, and of the last one that somebody else has: (reason, message)."""
    wanted: Obj = crd["spec"]["names"]
    have: Obj = (crd.get("status") or {}).get("acceptedNames") or {}
    resources: set[str] = set()
    kinds: set[str] = set()
    for other in others:
        taken = (other.get("status") or {}).get("acceptedNames") or {}
        resources.update(filter(None, (taken.get("plural"), taken.get("singular"), *(taken.get("shortNames") or ()))))
        kinds.update(filter(None, (taken.get("kind"), taken.get("listKind"))))
    out: Obj = {"plural": "", "kind": "", **copy_object(have)}
    clash: tuple[str, str] | None = None
    checks = (("plural", resources, "Plural"), ("singular", resources, "Singular"), ("kind", kinds, "Kind"))
    for key, taken_names, label in (*checks, ("listKind", kinds, "ListKind")):
        name = wanted.get(key)
        if name != have.get(key) and name in taken_names:
            clash = (f"{label}Conflict", f'"{name}" is already in use')
        elif name:
            out[key] = name
    short = [n for n in wanted.get("shortNames") or () if n not in (have.get("shortNames") or ()) and n in resources]
    if short:
        texts = [f'"{name}" is already in use' for name in dict.fromkeys(short)]
        clash = ("ShortNamesConflict", texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]")
    else:
        _same(out, wanted, "shortNames")
    _same(out, wanted, "categories")
    return out, clash


def _same(out: Obj, wanted: Obj, key: str) -> None:
    if wanted.get(key):
        out[key] = list(wanted[key])
    else:
        out.pop(key, None)


def _approve(crd: Obj, now: float) -> bool:
    """Groups of the Kubernetes community say in a condition who approved them."""
    group = crd["spec"]["group"]
    if group not in _PROTECTED and not group.endswith(tuple(f".{g}" for g in _PROTECTED)):
        return False
    value = (crd["metadata"].get("annotations") or {}).get(_APPROVED) or ""
    kind = "KubernetesAPIApprovalPolicyConformant"
    if not value:
        text = f'protected groups must have approval annotation "{_APPROVED}", see https://github.com/kubernetes/'
        text += "enhancements/pull/1111"
        return set_condition(crd["status"], kind, "False", "MissingAnnotation", text, now)
    if value.startswith("unapproved"):
        return set_condition(crd["status"], kind, "False", "UnapprovedAnnotation", f'not approved: "{value}"', now)
    return set_condition(crd["status"], kind, "True", "ApprovedAnnotation", f"approved in {value}", now)
