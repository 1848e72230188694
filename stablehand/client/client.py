"""The verbs of the Kubernetes API as coroutines. No I/O here: a Transport carries each request."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from stablehand.client import requests as build
from stablehand.client.contract import Request, Transport, WatchEvent
from stablehand.machinery.resources import Resource
from stablehand.machinery.types import Obj


class Client:
    """A client of one API server. Objects it returns may be shared: copy before changing.

    All methods raise ApiError (its subclasses in client.errors) or Unavailable.
    """

    def __init__(self, transport: Transport, manager: str | None = None) -> None:
        self.transport = transport
        self.manager = manager

    def with_manager(self, manager: str) -> Client:
        """The same connection, with writes recorded under this fieldManager."""
        return Client(self.transport, manager)

    async def get(
        self,
        res: Resource,
        name: str,
        namespace: str | None = None,
        *,
        subresource: str | None = None,
        resource_version: str | None = None,
    ) -> Obj:
        return await self.transport.send(build.get(res, name, namespace, subresource, resource_version))

    async def list(
        self,
        res: Resource,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
        limit: int = 0,
        resource_version: str | None = None,
        continue_: str | None = None,
    ) -> Obj:
        """The List object; items carry no apiVersion and kind when the server leaves them out."""
        return await self.transport.send(
            build.list_(
                res,
                namespace,
                label_selector=label_selector,
                field_selector=field_selector,
                limit=limit,
                resource_version=resource_version,
                continue_=continue_,
            )
        )

    async def create(
        self,
        res: Resource,
        obj: Obj,
        *,
        namespace: str | None = None,
        name: str | None = None,
        subresource: str | None = None,
        params: dict[str, str] | None = None,
    ) -> Obj:
        return await self.transport.send(build.create(res, obj, namespace, name, subresource, self.manager, params))

    async def update(self, res: Resource, obj: Obj, *, subresource: str | None = None) -> Obj:
        return await self.transport.send(build.update(res, obj, subresource, self.manager))

    async def patch(
        self,
        res: Resource,
        name: str,
        patch: Any,
        namespace: str | None = None,
        *,
        kind: str = "merge",
        subresource: str | None = None,
        field_manager: str | None = None,
        force: bool = False,
    ) -> Obj:
        """`kind` is "merge", "json", "strategic" or "apply"."""
        manager = field_manager or self.manager
        return await self.transport.send(build.patch(res, name, patch, namespace, kind, subresource, manager, force))

    async def delete(
        self,
        res: Resource,
        name: str,
        namespace: str | None = None,
        *,
        grace: int | None = None,
        propagation: str | None = None,
        uid: str | None = None,
        resource_version: str | None = None,
    ) -> Obj:
        return await self.transport.send(
            build.delete(
                res, name, namespace, grace=grace, propagation=propagation, uid=uid, resource_version=resource_version
            )
        )

    def watch(
        self,
        res: Resource,
        namespace: str | None = None,
        *,
        resource_version: str = "",
        label_selector: str = "",
        field_selector: str = "",
        bookmarks: bool = True,
        initial_events: bool = False,
    ) -> AsyncIterator[WatchEvent]:
        return self.transport.watch(
            build.watch(
                res,
                namespace,
                resource_version=resource_version,
                label_selector=label_selector,
                field_selector=field_selector,
                bookmarks=bookmarks,
                initial_events=initial_events,
            )
        )

    async def request(
        self,
        method: str,
        path: str,
        params: dict[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
    ) -> Obj:
        """Any other request."""
        return await self.transport.send(Request(method, path, params or {}, body, content_type))

    async def close(self) -> None:
        await self.transport.close()
