"""ServiceCIDRs: tells that one can be used, and lets one go only when no address of it is needed (KEP-1880).

Addresses are handed out by the API server.
"""

from __future__ import annotations

import ipaddress
import time

from stablehand.client import Client, NotFound
from stablehand.machinery import meta
from stablehand.machinery.conditions import set_condition
from stablehand.machinery.resources import resource
from stablehand.machinery.types import Obj, copy_object
from stablehand.runtime import Controller, Informers, Result, writes

FINALIZER = "networking.k8s.io/service-cidr-finalizer"
_READY = "Kubernetes Service CIDR is ready"
_IN_USE = (
    "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR with "
    "the same range"
)


class ServiceCidrController(Controller):
    name = "service-cidr"

    def __init__(self, client: Client, informers: Informers) -> None:
        super().__init__(workers=1)
        self._client = client.with_manager("service-cidr-controller")
        self._cidrs = informers.get(resource("servicecidrs.networking.k8s.io"))
        self._addresses = informers.get(resource("ipaddresses.networking.k8s.io"))
        self.wait_for = [self._cidrs, self._addresses]
        self._cidrs.on_change(self._cidr_changed)
        self._addresses.on_change(self._address_changed)

    def _cidr_changed(self, event: str, old: Obj | None, new: Obj) -> None:
        self.enqueue(meta.key(new))
        # Another range may be free to go now that this one covers its addresses.
        self._wake_leaving()

    def _address_changed(self, event: str, old: Obj | None, new: Obj) -> None:
        if event == "DELETED":
            self._wake_leaving()

    def _wake_leaving(self) -> None:
        for found in self._cidrs.items():
            if meta.deletion_timestamp(found):
                self.enqueue(meta.key(found))

    async def reconcile(self, key: tuple[str, str]) -> Result | None:
        found = self._cidrs.cached(*key)
        if found is None:
            return None
        try:
            if meta.deletion_timestamp(found):
                await self._leave(found)
            else:
                await self._settle(found)
        except NotFound:
            pass
        return None

    async def _settle(self, found: Obj) -> None:
        finalizers = found["metadata"].get("finalizers") or []
        if FINALIZER not in finalizers:
            changed = {**found, "metadata": {**found["metadata"], "finalizers": [*finalizers, FINALIZER]}}
            found = await writes.update(self._client, self._cidrs, changed)
        await self._tell(found, "True", "", _READY)

    async def _leave(self, found: Obj) -> None:
        finalizers = found["metadata"].get("finalizers") or []
        if FINALIZER not in finalizers:
            return
        if self._needed(found):
            await self._tell(found, "False", "Terminating", _IN_USE)
            return
        rest = [f for f in finalizers if f != FINALIZER]
        await writes.update(self._client, self._cidrs, {**found, "metadata": {**found["metadata"], "finalizers": rest}})

    def _needed(self, found: Obj) -> bool:
        """Is there an address in its ranges that no other range covers?"""
        own = _networks(found)
        others = [
            n
            for o in self._cidrs.items()
            if meta.name(o) != meta.name(found) and not meta.deletion_timestamp(o)
            for n in _networks(o)
        ]
        for address in self._addresses.items():
            ip = ipaddress.ip_address(meta.name(address))
            if any(ip in n for n in own) and not any(ip in n for n in others):
                return True
        return False

    async def _tell(self, found: Obj, value: str, reason: str, message: str) -> None:
        new = copy_object(found)
        if set_condition(new.setdefault("status", {}), "Ready", value, reason, message, time.time()):
            await writes.update(self._client, self._cidrs, new, subresource="status")


def _networks(found: Obj) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    return [ipaddress.ip_network(text, strict=False) for text in found["spec"].get("cidrs") or ()]
