"""Records events.k8s.io/v1 Events, as client-go's newer recorder does (tools/events): with an action, and a series where
one repeats. The scheduler tells its events so; the other parts, as upstream's, tell theirs by `events`.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections import OrderedDict, deque
from dataclasses import dataclass

from stablehand.client import ApiError, Client, Forbidden, NotFound, Unavailable
from stablehand.machinery.meta import object_reference
from stablehand.machinery.resources import resource
from stablehand.machinery.times import format_micro_time
from stablehand.machinery.types import Obj

log = logging.getLogger("stablehand.events")

_EVENTS = resource("events.events.k8s.io")
_CACHE, _QUEUE, _NOTE = 4096, 1000, 1024
_FORGET = 360.0  # seconds after which what is told again is a new event
_REFRESH = 1800.0  # seconds between two writes of a series that goes on


@dataclass(slots=True)
class _Told:
    """An event that was written: how often it came, and up to when that is known to others."""

    event: Obj
    last: float
    count: int = 1
    written: float = 0.0
    known: int = 1


class NewEventRecorder:
    """`controller` becomes reportingController; the instance is that and the host's name."""

    def __init__(self, client: Client, controller: str) -> None:
        self._client = client
        self._controller = controller
        self._instance = f"{controller}-{socket.gethostname()}"[:128]
        self._told: OrderedDict[tuple[str, ...], _Told] = OrderedDict()
        self._pending: deque[tuple[tuple[str, ...], Obj, float]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._last: asyncio.Task[None] | None = None

    def event(self, obj: Obj, kind: str, reason: str, action: str, note: str, related: Obj | None = None) -> None:
        """`kind` is "Normal" or "Warning"; `action` what was done, or tried. Returns at once."""
        now = time.time()
        reference = _reference(obj)
        other = _reference(related) if related is not None else {}
        # The same of an object that has changed since is another event, as upstream has it.
        version = reference.get("resourceVersion", "")
        key = (reference.get("uid", ""), reference.get("name", ""), version, other.get("uid", ""), kind, reason, action)
        event: Obj = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {
                "name": f"{reference.get('name', '')}.{int(now * 1e9):x}",
                "namespace": reference.get("namespace") or "default",
            },
            "eventTime": format_micro_time(now),
            "reportingController": self._controller,
            "reportingInstance": self._instance,
            "action": action,
            "reason": reason,
            "regarding": reference,
            "note": note[:_NOTE],
            "type": kind,
        }
        if related is not None:
            event["related"] = other
        if len(self._pending) >= _QUEUE:
            return
        self._pending.append((key, event, now))
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._drain(), name=f"events/{self._controller}")

    async def flush(self) -> None:
        """Waits until what was recorded so far has been sent (or refused)."""
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def _drain(self) -> None:
        while self._pending:
            key, event, now = self._pending.popleft()
            try:
                await self._send(key, event, now)
            except Forbidden as e:
                log.debug("event refused: %s", e)  # a namespace on its way out, or missing rights
            except (ApiError, Unavailable) as e:
                log.info("event %s about %s not recorded: %s", event["reason"], event["regarding"].get("name"), e)

    async def _send(self, key: tuple[str, ...], event: Obj, now: float) -> None:
        told = self._told.pop(key, None)
        if told is not None and now - told.last < _FORGET:
            told.last, told.count = now, told.count + 1
            self._told[key] = told
            # The second one begins the series; what comes after is written now and then.
            if told.count > 2 and now - told.written < _REFRESH:
                return
            series = {"series": {"count": told.count, "lastObservedTime": format_micro_time(now)}}
            if told.count == 2:
                asyncio.get_running_loop().call_later(_FORGET, self._finish, key)
            try:
                await self._write(told, series)
                return
            except NotFound:
                event["series"] = series["series"]  # it was deleted: the series goes on in a new one
        await self._client.create(_EVENTS, event)
        self._told[key] = _Told(event, now, told.count if "series" in event and told is not None else 1, now)
        if len(self._told) > _CACHE:
            self._told.popitem(last=False)

    async def _write(self, told: _Told, series: Obj) -> None:
        meta = told.event["metadata"]
        await self._client.patch(_EVENTS, meta["name"], series, meta["namespace"], kind="strategic")
        told.written, told.known = told.last, series["series"]["count"]

    def _finish(self, key: tuple[str, ...]) -> None:
        """A series that nothing was added to for a while is over: its last count is written."""
        told = self._told.get(key)
        if told is None:
            return
        left = told.last + _FORGET - time.time()
        if left > 0:
            asyncio.get_running_loop().call_later(left, self._finish, key)
            return
        del self._told[key]
        if told.count > told.known:
            self._last = asyncio.get_running_loop().create_task(self._write_last(told))

    async def _write_last(self, told: _Told) -> None:
        try:
            await self._write(told, {"series": {"count": told.count, "lastObservedTime": format_micro_time(told.last)}})
        except (ApiError, Unavailable) as e:
            log.debug("the end of a series was not recorded: %s", e)


def _reference(obj: Obj) -> Obj:
    return obj if "metadata" not in obj else object_reference(obj)
