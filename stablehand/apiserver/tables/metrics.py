"""Cells of metrics.k8s.io, as metrics-server prints them."""

from __future__ import annotations

from typing import Any

from stablehand.apiserver.tables.columns import Column, Printer
from stablehand.machinery import quantity
from stablehand.machinery.types import Obj

_COLUMNS = [
    Column("Name", "string", "name", description="Name of the resource"),
    Column("cpu", "string", "quantity"),
    Column("memory", "string", "quantity"),
    Column("Window", "string", "duration"),
]


def _node(obj: Obj, now: float) -> list[Any]:
    return [obj["metadata"]["name"], obj["usage"]["cpu"], obj["usage"]["memory"], obj["window"]]


def _pod(obj: Obj, now: float) -> list[Any]:
    sums = [quantity.add(*(c["usage"][name] for c in obj["containers"])) for name in ("cpu", "memory")]
    return [obj["metadata"]["name"], *sums, obj["window"]]


PRINTERS = {"nodes.metrics.k8s.io": Printer(_COLUMNS, _node), "pods.metrics.k8s.io": Printer(_COLUMNS, _pod)}
