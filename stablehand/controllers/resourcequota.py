"""ResourceQuotas: what a namespace uses, counted anew whenever something in it goes. Refusing more is admission's,
which also adds to status.used what it lets in.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from decimal import Decimal

from stablehand.client import Client, NotFound
from stablehand.machinery import meta, quantity, quota
from stablehand.machinery.pods import is_over
from stablehand.machinery.resources import Resource, resource
from stablehand.machinery.types import Obj
from stablehand.runtime import Controller, Informers, Result, writes
from stablehand.runtime.discovery import Catalog
from stablehand.runtime.metawatch import MetaWatch

_RESYNC = 300.0
_SOON = 0.2  # seconds: admission writes a quota before the object it let in can be seen
_PODS, _CLAIMS, _SERVICES = resource("pods"), resource("persistentvolumeclaims"), resource("services")


class ResourceQuotaController(Controller):
    name = "resourcequota"

    def __init__(self, client: Client, informers: Informers, catalog: Catalog) -> None:
        super().__init__(workers=2)
        self._client = client.with_manager("resourcequota-controller")
        self._catalog = catalog
        self._quotas = informers.get(resource("resourcequotas"))
        self._informers = {r.key: informers.get(r) for r in (_PODS, _CLAIMS, _SERVICES)}
        self.wait_for = [self._quotas, *self._informers.values()]
        self._counts: dict[str, Counter[str]] = {}  # by kind: objects in each namespace
        self._where: dict[str, str] = {}  # uid -> namespace, of what is in _counts
        self._touched: dict[tuple[str, str], float] = {}  # when a quota's status was last written, by whomever
        self._watches: dict[str, tuple[MetaWatch, asyncio.Task[None]]] = {}
        self._quotas.on_change(self._quota_changed)
        for informer in self._informers.values():
            informer.on_change(self._content_changed)

    def _quota_changed(self, event: str, old: Obj | None, new: Obj) -> None:
        if event == "DELETED":
            return
        if old is None or old["spec"] != new["spec"]:
            self.enqueue(meta.key(new))
        elif old.get("status") != new.get("status"):
            self._touched[meta.key(new)] = time.monotonic()
            self.enqueue_after(meta.key(new), _SOON)

    def _content_changed(self, event: str, old: Obj | None, new: Obj) -> None:
        if event == "MODIFIED" and old is not None and old["spec"] == new["spec"] and is_over(old) == is_over(new):
            return
        self._wake(meta.namespace(new), event == "DELETED")

    def _wake(self, namespace: str, less: bool) -> None:
        for found in self._quotas.items(namespace):
            if less:
                self.enqueue(meta.key(found))
            else:
                self.enqueue_after(meta.key(found), _SOON)

    # -- kinds that only count

    def _seen(self, res: Resource, obj: Obj) -> None:
        uid, namespace = meta.uid(obj), meta.namespace(obj)
        if uid not in self._where:
            self._where[uid] = namespace
            self._counts.setdefault(res.key, Counter())[namespace] += 1
            self._wake(namespace, False)

    def _gone(self, res: Resource, uid: str) -> None:
        namespace = self._where.pop(uid, None)
        if namespace is not None:
            self._counts[res.key][namespace] -= 1
            self._wake(namespace, True)

    async def _count(self, key: str, namespace: str) -> int | None:
        """How many objects of a kind the namespace has; None for a kind that is not served."""
        if key not in self._watches:
            await self._catalog.loaded.wait()
            row = next((r for r in self._catalog.rows() if r.key == key and r.namespaced), None)
            if row is None:
                return None
            watch = MetaWatch(self._client, row, self._seen, self._gone)
            task = asyncio.get_running_loop().create_task(watch.run(), name=f"quota-watch/{key}")
            self._watches[key] = (watch, task)
            task.add_done_callback(lambda _: self._watches.pop(key, None))
        watch, _ = self._watches[key]
        await watch.synced.wait()
        return self._counts.get(key, Counter())[namespace]

    async def run(self) -> None:
        self._catalog.on_change(self._all_again)
        try:
            await super().run()
        finally:
            tasks = [task for _, task in self._watches.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _all_again(self) -> None:
        for found in self._quotas.items():
            self.enqueue(meta.key(found))

    # -- one quota

    async def reconcile(self, key: tuple[str, str]) -> Result | None:
        found = self._quotas.cached(*key)
        if found is None:
            self._touched.pop(key, None)
            return None
        hard = found["spec"].get("hard") or {}
        totals = self._totals(found)
        used: dict[str, str] = {}
        for name in hard:
            amount = totals.get(name)
            kind = quota.counted_kind(name)
            if kind is not None and kind not in self._informers and not quota.terms(found):
                counted = await self._count(kind, key[0])
                amount = Decimal(counted) if counted is not None else None
            used[name] = quota.text(name, amount or Decimal(0))
        status = {"hard": dict(hard), "used": used}
        if self._lowers(key, found, used):
            return Result(after=_SOON)
        if status != (found.get("status") or {}):
            try:
                await writes.update(self._client, self._quotas, {**found, "status": status}, subresource="status")
            except NotFound:
                return None
        return Result(after=_RESYNC)

    def _lowers(self, key: tuple[str, str], found: Obj, used: dict[str, str]) -> bool:
        """Would this take back what admission has just spent, on something that cannot be seen here yet?"""
        if time.monotonic() - self._touched.get(key, 0.0) >= _SOON:
            return False
        before = (found.get("status") or {}).get("used") or {}
        return any(name in before and quantity.compare(value, before[name]) < 0 for name, value in used.items())

    def _totals(self, found: Obj) -> quota.Usage:
        """What pods, claims and services in the quota's scope use together."""
        total: quota.Usage = {}
        now = time.time()
        for informer in self._informers.values():
            for obj in informer.items(meta.namespace(found)):
                if quota.in_scope(found, informer.resource, obj):
                    for name, amount in quota.usage(informer.resource, obj, now).items():
                        total[name] = total.get(name, Decimal(0)) + amount
        return total
