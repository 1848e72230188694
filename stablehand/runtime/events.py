"""Records core/v1 Events about objects: in the background, in order, counted when they repeat.

The behaviour of client-go's EventRecorder, its spam filter included.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import OrderedDict, deque

from stablehand.client import ApiError, Client, Forbidden, NotFound, Unavailable
from stablehand.machinery.meta import object_reference
from stablehand.machinery.resources import resource
from stablehand.machinery.times import format_time
from stablehand.machinery.types import Obj

log = logging.getLogger("stablehand.events")
_EVENTS = resource("events")
_CACHE = 4096
_BURST, _REFILL = 25, 1 / 300.0  # client-go's spam filter: 25 events at once per source and object, then one in 5 min
_QUEUE = 1000


class EventRecorder:
    """`component` becomes source.component and reportingComponent; `host` source.host."""

    def __init__(self, client: Client, component: str, host: str | None = None) -> None:
        self._client = client
        self._component = component
        self._host = host
        self._seen: OrderedDict[tuple[str, ...], tuple[str, str, int]] = OrderedDict()
        self._tokens: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._pending: deque[tuple[Obj, str, str, str, float]] = deque()
        self._task: asyncio.Task[None] | None = None

    def event(self, obj: Obj, kind: str, reason: str, message: str) -> None:
        """`kind` is "Normal" or "Warning". Returns at once; `obj` is the object or an ObjectReference."""
        reference = obj if "metadata" not in obj else object_reference(obj)
        now = time.time()
        if len(self._pending) >= _QUEUE or not self._allowed(reference.get("uid") or reference.get("name", ""), now):
            return
        self._pending.append((reference, kind, reason, message[:1024], now))
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._drain(), name=f"events/{self._component}")

    def _allowed(self, key: str, now: float) -> bool:
        tokens, last = self._tokens.pop(key, (float(_BURST), now))
        tokens = min(_BURST, tokens + (now - last) * _REFILL)
        allowed = tokens >= 1
        self._tokens[key] = (tokens - 1 if allowed else tokens, now)
        if len(self._tokens) > _CACHE:
            self._tokens.popitem(last=False)
        return allowed

    async def flush(self) -> None:
        """Waits until what was recorded so far has been sent (or refused)."""
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def _drain(self) -> None:
        while self._pending:
            reference, kind, reason, message, now = self._pending.popleft()
            try:
                await self._send(reference, kind, reason, message, now)
            except Forbidden as e:
                log.debug("event refused: %s", e)  # a namespace on its way out, or missing rights
            except (ApiError, Unavailable) as e:
                log.info("event %s about %s not recorded: %s", reason, reference.get("name"), e)

    async def _send(self, reference: Obj, kind: str, reason: str, message: str, now: float) -> None:
        namespace = reference.get("namespace") or "default"
        key = (reference.get("uid", ""), reference.get("fieldPath", ""), kind, reason, message)
        seen = self._seen.pop(key, None)
        stamp = format_time(now)
        if seen is not None:
            name, space, count = seen
            try:
                patch = {"count": count + 1, "lastTimestamp": stamp}
                await self._client.patch(_EVENTS, name, patch, space, kind="strategic")
                self._remember(key, (name, space, count + 1))
                return
            except NotFound:
                pass
        name = f"{reference.get('name', '')}.{int(now * 1e9):x}{random.getrandbits(8):02x}"
        source = {"component": self._component}
        if self._host:
            source["host"] = self._host
        event: Obj = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": reference,
            "reason": reason,
            "message": message,
            "type": kind,
            "source": source,
            "firstTimestamp": stamp,
            "lastTimestamp": stamp,
            "count": 1,
            "reportingComponent": self._component,
            "reportingInstance": self._host or "",
        }
        await self._client.create(_EVENTS, event)
        self._remember(key, (name, namespace, 1))

    def _remember(self, key: tuple[str, ...], value: tuple[str, str, int]) -> None:
        self._seen[key] = value
        if len(self._seen) > _CACHE:
            self._seen.popitem(last=False)
