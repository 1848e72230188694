"""Watches every kind, and decides about one object at a time after a live look at it and at its owners.

Kinds that other controllers watch anyway are heard through their informers; the rest through MetaWatch, which keeps
no objects.
"""

from __future__ import annotations

import asyncio
import logging

from stablehand.client import ApiError, Client, Conflict, NotFound
from stablehand.controllers.garbagecollector.graph import FOREGROUND, ORPHAN, Graph, Item, item_of
from stablehand.machinery import meta
from stablehand.machinery.resources import Resource, resource
from stablehand.machinery.types import Obj
from stablehand.runtime import Controller, EventRecorder, Informers, Result
from stablehand.runtime.discovery import Catalog
from stablehand.runtime.metawatch import MetaWatch

log = logging.getLogger("stablehand.garbagecollector")

# Kinds whose informers the other controllers keep anyway.
_SHARED = (
    "pods",
    "services",
    "endpoints",
    "namespaces",
    "nodes",
    "persistentvolumeclaims",
    "persistentvolumes",
    "replicationcontrollers",
    "controllerrevisions.apps",
    "daemonsets.apps",
    "deployments.apps",
    "replicasets.apps",
    "statefulsets.apps",
    "cronjobs.batch",
    "jobs.batch",
    "endpointslices.discovery.k8s.io",
    "poddisruptionbudgets.policy",
    "customresourcedefinitions.apiextensions.k8s.io",
    "storageclasses.storage.k8s.io",
)
_IGNORED = {"events", "events.events.k8s.io", "componentstatuses", "bindings"}

Key = tuple[str, str]  # ("delete" | "orphan", uid)


class GarbageCollector(Controller):
    name = "garbagecollector"

    def __init__(self, client: Client, informers: Informers, catalog: Catalog) -> None:
        super().__init__(workers=20)
        self._client = client = client.with_manager("generic-garbage-collector")
        self._catalog = catalog
        self._graph = Graph()
        self._rows: dict[str, Resource] = {}
        self.events = EventRecorder(client, "garbage-collector-controller")
        self._watches: dict[str, tuple[MetaWatch, asyncio.Task[None]]] = {}
        self._shared: set[str] = set()
        for key in _SHARED:
            informer = informers.get(resource(key))
            self.wait_for.append(informer)
            self._shared.add(key)
            self._rows[key] = informer.resource
            informer.on_change(
                lambda event, old, new, res=informer.resource: (  # type: ignore[misc]
                    self._gone(res, meta.uid(new)) if event == "DELETED" else self._seen(res, new)
                )
            )

    # -- what is watched

    def _update_watches(self) -> None:
        rows = {r.key: r for r in self._catalog.rows() if {"list", "watch", "delete"} <= set(r.verbs)}
        for key, (_, task) in list(self._watches.items()):
            if key not in rows or rows[key].version != self._rows[key].version:
                task.cancel()
                del self._watches[key]
        for key, row in rows.items():
            if key in self._shared or key in self._watches or key in _IGNORED:
                continue
            self._rows[key] = row
            watch = MetaWatch(self._client, row, self._seen, self._gone)
            task = asyncio.get_running_loop().create_task(watch.run(), name=f"gc-watch/{key}")
            self._watches[key] = (watch, task)

    async def run(self) -> None:
        await self._catalog.loaded.wait()
        self._catalog.on_change(self._update_watches)
        try:
            for watch, _ in list(self._watches.values()):
                await watch.synced.wait()
            await super().run()
        finally:
            tasks = [task for _, task in self._watches.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _seen(self, res: Resource, obj: Obj) -> None:
        item = item_of(res.key, obj)
        old = self._graph.put(item)
        if item.orphans_dependents and not (old and old.orphans_dependents):
            self.enqueue(("orphan", item.uid))
        if item.waits_for_dependents and not (old and old.waits_for_dependents):
            self.enqueue(("delete", item.uid))
            # What blocks this one may be blocked itself by dependents in common.
            for dependent in self._graph.dependents(item.uid):
                self.enqueue(("delete", dependent.uid))
        if item.owners and not item.deleting and (old is None or old.owners != item.owners):
            for owner in item.owners:
                if not self._graph.is_alive(owner.uid, item.namespace) or self._graph.waits_for_dependents(owner.uid):
                    # Perhaps only not heard of yet: a moment's patience saves a request.
                    self.enqueue_after(("delete", item.uid), 0.5)
        if old is not None and old.owners != item.owners:
            kept = {o for o in item.owners if o.blocks}
            for owner in old.owners:
                if owner not in kept and self._graph.waits_for_dependents(owner.uid):
                    self.enqueue(("delete", owner.uid))

    def _gone(self, res: Resource, uid: str) -> None:
        dependents, waiting = self._graph.drop(uid)
        for dependent in dependents:
            self.enqueue(("delete", dependent.uid))
        for owner in waiting:
            self.enqueue(("delete", owner.uid))

    # -- one object

    async def reconcile(self, key: Key) -> Result | None:
        what, uid = key
        item = self._graph.items.get(uid)
        row = self._rows.get(item.kind) if item is not None else None
        if item is None or row is None:
            return None
        if what == "delete" and not item.deleting and self._is_wanted(item):
            return None
        try:
            live = await self._client.get(row, item.name, item.namespace or None)
        except NotFound:
            return None
        if meta.uid(live) != uid:
            return None
        try:
            if what == "orphan":
                await self._orphan_dependents(row, item, live)
            else:
                await self._consider(row, item, live)
        except NotFound:
            return None
        return None

    def _is_wanted(self, item: Item) -> bool:
        """Are all owners known to be there, none on its way out? Should one go, its event wakes the item again."""
        return all(
            self._graph.is_alive(o.uid, item.namespace) and not self._graph.waits_for_dependents(o.uid)
            for o in item.owners
        )

    async def _consider(self, row: Resource, item: Item, live: Obj) -> None:
        if meta.deletion_timestamp(live):
            if FOREGROUND in (live["metadata"].get("finalizers") or ()):
                await self._wait_for_dependents(row, item, live)
            return
        refs = meta.owner_references(live)
        if not refs:
            return
        solid: list[Obj] = []
        dangling: list[Obj] = []
        waiting: list[Obj] = []
        for ref in refs:
            if not await self._exists(ref, item.namespace):
                dangling.append(ref)
                if self._graph.is_elsewhere(ref.get("uid") or "", item.namespace):
                    self._tell_of_namespace(live, ref)
            elif self._graph.waits_for_dependents(ref.get("uid") or ""):
                waiting.append(ref)
            else:
                solid.append(ref)
        if solid:
            if dangling or waiting:
                await self._set_owners(row, live, solid)
            return
        dependents = self._graph.dependents(item.uid)
        if waiting and dependents:
            # Two that wait for each other: let go of the owner, so that the wait ends.
            if any(d.waits_for_dependents for d in dependents):
                freed = [{**ref, "blockOwnerDeletion": False} for ref in refs]
                await self._set_owners(row, live, freed)
            policy = "Foreground"
        else:
            finalizers = live["metadata"].get("finalizers") or ()
            policy = "Orphan" if ORPHAN in finalizers else "Foreground" if FOREGROUND in finalizers else "Background"
        log.debug("deleting %s %s/%s (%s)", row.key, item.namespace, item.name, policy)
        version = live["metadata"].get("resourceVersion") if not waiting else None
        await self._client.delete(
            row, item.name, item.namespace or None, propagation=policy, uid=item.uid, resource_version=version
        )

    def _tell_of_namespace(self, live: Obj, ref: Obj) -> None:
        """The owner is in another namespace, where no owner can be."""
        namespace = meta.namespace(live)
        what = (
            f"[{ref.get('apiVersion')}/{ref.get('kind')}, namespace: {namespace}, name: {ref.get('name')}, "
            f"uid: {ref.get('uid')}]"
        )
        text = f'ownerRef {what} does not exist in namespace "{namespace}"'
        self.events.event(live, "Warning", "OwnerRefInvalidNamespace", text)

    async def _exists(self, ref: Obj, namespace: str) -> bool:
        uid = ref.get("uid") or ""
        if self._graph.is_alive(uid, namespace):
            return True
        row = self._catalog.by_kind(ref.get("apiVersion") or "", ref.get("kind") or "")
        if row is None:
            if self._catalog.failed:
                raise Conflict({"code": 409, "message": f"cannot tell whether {ref.get('kind')} exists"})
            await self._catalog.refresh()
            row = self._catalog.by_kind(ref.get("apiVersion") or "", ref.get("kind") or "")
            if row is None:
                # Upstream keeps trying and deletes nothing: the kind may come back.
                raise UnknownKind(f"{ref.get('apiVersion')} {ref.get('kind')}")
        if row.namespaced and not namespace:
            raise UnknownKind(f"cluster-scoped object with namespaced owner {ref.get('kind')} {ref.get('name')}")
        try:
            owner = await self._client.get(row, ref.get("name") or "", namespace if row.namespaced else None)
        except NotFound:
            return False
        return meta.uid(owner) == uid

    async def _wait_for_dependents(self, row: Resource, item: Item, live: Obj) -> None:
        blocking = [
            d for d in self._graph.dependents(item.uid) if any(o.uid == item.uid and o.blocks for o in d.owners)
        ]
        if not blocking:
            await self._drop_finalizer(row, live, FOREGROUND)
            return
        for dependent in blocking:
            if not dependent.waits_for_dependents:
                self.enqueue(("delete", dependent.uid))

    async def _orphan_dependents(self, row: Resource, item: Item, live: Obj) -> None:
        if ORPHAN not in (live["metadata"].get("finalizers") or ()) or not meta.deletion_timestamp(live):
            return
        results = await asyncio.gather(
            *(self._let_go(dependent, item.uid) for dependent in self._graph.dependents(item.uid)),
            return_exceptions=True,
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result
        await self._drop_finalizer(row, live, ORPHAN)

    async def _let_go(self, dependent: Item, owner: str) -> None:
        row = self._rows[dependent.kind]
        try:
            live = await self._client.get(row, dependent.name, dependent.namespace or None)
            if meta.uid(live) == dependent.uid:
                await self._set_owners(row, live, [r for r in meta.owner_references(live) if r.get("uid") != owner])
        except NotFound:
            return

    async def _set_owners(self, row: Resource, live: Obj, refs: list[Obj]) -> None:
        metadata = {"uid": meta.uid(live), "resourceVersion": live["metadata"]["resourceVersion"]}
        patch = {"metadata": {**metadata, "ownerReferences": refs or None}}
        await self._client.patch(row, meta.name(live), patch, meta.namespace(live) or None, kind="merge")

    async def _drop_finalizer(self, row: Resource, live: Obj, finalizer: str) -> None:
        rest = [f for f in live["metadata"].get("finalizers") or () if f != finalizer]
        metadata = {"uid": meta.uid(live), "resourceVersion": live["metadata"]["resourceVersion"]}
        patch = {"metadata": {**metadata, "finalizers": rest or None}}
        try:
            await self._client.patch(row, meta.name(live), patch, meta.namespace(live) or None, kind="merge")
        except NotFound:
            return


class UnknownKind(ApiError):
    """An owner of a kind that the server does not know."""

    def __init__(self, message: str) -> None:
        super().__init__({"code": 404, "reason": "UnknownKind", "message": f"unknown owner kind: {message}"})
