"""Watches a whole kind without keeping its objects: only what a function makes of each is handed on.

For those who must hear of every object there is, such as the garbage collector. Whoever needs the objects
themselves uses an informer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from stablehand.aiokit.backoff import Backoff
from stablehand.client import ApiError, Client, Gone, NotFound, Unavailable
from stablehand.machinery.resources import Resource
from stablehand.machinery.types import Obj

log = logging.getLogger("stablehand.metawatch")


class MetaWatch:
    """Calls seen(resource, obj) for each object that is there or changes, gone(resource, uid) for each deleted one."""

    def __init__(
        self,
        client: Client,
        res: Resource,
        seen: Callable[[Resource, Obj], None],
        gone: Callable[[Resource, str], None],
    ) -> None:
        self._client = client
        self._resource = res
        self._seen = seen
        self._gone = gone
        self._uids: set[str] = set()
        self.synced = asyncio.Event()

    async def run(self) -> None:
        """Lists and watches until cancelled. Stops for good when the server no longer knows the kind."""
        backoff = Backoff(0.05, 10.0)
        revision: str | None = None
        try:
            while True:
                try:
                    if revision is None:
                        revision = await self._relist()
                    async for event in self._client.watch(self._resource, resource_version=revision):
                        revision = event.object["metadata"]["resourceVersion"]
                        if event.type != "BOOKMARK":
                            self._apply(event.type, event.object)
                        backoff.reset()
                except Gone:
                    revision = None
                except NotFound:
                    self.synced.set()
                    return
                except (ApiError, Unavailable) as e:
                    log.debug("watch of %s broke: %s", self._resource.key, e)
                    if isinstance(e, ApiError):
                        revision = None
                        self.synced.set()  # one kind that does not answer must not hold up the rest
                    await asyncio.sleep(backoff.next())
        finally:
            for uid in list(self._uids):
                self._uids.discard(uid)
                self._gone(self._resource, uid)

    async def _relist(self) -> str:
        listed = await self._client.list(self._resource)
        before = set(self._uids)
        for obj in listed.get("items") or ():
            before.discard(obj["metadata"]["uid"])
            self._apply("ADDED", obj)
        for uid in before:
            self._uids.discard(uid)
            self._gone(self._resource, uid)
        self.synced.set()
        return str(listed["metadata"]["resourceVersion"])

    def _apply(self, kind: str, obj: Obj) -> None:
        uid = obj["metadata"]["uid"]
        if kind == "DELETED":
            self._uids.discard(uid)
            self._gone(self._resource, uid)
        else:
            self._uids.add(uid)
            self._seen(self._resource, obj)
