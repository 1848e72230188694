"""ValidatingAdmissionPolicy: refuses, or warns of, writes for which a policy's expression is not true."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from stablehand.apiserver import conversion, errors
from stablehand.apiserver.admission import rules
from stablehand.apiserver.admission.policies.invocations import Invocation, Misconfigured, invocations
from stablehand.apiserver.admission.policies.source import Source
from stablehand.apiserver.admission.variables import variables_of
from stablehand.apiserver.contract import StatusError
from stablehand.apiserver.core import Attributes, Core
from stablehand.machinery.cel import CelError, ConditionError, Program, evaluate_conditions
from stablehand.machinery.cel.composition import Composition
from stablehand.machinery.cel.conditions import evaluate
from stablehand.machinery.cel.types import BOOL, DYN, NULL, STRING
from stablehand.machinery.resources import Resource, resource
from stablehand.machinery.types import Obj

log = logging.getLogger("stablehand.audit")

_GROUP = "admissionregistration.k8s.io"
_POLICIES = resource(f"validatingadmissionpolicies.{_GROUP}")
_BINDINGS = resource(f"validatingadmissionpolicybindings.{_GROUP}")
_CODES = {"Unauthorized": 401, "Forbidden": 403, "RequestEntityTooLarge": 413, "Invalid": 422}
_MAX_MESSAGE = 5 * 1024


@dataclass(frozen=True, slots=True)
class Validation:
    """A validation, compiled; `program` is an error text where it cannot be evaluated."""

    program: Program | str
    message: Program | None
    spec: Obj


@dataclass(frozen=True, slots=True)
class Compiled:
    validations: tuple[Validation, ...]
    annotations: tuple[tuple[str, Program | str], ...]


@dataclass(frozen=True, slots=True)
class Denial:
    message: str
    reason: str = "Invalid"


def compile_spec(spec: Obj, composition: Composition) -> Compiled:
    validations = []
    for validation in spec.get("validations") or ():
        program: Program | str
        message = None
        try:
            program = composition.compile(validation.get("expression") or "", (BOOL,))
            if (validation.get("messageExpression") or "").strip():
                message = composition.compile(validation["messageExpression"], (STRING,), authorizer=False)
        except ConditionError as e:
            program = str(e)
        validations.append(Validation(program, message, validation))
    annotations: list[tuple[str, Program | str]] = []
    for annotation in spec.get("auditAnnotations") or ():
        try:
            made: Program | str = composition.compile(annotation.get("valueExpression") or "", (STRING, NULL, DYN))
        except ConditionError as e:
            made = str(e)
        annotations.append((annotation.get("key") or "", made))
    return Compiled(tuple(validations), tuple(annotations))


class ValidatingPolicies:
    """The policies of a server, and what they say of a write."""

    def __init__(self, core: Core) -> None:
        self._source: Source[Compiled] = Source(core, _POLICIES, _BINDINGS, compile_spec, objects=False)

    async def validate(self, core: Core, a: Attributes) -> None:
        hooks = self._source.hooks()
        if not hooks or a.resource.key in rules.EXEMPT:
            return
        told: dict[Resource, Obj] = {}
        denied: StatusError | None = None
        for found in invocations(core, a, hooks):
            if isinstance(found, Misconfigured):
                if found.hook.failure_policy != "Ignore":
                    denied = denied or _refusal(a, found.hook.name, found.binding, Denial(found.error))
                continue
            if found.row not in told:
                await conversion.tell(core, a, found.row)
                told[found.row] = variables_of(core, a, found.row)
            denials, broken = _decide(found, told[found.row])
            for denial in denials:
                denied = denied or _act(a, found, denial)
            for denial in broken:
                denied = denied or _refusal(a, found.hook.name, found.binding, denial)
        if denied is not None:
            raise denied


def _act(a: Attributes, found: Invocation[Compiled], denial: Denial) -> StatusError | None:
    """Does what the binding wants done about a denial."""
    refusal = None
    name, binding = found.hook.name, found.binding["metadata"]["name"]
    for action in found.binding["spec"].get("validationActions") or ():
        if action == "Deny":
            refusal = _refusal(a, name, found.binding, denial)
        elif action == "Warn":
            a.request.warnings.append(
                f"Validation failed for ValidatingAdmissionPolicy '{name}' with binding '{binding}': {denial.message}"
            )
        elif action == "Audit":
            log.info(
                "validation.policy.admission.k8s.io/validation_failure policy=%s binding=%s %s %s: %s",
                name,
                binding,
                a.resource.key,
                a.name,
                denial.message,
            )
    return refusal


def _refusal(a: Attributes, policy: str, binding: Obj | None, denial: Denial) -> StatusError:
    by = f" with binding '{binding['metadata']['name']}'" if binding is not None else ""
    message = f"ValidatingAdmissionPolicy '{policy}'{by} denied request: {denial.message}"
    error = errors.forbidden(a.resource, a.name, message)
    error.reason, error.code = denial.reason, _CODES.get(denial.reason, 422)
    error.details = {**(error.details or {}), "causes": [{"message": message}]}
    return error


def _decide(found: Invocation[Compiled], told: Obj) -> tuple[list[Denial], list[Denial]]:
    """What the policy has against a write: denials that the binding decides about, and errors of audit annotations,
    which deny whatever it says."""
    hook = found.hook
    variables = hook.composition.activation({**told, "params": found.params})
    conditions = hook.policy["spec"].get("matchConditions")
    if conditions:
        params = hook.policy["spec"].get("paramKind") is not None
        matched, error = evaluate_conditions(conditions, variables, hook.failure_policy, params)
        if error:
            return [Denial(error)], []
        if not matched:
            return [], []
    denials: list[Denial] = []
    for validation in hook.compiled.validations:
        try:
            if isinstance(validation.program, str):
                raise CelError(validation.program)
            if evaluate(validation.program, variables) is not True:
                denials.append(Denial(_message(validation, variables), validation.spec.get("reason") or "Invalid"))
        except CelError as e:
            if hook.failure_policy != "Ignore":
                denials.append(Denial(str(e)))
    return denials, list(_annotate(found, variables))


def _message(validation: Validation, variables: Obj) -> str:
    if validation.message is not None:
        try:
            text: Any = validation.message.evaluate(variables)
        except CelError as e:
            log.debug("messageExpression: %s", e)
            text = None
        if isinstance(text, str):
            text = text.strip()
            if text and "\n" not in text and len(text.encode()) <= _MAX_MESSAGE:
                return text
    given = (validation.spec.get("message") or "").strip()
    return given or f"failed expression: {(validation.spec.get('expression') or '').strip()}"


def _annotate(found: Invocation[Compiled], variables: Obj) -> list[Denial]:
    """Audit annotations go to the log of that name; what they cannot be made of is an error of the policy."""
    broken: list[Denial] = []
    for key, program in found.hook.compiled.annotations:
        try:
            if isinstance(program, str):
                raise CelError(program)
            value = evaluate(program, variables)
        except CelError as e:
            if found.hook.failure_policy != "Ignore":
                broken.append(Denial(str(e)))
            continue
        if isinstance(value, str) and value.strip():
            log.info("%s/%s=%s", found.hook.name, key, value.strip())
        elif value is not None and not isinstance(value, str):
            kind = type(value).__name__
            text = f"valueExpression '{program.source}' resulted in unsupported return type: {kind}. "
            broken.append(Denial(text + "Return type must be either string or null."))
    return broken
