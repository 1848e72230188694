"""The contract between the client's verbs and whatever carries them: HTTP, or a call within the process.

Requests are built purely (client.requests); one method sends them, one watches.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from stablehand.machinery.types import Obj


@dataclass(slots=True)
class Request:
    """One API request. `body` is an object (sent as JSON) or bytes; query values are not yet URL-encoded."""

    method: str
    path: str
    query: dict[str, str] = field(default_factory=dict)
    body: Any = None
    content_type: str = "application/json"


@dataclass(slots=True, frozen=True)
class WatchEvent:
    """ADDED, MODIFIED, DELETED or BOOKMARK. The object is shared: copy it before changing it."""

    type: str
    object: Obj


class Transport(Protocol):
    async def send(self, request: Request) -> Obj:
        """The answer's object. Raises ApiError or Unavailable."""

    def watch(self, request: Request) -> AsyncIterator[WatchEvent]:
        """Events until the server ends the watch. Raises ApiError (Gone: relist) or Unavailable."""

    async def close(self) -> None: ...
