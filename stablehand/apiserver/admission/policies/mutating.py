"""MutatingAdmissionPolicy: changes writes by apply configurations and JSON patches that expressions build."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from stablehand.apiserver import conversion, errors
from stablehand.apiserver.admission import rules
from stablehand.apiserver.admission.adopt import Unfit, adopt, schema_of
from stablehand.apiserver.admission.policies.invocations import Invocation, Misconfigured, invocations
from stablehand.apiserver.admission.policies.source import Source
from stablehand.apiserver.admission.variables import variables_of
from stablehand.apiserver.admission.webhooks.review import converted
from stablehand.apiserver.contract import StatusError
from stablehand.apiserver.core import Attributes, Core
from stablehand.machinery import patch
from stablehand.machinery import schema as schemas
from stablehand.machinery.cel import CelError, ConditionError, Program, evaluate_conditions
from stablehand.machinery.cel.composition import APPLY_CONFIGURATION, JSON_PATCHES, Composition
from stablehand.machinery.cel.conditions import evaluate
from stablehand.machinery.cel.values import Built, to_json
from stablehand.machinery.fieldsets import SetError, child_schema
from stablehand.machinery.ownershipmerge import merge
from stablehand.machinery.resources import resource
from stablehand.machinery.types import Obj, copy_object

_GROUP = "admissionregistration.k8s.io"
_POLICIES = resource(f"mutatingadmissionpolicies.{_GROUP}")
_BINDINGS = resource(f"mutatingadmissionpolicybindings.{_GROUP}")


@dataclass(frozen=True, slots=True)
class Mutation:
    """`json`: the expression gives a list of JSONPatch, else an apply configuration."""

    program: Program | str
    json: bool


def compile_spec(spec: Obj, composition: Composition) -> tuple[Mutation, ...]:
    made = []
    for mutation in spec.get("mutations") or ():
        json = mutation.get("patchType") == "JSONPatch"
        source = (mutation.get("jsonPatch" if json else "applyConfiguration") or {}).get("expression") or ""
        try:
            program: Program | str = composition.compile(source, (JSON_PATCHES if json else APPLY_CONFIGURATION,))
        except ConditionError as e:
            program = str(e)
        made.append(Mutation(program, json))
    return tuple(made)


class MutatingPolicies:
    """The policies of a server, and what they make of a write."""

    def __init__(self, core: Core) -> None:
        self._source: Source[tuple[Mutation, ...]] = Source(core, _POLICIES, _BINDINGS, compile_spec, objects=True)

    async def mutate(self, core: Core, a: Attributes) -> None:
        hooks = self._source.hooks()
        if not hooks or a.resource.key in rules.EXEMPT:
            return
        failures: list[str] = []
        for found in invocations(core, a, hooks):
            error = ""
            if isinstance(found, Misconfigured):
                error = found.error
            elif a.obj is not None and self._wanted(a, found):
                error = await _mutate(core, a, found)
            if error and found.hook.failure_policy != "Ignore":
                by = f"with binding '{found.binding['metadata']['name']}' " if found.binding is not None else ""
                failures.append(f"policy '{found.hook.name}' {by}denied request: {error}")
        if failures:
            raise _refusal(a, failures)

    def _wanted(self, a: Attributes, found: Invocation[tuple[Mutation, ...]]) -> bool:
        """In the second round only those that asked for it, and whose work was changed by somebody after them."""
        if a.mutations_seen is None:
            return True
        seen = a.mutations_seen.get(_key(found))
        again = found.hook.policy["spec"].get("reinvocationPolicy") == "IfNeeded"
        return again and seen is not None and seen != orjson.dumps(a.obj)


def _key(found: Invocation[Any]) -> str:
    meta = (found.params or {}).get("metadata") or {}
    params = f"{meta.get('namespace', '')}/{meta.get('name', '')}"
    return f"policy/{found.hook.name}/{found.binding['metadata']['name']}/{params}"


def _refusal(a: Attributes, failures: list[str]) -> StatusError:
    error = errors.forbidden(a.resource, a.name, "")
    error.message, error.reason = failures[0], "Invalid"
    error.details = {**(error.details or {}), "causes": [{"message": text} for text in failures]}
    return error


async def _mutate(core: Core, a: Attributes, found: Invocation[tuple[Mutation, ...]]) -> str:
    """Applies a policy's mutations in order, each to what the one before it left. Answers why it could not, or ""."""
    hook, row = found.hook, found.row
    conditions = hook.policy["spec"].get("matchConditions")
    if conditions:
        await conversion.tell(core, a, row)
        variables = {**variables_of(core, a, row), "params": found.params}
        params = hook.policy["spec"].get("paramKind") is not None
        matched, error = evaluate_conditions(conditions, variables, hook.failure_policy, params)
        if not matched:
            return error
    first = ""
    for mutation in hook.compiled:
        await conversion.tell(core, a, row)
        try:
            told = converted(a, a.obj, row)
            assert told is not None
            variables = hook.composition.activation({**variables_of(core, a, row), "params": found.params})
            if isinstance(mutation.program, str):
                raise CelError(mutation.program)
            made = evaluate(mutation.program, variables)
            out = _json_patched(told, made) if mutation.json else _applied(schema_of(core, row, told), told, made)
            if out != told:
                adopt(core, a, row, await conversion.told(core, a, row, copy_object(out)), strict=True)
        except (CelError, Unfit, patch.PatchError) as e:
            first = first or str(e)
    if a.mutations_seen is None:
        a.calls[_key(found)] = orjson.dumps(a.obj)
    return first


# --- JSON patches


def _json_patched(obj: Obj, operations: Any) -> Obj:
    """The object after the patch; unchanged when a test operation fails. Raises CelError, PatchError."""
    if not isinstance(operations, list):
        raise CelError("type mismatch: JSONPatchType.expression should evaluate to array")
    given = []
    for operation in operations:
        if not isinstance(operation, Built):
            raise CelError("type mismatch: JSONPatchType.expression should evaluate to array of JSONPatch")
        value = operation.get("value")
        if isinstance(value, Built):
            _check_names(value)
        given.append(to_json(operation))
    try:
        return patch.json_patch(obj, given)
    except patch.PatchError as e:
        if e.message.endswith("test failed"):
            return obj
        raise CelError(f"JSONPath: {e.message}") from None


# --- apply configurations


def _applied(schema: schemas.Schema | None, obj: Obj, configuration: Any) -> Obj:
    """The object with the configuration merged in, as server-side apply merges. Raises CelError."""
    if not isinstance(configuration, Built):
        raise CelError("unsupported return type from ApplyConfiguration expression")
    _check_names(configuration)
    if schema is None:
        raise CelError("error applying patch: type converter must not be nil")
    wanted: Obj = {**to_json(configuration), "apiVersion": obj["apiVersion"], "kind": obj["kind"]}
    wrong = schemas.validate(schema, wanted) or [
        f".{p}: field not declared in schema" for p in schemas.unknown_fields(schema, wanted)
    ]
    if wrong:
        raise CelError(f"error applying patch: failed to convert patch object to typed object: {wrong[0]}")
    whole = list(_atomics(schema, wanted, ""))
    if whole:
        text = f"may not mutate atomic arrays, maps or structs: {', '.join(whole)}"
        raise CelError(f"error applying patch: invalid ApplyConfiguration: {text}")
    try:
        merged: Obj = merge(schema, obj, wanted)
    except SetError as e:
        raise CelError(f"error applying patch: failed to merge patch: {e}") from None
    return merged


def _check_names(root: Built) -> None:
    """Object.spec{…} belongs in the field spec of Object{…}, and so on. Raises CelError."""
    wrong = list(_misnamed(root, root.type_name))
    if wrong:
        raise CelError("type mismatch: " + "\n".join(wrong))


def _misnamed(value: Any, expected: str) -> Iterator[str]:
    if isinstance(value, Built):
        if value.type_name != expected:
            why = f'expected "{expected}", which matches field name path from root Object type'
            yield f'unexpected type name "{value.type_name}", {why}'
        for name, part in value.items():
            yield from _misnamed(part, f"{expected}.{name}")
    elif isinstance(value, list):
        for part in value:
            yield from _misnamed(part, expected)
    elif isinstance(value, dict):
        for part in value.values():
            yield from _misnamed(part, expected)


def _atomics(schema: schemas.Schema, value: Any, path: str) -> Iterator[str]:
    """Where the configuration would replace a whole that can only be owned as one."""
    if isinstance(value, dict) and schema.kind in (schemas.OBJECT, schemas.MAP):
        if schema.map_type == "atomic":
            yield path
        for name, part in value.items():
            yield from _atomics(child_schema(schema, name), part, f"{path}.{name}")
    elif isinstance(value, list) and schema.kind == schemas.ARRAY:
        if schema.list_type not in ("set", "map"):
            yield path
        for index, part in enumerate(value):
            if schema.item is not None:
                yield from _atomics(schema.item, part, f"{path}[{index}]")
