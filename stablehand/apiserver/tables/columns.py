"""A printer: its columns, and the function that makes the cells of one object."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stablehand.machinery.types import Obj

_DESCRIPTIONS = {
    "Name": "Name must be unique within a namespace. Is required when creating resources, although some resources may "
    "allow a client to request the generation of an appropriate name automatically.",
    "Age": "CreationTimestamp is a timestamp representing the server time when this object was created.",
    "Created At": "CreationTimestamp is a timestamp representing the server time when this object was created.",
    "Containers": "Names of each container in the template.",
    "Images": "Images referenced by each container in the template.",
    "Selector": "A label selector that determines which pods the object concerns.",
}
_TYPES = {"#": "integer", "?": "boolean", "@": "date"}


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    type: str = "string"
    format: str = ""
    priority: int = 0  # 1: only with -o wide
    description: str = ""

    def encode(self) -> Obj:
        return {
            "name": self.name,
            "type": self.type,
            "format": self.format,
            "description": self.description or _DESCRIPTIONS.get(self.name, self.name + "."),
            "priority": self.priority,
        }


def columns(text: str) -> list[Column]:
    """Columns from a short notation: comma-separated names, `*` before wide ones, `#` integer, `?` boolean, `@` date.
    The column Name has the format "name"."""
    made = []
    for part in text.split(","):
        name = part.strip()
        priority = 1 if name.startswith("*") else 0
        name = name.lstrip("*")
        kind = _TYPES.get(name[:1], "string")
        if kind != "string":
            name = name[1:]
        made.append(Column(name, kind, "name" if name == "Name" else "", priority))
    return made


@dataclass(frozen=True, slots=True)
class Printer:
    columns: list[Column]
    cells: Callable[[Obj, float], list[Any]]
    conditions: Callable[[Obj], list[Obj]] | None = None


def printer(
    text: str, cells: Callable[[Obj, float], list[Any]], conditions: Callable[[Obj], list[Obj]] | None = None
) -> Printer:
    return Printer(columns(text), cells, conditions)
