"""Node ports of Services: what the stored ones hold, and what writes under way are about to."""

from __future__ import annotations

import random

from stablehand.apiserver import errors
from stablehand.apiserver.core import Core
from stablehand.machinery.resources import resource
from stablehand.machinery.types import Obj

Port = tuple[int, str]  # number, protocol


class Refused(Exception):
    """The port asked for cannot be had; the text says why, as upstream words it."""


def ports_of(service: Obj) -> set[Port]:
    spec = service.get("spec") or {}
    found = {(p["nodePort"], p.get("protocol") or "TCP") for p in spec.get("ports") or () if p.get("nodePort")}
    if spec.get("healthCheckNodePort"):
        found.add((spec["healthCheckNodePort"], "TCP"))
    return found


class NodePorts:
    def __init__(self, core: Core) -> None:
        self._low, self._high = core.config.node_ports
        self._services = core.storage.collection(resource("services"))
        self._version = -1
        self._stored: dict[Port, str] = {}
        self._pending: dict[Port, str] = {}

    def _holder(self, port: Port) -> str | None:
        if self._version != self._services.version:
            self._version = self._services.version
            self._stored = {
                p: entry.obj["metadata"]["uid"]
                for entry in self._services.entries.values()
                for p in ports_of(entry.obj)
            }
        return self._pending.get(port) or self._stored.get(port)

    def is_free(self, number: int, protocol: str) -> bool:
        return self._holder((number, protocol)) is None

    def take(self, number: int, protocol: str, owner: str) -> None:
        """Holds a port for a Service until `settle`. Raises Refused."""
        if not self._low <= number <= self._high:
            low, high = self._low, self._high
            raise Refused(f"provided port is not in the valid range. The range of valid ports is {low}-{high}")
        if self._holder((number, protocol)) not in (None, owner):
            raise Refused("provided port is already allocated")
        self._pending[(number, protocol)] = owner

    def take_any(self, protocol: str, owner: str) -> int:
        """Holds a free port. Raises StatusError when there is none."""
        tried = [random.randint(self._low, self._high) for _ in range(64)]
        for number in (*tried, *range(self._low, self._high + 1)):
            if self._holder((number, protocol)) is None:
                self._pending[(number, protocol)] = owner
                return number
        raise errors.internal("failed to allocate a nodePort: range is full")

    def settle(self, owner: str) -> None:
        """The write is through (the stored Service holds its ports now) or has failed."""
        for port in [p for p, o in self._pending.items() if o == owner]:
            del self._pending[port]
