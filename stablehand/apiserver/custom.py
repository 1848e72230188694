"""Custom resources: each CustomResourceDefinition adds rows to the registry and a strategy made from its schema.

Conditions (NamesAccepted, Established) are set here; deleting a definition deletes its objects first.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from stablehand.apiserver import customnames
from stablehand.apiserver.contract import Request, StatusError
from stablehand.apiserver.core import Core
from stablehand.apiserver.reread import Rereading
from stablehand.apiserver.storage.watchers import Entry
from stablehand.apiserver.verbs import delete
from stablehand.machinery.conditions import get_condition, set_condition
from stablehand.machinery.resources import ALL_VERBS, Resource, resource
from stablehand.machinery.types import Obj, copy_object
from stablehand.store.contract import RevisionMismatch, StoreError

log = logging.getLogger("stablehand.custom")

CRDS = resource("customresourcedefinitions.apiextensions.k8s.io")
_FINALIZER = "customresourcecleanup.apiextensions.k8s.io"


def _row(crd: Obj, version: Obj) -> Resource:
    spec = crd["spec"]
    names = (crd.get("status") or {}).get("acceptedNames") or spec["names"]
    subs = tuple(s for s in ("status", "scale") if s in (version.get("subresources") or {}))
    return Resource(
        spec["group"],
        version["name"],
        names["kind"],
        names["plural"],
        spec.get("scope") == "Namespaced",
        tuple(names.get("shortNames") or ()),
        tuple(names.get("categories") or ()),
        ALL_VERBS,
        subs,
        names.get("singular") or names["kind"].lower(),
        custom=True,
    )


def _served(crd: Obj) -> list[Obj]:
    """The versions that can be reached; of a definition that is going at least one, to delete its objects through."""
    served = [v for v in crd["spec"]["versions"] if v.get("served")]
    if not served and crd["metadata"].get("deletionTimestamp"):
        served = [v for v in crd["spec"]["versions"] if v.get("storage")]
    return served


class CustomResources:
    """Follows the stored definitions. `start` takes in those that exist; changes arrive through the storage."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._collection = core.storage.collection(CRDS)
        self._seen: dict[str, str] = {}
        self._reread = Rereading(core)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        prefix = self._collection.prefix
        self._prefixes = {prefix}
        self._core.storage.on_change(lambda changed: self._wake() if changed in self._prefixes else None)
        self._sync_rows()
        if self._collection.entries:
            self._wake()

    def _wake(self) -> None:
        self._sync_rows()
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._settle(), name="custom-resources")

    def _sync_rows(self) -> None:
        """Serves exactly the established definitions; at once, so that a client that saw Established finds the path."""
        names = set()
        for (_, name), entry in self._collection.entries.items():
            names.add(name)
            mark = entry.obj["metadata"]["resourceVersion"]
            if self._seen.get(name) == mark:
                continue
            self._seen[name] = mark
            established = get_condition(entry.obj.get("status"), "Established")
            if established is None or established["status"] != "True":
                continue
            try:
                self._core.registry.set_custom(name, self._rows(entry.obj))
                self._reread.definition(entry.obj)
            except Exception:
                log.exception("CustomResourceDefinition %s cannot be served", name)
        for name in [n for n in self._seen if n not in names]:
            del self._seen[name]
            self._reread.forget(name)
            self._core.registry.set_custom(name, [])

    def _rows(self, crd: Obj) -> list[tuple[Resource, Any]]:
        from stablehand.apiserver.strategies.custom import CustomStrategy

        rows = []
        for version in _served(crd):
            row = _row(crd, version)
            rows.append((row, CustomStrategy(row, crd, version)))
        return rows

    async def _settle(self) -> None:
        """Accepts names, establishes, and finishes deletions, until nothing is left to do."""
        for _ in range(100):
            busy = False
            for _, entry in self._collection.ordered():
                try:
                    busy |= await self._advance(entry)
                except RevisionMismatch:
                    busy = True
                except StoreError as e:
                    log.error("CustomResourceDefinition %s: %s", entry.obj["metadata"]["name"], e)
            if not busy:
                return

    async def _advance(self, entry: Entry) -> bool:
        crd = entry.obj
        if crd["metadata"].get("deletionTimestamp"):
            return await self._finish(entry)
        new = copy_object(crd)
        status = new.setdefault("status", {})
        changed = customnames.set_conditions(new, self._others(crd), self._core.clock())
        stored = status.get("storedVersions") or []
        for version in crd["spec"]["versions"]:
            if version.get("storage") and version["name"] not in stored:
                status["storedVersions"] = stored = [*stored, version["name"]]
                changed = True
        if _FINALIZER not in (new["metadata"].get("finalizers") or ()):
            new["metadata"]["finalizers"] = [*(new["metadata"].get("finalizers") or []), _FINALIZER]
            changed = True
        if changed:
            await self._core.storage.put(self._collection, ("", crd["metadata"]["name"]), new, entry.revision)
        return changed

    def _others(self, crd: Obj) -> list[Obj]:
        """The other definitions of the group."""
        name, group = crd["metadata"]["name"], crd["spec"]["group"]
        return [
            entry.obj
            for (_, other), entry in self._collection.entries.items()
            if other != name and entry.obj["spec"]["group"] == group
        ]

    async def _terminate(self, entry: Entry) -> bool:
        """Says in a condition that the objects are being deleted, after which none are made; whether it had to."""
        text = "CustomResource deletion is in progress"
        new = copy_object(entry.obj)
        status, now = new.setdefault("status", {}), self._core.clock()
        if not set_condition(status, "Terminating", "True", "InstanceDeletionInProgress", text, now):
            return False
        await self._core.storage.put(self._collection, ("", new["metadata"]["name"]), new, entry.revision)
        return True

    async def _finish(self, entry: Entry) -> bool:
        crd = entry.obj
        if _FINALIZER not in (crd["metadata"].get("finalizers") or ()):
            return False
        if await self._terminate(entry):
            return True
        name = crd["metadata"]["name"]
        rows = [_row(crd, v) for v in _served(crd)]
        left = False
        if rows:
            collection = self._core.storage.collection(rows[0])
            for key, _ in list(collection.ordered()):
                request = Request("DELETE", "", {}, in_process=True)
                with_row = self._core.registry.find(rows[0].group, rows[0].version, rows[0].plural)
                if with_row is None:
                    break
                try:
                    await delete.delete_one(self._core, request, with_row, key[0], key[1], {})
                except StatusError as e:
                    if e.code != 404:
                        raise
            left = bool(collection.entries)
        if left:
            # Their finalizers are others' business; the next change of one of them brings us back.
            self._watch_leftovers(rows[0])
            return False
        new = copy_object(crd)
        new["metadata"]["finalizers"] = [f for f in new["metadata"]["finalizers"] if f != _FINALIZER]
        from stablehand.apiserver.verbs import write

        await write.store_update(self._core, CRDS, entry, new)
        log.debug("CustomResourceDefinition %s is gone", name)
        return True

    def _watch_leftovers(self, row: Resource) -> None:
        self._prefixes.add(self._core.storage.collection(row).prefix)
