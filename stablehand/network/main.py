"""Services' virtual addresses: follows Services and EndpointSlices and applies their rules with nft.

The rules' text is network.rules'. Pods go on when Stablehand stops, so the table stays; `teardown` deletes it.
Connection tracking keeps a UDP flow on the endpoint it began with until the flow falls silent.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from dataclasses import dataclass

from stablehand.aiokit.backoff import Backoff
from stablehand.client import Client
from stablehand.machinery.meta import key, labels, namespace
from stablehand.machinery.resources import resource
from stablehand.machinery.types import Obj
from stablehand.network.rules import Key, Part, Table, service_part, skeleton
from stablehand.runtime import Informers

log = logging.getLogger("stablehand.network")
SERVICE_LABEL = "kubernetes.io/service-name"
_GATHER = 0.005


class NetworkError(Exception):
    """nft is missing, or refused our rules."""


@dataclass(frozen=True)
class NetworkConfig:
    """`informers` given: run by who gave them. `node_ips` empty: node ports answer on every local address."""

    client: Client
    informers: Informers | None = None
    table: str = "stablehand_services"
    pod_cidr: str = "10.244.0.0/16"
    node_name: str = ""
    node_ips: tuple[str, ...] = ()


async def apply(commands: str) -> None:
    """One transaction: all of the commands, or none."""
    nft = shutil.which("nft") or shutil.which("nft", path="/usr/sbin:/sbin")
    if nft is None:
        raise NetworkError("nft not found: install nftables: apt-get install nftables")
    process = await asyncio.create_subprocess_exec(
        nft, "-f", "-", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await process.communicate(commands.encode())
    if process.returncode:
        raise NetworkError(f"nft refused the rules of Services: {out.decode(errors='replace').strip()}")


async def teardown(table: str = "stablehand_services") -> None:
    """Deletes the table, if there is one."""
    await apply(f"add table ip {table}\ndelete table ip {table}\n")


class Proxy:
    """Gathers changed Services for a few milliseconds and writes their rules in one transaction."""

    def __init__(self, config: NetworkConfig, informers: Informers) -> None:
        self._config = config
        self._dirty: set[Key] = set()
        self._changed = asyncio.Event()
        self.services = informers.get(resource("services"))
        self.slices = informers.get(resource("endpointslices.discovery.k8s.io"))
        self.slices.add_index("service", lambda s: [f"{namespace(s)}/{labels(s).get(SERVICE_LABEL, '')}"])
        self.services.on_change(lambda _kind, _old, new: self._mark(key(new)))
        self.slices.on_change(self._slice_changed)

    def _slice_changed(self, _kind: str, old: Obj | None, new: Obj) -> None:
        for piece in (old, new):
            if piece is not None and (service := labels(piece).get(SERVICE_LABEL)):
                self._mark((namespace(piece), service))

    def _mark(self, service: Key) -> None:
        self._dirty.add(service)
        self._changed.set()

    def _part(self, each: Key) -> Part:
        service = self.services.cached(*each)
        if service is None:
            return Part()
        return service_part(service, self.slices.by_index("service", "/".join(each)), self._config.node_name)

    async def run(self) -> None:
        await self.services.synced()
        await self.slices.synced()
        table = await self._rewrite()
        backoff = Backoff(0.1, 30.0)
        while True:
            await self._changed.wait()
            await asyncio.sleep(_GATHER)
            self._changed.clear()
            dirty, self._dirty = self._dirty, set()
            commands = table.change({each: self._part(each) for each in dirty})
            while commands:
                try:
                    await apply(commands)
                    break
                except NetworkError as e:
                    # Somebody flushed our table, or one Service is odd: begin again from nothing.
                    log.warning("%s; writing the whole table again", e)
                try:
                    table = await self._rewrite()
                    backoff.reset()
                    break
                except NetworkError as e:
                    log.error("%s", e)
                    await asyncio.sleep(backoff.next())

    async def _rewrite(self) -> Table:
        """Replaces the whole table in one transaction, so that connections never meet an empty one."""
        self._dirty.clear()
        self._changed.clear()
        table = Table(self._config.table)
        parts = {key(service): self._part(key(service)) for service in self.services.items()}
        await apply(skeleton(table.name, self._config.node_ips) + table.change(parts))
        log.info("wrote the rules of %s services into nft table %s", len(parts), table.name)
        return table


async def run(config: NetworkConfig) -> None:
    """Keeps the rules current until cancelled; the table stays."""
    informers = config.informers or Informers(config.client)
    proxy = Proxy(config, informers)
    if config.informers is not None:
        await proxy.run()
        return
    watching = asyncio.create_task(informers.run())
    try:
        await proxy.run()
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
