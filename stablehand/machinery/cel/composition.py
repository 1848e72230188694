"""The expressions of one admission policy: its variables, each of which may use those before it, and all that use them.

Used to say what is wrong with a policy, and again to evaluate it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stablehand.machinery.cel.checker import JSON_PATCH, Environment
from stablehand.machinery.cel.conditions import ConditionError, admission_variables, compile_typed
from stablehand.machinery.cel.errors import CelError, CompileError
from stablehand.machinery.cel.program import Program, compile_expression
from stablehand.machinery.cel.types import DYN, Field, ObjectType, Type, list_of
from stablehand.machinery.cel.values import Lazy
from stablehand.machinery.types import Obj

APPLY_CONFIGURATION = ObjectType("Object")
JSON_PATCHES = list_of(ObjectType(JSON_PATCH))


class Composition:
    """Compiles a policy's expressions. `params`: it has a paramKind; `objects`: it mutates, so that Object{} and
    JSONPatch{} can be built; `declared` overrides the types of variables (for type checking against a schema)."""

    def __init__(
        self, *, params: bool = False, objects: bool = False, declared: Mapping[str, Type] | None = None
    ) -> None:
        self._params, self._objects, self._declared = params, objects, declared or {}
        self._fields: dict[str, Field] = {}
        self._programs: dict[str, Program | ConditionError] = {}

    def _environment(self, authorizer: bool) -> Environment:
        known = {**admission_variables(self._params, authorizer), **self._declared}
        if self._fields:
            known["variables"] = ObjectType("kubernetes.variables", (), dict(self._fields))
        return Environment(known, self._objects)

    def add_variable(self, name: str, source: str) -> None:
        """Declares variables.name. Raises ConditionError; the variable then is of unknown type, and an error to use."""
        try:
            program = compile_expression(source, self._environment(True))
        except CompileError as e:
            error = self._programs[name] = ConditionError(f"compilation failed: {e}")
            self._fields[name] = Field(DYN, name)
            raise error from None
        self._programs[name] = program
        self._fields[name] = Field(program.type, name)

    def compile(self, source: str, wanted: Sequence[Type], *, authorizer: bool = True) -> Program:
        """An expression whose value is of one of the types. Raises ConditionError."""
        return compile_typed(source, self._environment(authorizer), wanted)

    def check(self, source: str) -> None:
        """Only looks for errors. Raises CompileError."""
        compile_expression(source, self._environment(True))

    def activation(self, variables: Obj) -> Obj:
        """What to evaluate with: the given variables and, evaluated when they are asked for, the policy's own."""
        out = dict(variables)

        def maker(program: Program | ConditionError) -> Callable[[], Any]:
            def make() -> Any:
                if isinstance(program, ConditionError):
                    raise CelError(str(program))
                return program.evaluate(out)

            return make

        out["variables"] = Lazy({name: maker(program) for name, program in self._programs.items()})
        return out
