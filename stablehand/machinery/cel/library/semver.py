"""Semantic versions: semver("1.2.3") and what can be asked of it. With a second argument true, "v1.2" is taken too."""

from __future__ import annotations

import re
from functools import total_ordering

from stablehand.machinery.cel.errors import CelError
from stablehand.machinery.cel.functions import opaque, overload

_IDENT = r"(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)"
_SEMVER = re.compile(
    rf"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-({_IDENT}(?:\.{_IDENT})*))?(?:\+([0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*))?",
    re.ASCII,
)


@total_ordering
class Semver:
    __slots__ = ("numbers", "pre")

    def __init__(self, numbers: tuple[int, int, int], pre: tuple[tuple[int, int, str], ...]) -> None:
        self.numbers, self.pre = numbers, pre

    def _key(self) -> tuple[tuple[int, int, int], bool, tuple[tuple[int, int, str], ...]]:
        return self.numbers, not self.pre, self.pre  # a pre-release comes before its release

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Semver) and other._key() == self._key()

    def __lt__(self, other: Semver) -> bool:
        return self._key() < other._key()

    def __hash__(self) -> int:
        return hash(self._key())


opaque("kubernetes.Semver", Semver)
_S = "kubernetes.Semver"


def _parse(text: str, normalize: bool) -> Semver | None:
    if normalize:
        text = text.removeprefix("v")
        core, mark, rest = re.fullmatch(r"([^-+]*)([-+]?)(.*)", text, re.DOTALL).groups()  # type: ignore[union-attr]
        parts = [part.lstrip("0") or "0" if part else part for part in core.split(".")]
        text = ".".join(([*parts, "0", "0"])[: max(3, len(parts))]) + mark + rest
    found = _SEMVER.fullmatch(text)
    if found is None:
        return None
    pre = tuple((0, int(p), "") if p.isdigit() else (1, 0, p) for p in (found[4] or "").split(".") if p)
    return Semver((int(found[1]), int(found[2]), int(found[3])), pre)


@overload(f"semver(string) -> {_S}", f"semver(string, bool) -> {_S}")
def _semver(text: str, normalize: bool = False) -> Semver:
    made = _parse(text, normalize)
    if made is None:
        raise CelError(f"invalid semver: {text}")
    return made


@overload("isSemver(string) -> bool", "isSemver(string, bool) -> bool")
def _is_semver(text: str, normalize: bool = False) -> bool:
    return _parse(text, normalize) is not None


@overload(f"{_S}::major() -> int")
def _major(v: Semver) -> int:
    return v.numbers[0]


@overload(f"{_S}::minor() -> int")
def _minor(v: Semver) -> int:
    return v.numbers[1]


@overload(f"{_S}::patch() -> int")
def _patch(v: Semver) -> int:
    return v.numbers[2]


@overload(f"{_S}::isLessThan({_S}) -> bool")
def _less(a: Semver, b: Semver) -> bool:
    return a < b


@overload(f"{_S}::isGreaterThan({_S}) -> bool")
def _greater(a: Semver, b: Semver) -> bool:
    return a > b


@overload(f"{_S}::compareTo({_S}) -> int")
def _compare(a: Semver, b: Semver) -> int:
    return (a > b) - (a < b)
