"""How many requests of each priority level run at once, and which of those that wait goes next.

A level has its share of the server's seats and may borrow what others leave unused of their lendable part. Who finds
no seat waits in its flow's line, and flows take turns; lines have a length, and waiting has an end: then it is 429.
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict, deque
from collections.abc import Iterable

from stablehand.machinery.types import Obj

SERVER_SEATS = 600  # kube-apiserver's max-requests-inflight 400 and max-mutating-requests-inflight 200
MAX_WAIT = 15.0  # seconds in line: a quarter of the default request timeout

Flow = tuple[str, str]  # the FlowSchema's name, what distinguishes the flow in it


class Rejected(Exception):
    """No seat; the text is the metrics' reason: concurrency-limit, queue-full or time-out."""


class Level:
    """One PriorityLevelConfiguration. `running` counts seats taken, `waiting` who stands in line."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.spec: Obj = {}
        self.nominal = self.running = self.waiting = 0
        self.lendable = 0
        self.borrowable: int | None = None
        self.lines: OrderedDict[Flow, deque[asyncio.Future[None]]] = OrderedDict()

    @property
    def exempt(self) -> bool:
        return self.spec.get("type") == "Exempt"

    @property
    def queuing(self) -> Obj | None:
        """None where the level rejects what it cannot run."""
        response: Obj = (self.spec.get("limited") or {}).get("limitResponse") or {}
        return response.get("queuing") or {} if response.get("type") == "Queue" else None

    def reserved(self) -> int:
        """Seats others may not have: those taken, and those the level does not lend."""
        return max(self.running, self.nominal - self.lendable)


class Levels:
    def __init__(self, seats: int = SERVER_SEATS) -> None:
        self._seats = seats
        self.by_name: dict[str, Level] = {}
        self.dispatched: dict[tuple[str, str], int] = {}  # (level, FlowSchema) -> requests
        self.rejected: dict[tuple[str, str, str], int] = {}  # (level, FlowSchema, reason) -> requests

    def configure(self, objects: Iterable[Obj]) -> None:
        """Takes in all PriorityLevelConfigurations. Levels that are gone finish what they run."""
        specs = {obj["metadata"]["name"]: obj["spec"] for obj in objects}
        for name in [n for n in self.by_name if n not in specs]:
            self._let_go(self.by_name.pop(name))
        shares = {name: _share(spec) for name, spec in specs.items()}
        total = sum(shares.values()) or 1
        for name, spec in specs.items():
            level = self.by_name.setdefault(name, Level(name))
            limits = spec.get("limited") or spec.get("exempt") or {}
            level.spec = spec
            level.nominal = math.ceil(self._seats * shares[name] / total)
            level.lendable = round(level.nominal * (limits.get("lendablePercent") or 0) / 100)
            percent = limits.get("borrowingLimitPercent")
            level.borrowable = None if percent is None else round(level.nominal * percent / 100)
        for level in self.by_name.values():
            self._admit(level)

    def _let_go(self, level: Level) -> None:
        for line in level.lines.values():
            for turn in line:
                if not turn.done():
                    turn.set_result(None)
                    level.running += 1
        level.lines.clear()

    def free(self, level: Level) -> bool:
        if level.exempt or level.running < level.nominal:
            return True
        if level.borrowable is not None and level.running >= level.nominal + level.borrowable:
            return False
        others = sum(o.reserved() for o in self.by_name.values() if o is not level and not o.exempt)
        return level.running + others < self._seats

    async def enter(self, level: Level, flow: Flow) -> None:
        """Returns with a seat taken; `leave` gives it back. Raises Rejected."""
        if not level.waiting and self.free(level):
            level.running += 1
        else:
            try:
                await self._wait(level, flow)
            except Rejected as e:
                key = (level.name, flow[0], str(e))
                self.rejected[key] = self.rejected.get(key, 0) + 1
                raise
        counted = (level.name, flow[0])
        self.dispatched[counted] = self.dispatched.get(counted, 0) + 1

    async def _wait(self, level: Level, flow: Flow) -> None:
        queuing = level.queuing
        if queuing is None:
            raise Rejected("concurrency-limit")
        length = queuing.get("queueLengthLimit") or 50
        line = level.lines.get(flow)
        # A flow is dealt `handSize` of the level's queues.
        full = line is not None and len(line) >= length * (queuing.get("handSize") or 8)
        if full or level.waiting >= length * (queuing.get("queues") or 64):
            raise Rejected("queue-full")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        level.lines.setdefault(flow, deque()).append(turn)
        level.waiting += 1
        try:
            async with asyncio.timeout(MAX_WAIT):
                await asyncio.shield(turn)
        except BaseException as e:
            if turn.done():
                self.leave(level)  # its turn came while it gave up
            else:
                turn.cancel()
                self._forget(level, flow, turn)
            if isinstance(e, TimeoutError):
                raise Rejected("time-out") from None
            raise
        finally:
            level.waiting -= 1

    @staticmethod
    def _forget(level: Level, flow: Flow, turn: asyncio.Future[None]) -> None:
        line = level.lines.get(flow)
        if line is not None and turn in line:
            line.remove(turn)
            if not line:
                del level.lines[flow]

    def leave(self, level: Level) -> None:
        level.running -= 1
        for other in self.by_name.values():
            if other.lines:
                self._admit(other)

    def _admit(self, level: Level) -> None:
        """Gives free seats to those in line, one flow after the other."""
        while level.lines and self.free(level):
            flow, line = level.lines.popitem(last=False)
            turn = line.popleft()
            if line:
                level.lines[flow] = line  # behind the others
            level.running += 1
            turn.set_result(None)


def _share(spec: Obj) -> int:
    limits: Obj = spec.get("limited") or spec.get("exempt") or {}
    shares = limits.get("nominalConcurrencyShares")
    return int(shares) if shares is not None else (0 if spec.get("type") == "Exempt" else 30)
