"""Keeps the catalog of kinds current for the controllers that work on every kind (garbage collector, namespaces)."""

from __future__ import annotations

from stablehand.client import Client
from stablehand.machinery.conditions import get_condition
from stablehand.machinery.resources import resource
from stablehand.machinery.types import Obj
from stablehand.runtime import Controller, Informers, Result
from stablehand.runtime.discovery import Catalog

_KEY = "kinds"


class DiscoveryController(Controller):
    name = "discovery"

    def __init__(self, client: Client, informers: Informers, catalog: Catalog) -> None:
        super().__init__(workers=1)
        self._catalog = catalog
        crds = informers.get(resource("customresourcedefinitions.apiextensions.k8s.io"))
        self.wait_for = [crds]
        crds.on_change(self._changed)
        self.enqueue(_KEY)

    def _changed(self, event: str, old: Obj | None, new: Obj) -> None:
        if event != "MODIFIED" or old is None or _shape(old) != _shape(new):
            self.enqueue(_KEY)

    async def reconcile(self, key: str) -> Result | None:
        await self._catalog.refresh()
        return Result(after=5.0) if self._catalog.failed else None


def _shape(crd: Obj) -> tuple[object, ...]:
    established = get_condition(crd.get("status"), "Established")
    versions = [(v.get("name"), v.get("served")) for v in crd["spec"].get("versions") or ()]
    return (established or {}).get("status"), versions, crd["metadata"].get("deletionTimestamp")
