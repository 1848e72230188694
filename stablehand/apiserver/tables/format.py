"""How cells are written: durations, ages, selectors, lists of containers.

Follows apimachinery's duration package and the helpers of upstream's printers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from stablehand.machinery.selectors import SelectorError, from_label_selector
from stablehand.machinery.times import parse_time
from stablehand.machinery.types import Obj

NONE = "<none>"
UNSET = "<unset>"
UNKNOWN = "<unknown>"


def human_duration(seconds: float) -> str:
    """A duration as kubectl shows ages: 5s, 3m2s, 47h, 5d3h, 2y40d."""
    total = int(seconds)
    if total < -1:
        return "<invalid>"
    if total < 0:
        return "0s"
    if total < 120:
        return f"{total}s"
    minutes = total // 60
    if minutes < 10:
        rest = total % 60
        return f"{minutes}m{rest}s" if rest else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    hours = total // 3600
    if hours < 8:
        rest = minutes % 60
        return f"{hours}h{rest}m" if rest else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    days = hours // 24
    if hours < 24 * 8:
        rest = hours % 24
        return f"{days}d{rest}h" if rest else f"{days}d"
    if hours < 24 * 365 * 2:
        return f"{days}d"
    years = days // 365
    if hours < 24 * 365 * 8:
        rest = days % 365
        return f"{years}y{rest}d" if rest else f"{years}y"
    return f"{years}y"


def since(timestamp: str | None, now: float) -> str:
    """The age of a timestamp."""
    if not timestamp:
        return UNKNOWN
    try:
        return human_duration(now - parse_time(timestamp))
    except ValueError:
        return UNKNOWN


def age(obj: Obj, now: float) -> str:
    return since(obj["metadata"].get("creationTimestamp"), now)


def label_selector(selector: Mapping[str, Any] | None) -> str:
    """A LabelSelector as text; <none> when it is empty."""
    if not selector:
        return NONE
    try:
        return str(from_label_selector(selector)) or NONE
    except SelectorError:
        return "<error>"


def labels(values: Mapping[str, str] | None) -> str:
    return ",".join(f"{k}={values[k]}" for k in sorted(values)) if values else NONE


def containers(pod_spec: Mapping[str, Any]) -> tuple[str, str]:
    """(names, images), comma-separated."""
    listed = pod_spec.get("containers") or ()
    return ",".join(c.get("name", "") for c in listed), ",".join(c.get("image", "") for c in listed)


def template_spec(obj: Obj) -> Obj:
    spec: Obj = ((obj.get("spec") or {}).get("template") or {}).get("spec") or {}
    return spec


_MODES = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}


def access_modes(modes: Iterable[str] | None) -> str:
    present = set(modes or ())
    return ",".join(short for mode, short in _MODES.items() if mode in present)


def some(items: list[str], limit: int, total: int | None = None, glue: str = ",") -> str:
    """The first `limit` items and how many more there are."""
    count = len(items) if total is None else total
    if count > limit:
        return f"{glue.join(items[:limit])} + {count - limit} more..."
    return glue.join(items)


def boolean(value: Any) -> str:
    return UNSET if value is None else "True" if value else "False"


def condition(obj: Obj, kind: str) -> Obj | None:
    for one in (obj.get("status") or {}).get("conditions") or ():
        if one.get("type") == kind:
            found: Obj = one
            return found
    return None
