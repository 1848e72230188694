"""Pods and observations for unit tests of the node."""

from __future__ import annotations

from typing import Any

from stablehand.machinery.types import Obj
from stablehand.node.state import Memory, Observed, Record, Sandbox, State


def make_pod(*names: str, status: Obj | None = None, **spec: Any) -> Obj:
    """A pod with main containers of these names (default: c)."""
    containers = [{"name": name, "image": "i:1"} for name in names or ("c",)]
    meta = {"name": "web-0", "namespace": "ns", "uid": "u1", "generation": 1, "labels": {"app": "web"}}
    spec.setdefault("containers", containers)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta,
        "spec": {"nodeName": "n1", **spec},
        "status": status or {},
    }


def container(name: str, **fields: Any) -> Obj:
    return {"name": name, "image": "i:1", **fields}


def observed(*records: Record, ready: bool = True, sandbox: str = "s0", attempt: int = 0) -> Observed:
    result = Observed(sandboxes=[Sandbox(sandbox, attempt, ready, 0.0, "10.0.0.5")])
    for record in records:
        result.add(record)
    return result


def record(name: str, state: State = "running", attempt: int = 0, sandbox: str = "s0", **fields: Any) -> Record:
    return Record(f"{name}-{attempt}", name, attempt, sandbox, state, **fields)


def settled(**fields: Any) -> Memory:
    """The memory of a worker whose volumes and sandbox are there."""
    return Memory(volumes_ready=True, sandbox_allowed=True, **fields)
