"""Type checking of a ValidatingAdmissionPolicy against the kinds it is about: warnings, never refusals.

The types of kinds come from the caller (schemas.declare_kind, schemas.declare).
"""

from __future__ import annotations

from collections.abc import Sequence

from stablehand.machinery.cel.composition import Composition
from stablehand.machinery.cel.conditions import ConditionError
from stablehand.machinery.cel.errors import CompileError
from stablehand.machinery.cel.types import Type
from stablehand.machinery.types import Obj

MAX_TYPES = 10


def resources_of(spec: Obj) -> list[tuple[str, str, str]]:
    """The (group, version, plural) that a policy's rules name without wildcards, in order."""
    found: set[tuple[str, str, str]] = set()
    for rule in (spec.get("matchConstraints") or {}).get("resourceRules") or ():
        groups, versions = rule.get("apiGroups") or (), rule.get("apiVersions") or ()
        if any("*" in text for text in (*groups, *versions)):
            continue
        plain = [text for text in rule.get("resources") or () if "*" not in text and "/" not in text]
        found.update((group, version, plural) for group in groups for version in versions for plural in plain)
    return sorted(found)


def expression_warnings(spec: Obj, kinds: Sequence[tuple[str, Type]], params: Type | None) -> list[Obj]:
    """status.typeChecking.expressionWarnings. `kinds`: a text ("apps/v1, Kind=Deployment") and a type for each."""
    warnings: list[Obj] = []
    for index, validation in enumerate(spec.get("validations") or ()):
        for key in ("expression", "messageExpression"):
            source = validation.get(key)
            found = [text for kind in kinds[:MAX_TYPES] if source and (text := _issues(spec, source, kind, params))]
            if found:
                warnings.append({"fieldRef": f"spec.validations[{index}].{key}", "warning": "\n".join(found)})
    return warnings


def _issues(spec: Obj, source: str, kind: tuple[str, Type], params: Type | None) -> str:
    declared = {"object": kind[1], "oldObject": kind[1]}
    if params is not None:
        declared["params"] = params
    composition = Composition(params=spec.get("paramKind") is not None, declared=declared)
    for variable in spec.get("variables") or ():
        try:
            composition.add_variable(variable.get("name") or "", variable.get("expression") or "")
        except ConditionError:
            continue  # what uses it is told of; the variable itself was checked when the policy was written
    try:
        composition.check(source)
    except CompileError as e:
        return f"{kind[0]}: {e}\n"
    return ""
