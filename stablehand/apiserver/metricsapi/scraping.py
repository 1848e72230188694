"""Asks kubelets what is used: nothing while nobody wants to know, each at most every 15 seconds."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field

import aiohttp

from stablehand.apiserver.contract import StatusError
from stablehand.apiserver.core import Core
from stablehand.apiserver.metricsapi.points import Sample, parse
from stablehand.apiserver.streams import kubelet, targets

log = logging.getLogger("stablehand.metrics")

RESOLUTION = 15.0  # seconds a look is good for (metrics-server's --metric-resolution)
STALE = 60.0  # seconds after which a rate since the look before says nothing about now
WINDOW = 1.0  # seconds between the two looks when there is no earlier one
_TIMEOUT = 10.0

Pair = tuple[Sample, Sample]


@dataclass(slots=True)
class _Node:
    """The last two looks at one node; `uid` tells it from a later one of its name."""

    uid: str
    before: Sample | None = None
    last: Sample | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Scraper:
    def __init__(self, core: Core) -> None:
        self._core = core
        self._nodes: dict[str, _Node] = {}

    async def pairs(self, nodes: dict[str, str]) -> dict[str, Pair]:
        """The last two looks at each node (name -> uid) that answers."""
        self._nodes = {n: s for n, s in self._nodes.items() if self._core_has(n)}
        found = await asyncio.gather(*(self._pair(name, uid) for name, uid in nodes.items()))
        return {name: pair for name, pair in zip(nodes, found, strict=True) if pair is not None}

    def _core_has(self, name: str) -> bool:
        try:
            targets.find(self._core, "nodes", "", name)
        except StatusError:
            return False
        return True

    async def _pair(self, name: str, uid: str) -> Pair | None:
        node = self._nodes.get(name)
        if node is None or node.uid != uid:
            node = self._nodes[name] = _Node(uid)
        async with node.lock:
            try:
                await self._refresh(name, node)
            except (aiohttp.ClientError, OSError, TimeoutError, StatusError) as e:
                log.info("node %s does not tell what is used: %s", name, e or type(e).__name__)
                return None
        return (node.before, node.last) if node.before is not None and node.last is not None else None

    async def _refresh(self, name: str, node: _Node) -> None:
        now = time.monotonic()
        if node.before is not None and node.last is not None and now - node.last.taken < RESOLUTION:
            return
        if node.last is None or now - node.last.taken > STALE:
            node.last = await self._look(name)
        pause = node.last.taken + WINDOW - time.monotonic()
        if pause > 0:
            await asyncio.sleep(pause)  # a rate needs time between two looks
        node.before, node.last = node.last, await self._look(name)

    async def _look(self, name: str) -> Sample:
        """Raises StatusError, OSError, TimeoutError, ClientError."""
        address, port = targets.kubelet_address(self._core, name)
        url = f"https://{kubelet.host(address, port)}/metrics/resource"
        taken = time.monotonic()
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT)
        async with kubelet.session(self._core).get(url, ssl=kubelet.context(self._core), timeout=timeout) as answer:
            text = await answer.text()
            if answer.status != 200:
                raise kubelet.refusal(answer.status, text)
        sample = parse(text, time.time())
        sample.taken = taken
        return sample
