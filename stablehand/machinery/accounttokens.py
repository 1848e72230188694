"""Legacy service account tokens, kept in Secrets: their names and claims. Pure.

The token controller signs them, the API server checks them. Bound tokens (TokenRequest) are the API server's alone.
"""

from __future__ import annotations

from typing import Any

from stablehand.machinery.types import Obj

SECRET_TYPE = "kubernetes.io/service-account-token"
ACCOUNT_NAME = "kubernetes.io/service-account.name"  # annotations of such a Secret
ACCOUNT_UID = "kubernetes.io/service-account.uid"
LAST_USED = "kubernetes.io/legacy-token-last-used"  # labels of such a Secret
INVALID_SINCE = "kubernetes.io/legacy-token-invalid-since"
ISSUER = "kubernetes/serviceaccount"

_CLAIM = "kubernetes.io/serviceaccount/"
_NAMESPACE, _SECRET = _CLAIM + "namespace", _CLAIM + "secret.name"
_NAME, _UID = _CLAIM + "service-account.name", _CLAIM + "service-account.uid"


def username(namespace: str, name: str) -> str:
    return f"system:serviceaccount:{namespace}:{name}"


def claims(account: Obj, secret_name: str) -> dict[str, Any]:
    """What a legacy token of a ServiceAccount, kept in a Secret of that name, says. It never expires."""
    meta = account["metadata"]
    return {
        "iss": ISSUER,
        _NAMESPACE: meta["namespace"],
        _SECRET: secret_name,
        _NAME: meta["name"],
        _UID: meta["uid"],
        "sub": username(meta["namespace"], meta["name"]),
    }


def read(found: dict[str, Any]) -> tuple[str, str, str, str] | None:
    """(namespace, secret name, account name, account uid) of a legacy token's claims; None when they do not agree."""
    values = tuple(str(found.get(c) or "") for c in (_NAMESPACE, _SECRET, _NAME, _UID))
    if not all(values) or found.get("sub") != username(values[0], values[2]):
        return None
    return values[0], values[1], values[2], values[3]
