"""What can go wrong with an expression: it does not compile (`CompileError`), or its evaluation fails (`CelError`).

Worded as cel-go words it, position and snippet included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class CelError(Exception):
    """Evaluation failed; str() is cel-go's text: "no such key: x", "division by zero", …"""


NO_OVERLOAD = "no such overload"


def no_overload() -> CelError:
    return CelError(NO_OVERLOAD)


@dataclass(frozen=True, slots=True)
class Issue:
    """One complaint of the parser or the checker; `pos` is an offset into the source."""

    pos: int
    text: str

    def display(self, source: str) -> str:
        """`ERROR: <input>:1:6: undefined field 'x'`, and below it the line with a mark."""
        pos = min(self.pos, len(source))
        start = source.rfind("\n", 0, pos) + 1
        line = source.count("\n", 0, pos) + 1
        end = source.find("\n", pos)
        snippet = source[start : end if end >= 0 else len(source)].replace("\t", " ")
        column = pos - start
        mark = "".join("." if c.isascii() else "．" for c in snippet[:column]).ljust(column, ".") + "^"
        return f"ERROR: <input>:{line}:{column + 1}: {self.text}\n | {snippet}\n | {mark}"


class CompileError(Exception):
    """str() is what cel-go's Issues print."""

    def __init__(self, source: str, issues: Sequence[Issue]) -> None:
        self.source = source
        self.issues = sorted(issues, key=lambda i: i.pos)
        super().__init__("\n".join(i.display(source) for i in self.issues))
