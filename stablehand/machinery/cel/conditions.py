"""Named boolean conditions over a write under admission: matchConditions of webhooks and of policies.

`admission_environment` declares what such expressions see; `compile_condition` compiles one (for validation of the
registration: raises CompileError), and `evaluate_conditions` says whether all hold. Who builds the variables is the
API server's admission.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from stablehand.machinery.cel.checker import Environment
from stablehand.machinery.cel.errors import CelError, CompileError
from stablehand.machinery.cel.program import Program, compile_expression
from stablehand.machinery.cel.types import (
    BOOL,
    DYN,
    INT,
    STRING,
    TIMESTAMP,
    Field,
    ObjectType,
    Type,
    list_of,
    map_of,
)
from stablehand.machinery.types import Obj


def _object(name: str, /, **fields: Type) -> ObjectType:
    return ObjectType(f"kubernetes.{name}", (), {key: Field(t, key) for key, t in fields.items()})


_GVK = _object("GroupVersionKind", group=STRING, version=STRING, kind=STRING)
_GVR = _object("GroupVersionResource", group=STRING, version=STRING, resource=STRING)
_STRINGS, _TEXTS = list_of(STRING), map_of(STRING, STRING)
_USER = _object("UserInfo", username=STRING, uid=STRING, groups=_STRINGS, extra=map_of(STRING, _STRINGS))
REQUEST = _object(
    "AdmissionRequest", kind=_GVK, resource=_GVR, subResource=STRING, requestKind=_GVK, requestResource=_GVR,
    requestSubResource=STRING, name=STRING, namespace=STRING, operation=STRING, userInfo=_USER, dryRun=BOOL,
    options=DYN,
)  # fmt: skip
_NAMESPACE_CONDITION = _object(
    "NamespaceCondition", status=STRING, type=STRING, lastTransitionTime=TIMESTAMP, message=STRING, reason=STRING
)
_NAMESPACE_META = _object(
    "NamespaceMetadata", name=STRING, generateName=STRING, namespace=STRING, labels=_TEXTS, annotations=_TEXTS,
    UID=STRING, creationTimestamp=TIMESTAMP, deletionGracePeriodSeconds=INT, deletionTimestamp=TIMESTAMP,
    generation=INT, resourceVersion=STRING, finalizers=_STRINGS,
)  # fmt: skip
NAMESPACE = _object(
    "Namespace",
    metadata=_NAMESPACE_META,
    spec=_object("NamespaceSpec", finalizers=_STRINGS),
    status=_object("NamespaceStatus", conditions=list_of(_NAMESPACE_CONDITION), phase=STRING),
)


@lru_cache(maxsize=16)
def admission_variables(params: bool = False, authorizer: bool = True) -> Mapping[str, Type]:
    """What every expression of admission sees; policies with a paramKind see `params` too."""
    out: dict[str, Type] = {"object": DYN, "oldObject": DYN, "namespaceObject": NAMESPACE, "request": REQUEST}
    if params:
        out["params"] = DYN
    if authorizer:
        out["authorizer"] = Type("kubernetes.authorization.Authorizer")
        out["authorizer.requestResource"] = Type("kubernetes.authorization.ResourceCheck")
    return out


class ConditionError(Exception):
    """An expression that cannot be used; str() is the detail of the field error."""


def compile_typed(source: str, env: Environment, wanted: Sequence[Type]) -> Program:
    """A program whose value is of one of the types. Raises CompileError; its text is the API's detail."""
    try:
        program = compile_expression(source, env)
    except CompileError as e:
        raise ConditionError(f"compilation failed: {e}") from None
    if program.type not in wanted:
        shown = str(wanted[0]) if len(wanted) == 1 else f"one of [{' '.join(map(str, wanted))}]"
        raise ConditionError(f"must evaluate to {shown} but got {program.type}")
    return program


@lru_cache(maxsize=2048)
def compile_condition(source: str, params: bool = False) -> Program:
    """A match condition. Raises ConditionError. Cached: call it at every evaluation."""
    return compile_typed(source.strip(), Environment(admission_variables(params)), (BOOL,))


def evaluate(program: Program, variables: Mapping[str, Any]) -> Any:
    """The value; raises CelError with the text that admission shows."""
    try:
        return program.evaluate(variables)
    except CelError as e:
        raise CelError(f"expression '{program.source}' resulted in error: {e}") from None


def evaluate_conditions(
    conditions: Sequence[Obj] | None, variables: Mapping[str, Any], failure_policy: str = "Fail", params: bool = False
) -> tuple[bool, str]:
    """Whether all matchConditions hold, and an error: (True, ""), (False, "") or (False, why).

    A condition that is false decides, whatever errors others have. An error under failurePolicy Ignore is no match;
    under Fail the request is to be refused with the text. `variables`: object, oldObject, request, namespaceObject,
    authorizer (and "authorizer.requestResource"), params.
    """
    found: list[str] = []
    for condition in conditions or ():
        try:
            program = compile_condition(condition.get("expression") or "", params)
            if evaluate(program, variables) is not True:
                return False, ""
        except (CelError, ConditionError) as e:
            found.append(str(e))
    if found and failure_policy != "Ignore":
        return False, found[0] if len(found) == 1 else f"[{', '.join(found)}]"
    return not found, ""
