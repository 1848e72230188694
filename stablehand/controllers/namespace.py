"""Empties namespaces that are being deleted: pods first, then everything else, then the namespace itself."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from stablehand.client import ApiError, Client, Conflict, NotFound
from stablehand.machinery import meta
from stablehand.machinery.conditions import set_condition
from stablehand.machinery.resources import Resource, resource
from stablehand.machinery.types import Obj, copy_object
from stablehand.runtime import Controller, Informers, Result
from stablehand.runtime.discovery import Catalog

log = logging.getLogger("stablehand.namespace")

NAMESPACES, PODS = resource("namespaces"), resource("pods")
_FINALIZER = "kubernetes"
_FIRST_LOOK, _LONGEST_LOOK = 0.1, 10.0


class NamespaceController(Controller):
    name = "namespace"

    def __init__(
        self, client: Client, informers: Informers, catalog: Catalog, *, clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__(workers=5)
        self._client = client = client.with_manager("namespace-controller")
        self._catalog = catalog
        self._clock = clock
        self._namespaces = informers.get(NAMESPACES)
        self._pods = informers.get(PODS)
        self._claims = informers.get(resource("persistentvolumeclaims"))
        self.wait_for = [self._namespaces]
        self._looks: dict[str, int] = {}
        self._namespaces.on_change(self._changed)
        self._pods.on_change(self._content_changed)
        self._claims.on_change(self._content_changed)

    def _changed(self, event: str, old: Obj | None, new: Obj) -> None:
        if event == "DELETED":
            self._looks.pop(meta.uid(new), None)
        elif meta.deletion_timestamp(new):
            self.enqueue(meta.name(new))

    def _content_changed(self, event: str, old: Obj | None, new: Obj) -> None:
        """The last pod or claim that went may have been what the namespace waited for."""
        if event != "DELETED" or not self._looks:
            return
        namespace = self._namespaces.cached("", meta.namespace(new))
        if namespace is not None and meta.deletion_timestamp(namespace):
            if not self._pods.items(meta.namespace(new)):
                self.enqueue(meta.name(namespace))

    async def reconcile(self, key: str) -> Result | None:
        try:
            namespace = await self._client.get(NAMESPACES, key)
        except NotFound:
            return None
        if not meta.deletion_timestamp(namespace):
            return None
        if (namespace.get("status") or {}).get("phase") != "Terminating":
            namespace = await self._write_status(namespace, {**(namespace.get("status") or {}), "phase": "Terminating"})
        if _FINALIZER not in ((namespace.get("spec") or {}).get("finalizers") or ()):
            return None
        self._namespaces.observe(namespace)
        await self._catalog.loaded.wait()
        remaining, errors = await self._empty(key)
        await self._report(namespace, remaining, errors)
        if not remaining and not errors:
            await self._finalize(key)
            return None
        uid = meta.uid(namespace)
        looks = self._looks[uid] = self._looks.get(uid, 0) + 1
        return Result(after=min(_LONGEST_LOOK, _FIRST_LOOK * 2.0 ** (looks - 1)))

    async def _empty(self, namespace: str) -> tuple[dict[str, list[Obj]], list[str]]:
        """Deletes what there is; returns what is left, by kind, and what went wrong."""
        rows = [r for r in self._catalog.rows() if r.namespaced and {"list", "delete"} <= set(r.verbs)]
        pods = [r for r in rows if r.key == PODS.key]
        remaining: dict[str, list[Obj]] = {}
        errors: list[str] = []
        for group in (pods, [r for r in rows if r.key != PODS.key]):
            results = await asyncio.gather(*(self._empty_kind(r, namespace) for r in group), return_exceptions=True)
            for row, result in zip(group, results):
                if isinstance(result, (ApiError, OSError)):
                    errors.append(f"{row.key}: {result}")
                elif isinstance(result, BaseException):
                    raise result
                elif result:
                    remaining[row.key] = result
            if remaining or errors:
                break  # nothing else goes before the last pod has
        return remaining, errors

    async def _empty_kind(self, row: Resource, namespace: str) -> list[Obj]:
        try:
            found = (await self._client.list(row, namespace)).get("items") or []
            fresh = [o for o in found if not meta.deletion_timestamp(o)]
            if fresh and "deletecollection" in row.verbs:
                options = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
                await self._client.request("DELETE", row.path(namespace), None, options)
            else:
                for obj in fresh:
                    try:
                        await self._client.delete(row, meta.name(obj), namespace, propagation="Background")
                    except NotFound:
                        continue
            if fresh:
                found = (await self._client.list(row, namespace)).get("items") or []
            return found
        except NotFound:
            return []

    async def _report(self, namespace: Obj, remaining: dict[str, list[Obj]], errors: list[str]) -> None:
        status = copy_object(namespace.get("status") or {})
        now = self._clock()
        if self._catalog.failed:
            text = "Discovery failed for some groups, " + ", ".join(self._catalog.failed)
            set_condition(status, "NamespaceDeletionDiscoveryFailure", "True", "DiscoveryFailed", text, now)
        else:
            text = "All resources successfully discovered"
            set_condition(status, "NamespaceDeletionDiscoveryFailure", "False", "ResourcesDiscovered", text, now)
        parsed = "All legacy kube types successfully parsed"
        set_condition(
            status, "NamespaceDeletionGroupVersionParsingFailure", "False", "ParsedGroupVersions", parsed, now
        )
        if errors:
            text = "Failed to delete all resource types, " + f"{len(errors)} remaining: " + ", ".join(errors)
            set_condition(status, "NamespaceDeletionContentFailure", "True", "ContentDeletionFailed", text, now)
        else:
            text = "All content successfully deleted, may be waiting on finalization"
            set_condition(status, "NamespaceDeletionContentFailure", "False", "ContentDeleted", text, now)
        if remaining:
            counts = [f"{key} has {len(found)} resource instances" for key, found in sorted(remaining.items())]
            text = "Some resources are remaining: " + ", ".join(counts)
            set_condition(status, "NamespaceContentRemaining", "True", "SomeResourcesRemain", text, now)
        else:
            text = "All content successfully removed"
            set_condition(status, "NamespaceContentRemaining", "False", "ContentRemoved", text, now)
        held: dict[str, int] = {}
        for found in remaining.values():
            for obj in found:
                for finalizer in obj["metadata"].get("finalizers") or ():
                    held[finalizer] = held.get(finalizer, 0) + 1
        if held:
            counts = [f"{finalizer} in {count} resource instances" for finalizer, count in sorted(held.items())]
            text = "Some content in the namespace has finalizers remaining: " + ", ".join(counts)
            set_condition(status, "NamespaceFinalizersRemaining", "True", "SomeFinalizersRemain", text, now)
        else:
            text = "All content-preserving finalizers finished"
            set_condition(status, "NamespaceFinalizersRemaining", "False", "ContentHasNoFinalizers", text, now)
        if (remaining or errors) and status != namespace.get("status"):
            await self._write_status(namespace, status)

    async def _write_status(self, namespace: Obj, status: Obj) -> Obj:
        try:
            return await self._client.update(NAMESPACES, {**namespace, "status": status}, subresource="status")
        except Conflict:
            live = await self._client.get(NAMESPACES, meta.name(namespace))
            return await self._client.update(NAMESPACES, {**live, "status": status}, subresource="status")

    async def _finalize(self, name: str) -> None:
        """Takes our finalizer off; the API server then removes the namespace."""
        try:
            live = await self._client.get(NAMESPACES, name)
            rest = [f for f in (live.get("spec") or {}).get("finalizers") or () if f != _FINALIZER]
            changed = {**live, "spec": {**(live.get("spec") or {}), "finalizers": rest}}
            await self._client.update(NAMESPACES, changed, subresource="finalize")
        except NotFound:
            return
