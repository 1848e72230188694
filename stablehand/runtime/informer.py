"""A local copy of one collection, kept current by list and watch (client-go's shared informer).

Handlers run synchronously, in the order of the server's events. What to do about a change is the controller's
business: it puts a name into a queue (runtime.controller).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from stablehand.aiokit.backoff import Backoff
from stablehand.client import ApiError, Client, Gone, NotFound, Unavailable
from stablehand.machinery.meta import resource_version
from stablehand.machinery.resources import Resource
from stablehand.machinery.types import Obj

log = logging.getLogger("stablehand.informer")

Key = tuple[str, str]
Handler = Callable[[str, Obj | None, Obj], None]
IndexFunction = Callable[[Obj], Iterable[str]]


class Informer:
    """One watched collection. `cached`, `items` and `by_index` return shared objects: never change them."""

    def __init__(
        self,
        client: Client,
        res: Resource,
        namespace: str | None = None,
        label_selector: str = "",
        field_selector: str = "",
    ) -> None:
        self.resource = res
        self._client = client
        self._namespace = namespace
        self._labels, self._fields = label_selector, field_selector
        self._objects: dict[Key, Obj] = {}
        self._namespaces: dict[str, dict[str, Obj]] = {}
        self._indexes: dict[str, tuple[IndexFunction, dict[str, dict[Key, Obj]]]] = {}
        self._handlers: list[Handler] = []
        self._synced = asyncio.Event()
        # Deletions we made ourselves, by uid, until the watch has shown them: a late MODIFIED must not revive one.
        self._gone: dict[str, int] = {}
        self._watched = 0  # the newest revision the watch has shown

    # -- reading

    def cached(self, namespace: str, name: str) -> Obj | None:
        return self._objects.get((namespace, name))

    def items(self, namespace: str | None = None) -> list[Obj]:
        if namespace:
            return list(self._namespaces.get(namespace, {}).values())
        return list(self._objects.values())

    def add_index(self, name: str, function: IndexFunction) -> None:
        """Adds an index (once per name); `function` gives the values under which an object is found."""
        if name in self._indexes:
            return
        index: dict[str, dict[Key, Obj]] = {}
        self._indexes[name] = (function, index)
        for key, obj in self._objects.items():
            for value in function(obj):
                index.setdefault(value, {})[key] = obj

    def by_index(self, name: str, value: str) -> list[Obj]:
        return list(self._indexes[name][1].get(value, {}).values())

    def on_change(self, handler: Handler) -> None:
        """Calls handler("ADDED" | "MODIFIED" | "DELETED", old, new); at once, as ADDED, for what is there already."""
        self._handlers.append(handler)
        for obj in list(self._objects.values()):
            handler("ADDED", None, obj)

    async def synced(self) -> None:
        """Returns once the first list is in."""
        await self._synced.wait()

    @property
    def has_synced(self) -> bool:
        return self._synced.is_set()

    # -- our own writes

    def observe(self, obj: Obj) -> None:
        """Takes in the answer to a write of our own, so that the next look is never older than that write."""
        # What the watch has already told of is newer than the answer to an older write: an object deleted meanwhile
        # must not come back.
        if obj["metadata"].get("uid") not in self._gone and resource_version(obj) > self._watched:
            self._put(obj)

    def observe_delete(self, obj: Obj) -> None:
        """Takes in that the object (of this uid) is gone."""
        meta = obj["metadata"]
        current = self._objects.get((meta.get("namespace") or "", meta["name"]))
        if current is not None and current["metadata"].get("uid") == meta.get("uid"):
            self._gone[meta["uid"]] = 1
            self._remove(current)

    # -- keeping it current

    def _notify(self, kind: str, old: Obj | None, new: Obj) -> None:
        for handler in self._handlers:
            try:
                handler(kind, old, new)
            except Exception:
                log.exception("informer handler failed for %s", self.resource.key)

    def _put(self, obj: Obj) -> None:
        meta = obj["metadata"]
        key = (meta.get("namespace") or "", meta["name"])
        old = self._objects.get(key)
        if old is not None and resource_version(old) >= int(meta["resourceVersion"]):
            return
        if old is not None and old["metadata"].get("uid") != meta.get("uid"):
            self._remove(old)
            old = None
        if "kind" not in obj:
            obj = {"kind": self.resource.kind, "apiVersion": self.resource.api_version, **obj}
        self._objects[key] = obj
        self._namespaces.setdefault(key[0], {})[key[1]] = obj
        for function, index in self._indexes.values():
            values = tuple(function(obj))
            if old is not None:
                for value in function(old):
                    if value not in values:
                        self._unindex(index, value, key)
            for value in values:
                index.setdefault(value, {})[key] = obj
        self._notify("MODIFIED" if old is not None else "ADDED", old, obj)

    def _remove(self, last: Obj) -> None:
        meta = last["metadata"]
        key = (meta.get("namespace") or "", meta["name"])
        old = self._objects.pop(key, None)
        if old is None:
            return
        in_namespace = self._namespaces[key[0]]
        del in_namespace[key[1]]
        if not in_namespace:
            del self._namespaces[key[0]]
        for function, index in self._indexes.values():
            for value in function(old):
                self._unindex(index, value, key)
        if "kind" not in last:
            last = {"kind": self.resource.kind, "apiVersion": self.resource.api_version, **last}
        self._notify("DELETED", old, last)

    @staticmethod
    def _unindex(index: dict[str, dict[Key, Obj]], value: str, key: Key) -> None:
        entries = index.get(value)
        if entries is not None:
            entries.pop(key, None)
            if not entries:
                del index[value]

    def _replace(self, items: list[Obj]) -> None:
        seen = set()
        for obj in items:
            meta = obj["metadata"]
            seen.add((meta.get("namespace") or "", meta["name"]))
            if meta.get("uid") not in self._gone:
                self._put(obj)
        for key in [k for k in self._objects if k not in seen]:
            self._remove(self._objects[key])
        self._gone.clear()

    def _apply(self, kind: str, obj: Obj) -> None:
        meta = obj["metadata"]
        if kind == "DELETED":
            self._gone.pop(meta.get("uid", ""), None)
            current = self._objects.get((meta.get("namespace") or "", meta["name"]))
            if current is not None and current["metadata"].get("uid") == meta.get("uid"):
                self._remove(obj)
        elif not self._gone or meta.get("uid") not in self._gone:
            self._put(obj)

    async def run(self) -> None:
        """Lists and watches until cancelled; reconnects with back-off, relists when the server forgot our revision."""
        backoff = Backoff(0.05, 10.0)
        revision: str | None = None
        while True:
            try:
                if revision is None:
                    listed = await self._client.list(
                        self.resource, self._namespace, label_selector=self._labels, field_selector=self._fields
                    )
                    self._replace(listed.get("items") or [])
                    revision = str(listed["metadata"]["resourceVersion"])
                    self._watched = int(revision)
                    self._synced.set()
                async for event in self._client.watch(
                    self.resource,
                    self._namespace,
                    resource_version=revision,
                    label_selector=self._labels,
                    field_selector=self._fields,
                ):
                    revision = event.object["metadata"]["resourceVersion"]
                    self._watched = int(revision)
                    if event.type != "BOOKMARK":
                        self._apply(event.type, event.object)
                    backoff.reset()
            except Gone:
                revision = None
                continue
            except NotFound:
                # The server does not know the kind (yet): an older upstream, or a CRD on its way out.
                revision = None
                self._replace([])
                self._synced.set()
                await asyncio.sleep(backoff.next())
            except (ApiError, Unavailable) as e:
                log.log(
                    logging.DEBUG if isinstance(e, Unavailable) else logging.WARNING,
                    "watch of %s broke: %s",
                    self.resource.key,
                    e,
                )
                if isinstance(e, ApiError):
                    revision = None
                await asyncio.sleep(backoff.next())


class Informers:
    """One informer per (resource, namespace, selectors), shared by all who ask, at any time."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._informers: dict[tuple[str, str | None, str, str], Informer] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._running = False

    def get(
        self, res: Resource, namespace: str | None = None, label_selector: str = "", field_selector: str = ""
    ) -> Informer:
        key = (f"{res.key}/{res.version}", namespace, label_selector, field_selector)
        informer = self._informers.get(key)
        if informer is None:
            informer = Informer(self._client, res, namespace, label_selector, field_selector)
            self._informers[key] = informer
            if self._running:
                self._start(informer)
        return informer

    def _start(self, informer: Informer) -> None:
        task = asyncio.get_running_loop().create_task(informer.run(), name=f"informer/{informer.resource.key}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def run(self) -> None:
        """Runs every informer until cancelled. A second call, while the first runs, only waits."""
        try:
            if not self._running:
                self._running = True
                for informer in list(self._informers.values()):
                    self._start(informer)
            await asyncio.Event().wait()
        finally:
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def synced(self) -> None:
        for informer in list(self._informers.values()):
            await informer.synced()
