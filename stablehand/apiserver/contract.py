"""The API server's contract: requests, responses, users and errors. Every step of the chain speaks these.

A handler is `async (Request) -> Response | WatchResponse | Upgrade`; the HTTP front and the in-process transport
both end in the same chain.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import orjson

from stablehand.machinery.resources import Resource
from stablehand.machinery.types import Obj

if TYPE_CHECKING:
    from stablehand.apiserver.storage.watchers import Entry, Watcher


@dataclass(slots=True, frozen=True)
class User:
    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: dict[str, list[str]] = field(default_factory=dict)


ANONYMOUS = User("system:anonymous", ("system:unauthenticated",))


@dataclass(slots=True)
class RequestInfo:
    """What a path and a method ask for (k8s.io/apiserver RequestInfo)."""

    path: str
    verb: str  # get list watch create update patch delete deletecollection, or the lower-case method off resources
    is_resource: bool = False
    group: str = ""
    version: str = ""
    namespace: str = ""
    plural: str = ""
    name: str = ""
    subresource: str = ""
    field_selector: str = ""  # of list, watch and deletecollection
    rest: str = ""  # what follows a proxy subresource
    resource: Resource | None = None


@dataclass(slots=True)
class Request:
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str] = field(default_factory=dict)
    raw: bytes = b""
    obj: Any = None  # the body when the caller is in this process
    content_type: str = "application/json"
    user: User = ANONYMOUS
    info: RequestInfo = field(default_factory=lambda: RequestInfo("", ""))
    warnings: list[str] = field(default_factory=list)
    answer_headers: dict[str, str] = field(default_factory=dict)  # of whatever the answer will be
    http: Any = None  # the front's own request, for upgrades
    in_process: bool = False
    multi_query: Callable[[str], list[str]] = lambda name: []

    def flag(self, name: str) -> bool:
        """A boolean parameter as apimachinery reads it: there, and neither false nor 0."""
        value = self.query.get(name)
        return value is not None and value.lower() not in ("false", "0")


class Response:
    """An answer: an object, its bytes, or both; each is made from the other only when it is asked for."""

    __slots__ = ("_obj", "_raw", "code", "content_type", "headers")

    def __init__(
        self,
        obj: Obj | Callable[[], Obj] | None = None,
        *,
        raw: bytes | Callable[[], bytes] | None = None,
        code: int = 200,
        content_type: str = "application/json",
        headers: dict[str, str] | None = None,
    ) -> None:
        self._obj, self._raw, self.code, self.content_type = obj, raw, code, content_type
        self.headers = headers

    @property
    def raw(self) -> bytes:
        if callable(self._raw):
            self._raw = self._raw()
        if self._raw is None:
            self._raw = orjson.dumps(self.obj) + b"\n"
        return self._raw

    @property
    def obj(self) -> Any:
        if callable(self._obj):
            self._obj = self._obj()
        if self._obj is None and self._raw is not None:
            raw = self.raw
            self._obj = orjson.loads(raw) if self.content_type == "application/json" else {"body": raw.decode()}
        return self._obj


@dataclass(slots=True)
class WatchResponse:
    """A watch. `shape` turns a stored object into what the client asked for (Table, PartialObjectMetadata); None: as
    is. `prepare`, where there is one, is awaited with the objects of a batch before they are shaped."""

    watcher: Watcher
    shape: Callable[[Entry], Obj] | None = None
    timeout: float | None = None
    prepare: Callable[[list[Entry]], Awaitable[None]] | None = None


@dataclass(slots=True)
class Upgrade:
    """The handler takes the connection itself (exec, attach, port-forward, proxy, streamed logs)."""

    run: Callable[[Any], Awaitable[Any]]


Answer: TypeAlias = Response | WatchResponse | Upgrade
Handler: TypeAlias = Callable[[Request], Awaitable[Answer]]


class StatusError(Exception):
    """An answer that is a metav1.Status of failure."""

    def __init__(
        self, code: int, reason: str, message: str, details: Obj | None = None, metadata: Obj | None = None
    ) -> None:
        super().__init__(message)
        self.code, self.reason, self.message, self.details = code, reason, message, details
        self.metadata = metadata or {}

    def status(self) -> Obj:
        out: Obj = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": self.metadata,
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        }
        if self.details is not None:
            out["details"] = self.details
        if not self.reason:
            del out["reason"]
        return out
