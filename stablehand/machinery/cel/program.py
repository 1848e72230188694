"""Expressions compiled once: source text and environment to a Program that evaluates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from stablehand.machinery.cel.ast import Macro, Node, children, mentions
from stablehand.machinery.cel.checker import Environment, check
from stablehand.machinery.cel.compiler import compile_node
from stablehand.machinery.cel.errors import CelError, no_overload
from stablehand.machinery.cel.macros import BUDGET
from stablehand.machinery.cel.parser import parse
from stablehand.machinery.cel.types import Type

if TYPE_CHECKING:
    from stablehand.machinery.cel.cost import SizeOf
    from stablehand.machinery.cel.ranges import Range


class Program:
    """A checked expression. `type` is its static type."""

    __slots__ = ("_code", "_counts", "_root", "source", "type")

    def __init__(self, source: str, root: Node, result: Type) -> None:
        self.source = source
        self.type = result
        self._root = root
        self._code = compile_node(root)
        self._counts = _has_macro(root)

    def mentions(self, name: str) -> bool:
        """Whether the expression refers to a variable."""
        return mentions(self._root, name)

    def cost(self, sizes: SizeOf) -> Range:
        """What evaluating it may cost, where values are as large as `sizes` says."""
        from stablehand.machinery.cel.cost import estimate_cost

        return estimate_cost(self._root, sizes)

    def evaluate(self, variables: Mapping[str, Any]) -> Any:
        """The value. `variables` has every variable of the environment that the expression mentions. Raises CelError."""
        try:
            return self._code({**variables, "": [BUDGET]} if self._counts else variables)  # type: ignore[arg-type]
        except KeyError as e:
            raise CelError(f"no such attribute(s): {e.args[0]}") from None
        except (TypeError, AttributeError):
            raise no_overload() from None  # data of another type than its schema promised
        except RecursionError:
            raise CelError("operation cancelled: actual cost limit exceeded") from None


def compile_expression(source: str, env: Environment) -> Program:
    """Parses, checks and compiles. Raises CompileError, whose text is cel-go's."""
    root = parse(source)
    return Program(source, root, check(root, source, env))


def _has_macro(node: Node) -> bool:
    return isinstance(node, Macro) or any(map(_has_macro, children(node)))
