"""Who may ask the node's server: a client certificate of the cluster's CA or a bearer token, then RBAC on nodes/…

Tokens are checked by TokenReview, rights by SubjectAccessReview; allowed answers are remembered for some minutes.
"""

from __future__ import annotations

import time

from aiohttp import web

from stablehand.client import ApiError, Unavailable
from stablehand.machinery.resources import resource
from stablehand.machinery.types import Obj
from stablehand.node.config import NodeConfig

_ALLOWED_SECONDS, _LIMIT = 300.0, 1000
_ADMINS = "system:masters"
# What a path needs of nodes/…: one of these, the finest first (KEP-2862); nodes/proxy gives everything.
_SUBRESOURCES = {
    "stats": ("stats",),
    "metrics": ("metrics",),
    "logs": ("log",),
    "pods": ("pods", "proxy"),
    "runningpods": ("pods", "proxy"),
    "healthz": ("healthz", "proxy"),
    "configz": ("configz", "proxy"),
}
_ANYTHING = ("proxy",)


class AccessDenied(Exception):
    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Access:
    def __init__(self, config: NodeConfig) -> None:
        self._config = config
        self._tokens: dict[str, tuple[float, Obj]] = {}
        self._allowed: dict[tuple[str, str, str], float] = {}

    async def check(self, request: web.Request) -> None:
        """Raises AccessDenied."""
        user = self._certificate(request) or await self._token(request)
        if user is None:
            raise AccessDenied(401, "Unauthorized")
        if _ADMINS in (user.get("groups") or ()):
            return
        first = request.path.split("/")[1]
        subresources = _SUBRESOURCES.get(first, _ANYTHING)
        verb = "get" if request.method == "GET" else "create"
        key = (user.get("username", ""), verb, subresources[0])
        if self._allowed.get(key, 0.0) > time.monotonic():
            return
        for subresource in subresources:
            if await self._may(user, verb, subresource):
                break
        else:
            raise AccessDenied(
                403,
                f"Forbidden (user={user.get('username', '')}, verb={verb}, resource=nodes, "
                f"subresource={','.join(subresources)})",
            )
        if len(self._allowed) > _LIMIT:
            self._allowed.clear()
        self._allowed[key] = time.monotonic() + _ALLOWED_SECONDS

    @staticmethod
    def _certificate(request: web.Request) -> Obj | None:
        """The user that a verified client certificate names."""
        transport = request.transport
        peer = transport.get_extra_info("peercert") if transport is not None else None
        if not peer:
            return None
        names = [pair for group in peer.get("subject", ()) for pair in group]
        return {
            "username": next((value for key, value in names if key == "commonName"), ""),
            "groups": [value for key, value in names if key == "organizationName"],
        }

    async def _token(self, request: web.Request) -> Obj | None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            return None
        known = self._tokens.get(token)
        if known is not None and known[0] > time.monotonic():
            return known[1]
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
        try:
            answer = await self._config.client.create(resource("tokenreviews.authentication.k8s.io"), review)
        except (ApiError, Unavailable) as e:
            raise AccessDenied(503, f"cannot check the token: {e}") from None
        status = answer.get("status") or {}
        if not status.get("authenticated"):
            return None
        user: Obj = status.get("user") or {}
        if len(self._tokens) > _LIMIT:
            self._tokens.clear()
        self._tokens[token] = (time.monotonic() + 60, user)
        return user

    async def _may(self, user: Obj, verb: str, subresource: str) -> bool:
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": user.get("username", ""),
                "groups": user.get("groups") or [],
                "uid": user.get("uid", ""),
                "resourceAttributes": {
                    "verb": verb,
                    "version": "v1",
                    "resource": "nodes",
                    "subresource": subresource,
                    "name": self._config.node_name,
                },
            },
        }
        try:
            answer = await self._config.client.create(resource("subjectaccessreviews.authorization.k8s.io"), review)
        except (ApiError, Unavailable) as e:
            raise AccessDenied(503, f"cannot check access: {e}") from None
        return bool((answer.get("status") or {}).get("allowed"))
