"""NetworkPolicies for the pods of this node: follows policies, pods and namespaces and applies their rules with nft.

What a policy means is policies', its rules policyrules'. Without a policy there is no table, no watch of pods or
namespaces, and no work. Rules stay when Stablehand stops, as pods do.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from stablehand.client import Client
from stablehand.machinery.meta import labels
from stablehand.machinery.resources import resource
from stablehand.machinery.types import Obj
from stablehand.network.nft import NetworkError, TableWriter, delete_table
from stablehand.network.policies import DnsServer, concerns_policies, make_plan
from stablehand.network.policyrules import policy_part, skeleton
from stablehand.network.table import Key, Part
from stablehand.runtime import Informer, Informers

log = logging.getLogger("stablehand.network.policies")
DNS_SERVICE = ("kube-system", "kube-dns")
_GATHER = 0.005
_ALL: Key = ("", "")


def policy_table(table: str) -> str:
    """The policies' table beside a Services' table."""
    return table.removesuffix("_services") + "_policies"


@dataclass(frozen=True, slots=True)
class Place:
    """The node: its name ("": all pods are its own), the network of its pods, its own addresses."""

    node_name: str
    pod_cidr: str
    node_ips: tuple[str, ...]


class Enforcer:
    """`dns` gives the slices of cluster DNS; call `mark` when they change."""

    def __init__(
        self, client: Client, informers: Informers, table: str, place: Place, dns: Callable[[], list[Obj]]
    ) -> None:
        self._client, self._table, self._place, self._dns = client, table, place, dns
        self._changed = asyncio.Event()
        self._policies = informers.get(resource("networkpolicies.networking.k8s.io"))
        self._policies.on_change(self._policy_changed)

    def mark(self) -> None:
        self._changed.set()

    def _policy_changed(self, _kind: str, old: Obj | None, new: Obj) -> None:
        if old is None or _kind == "DELETED" or old.get("spec") != new.get("spec"):
            self.mark()

    def _pod_changed(self, kind: str, old: Obj | None, new: Obj) -> None:
        if kind == "DELETED" or concerns_policies(old, new):
            self.mark()

    def _namespace_changed(self, kind: str, old: Obj | None, new: Obj) -> None:
        if kind == "DELETED" or old is None or labels(old) != labels(new):
            self.mark()

    async def run(self) -> None:
        """Until cancelled."""
        await self._policies.synced()
        while True:
            if self._policies.items():
                await self._enforce()
            try:
                await delete_table(self._table)
            except NetworkError as e:
                log.error("%s", e)
            while not self._policies.items():
                self._changed.clear()
                await self._changed.wait()

    async def _enforce(self) -> None:
        """Until the last policy is gone."""
        informers = Informers(self._client)
        pods, namespaces = informers.get(resource("pods")), informers.get(resource("namespaces"))
        pods.on_change(self._pod_changed)
        namespaces.on_change(self._namespace_changed)
        watching = asyncio.create_task(informers.run())
        keeping: asyncio.Task[None] | None = None
        try:
            await pods.synced()
            await namespaces.synced()
            writer = TableWriter(
                self._table, skeleton(self._table, self._place.pod_cidr), lambda: {_ALL: self._part(pods, namespaces)}
            )
            self._changed.clear()
            await writer.insist()
            keeping = asyncio.create_task(writer.keep())
            log.info("enforcing %s network policies in nft table %s", len(self._policies.items()), self._table)
            while True:
                await self._changed.wait()
                await asyncio.sleep(_GATHER)
                self._changed.clear()
                if not self._policies.items():
                    return
                await writer.change({_ALL: self._part(pods, namespaces)})
        finally:
            tasks = [watching] if keeping is None else [watching, keeping]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _part(self, pods: Informer, namespaces: Informer) -> Part:
        plan = make_plan(
            self._policies.items(),
            pods.items(),
            namespaces.items(),
            self._place.node_name,
            tuple(dns_servers(self._dns())),
        )
        return policy_part(plan, self._place.node_ips)


def dns_servers(slices: list[Obj]) -> list[DnsServer]:
    """The addresses behind kube-dns that are no pods."""
    return sorted(
        {
            DnsServer(address, port["port"])
            for piece in slices
            for endpoint in piece.get("endpoints") or ()
            if (endpoint.get("targetRef") or {}).get("kind") != "Pod"
            for address in endpoint.get("addresses") or ()
            if ":" not in address
            for port in piece.get("ports") or ()
            if port.get("port")
        },
        key=lambda s: (s.address, s.port),
    )
