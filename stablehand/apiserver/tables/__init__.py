"""What `kubectl get` prints: objects as meta.k8s.io/v1 Tables, as upstream's server-side printers make them.

`table_for` serves the built-in kinds, `custom_table` custom resources by their additionalPrinterColumns. The
columns and cells of each kind are in the modules of this package, loaded when first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import orjson

from stablehand.apiserver.tables.columns import Column, Printer, columns
from stablehand.apiserver.tables.format import age, human_duration
from stablehand.machinery import jsonpath
from stablehand.machinery.resources import Resource
from stablehand.machinery.times import parse_time
from stablehand.machinery.types import Obj

_MODULES = ("workloads", "network", "storage", "cluster", "policy", "metrics")
_printers: dict[str, Printer] = {}
_DEFAULT = Printer(columns("Name,Age"), lambda obj, now: [obj["metadata"].get("name", ""), age(obj, now)])


def printer_for(key: str) -> Printer:
    """The printer of a resource key ("pods", "statefulsets.apps")."""
    if not _printers:
        for name in _MODULES:
            _printers.update(import_module(f"{__name__}.{name}").PRINTERS)
    return _printers.get(key, _DEFAULT)


def table_for(res: Resource, objects: list[Obj], now: float, include: str = "Metadata") -> Obj:
    """A Table of objects. `include` is the includeObject parameter: None, Metadata or Object."""
    printer = printer_for(res.key)
    cells, status = printer.cells, printer.conditions
    rows: list[Obj] = []
    for obj in objects:
        row: Obj = {"cells": cells(obj, now)}
        if status is not None and (found := status(obj)):
            row["conditions"] = found
        rows.append(_with_object(row, obj, include))
    return _table(printer.columns, rows)


def custom_table(printer_columns: list[Obj] | None, objects: list[Obj], now: float, include: str = "Metadata") -> Obj:
    """A Table of custom resources; `printer_columns` are the version's additionalPrinterColumns."""
    listed = printer_columns or [{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}]
    shown = [Column("Name", "string", "name")]
    paths = []
    for column in listed:
        kind = column.get("type", "string")
        shown.append(
            Column(
                column.get("name", ""),
                kind,
                column.get("format", ""),
                column.get("priority", 0),
                column.get("description", ""),
            )
        )
        try:
            paths.append((jsonpath.compile_path(column.get("jsonPath", "")), kind))
        except jsonpath.JSONPathError:
            paths.append((lambda obj: [], kind))
    rows = []
    for obj in objects:
        cells: list[Any] = [obj["metadata"].get("name", "")]
        for find, kind in paths:
            found = find(obj)
            cells.append(_custom_cell(found[0], kind, now) if found else None)
        rows.append(_with_object({"cells": cells}, obj, include))
    return _table(shown, rows)


def _custom_cell(value: Any, kind: str, now: float) -> Any:
    if value is None:
        return None
    if kind == "string":
        if isinstance(value, str):
            return value
        return orjson.dumps(value).decode()
    if kind == "date":
        try:
            return human_duration(now - parse_time(value))
        except (ValueError, TypeError):
            return "<invalid>"
    if kind == "boolean":
        return value if isinstance(value, bool) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if kind == "integer" else value


def _with_object(row: Obj, obj: Obj, include: str) -> Obj:
    if include == "Object":
        row["object"] = obj
    elif include == "None":
        row["object"] = None
    else:
        row["object"] = {
            "kind": "PartialObjectMetadata",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": obj["metadata"],
        }
    return row


def _table(shown: list[Column], rows: list[Obj]) -> Obj:
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {},
        "columnDefinitions": [column.encode() for column in shown],
        "rows": rows,
    }


__all__ = ["custom_table", "printer_for", "table_for"]
