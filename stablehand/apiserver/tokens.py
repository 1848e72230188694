"""Service account tokens: bound, expiring JWTs, signed and checked here (KEP-1205, KEP-2799).

Who may ask for one is RBAC's; the TokenRequest endpoint is in subresources; tokens kept in Secrets are checked in
legacytokens.
"""

from __future__ import annotations

import hashlib
import uuid
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

from stablehand.apiserver.contract import User
from stablehand.apiserver.legacytokens import LegacyTokens
from stablehand.apiserver.storage.storage import Storage
from stablehand.machinery import accounttokens
from stablehand.machinery.resources import resource
from stablehand.machinery.times import parse_time
from stablehand.machinery.types import Obj

_TERMINATING_LEEWAY = 60.0
_CACHE = 1024


class TokenIssuer:
    """Signs with an EC P-256 key in PEM form; `issuer` is also the default audience."""

    def __init__(self, key_pem: bytes, issuer: str, storage: Storage) -> None:
        key = serialization.load_pem_private_key(key_pem, None)
        if not isinstance(key, EllipticCurvePrivateKey):
            raise ValueError("the service account key must be an EC P-256 private key")
        self._key = key
        self._public: EllipticCurvePublicKey = key.public_key()
        spki = self._public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        self._key_id = hashlib.sha256(spki).hexdigest()[:43]
        self.issuer = issuer
        self._storage = storage
        self._legacy = LegacyTokens(storage)
        self._verified: dict[str, dict[str, Any]] = {}

    def issue(self, account: Obj, *, audiences: list[str], seconds: int, now: float, bound: Obj | None = None) -> str:
        """A token for a ServiceAccount; `bound` is the {"pod": {...}, "node": {...}} or {"secret": {...}} it dies with."""
        meta = account["metadata"]
        private: Obj = {
            "namespace": meta["namespace"],
            "serviceaccount": {"name": meta["name"], "uid": meta["uid"]},
            **(bound or {}),
        }
        if bound and "pod" in bound:
            private["warnafter"] = int(now) + min(seconds, 3607)
        claims = {
            "aud": audiences or [self.issuer],
            "exp": int(now) + seconds,
            "iat": int(now),
            "nbf": int(now),
            "iss": self.issuer,
            "jti": str(uuid.uuid4()),
            "kubernetes.io": private,
            "sub": f"system:serviceaccount:{meta['namespace']}:{meta['name']}",
        }
        return jwt.encode(claims, self._key, "ES256", {"kid": self._key_id})

    def authenticate(self, token: str, now: float, audiences: list[str] | None = None) -> tuple[User, list[str]] | None:
        """The token's user and the audiences it is good for, or None."""
        claims = self._verified.get(token)
        if claims is None:
            try:
                claims = jwt.decode(
                    token,
                    self._public,
                    ["ES256"],
                    issuer=[self.issuer, accounttokens.ISSUER],
                    options={"verify_aud": False, "verify_exp": False},
                )
            except jwt.InvalidTokenError:
                return None
            if len(self._verified) >= _CACHE:
                self._verified.clear()
            self._verified[token] = claims
        if claims["iss"] == accounttokens.ISSUER:
            user = self._legacy.user(token, claims, now)
            good = [a for a in (audiences or [self.issuer]) if a == self.issuer]
            return (user, good) if user is not None and good else None
        granted = claims.get("aud") or []
        good = [a for a in (audiences or [self.issuer]) if a in granted]
        if not good or claims.get("exp", 0) <= now:
            return None
        private = claims.get("kubernetes.io") or {}
        return self._user(private, claims, now, good)

    def _user(self, private: Obj, claims: dict[str, Any], now: float, good: list[str]) -> tuple[User, list[str]] | None:
        namespace, account = private.get("namespace", ""), private.get("serviceaccount") or {}
        stored = self._storage.collection(resource("serviceaccounts")).get((namespace, account.get("name", "")))
        if stored is None or stored.obj["metadata"]["uid"] != account.get("uid"):
            return None
        extra = {"authentication.kubernetes.io/credential-id": [f"JTI={claims.get('jti', '')}"]}
        for kind in ("pod", "secret", "node"):
            bound = private.get(kind)
            if not bound or (kind == "node" and private.get("pod")):
                continue  # a pod's token only mentions its node
            where = namespace if kind != "node" else ""
            entry = self._storage.collection(resource(kind + "s")).get((where, bound["name"]))
            if entry is None or entry.obj["metadata"]["uid"] != bound["uid"]:
                return None
            deleted = entry.obj["metadata"].get("deletionTimestamp")
            if deleted and parse_time(deleted) + _TERMINATING_LEEWAY < now:
                return None
            if kind == "pod":
                extra["authentication.kubernetes.io/pod-name"] = [bound["name"]]
                extra["authentication.kubernetes.io/pod-uid"] = [bound["uid"]]
        if private.get("node"):
            extra["authentication.kubernetes.io/node-name"] = [private["node"]["name"]]
            extra["authentication.kubernetes.io/node-uid"] = [private["node"]["uid"]]
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
        return User(claims["sub"], groups, account.get("uid", ""), extra), good

    def jwks(self) -> Obj:
        """The public key as a JSON Web Key Set (/openid/v1/jwks)."""
        from base64 import urlsafe_b64encode

        numbers = self._public.public_numbers()

        def field(value: int) -> str:
            return urlsafe_b64encode(value.to_bytes(32, "big")).decode().rstrip("=")

        key = {"use": "sig", "kty": "EC", "kid": self._key_id, "crv": "P-256", "alg": "ES256"}
        return {"keys": [{**key, "x": field(numbers.x), "y": field(numbers.y)}]}

    def discovery(self) -> Obj:
        """/.well-known/openid-configuration."""
        return {
            "issuer": self.issuer,
            "jwks_uri": f"{self.issuer}/openid/v1/jwks",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        }
