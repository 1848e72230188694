"""Token Secrets: filled once, kept right, gone with their account."""

from __future__ import annotations

import base64
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from stablehand.controllers.serviceaccounttokens import Signer, TokenController
from stablehand.machinery import accounttokens
from stablehand.machinery.accounttokens import ACCOUNT_NAME, ACCOUNT_UID, SECRET_TYPE
from stablehand.machinery.resources import resource
from stablehand.machinery.types import Obj
from tests.unit.controllers.fakes import FakeServer, settle
from tests.unit.controllers.harness import running

ACCOUNTS, SECRETS = resource("serviceaccounts"), resource("secrets")
KEY = ec.generate_private_key(ec.SECP256R1())
PEM = KEY.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


class World:
    def __init__(self) -> None:
        self.server = FakeServer()
        self.client = self.server.client()

    def run(self) -> Any:
        return running(self.server, lambda c, i: TokenController(c, i, Signer(PEM), "the CA"))

    async def account(self) -> Obj:
        return await self.client.create(
            ACCOUNTS, {"metadata": {"name": "robot", "namespace": "ns"}, "secrets": [{"name": "t"}]}
        )

    async def secret(self, **notes: str) -> None:
        meta = {"name": "t", "namespace": "ns", "annotations": {ACCOUNT_NAME: "robot", **notes}}
        await self.client.create(SECRETS, {"type": SECRET_TYPE, "metadata": meta})

    def stored(self) -> Obj:
        return self.server.objects.get("secrets", {}).get(("ns", "t"), {})

    def value(self, key: str) -> str:
        return base64.b64decode((self.stored().get("data") or {}).get(key, "")).decode()


async def test_fills_and_repairs() -> None:
    world = World()
    account = await world.account()
    async with world.run():
        await world.secret()
        await settle(lambda: bool(world.value("token")))
        assert (world.value("ca.crt"), world.value("namespace")) == ("the CA", "ns")
        assert world.stored()["metadata"]["annotations"][ACCOUNT_UID] == account["metadata"]["uid"]
        claims = jwt.decode(world.value("token"), KEY.public_key(), ["ES256"])
        assert accounttokens.read(claims) == ("ns", "t", "robot", account["metadata"]["uid"])
        token = world.value("token")
        await world.client.patch(SECRETS, "t", {"data": {"ca.crt": "eA=="}}, "ns")
        await settle(lambda: world.value("ca.crt") == "the CA")
        assert world.value("token") == token


async def test_goes_with_the_account() -> None:
    world = World()
    await world.account()
    async with world.run():
        await world.secret()
        await settle(lambda: bool(world.value("token")))
        await world.client.delete(ACCOUNTS, "robot", "ns")
        await settle(lambda: not world.stored())


async def test_a_foreign_uid_is_no_account() -> None:
    world = World()
    await world.account()
    async with world.run():
        await world.secret(**{ACCOUNT_UID: "another"})
        await settle(lambda: not world.stored())
        # The account's mention of it goes too.
        await settle(lambda: world.server.objects["serviceaccounts"][("ns", "robot")]["secrets"] == [])


def test_keys() -> None:
    encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(encoding, serialization.PrivateFormat.TraditionalOpenSSL, plain)
    token = Signer(pem).sign({"sub": "x"})
    assert jwt.decode(token, key.public_key(), ["RS256"]) == {"sub": "x"}
    with pytest.raises(ValueError, match="not a private key in PEM form"):
        Signer(b"x")


def test_claims_that_disagree() -> None:
    account = {"metadata": {"name": "a", "namespace": "n", "uid": "u"}}
    claims = accounttokens.claims(account, "s")
    assert accounttokens.read(claims) == ("n", "s", "a", "u")
    assert accounttokens.read({**claims, "sub": "system:serviceaccount:n:b"}) is None
    assert accounttokens.read({}) is None
