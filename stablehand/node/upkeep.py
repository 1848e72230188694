"""Keeps the pods' network whole: what somebody takes away (interface, routes, rules, a pod's link) comes back as soon as
the kernel tells of it. How it is put right is network's; a pod whose link is gone gets a new sandbox.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from stablehand.aiokit import netlink
from stablehand.aiokit.tasks import run_all
from stablehand.node.config import NodeError
from stablehand.node.cri.client import CriError
from stablehand.node.network import routes

if TYPE_CHECKING:
    from stablehand.node.agent import Agent
    from stablehand.node.worker import PodWorker

log = logging.getLogger("stablehand.node.upkeep")

_RETRY = 2.0
_GATHER = 0.1  # a pod's own end takes several notices
_LINK_NOTICES = (
    netlink.NEW_LINK,
    netlink.DEL_LINK,
    netlink.DEL_ADDRESS,
    netlink.DEL_ROUTE,
    netlink.NEW_SETTING,
)
_LINK_GROUPS = netlink.LINKS | netlink.ADDRESSES | netlink.ROUTES | netlink.SETTINGS


class Upkeep:
    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._links, self._tables = asyncio.Event(), asyncio.Event()

    def look(self) -> None:
        """Looks at everything again."""
        self._links.set()
        self._tables.set()

    async def run(self) -> None:
        """Until cancelled; begins with a look."""
        self.look()
        links = netlink.Notices(netlink.ROUTE, _LINK_GROUPS, _LINK_NOTICES, self._links.set)
        tables = netlink.Notices(netlink.NETFILTER, netlink.TABLES, (netlink.DEL_TABLE,), self._tables.set)
        with links, tables:
            await run_all(self._keep_links(), self._keep_table())

    async def _keep_table(self) -> None:
        while True:
            await self._tables.wait()
            await asyncio.sleep(_GATHER)
            self._tables.clear()
            try:
                await self._agent.node.network.mend_table()
            except (NodeError, OSError) as e:
                self._later(self._tables, e)

    async def _keep_links(self) -> None:
        while True:
            await self._links.wait()
            await asyncio.sleep(_GATHER)
            self._links.clear()
            try:
                await self._agent.node.network.mend_link()
                here = routes()
                for worker in list(self._agent.workers.values()):
                    if _has_network(worker) and worker.address() not in here:
                        await self._mend_pod(worker)
            except (NodeError, CriError, OSError) as e:
                self._later(self._links, e)

    def _later(self, what: asyncio.Event, error: Exception) -> None:
        log.error("mending the pod network: %s", error)
        asyncio.get_running_loop().call_later(_RETRY, what.set)

    async def _mend_pod(self, worker: PodWorker) -> None:
        """Gives a pod its route again, or, where its link is gone, a new sandbox. Raises CriError."""
        sandbox = worker.observed.sandbox
        assert sandbox is not None
        veth = await worker.node.runtime.sandbox_link(sandbox.id)
        if not _has_network(worker) or worker.observed.sandbox is not sandbox or sandbox.ip in routes():
            return
        if await worker.node.network.mend_route(sandbox.ip, veth):
            return
        text = f"The link of the pod's network ({sandbox.ip}) is gone"
        worker.node.event(worker.pod, "Warning", "PodNetworkLost", text)
        sandbox.ready = False
        worker.wake()


def _has_network(worker: PodWorker) -> bool:
    """Whether the pod should be reached at an address of its own now."""
    sandbox, memory = worker.observed.sandbox, worker.memory
    busy = memory.sandbox_busy or memory.terminating or worker.gone or worker.finished
    return sandbox is not None and sandbox.ready and bool(sandbox.ip) and not busy
