"""The request chain's side of priority and fairness: a request's schema and level, its seat, the answer's headers."""

from __future__ import annotations

from dataclasses import dataclass

from stablehand.apiserver.contract import RequestInfo, StatusError, User
from stablehand.apiserver.flowcontrol import objects, rules
from stablehand.apiserver.flowcontrol.levels import Level, Levels, Rejected
from stablehand.apiserver.storage.storage import Storage
from stablehand.machinery.types import Obj

_STREAMED = ("attach", "exec", "proxy", "log", "portforward")
_CACHE = 4096


@dataclass(slots=True, frozen=True)
class Place:
    """Where a request belongs. `headers` tell the client."""

    level: Level
    flow: tuple[str, str]
    headers: dict[str, str]


class FlowControl:
    def __init__(self, storage: Storage) -> None:
        self._schemas = storage.collection(objects.SCHEMAS)
        self._levels = storage.collection(objects.LEVELS)
        self.levels = Levels()
        self._version = -1
        self._ordered: list[Obj] = []
        self._uids: dict[str, str] = {}
        self._cache: dict[tuple[object, ...], Place | None] = {}

    def refresh(self) -> None:
        """Takes in what changed of the schemas and levels."""
        version = self._schemas.version + self._levels.version
        if version == self._version and len(self._cache) < _CACHE:
            return
        self._cache.clear()
        if version == self._version:
            return
        self._version = version
        found = [entry.obj for _, entry in self._levels.ordered()]
        self.levels.configure(found)
        self._uids = {obj["metadata"]["name"]: obj["metadata"]["uid"] for obj in found}
        schemas = [entry.obj for _, entry in self._schemas.ordered()]
        # A schema whose level does not exist is passed over.
        self._ordered = sorted((s for s in schemas if _level_of(s) in self._uids), key=rules.by_precedence)

    def place(self, user: User, info: RequestInfo) -> Place | None:
        """None for what is never held back: streams, which run long."""
        if info.subresource in _STREAMED:
            return None
        self.refresh()
        where = (info.group, info.plural, info.subresource, info.namespace) if info.is_resource else (info.path,)
        key = (user.name, user.groups, info.verb, info.is_resource, *where)
        try:
            return self._cache[key]
        except KeyError:
            found = self._cache[key] = self._find(user, info)
            return found

    def _find(self, user: User, info: RequestInfo) -> Place | None:
        for schema in self._ordered:
            if rules.matches(schema, user, info):
                name = _level_of(schema)
                meta = schema["metadata"]
                headers = {
                    "X-Kubernetes-Pf-Flowschema-Uid": meta["uid"],
                    "X-Kubernetes-Pf-Prioritylevel-Uid": self._uids[name],
                }
                flow = (meta["name"], rules.distinguisher(schema, user, info))
                return Place(self.levels.by_name[name], flow, headers)
        return None

    async def enter(self, place: Place) -> None:
        """Waits for a seat. Raises StatusError 429; whoever returns from here owes a `leave`."""
        try:
            await self.levels.enter(place.level, place.flow)
        except Rejected:
            message = "Too many requests, please try again later."
            raise StatusError(429, "TooManyRequests", message, {"retryAfterSeconds": 1}) from None

    def leave(self, place: Place) -> None:
        self.levels.leave(place.level)


def _level_of(schema: Obj) -> str:
    return str((schema["spec"].get("priorityLevelConfiguration") or {}).get("name") or "")
