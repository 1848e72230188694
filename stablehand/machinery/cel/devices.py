"""What device selectors (dynamic resource allocation) see: `device`, its driver, attributes and capacity.

Follows k8s.io/dynamic-resource-allocation/cel. There `cel.bind` can be used too; here it cannot.
"""

from __future__ import annotations

from functools import lru_cache

from stablehand.machinery.cel.checker import Environment
from stablehand.machinery.cel.declsizes import Declared
from stablehand.machinery.cel.program import Program, compile_expression
from stablehand.machinery.cel.types import BOOL, DYN, STRING, Field, ObjectType, Type, map_of

_MOST_ATTRIBUTES, _LONGEST_NAME, _LONGEST_DRIVER, _LONGEST_VALUE = 32, 32, 63, 64
_FIELDS: dict[str, Type] = {
    "driver": STRING,
    "allowMultipleAllocations": BOOL,
    "attributes": map_of(STRING, map_of(STRING, DYN)),
    "capacity": map_of(STRING, map_of(STRING, Type("kubernetes.Quantity"))),
}
_DEVICE = ObjectType("kubernetes.DRADevice", (), {name: Field(t, name) for name, t in _FIELDS.items()})
_DOMAIN = Declared(2, _LONGEST_DRIVER)
_NAME = Declared(2, _LONGEST_NAME)


def _by_domain(value: Declared) -> Declared:
    inner = Declared(2, _MOST_ATTRIBUTES, key=_NAME, item=value)
    return Declared(2, _MOST_ATTRIBUTES, key=_DOMAIN, item=inner)


_SIZES = Declared(
    2,
    0,
    {
        "driver": Declared(2, _LONGEST_DRIVER),
        "attributes": _by_domain(Declared(2, _LONGEST_VALUE)),
        "capacity": _by_domain(Declared(2)),
    },
)


@lru_cache(maxsize=256)
def compile_selector(text: str) -> Program:
    """The program of a selector's expression. Raises CompileError."""
    return compile_expression(text, Environment({"device": _DEVICE}))


def selector_cost(program: Program) -> int:
    """The most that evaluating it for one device costs."""
    return program.cost(_SIZES.size_at).most
