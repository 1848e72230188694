"""The part as a whole: Services' virtual addresses (`Proxy`) and, beside it, NetworkPolicies (enforcer).

The rules' text is network.rules'. Pods go on when Stablehand stops, so the tables stay; `teardown` deletes them.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from stablehand.aiokit.conntrack import clear_udp
from stablehand.aiokit.tasks import run_all
from stablehand.client import Client
from stablehand.machinery.meta import key, labels, namespace
from stablehand.machinery.resources import resource
from stablehand.machinery.types import Obj
from stablehand.network.enforcer import DNS_SERVICE, Enforcer, Place, policy_table
from stablehand.network.health import HealthPorts
from stablehand.network.nft import NetworkError, TableWriter, delete_table
from stablehand.network.rules import local_endpoints, service_part, skeleton
from stablehand.network.status import Progress, StatusServer
from stablehand.network.table import Key, Part
from stablehand.runtime import EventRecorder, Informers

__all__ = ["NetworkConfig", "NetworkError", "Proxy", "run", "teardown"]

log = logging.getLogger("stablehand.network")
SERVICE_LABEL = "kubernetes.io/service-name"
_GATHER = 0.005
Flows = dict[tuple[str, int], frozenset[tuple[str, int]]]


@dataclass(frozen=True)
class NetworkConfig:
    """`informers` given: run by who gave them. `node_ips` empty: node ports answer on every local address."""

    client: Client
    informers: Informers | None = None
    table: str = "stablehand_services"
    pod_cidr: str = "10.244.0.0/16"
    node_name: str = ""
    node_ips: tuple[str, ...] = ()


async def teardown(table: str = "stablehand_services") -> None:
    """Deletes the tables, if there are any."""
    await delete_table(table)
    await delete_table(policy_table(table))


def changed_flows(old: Part, new: Part) -> Flows:
    """The UDP destinations that lost an end, or have their first: connections elsewhere are to be cleared."""
    out: Flows = {}
    for where in old.flows.keys() | new.flows.keys():
        before, now = old.flows.get(where, frozenset()), new.flows.get(where, frozenset())
        if before - now or (now and not before):
            out[where] = now
    return out


class Proxy:
    """Gathers changed Services for a few milliseconds and writes their rules in one transaction."""

    def __init__(self, config: NetworkConfig, informers: Informers) -> None:
        self._config = config
        self._dirty: set[Key] = set()
        self._changed = asyncio.Event()
        self._parts: dict[Key, Part] = {}
        client = config.client.with_manager("stablehand-network")
        self._events = EventRecorder(client, "stablehand-network", config.node_name)
        addresses = (*config.node_ips, "127.0.0.1") if config.node_ips else ()
        self._health = HealthPorts(addresses)
        self._progress = Progress()
        self._status = StatusServer(self._progress, addresses)
        self.services = informers.get(resource("services"))
        self.slices = informers.get(resource("endpointslices.discovery.k8s.io"))
        self.slices.add_index("service", lambda s: [f"{namespace(s)}/{labels(s).get(SERVICE_LABEL, '')}"])
        self.services.on_change(lambda _kind, _old, new: self._mark(key(new)))
        self.slices.on_change(self._slice_changed)

    def slices_of(self, service: Key) -> list[Obj]:
        return self.slices.by_index("service", "/".join(service))

    def _slice_changed(self, _kind: str, old: Obj | None, new: Obj) -> None:
        for piece in (old, new):
            if piece is not None and (service := labels(piece).get(SERVICE_LABEL)):
                self._mark((namespace(piece), service))

    def _mark(self, service: Key) -> None:
        self._dirty.add(service)
        self._progress.changed()
        self._changed.set()

    def _part(self, each: Key) -> Part:
        service = self.services.cached(*each)
        if service is None:
            return Part()
        return service_part(service, self.slices_of(each), self._config.node_name, self._config.pod_cidr)

    def _everything(self) -> dict[Key, Part]:
        self._parts = {key(service): self._part(key(service)) for service in self.services.items()}
        return self._parts

    def _refused(self, each: Key, why: str) -> None:
        service = self.services.cached(*each)
        if service is not None:
            self._events.event(service, "Warning", "RulesRefused", f"{why}; the Service keeps the rules it had before")

    async def run(self) -> None:
        """Until cancelled. Raises NetworkError when nft refuses even the first rules."""
        await self.services.synced()
        await self.slices.synced()
        config = self._config
        rules = skeleton(config.table, config.node_ips, config.pod_cidr)
        writer = TableWriter(config.table, rules, self._everything, self._refused)
        dirty = {key(service) for service in self.services.items()}
        self._dirty.clear()
        self._changed.clear()
        count = await writer.rewrite()
        log.info("wrote the rules of %s services into nft table %s", count, config.table)
        self._progress.written()
        await self._status.open()
        flows: Flows = {where: ends for part in self._parts.values() for where, ends in part.flows.items()}
        await run_all(self._work(writer, dirty, flows), writer.keep())

    async def _work(self, writer: TableWriter, dirty: set[Key], flows: Flows) -> None:
        try:
            while True:
                await self._follow(dirty, flows)
                await self._changed.wait()
                await asyncio.sleep(_GATHER)
                self._changed.clear()
                dirty, self._dirty = self._dirty, set()
                parts = {each: self._part(each) for each in dirty}
                flows = {}
                for each, part in parts.items():
                    flows |= changed_flows(self._parts.pop(each, Part()), part)
                    if part.elements:
                        self._parts[each] = part
                await writer.change(parts)
                if not self._dirty:
                    self._progress.written()
        finally:
            await self._health.close()
            await self._status.close()

    async def _follow(self, dirty: set[Key], flows: Flows) -> None:
        """What comes after new rules: connections that lead elsewhere, and the health check ports."""
        if flows:
            try:
                await asyncio.to_thread(clear_udp, flows)
            except OSError as e:
                log.warning("cannot clear UDP connections to endpoints that are gone: %s", e)
        for each in dirty:
            spec = (self.services.cached(*each) or {}).get("spec") or {}
            port = spec.get("healthCheckNodePort") or 0
            await self._health.set(each, port, local_endpoints(self.slices_of(each), self._config.node_name))


async def run(config: NetworkConfig) -> None:
    """Keeps the rules current until cancelled; the tables stay."""
    informers = config.informers or Informers(config.client)
    proxy = Proxy(config, informers)
    enforcer = Enforcer(
        config.client,
        informers,
        policy_table(config.table),
        Place(config.node_name, config.pod_cidr, config.node_ips),
        lambda: proxy.slices_of(DNS_SERVICE),
    )

    def dns_changed(_kind: str, _old: Obj | None, new: Obj) -> None:
        if (namespace(new), labels(new).get(SERVICE_LABEL)) == DNS_SERVICE:
            enforcer.mark()

    proxy.slices.on_change(dns_changed)
    works = [proxy.run(), enforcer.run()]
    if config.informers is None:
        works.append(informers.run())
    await run_all(*works)
