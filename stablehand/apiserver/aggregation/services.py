"""Which group versions are served elsewhere, and the APIService objects of those served here.

Every group version has an APIService: those of our own are kept here ("Local"), as kube-aggregator's autoregister
controller keeps them. Whether a remote one can be reached is availability.py's, the way there proxy.py's.
"""

from __future__ import annotations

import asyncio
import uuid

from stablehand.apiserver.core import Core
from stablehand.machinery.resources import Resource, resource
from stablehand.machinery.times import format_time
from stablehand.machinery.types import Obj
from stablehand.store.contract import RevisionMismatch

API_SERVICES = resource("apiservices.apiregistration.k8s.io")
MANAGED = "kube-aggregator.kubernetes.io/automanaged"
# (groupPriorityMinimum, versionPriority) of the built-in groups (k8s.io/kubernetes pkg/controlplane/apiserver).
_PRIORITIES = {
    "": 18000, "apps": 17800, "events.k8s.io": 17750, "authentication.k8s.io": 17700, "authorization.k8s.io": 17600,
    "autoscaling": 17500, "batch": 17400, "certificates.k8s.io": 17300, "networking.k8s.io": 17200, "policy": 17100,
    "rbac.authorization.k8s.io": 17000, "storage.k8s.io": 16800, "apiextensions.k8s.io": 16700,
    "admissionregistration.k8s.io": 16700, "scheduling.k8s.io": 16600, "coordination.k8s.io": 16500,
    "node.k8s.io": 16300, "discovery.k8s.io": 16200, "flowcontrol.apiserver.k8s.io": 16100, "resource.k8s.io": 16000,
    "extensions": 15000,
}  # fmt: skip
_VERSIONS = {"autoscaling/v2": 30, "v1": 15}
_CUSTOM = (1000, 100)


def name_of(group: str, version: str) -> str:
    return f"{version}.{group}"


class ApiServices:
    """Reads the stored APIServices; `remote` is asked on every request, so it only looks into a dict."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.collection = core.storage.collection(API_SERVICES)
        self._version = -1
        self._remote: dict[tuple[str, str], Obj] = {}
        self._generation = -1
        self._task: asyncio.Task[None] | None = None

    def remote(self, group: str, version: str) -> Obj | None:
        """The APIService that sends this group version elsewhere; None when it is ours (or nobody's)."""
        return self.all_remote().get((group, version))

    def all_remote(self) -> dict[tuple[str, str], Obj]:
        if self._version != self.collection.version:
            self._version = self.collection.version
            found = {
                (o["spec"].get("group") or "", o["spec"].get("version") or ""): o
                for o in (entry.obj for entry in self.collection.entries.values())
                if o["spec"].get("service")
            }
            served = {(r.group, r.version) for r in self._core.registry.rows() if not r.custom}
            # A built-in group version cannot be taken over.
            self._remote = {k: o for k, o in found.items() if k not in served}
        return self._remote

    async def start(self) -> None:
        """Registers what is served here, and goes on doing so as custom resources come and go."""
        await self._register()
        self._core.storage.on_change(self._changed)

    def _changed(self, prefix: str) -> None:
        if self._generation != self._core.registry.generation and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._register(), name="apiservices")

    async def _register(self) -> None:
        while self._generation != self._core.registry.generation:
            self._generation = self._core.registry.generation
            wanted: dict[str, Resource] = {}
            for row in self._core.registry.rows():
                wanted.setdefault(name_of(row.group, row.version), row)
            writes = [self._create(name, row) for name, row in wanted.items() if self._missing(name)]
            for (_, name), entry in list(self.collection.entries.items()):
                mark = (entry.obj["metadata"].get("labels") or {}).get(MANAGED)
                if mark and name not in wanted and not entry.obj["spec"].get("service"):
                    writes.append(self._delete(name, entry.revision))
            await asyncio.gather(*writes)

    def _missing(self, name: str) -> bool:
        return self.collection.get(("", name)) is None

    async def _create(self, name: str, row: Resource) -> None:
        now = format_time(self._core.clock())
        minimum, rank = _priority(row)
        condition = {
            "type": "Available",
            "status": "True",
            "lastTransitionTime": now,
            "reason": "Local",
            "message": "Local APIServices are always available",
        }
        spec: Obj = {"version": row.version, "groupPriorityMinimum": minimum, "versionPriority": rank}
        if row.group:
            spec["group"] = row.group
        obj: Obj = {
            "kind": "APIService",
            "apiVersion": API_SERVICES.api_version,
            "metadata": {
                "name": name,
                "uid": str(uuid.uuid4()),
                "creationTimestamp": now,
                "labels": {MANAGED: "true" if row.custom else "onstart"},
            },
            "spec": spec,
            "status": {"conditions": [condition]},
        }
        try:
            await self._core.storage.put(self.collection, ("", name), obj, 0)
        except RevisionMismatch:
            pass  # somebody made it meanwhile

    async def _delete(self, name: str, revision: int) -> None:
        try:
            await self._core.storage.delete(self.collection, ("", name), revision)
        except RevisionMismatch:
            pass  # changed meanwhile: the next look decides


def _priority(row: Resource) -> tuple[int, int]:
    if row.custom:
        return _CUSTOM
    rank = _VERSIONS.get(row.api_version) or (_VERSIONS["v1"] if row.version == "v1" else 9)
    return _PRIORITIES.get(row.group, 15000), 1 if not row.group else rank
