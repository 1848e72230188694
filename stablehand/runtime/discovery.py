"""What kinds the API server has, custom ones included, as Resource rows. Asked once, and again when CRDs change."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from stablehand.client import ApiError, Client, Unavailable
from stablehand.machinery.resources import Resource, resource_for
from stablehand.machinery.types import Obj

log = logging.getLogger("stablehand.discovery")


async def discover(client: Client) -> tuple[dict[str, Resource], list[str]]:
    """Resources by key in their preferred versions, and the group versions that did not answer."""
    paths: list[tuple[str, str]] = []  # (path, groupVersion)
    core = await client.request("GET", "/api")
    paths.extend((f"/api/{version}", version) for version in core.get("versions") or ["v1"])
    groups = await client.request("GET", "/apis")
    for group in groups.get("groups") or ():
        preferred = (group.get("preferredVersion") or {}).get("groupVersion")
        versions = [v["groupVersion"] for v in group.get("versions") or ()]
        ordered = ([preferred] if preferred else []) + [v for v in versions if v != preferred]
        paths.extend((f"/apis/{gv}", gv) for gv in ordered)
    answers = await asyncio.gather(*(client.request("GET", path) for path, _ in paths), return_exceptions=True)
    found: dict[str, Resource] = {}
    failed: list[str] = []
    for (_, gv), answer in zip(paths, answers):
        if isinstance(answer, (ApiError, Unavailable)):
            failed.append(gv)
        elif isinstance(answer, BaseException):
            raise answer
        else:
            for row in _rows(gv, answer):
                found.setdefault(row.key, row)
    return found, failed


def _rows(group_version: str, listed: Obj) -> list[Resource]:
    group, _, version = group_version.rpartition("/")
    rows = []
    for entry in listed.get("resources") or ():
        if "/" in entry["name"]:
            continue
        known = resource_for(group_version, entry["kind"])
        if known is not None and known.plural == entry["name"]:
            if known.legacy or known.storage[1]:
                continue  # another form of what is listed elsewhere
            rows.append(known)
            continue
        rows.append(
            Resource(
                group,
                version,
                entry["kind"],
                entry["name"],
                namespaced=bool(entry.get("namespaced")),
                verbs=tuple(entry.get("verbs") or ()),
                custom=True,
            )
        )
    return rows


class Catalog:
    """The current rows. `refresh` asks again and tells listeners; call it when CRDs come and go."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._rows: dict[str, Resource] = {}
        self._listeners: list[Callable[[], None]] = []
        self._lock = asyncio.Lock()
        self.failed: list[str] = []
        self.loaded = asyncio.Event()

    def rows(self) -> list[Resource]:
        return list(self._rows.values())

    def by_kind(self, api_version: str, kind: str) -> Resource | None:
        group = api_version.rpartition("/")[0]
        return next((r for r in self._rows.values() if (r.group, r.kind) == (group, kind)), None)

    def on_change(self, listener: Callable[[], None]) -> None:
        self._listeners.append(listener)
        if self._rows:
            listener()

    async def refresh(self) -> None:
        async with self._lock:
            rows, self.failed = await discover(self._client)
            changed = rows != self._rows
            self._rows = rows
            self.loaded.set()
        if changed:
            for listener in self._listeners:
                listener()
