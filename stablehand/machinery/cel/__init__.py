"""CEL, the Common Expression Language, as Kubernetes uses it: compiled once to Python closures, then evaluated.

`compile_expression(source, Environment(variables))` gives a `Program`; `conditions` evaluates the named boolean
conditions of admission; `schemas` makes types of CRD schemas. Why it is our own: docs/decisions/0003-cel.md.
"""

from stablehand.machinery.cel.checker import Environment
from stablehand.machinery.cel.conditions import ConditionError, compile_condition, evaluate_conditions
from stablehand.machinery.cel.errors import CelError, CompileError
from stablehand.machinery.cel.program import Program, compile_expression

__all__ = [
    "CelError",
    "CompileError",
    "ConditionError",
    "Environment",
    "Program",
    "compile_condition",
    "compile_expression",
    "evaluate_conditions",
]
