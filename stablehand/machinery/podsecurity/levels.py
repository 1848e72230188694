"""Levels and versions of the Pod Security Standards, and the policy that a namespace's labels ask for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from stablehand.machinery.fielderrors import FieldError, invalid

PRIVILEGED, BASELINE, RESTRICTED = LEVELS = ("privileged", "baseline", "restricted")  # from lax to strict
PREFIX = "pod-security.kubernetes.io/"
ENFORCE, AUDIT, WARN = MODES = tuple(PREFIX + mode for mode in ("enforce", "audit", "warn"))
_VERSION = re.compile(r"v1\.(0|[1-9][0-9]*)")


@dataclass(frozen=True, slots=True)
class LevelVersion:
    """A level as of the minor version 1.`minor`; None is the latest."""

    level: str = PRIVILEGED
    minor: int | None = None

    def __str__(self) -> str:
        return f"{self.level}:{'latest' if self.minor is None else f'v1.{self.minor}'}"


@dataclass(frozen=True, slots=True)
class Policy:
    """What a namespace asks of its pods: refused, written down, warned of."""

    enforce: LevelVersion
    audit: LevelVersion
    warn: LevelVersion


def is_labelled(labels: Mapping[str, str] | None) -> bool:
    """Does anything but `privileged`, the default, come out of the labels? Versions alone change nothing."""
    return bool(labels) and (ENFORCE in labels or WARN in labels or AUDIT in labels)  # type: ignore[operator]


def policy_of(labels: Mapping[str, str] | None) -> tuple[Policy, list[FieldError]]:
    """The policy of a namespace, and what is wrong with its labels. A wrong level enforces the strictest one, but warns
    of nothing and writes nothing down; a wrong version is the latest."""
    errors: list[FieldError] = []
    found = []
    for mode in MODES:
        level, minor = PRIVILEGED, None
        if (text := (labels or {}).get(mode)) is not None:
            level = text
            if level not in LEVELS:
                errors.append(invalid(_path(mode), text, f"must be one of {', '.join(LEVELS)}"))
                level = RESTRICTED if mode == ENFORCE else PRIVILEGED
        if (text := (labels or {}).get(f"{mode}-version")) is not None and text != "latest":
            if match := _VERSION.fullmatch(text):
                minor = int(match[1])
            else:
                errors.append(invalid(_path(f"{mode}-version"), text, 'must be "latest" or "v1.x"'))
        found.append(LevelVersion(level, minor))
    return Policy(*found), errors


def _path(label: str) -> str:
    return f"metadata.labels[{label}]"


def stricter(one: LevelVersion, other: LevelVersion) -> bool:
    return LEVELS.index(one.level) > LEVELS.index(other.level)
