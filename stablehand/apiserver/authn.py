"""Who is asking: client certificates, service account tokens, impersonation; anonymous otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from stablehand.apiserver import errors
from stablehand.apiserver.contract import ANONYMOUS, Request, RequestInfo, User
from stablehand.apiserver.core import Core

AUTHENTICATED = "system:authenticated"


def user_of_certificate(peer: dict[str, Any] | None) -> User | None:
    """The user a verified client certificate names: CN is the name, each O a group."""
    if not peer:
        return None
    name, groups = "", []
    for part in peer.get("subject", ()):
        for field, value in part:
            if field == "commonName":
                name = value
            elif field == "organizationName":
                groups.append(value)
    return User(name, (*groups, AUTHENTICATED)) if name else None


def authenticate(core: Core, request: Request, certificate_user: User | None) -> User:
    """Raises StatusError 401 for credentials that are no good; none at all is anonymous."""
    if certificate_user is not None:
        return certificate_user
    header = request.headers.get("Authorization") or ""
    if not header:
        return ANONYMOUS
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer":
        raise errors.unauthorized()
    found = core.tokens.authenticate(token.strip(), core.clock())
    if found is None:
        raise errors.unauthorized()
    return found[0]


async def impersonate(core: Core, request: Request, user: User) -> User:
    """The user named by Impersonate-* headers, if `user` may. Raises StatusError 400 or 403."""
    headers = request.headers
    name = headers.get("Impersonate-User") or ""
    groups: list[str] = list(getattr(headers, "getall", lambda n, d: [])("Impersonate-Group", []))
    extra: dict[str, list[str]] = {}
    for key, value in headers.items():
        if key.lower().startswith("impersonate-extra-"):
            extra.setdefault(unquote(key[18:].lower()), []).append(value)
    uid = headers.get("Impersonate-Uid") or ""
    if not name:
        if groups or extra or uid:
            raise errors.bad_request("requested impersonation without impersonating a user")
        return user

    async def check(plural: str, item: str, group: str = "", namespace: str = "", subresource: str = "") -> None:
        info = RequestInfo(request.path, "impersonate", True, group, "v1", namespace, plural, item, subresource)
        allowed, why = await core.authorize(user, info)
        if not allowed:
            raise errors.denied(info, user.name, why)

    if name.startswith("system:serviceaccount:") and name.count(":") == 3:
        _, _, namespace, account = name.split(":")
        await check("serviceaccounts", account, namespace=namespace)
        if not groups:
            groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}"]
    else:
        await check("users", name)
    for group in groups:
        if not group.startswith("system:serviceaccounts"):
            await check("groups", group)
    for key, values in extra.items():
        for value in values:
            await check("userextras", value, "authentication.k8s.io", subresource=key)
    if uid:
        await check("uids", uid, "authentication.k8s.io")
    everybody = AUTHENTICATED if name != ANONYMOUS.name else ANONYMOUS.groups[0]
    if everybody not in groups:
        groups.append(everybody)
    return User(name, tuple(groups), uid, extra)


def impersonates(headers: Mapping[str, str]) -> bool:
    """Whether any header asks to act as somebody else."""
    return "Impersonate-User" in headers or "Impersonate-Group" in headers or "Impersonate-Uid" in headers
