"""NetworkPolicies for the pods of this node: follows policies, pods and namespaces and applies their rules with nft.

What a policy means is policies', its rules policyrules', what a change of the cluster changes policystate's. Without a policy there is no table, no watch of pods or
namespaces, and no work. Rules stay when Stablehand stops, as pods do.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from stablehand.client import Client
from stablehand.machinery.meta import key as key_of
from stablehand.machinery.meta import labels
from stablehand.machinery.resources import resource
from stablehand.machinery.types import Obj
from stablehand.network.nft import NetworkError, TableWriter, delete_table
from stablehand.network.policies import DnsServer, concerns_policies
from stablehand.network.policyrules import closed, skeleton
from stablehand.network.policystate import PolicyState, make_state
from stablehand.network.table import Key, Part
from stablehand.runtime import EventRecorder, Informer, Informers

log = logging.getLogger("stablehand.network.policies")
DNS_SERVICE = ("kube-system", "kube-dns")
_GATHER = 0.005


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
        self._dirty: set[tuple[str, Key]] = set()  # ("pod" | "namespace" | "policy", its key)
        self._events = EventRecorder(client.with_manager("stablehand-network"), "stablehand-network", place.node_name)
        self._policies = informers.get(resource("networkpolicies.networking.k8s.io"))
        self._policies.on_change(self._policy_changed)

    def mark(self) -> None:
        self._changed.set()

    def _mark(self, kind: str, key: Key) -> None:
        self._dirty.add((kind, key))
        self._changed.set()

    def _policy_changed(self, _kind: str, old: Obj | None, new: Obj) -> None:
        if old is None or _kind == "DELETED" or old.get("spec") != new.get("spec"):
            self._mark("policy", key_of(new))

    def _pod_changed(self, kind: str, old: Obj | None, new: Obj) -> None:
        if kind == "DELETED" or concerns_policies(old, new):
            self._mark("pod", key_of(new))

    def _namespace_changed(self, kind: str, old: Obj | None, new: Obj) -> None:
        if kind == "DELETED" or old is None or labels(old) != labels(new):
            self._mark("namespace", key_of(new))

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
            self._changed.clear()
            self._dirty.clear()
            place = self._place
            state = make_state(
                self._policies.items(),
                pods.items(),
                namespaces.items(),
                place.node_name,
                dns_servers(self._dns()),
                place.node_ips,
            )
            writer = TableWriter(
                self._table, skeleton(self._table, place.pod_cidr), state.everything, self._refused, _instead
            )
            await writer.insist()
            keeping = asyncio.create_task(writer.keep())
            log.info("enforcing %s network policies in nft table %s", len(self._policies.items()), self._table)
            while True:
                await self._changed.wait()
                await asyncio.sleep(_GATHER)
                self._changed.clear()
                if not self._policies.items():
                    return
                self._follow(state, pods, namespaces)
                await writer.change(state.changes())
        finally:
            tasks = [watching] if keeping is None else [watching, keeping]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _follow(self, state: PolicyState, pods: Informer, namespaces: Informer) -> None:
        """Tells the state of everything that changed."""
        dirty, self._dirty = self._dirty, set()
        state.set_dns(dns_servers(self._dns()))
        for kind, key in dirty:
            if kind == "pod":
                pod = pods.cached(*key)
                state.remove_pod(key) if pod is None else state.set_pod(pod)
            elif kind == "policy":
                policy = self._policies.cached(*key)
                state.remove_policy(key) if policy is None else state.set_policy(policy)
            else:
                namespace = namespaces.cached(*key)
                state.remove_namespace(key[1]) if namespace is None else state.set_namespace(namespace)

    def _refused(self, key: Key, why: str) -> None:
        kind, name = key
        policy = self._policies.cached(*name.split("/", 1)) if kind == "policy" else None
        if policy is not None:
            text = "nothing is let through by this policy on the pods it selects"
            self._events.event(policy, "Warning", "RulesRefused", f"{why}; {text}")


def _instead(key: Key, part: Part) -> Part | None:
    """A policy whose rules cannot be written isolates its pods all the same."""
    return closed(part) if key[0] == "policy" else None


def dns_servers(slices: list[Obj]) -> tuple[DnsServer, ...]:
    """The addresses behind kube-dns that are no pods."""
    found = {
        DnsServer(address, port["port"])
        for piece in slices
        for endpoint in piece.get("endpoints") or ()
        if (endpoint.get("targetRef") or {}).get("kind") != "Pod"
        for address in endpoint.get("addresses") or ()
        if ":" not in address
        for port in piece.get("ports") or ()
        if port.get("port")
    }
    return tuple(sorted(found, key=lambda s: (s.address, s.port)))
