"""Completion indexes of Indexed jobs, written as ranges: "0-2,5". Pure."""

from __future__ import annotations

from collections.abc import Iterable

from stablehand.machinery import meta
from stablehand.machinery.types import Obj

INDEX = "batch.kubernetes.io/job-completion-index"


def parse(text: str | None) -> set[int]:
    out: set[int] = set()
    for part in (text or "").split(","):
        first, _, last = part.partition("-")
        if first:
            out.update(range(int(first), int(last or first) + 1))
    return out


def write(indexes: Iterable[int]) -> str:
    """Ranges of three or more are joined with "-", pairs too, as upstream does."""
    parts: list[list[int]] = []
    for index in sorted(set(indexes)):
        if parts and parts[-1][1] == index - 1:
            parts[-1][1] = index
        else:
            parts.append([index, index])
    return ",".join(str(a) if a == b else f"{a},{b}" if b == a + 1 else f"{a}-{b}" for a, b in parts)


def of(pod: Obj) -> int | None:
    value = meta.annotations(pod).get(INDEX)
    return int(value) if value is not None and value.isdigit() else None
