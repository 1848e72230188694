"""Fills Secrets of type kubernetes.io/service-account-token with a token, and removes them with their account."""

from __future__ import annotations

import base64
import logging
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from stablehand.client import Client, Conflict, NotFound
from stablehand.machinery import accounttokens, meta
from stablehand.machinery.accounttokens import ACCOUNT_NAME, ACCOUNT_UID, SECRET_TYPE
from stablehand.machinery.resources import resource
from stablehand.machinery.types import Obj, copy_object
from stablehand.runtime import Controller, Informers, Result, writes

log = logging.getLogger("stablehand.tokens")
ACCOUNTS = resource("serviceaccounts")


# Signature algorithms of RFC 7518 by the curve of the key.
_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}


class Signer:
    """Signs tokens with an EC or RSA private key in PEM form. Raises ValueError for what is none.

    Tokens carry no key id, so that any API server tries every key it has."""

    def __init__(self, pem: bytes) -> None:
        try:
            key = serialization.load_pem_private_key(pem, None)
        except (ValueError, TypeError) as e:
            raise ValueError("not a private key in PEM form") from e
        if isinstance(key, ec.EllipticCurvePrivateKey):
            algorithm = _CURVES.get(key.curve.name)
            if algorithm is None:
                raise ValueError(f"{key.curve.name} is no curve for tokens: P-256, P-384 or P-521")
            self._algorithm = algorithm
        elif isinstance(key, rsa.RSAPrivateKey):
            self._algorithm = "RS256"
        else:
            raise ValueError("not an EC or RSA private key")
        self._key = key

    def sign(self, claims: dict[str, Any]) -> str:
        return jwt.encode(claims, self._key, self._algorithm)


class TokenController(Controller):
    """Fills with tokens of `signer`, and with the certificate `ca_pem`."""

    name = "serviceaccount-token"

    def __init__(self, client: Client, informers: Informers, signer: Signer, ca_pem: str) -> None:
        super().__init__(workers=2)
        self._signer, self._ca = signer, ca_pem
        self._client = client.with_manager("tokens-controller")
        self._accounts = informers.get(ACCOUNTS)
        self._secrets = informers.get(resource("secrets"), field_selector=f"type={SECRET_TYPE}")
        self._secrets.add_index("account", _account_key)
        self.wait_for = [self._accounts, self._secrets]
        self._accounts.on_change(self._account_changed)
        self._secrets.on_change(self._secret_changed)

    def _account_changed(self, event: str, old: Obj | None, new: Obj) -> None:
        if event != "MODIFIED":
            for secret in self._secrets.by_index("account", "/".join(meta.key(new))):
                self.enqueue(meta.key(secret))

    def _secret_changed(self, event: str, old: Obj | None, new: Obj) -> None:
        # A Secret that goes takes its mention in the account's list along.
        self.enqueue(meta.key(new) if event != "DELETED" else (*meta.key(new), meta.annotations(new).get(ACCOUNT_NAME)))

    async def reconcile(self, key: tuple[str, ...]) -> Result | None:
        namespace, name = key[:2]
        secret = self._secrets.cached(namespace, name)
        if secret is None:
            if len(key) == 3 and key[2]:
                await self._forget(namespace, key[2], name)
            return None
        if meta.deletion_timestamp(secret):
            return None
        notes = meta.annotations(secret)
        account = await self._account(namespace, notes.get(ACCOUNT_NAME) or "")
        uid = notes.get(ACCOUNT_UID)
        if account is None or (uid and uid != meta.uid(account)):
            log.info("secret %s/%s: its service account does not exist, deleting it", namespace, name)
            await writes.delete(self._client, self._secrets, secret)
            return None
        filled = self._filled(secret, account)
        if filled is not None:
            try:
                await writes.update(self._client, self._secrets, filled)
            except NotFound:
                return None
        return None

    async def _account(self, namespace: str, name: str) -> Obj | None:
        """From the cache, or, what it does not have, from the server: a Secret must not die of a late cache."""
        found = self._accounts.cached(namespace, name)
        if found is not None or not name:
            return found
        try:
            return await self._client.get(ACCOUNTS, name, namespace)
        except NotFound:
            return None

    def _filled(self, secret: Obj, account: Obj) -> Obj | None:
        """The Secret with all that belongs into it; None when nothing is missing."""
        data = secret.get("data") or {}
        ca = base64.b64encode(self._ca.encode()).decode()
        needs_ca = bool(self._ca) and data.get("ca.crt") != ca
        if not needs_ca and data.get("namespace") and data.get("token"):
            return None
        new = copy_object(secret)
        values = new.setdefault("data", {}) or {}
        new["data"] = values
        if needs_ca:
            values["ca.crt"] = ca
        if not values.get("namespace"):
            values["namespace"] = base64.b64encode(meta.namespace(secret).encode()).decode()
        if not values.get("token"):
            claims = accounttokens.claims(account, meta.name(secret))
            token = self._signer.sign(claims)
            values["token"] = base64.b64encode(token.encode()).decode()
        notes = new["metadata"].setdefault("annotations", {})
        notes[ACCOUNT_NAME], notes[ACCOUNT_UID] = meta.name(account), meta.uid(account)
        return new

    async def _forget(self, namespace: str, account_name: str, secret_name: str) -> None:
        account = self._accounts.cached(namespace, account_name)
        listed = (account or {}).get("secrets") or []
        rest = [s for s in listed if s.get("name") != secret_name]
        if account is None or len(rest) == len(listed):
            return
        new = copy_object(account)
        new["secrets"] = rest
        try:
            await writes.update(self._client, self._accounts, new)
        except NotFound:
            return
        except Conflict:
            self.enqueue((namespace, secret_name, account_name))


def _account_key(secret: Obj) -> list[str]:
    return [f"{meta.namespace(secret)}/{meta.annotations(secret).get(ACCOUNT_NAME, '')}"]
