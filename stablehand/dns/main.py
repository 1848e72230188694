"""The DNS part as a whole: it keeps the zone in step with Services and EndpointSlices and serves it."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path

from stablehand.client import Client
from stablehand.dns.server import DnsServer, read_resolv_conf, split_upstream
from stablehand.dns.zone import Key, Zone
from stablehand.machinery.meta import key, labels, namespace
from stablehand.machinery.resources import resource
from stablehand.machinery.types import Obj
from stablehand.runtime import Informers

log = logging.getLogger("stablehand.dns")
SERVICE_LABEL = "kubernetes.io/service-name"


@dataclass(frozen=True)
class DnsConfig:
    """`upstreams` None: those of /etc/resolv.conf. `informers` given: run by who gave them."""

    client: Client
    informers: Informers | None = None
    domain: str = "cluster.local"
    listen: tuple[tuple[str, int], ...] = (("127.0.0.1", 10053),)
    upstreams: tuple[str, ...] | None = None
    cluster_cidrs: tuple[str, ...] = ("10.96.0.0/12", "10.244.0.0/16")


class Feed:
    """Carries changes of the informers into the zone, one Service at a time, once per turn of the loop."""

    def __init__(self, informers: Informers, zone: Zone) -> None:
        self._zone = zone
        self.services = informers.get(resource("services"))
        self.slices = informers.get(resource("endpointslices.discovery.k8s.io"))
        self._dirty: set[Key] = set()
        self.slices.add_index("service", lambda s: [f"{namespace(s)}/{labels(s).get(SERVICE_LABEL, '')}"])
        self.services.on_change(lambda _kind, _old, new: self._mark(key(new)))
        self.slices.on_change(self._slice_changed)

    def _slice_changed(self, _kind: str, old: Obj | None, new: Obj) -> None:
        for piece in (old, new):
            if piece is not None and (service := labels(piece).get(SERVICE_LABEL)):
                self._mark((namespace(piece), service))

    def _mark(self, service: Key) -> None:
        if not self._dirty:
            asyncio.get_running_loop().call_soon(self.flush)
        self._dirty.add(service)

    def flush(self) -> None:
        dirty, self._dirty = self._dirty, set()
        for each in dirty:
            service = self.services.cached(*each)
            if service is None:
                self._zone.remove_service(each)
            else:
                try:
                    self._zone.set_service(service, self.slices.by_index("service", "/".join(each)))
                except (ValueError, KeyError):
                    log.exception("cannot make DNS records of service %s/%s", *each)


def _system_upstreams() -> tuple[str, ...]:
    try:
        return read_resolv_conf(Path("/etc/resolv.conf").read_text())
    except OSError as e:
        log.warning("no upstream resolvers: %s", e)
        return ()


async def run(config: DnsConfig) -> None:
    """Serves until cancelled."""
    zone = Zone(config.domain, config.cluster_cidrs)
    found = _system_upstreams() if config.upstreams is None else config.upstreams
    server = DnsServer(zone, tuple(u for u in found if split_upstream(u) not in config.listen))
    informers = config.informers or Informers(config.client)
    feed = Feed(informers, zone)
    try:
        async with asyncio.TaskGroup() as group:
            if config.informers is None:
                group.create_task(informers.run())
            for host, port in config.listen:
                await server.listen(host, port)
            await feed.services.synced()
            await feed.slices.synced()
            feed.flush()
            server.ready = True
            log.info("serving DNS of %s on %s", config.domain, ", ".join(f"{h}:{p}" for h, p in config.listen))
            await asyncio.Event().wait()
    finally:
        await server.close()
