"""Single objects that pods refer to (ConfigMaps, Secrets, claims, volumes): read fresh, and watched while referred to.

As kubelet does, the node only ever asks for objects by name: it must not see all Secrets of a cluster.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from stablehand.client import Client, NotFound
from stablehand.machinery.resources import Resource
from stablehand.machinery.types import Obj
from stablehand.runtime import Informer

Ref = tuple[Resource, str, str]


class _Watched:
    def __init__(self, client: Client, ref: Ref, changed: Callable[[str], None]) -> None:
        res, namespace, name = ref
        self.callbacks: dict[object, Callable[[], None]] = {}
        self._informer = Informer(client, res, namespace or None, field_selector=f"metadata.name={name}")
        self._informer.on_change(
            lambda kind, old, new: changed(f"{kind == 'DELETED'}{new['metadata']['resourceVersion']}")
        )
        self.task = asyncio.get_running_loop().create_task(self._informer.run(), name=f"watch/{res.key}/{name}")


class Objects:
    """Reads by name; `watch` calls back on every change until the owner lets go. One watch serves all owners."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._watched: dict[tuple[str, str, str], _Watched] = {}
        self._read: dict[tuple[str, str, str], str] = {}  # the version last read, by what is watched

    async def get(self, res: Resource, namespace: str, name: str) -> Obj | None:
        """The object as the server has it now, None when there is none. Raises the client's errors."""
        key = (res.key, namespace, name)
        try:
            found = await self._client.get(res, name, namespace or None)
        except NotFound:
            self._read.pop(key, None)
            return None
        self._read[key] = f"False{found['metadata']['resourceVersion']}"
        return found

    def watch(self, owner: object, refs: set[Ref], changed: Callable[[], None]) -> None:
        """Makes `refs` the set of objects that the owner watches; an empty set ends its watches."""
        wanted = {(res.key, namespace, name): (res, namespace, name) for res, namespace, name in refs}
        for key in [k for k, w in self._watched.items() if owner in w.callbacks and k not in wanted]:
            watched = self._watched[key]
            del watched.callbacks[owner]
            if not watched.callbacks:
                watched.task.cancel()
                del self._watched[key]
                self._read.pop(key, None)
        for key, ref in wanted.items():
            if key not in self._watched:
                self._watched[key] = _Watched(self._client, ref, lambda version, key=key: self._changed(key, version))  # type: ignore[misc]
            self._watched[key].callbacks[owner] = changed

    def _changed(self, key: tuple[str, str, str], version: str) -> None:
        if self._read.get(key) == version:
            return  # what its owners have read already
        if watched := self._watched.get(key):
            for callback in list(watched.callbacks.values()):
                callback()

    async def close(self) -> None:
        tasks = [watched.task for watched in self._watched.values()]
        for task in tasks:
            task.cancel()
        self._watched.clear()
        await asyncio.gather(*tasks, return_exceptions=True)
