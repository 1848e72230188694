"""What the checks share: a violation, the containers of a pod, and how violations are worded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from stablehand.machinery.types import Obj


@dataclass(frozen=True, slots=True)
class Violation:
    """`reason` names the rule, the same for all pods; `detail` says what of this pod breaks it."""

    reason: str
    detail: str = ""


# A check takes a pod's metadata and spec (or those of a template).
Check = Callable[[Obj, Obj], Violation | None]


def containers(spec: Obj) -> list[Obj]:
    """All containers, in upstream's order."""
    return [
        *(spec.get("initContainers") or ()),
        *(spec.get("containers") or ()),
        *(spec.get("ephemeralContainers") or ()),
    ]


def context(pod_or_container: Obj) -> Obj:
    return pod_or_container.get("securityContext") or {}


def quoted(items: Iterable[str]) -> str:
    """`"a", "b"`: not escaped, as upstream does not."""
    return ", ".join(f'"{item}"' for item in items)


def plural(word: str, items: Sequence[object] | set[str]) -> str:
    return word if len(items) == 1 else f"{word}s"


def named(names: list[str]) -> str:
    """`container "a"` or `containers "a", "b"`."""
    return f"{plural('container', names)} {quoted(names)}"


def setters(pod: bool, names: list[str]) -> str:
    """Who set something: the pod, containers, or both; empty for nobody."""
    return " and ".join([*(["pod"] if pod else []), *([named(names)] if names else [])])


def uses(names: list[str]) -> str:
    return "uses" if len(names) == 1 else "use"


def in_user_namespace(spec: Obj) -> bool:
    return spec.get("hostUsers") is False


def is_windows(spec: Obj) -> bool:
    return (spec.get("os") or {}).get("name") == "windows"
