"""API aggregation: groups and versions that another server serves, named by APIService objects."""

from __future__ import annotations

from stablehand.apiserver.aggregation.availability import Availability
from stablehand.apiserver.aggregation.discovery import RemoteDiscovery
from stablehand.apiserver.aggregation.openapi import RemoteOpenApi
from stablehand.apiserver.aggregation.services import ApiServices
from stablehand.apiserver.core import Core


class Aggregation:
    """The sides of it, held together for the server: `start` once the store is open."""

    def __init__(self, core: Core) -> None:
        self.services = ApiServices(core)
        self.discovery = RemoteDiscovery(self.services)
        self.openapi = RemoteOpenApi(core)
        self._availability = Availability(core, self.services, self.discovery, self.openapi)

    async def start(self) -> None:
        await self.services.start()
        self._availability.start()

    async def stop(self) -> None:
        await self._availability.stop()
