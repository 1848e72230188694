"""A client of the Kubernetes API: kubeconfig, pure request building, one transport contract, watches, errors.

Caches and controllers are runtime's. Works against any conformant API server.
"""

from __future__ import annotations

from stablehand.client.client import Client
from stablehand.client.contract import Request, Transport, WatchEvent
from stablehand.client.errors import (
    AlreadyExists,
    ApiError,
    BadRequest,
    ConfigError,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    NotFound,
    ServerError,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    error_for,
)
from stablehand.client.kubeconfig import Access, load_kubeconfig

__all__ = [
    "Access",
    "AlreadyExists",
    "ApiError",
    "BadRequest",
    "Client",
    "ConfigError",
    "Conflict",
    "Forbidden",
    "Gone",
    "Invalid",
    "NotFound",
    "Request",
    "ServerError",
    "TooManyRequests",
    "Transport",
    "Unauthorized",
    "Unavailable",
    "WatchEvent",
    "connect",
    "error_for",
    "load_kubeconfig",
]


async def connect(kubeconfig: str | None = None, *, user_agent: str = "stablehand") -> Client:
    """A client over HTTP for a kubeconfig file (None: $KUBECONFIG, in-cluster, ~/.kube/config). Raises ConfigError."""
    from stablehand.client.http import HttpTransport

    return Client(HttpTransport(load_kubeconfig(kubeconfig), user_agent), user_agent)
