"""CertificateSigningRequests: whose are approved, what is signed, what is refused, when they go."""

from __future__ import annotations

import base64
import datetime
import ipaddress
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from stablehand.controllers.certificates import (
    ApprovingController,
    Authority,
    AuthorityError,
    CleanerController,
    SigningController,
    requests,
)
from stablehand.controllers.certificates.cleaner import goes_at
from stablehand.machinery.conditions import get_condition
from stablehand.machinery.resources import resource
from stablehand.machinery.times import format_time
from stablehand.machinery.types import Obj
from tests.unit.controllers.fakes import FakeServer, settle
from tests.unit.controllers.harness import running

CSRS = resource("certificatesigningrequests.certificates.k8s.io")
NOW = 1_800_000_000.0
KEY = ec.generate_private_key(ec.SECP256R1())


def authority(days: int = 3650) -> Authority:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca")])
    start = datetime.datetime.fromtimestamp(NOW - 3600, datetime.UTC)
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(KEY.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=days))
        .sign(KEY, hashes.SHA256())
    )
    return Authority(cert.public_bytes(serialization.Encoding.PEM), pem(KEY))


def pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    return key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain)


def csr(
    signer: str = requests.CLIENT,
    cn: str = "jane",
    org: str = "",
    usages: tuple[str, ...] = ("client auth",),
    names: tuple[x509.GeneralName, ...] = (),
    **spec: Any,
) -> Obj:
    subject = [x509.NameAttribute(NameOID.COMMON_NAME, cn)]
    if org:
        subject.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, org))
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    made = builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    return {
        "metadata": {"name": "r", "creationTimestamp": format_time(NOW)},
        "spec": {"request": base64.b64encode(made).decode(), "signerName": signer, "usages": list(usages), **spec},
    }


def kubelet(**change: Any) -> Obj:
    return csr(**{"signer": requests.KUBELET_CLIENT, "cn": "system:node:n", "org": "system:nodes",
                  "usages": ("digital signature", "key encipherment", "client auth"), **change})  # fmt: skip


def serving(**change: Any) -> Obj:
    return csr(**{"signer": requests.KUBELET_SERVING, "cn": "system:node:n", "org": "system:nodes",
                  "usages": ("digital signature", "server auth"), "names": (x509.DNSName("n"),), **change})  # fmt: skip


@pytest.mark.parametrize(
    ("made", "refused"),
    [
        (csr(), ""),
        (csr(usages=("client auth", "server auth")), "invalid usage for client certificate: server auth"),
        (csr(usages=("digital signature",)), "missing required usage for client certificate: client auth"),
        (kubelet(), ""),
        (kubelet(usages=("digital signature", "client auth")), ""),
        (kubelet(org="x"), "subject organization is not system:nodes"),
        (kubelet(cn="n"), "subject common name does not begin with system:node:"),
        (kubelet(names=(x509.DNSName("n"),)), "DNS subjectAltNames are not allowed"),
        (kubelet(names=(x509.IPAddress(ipaddress.ip_address("1.2.3.4")),)), "IP subjectAltNames are not allowed"),
        (
            kubelet(usages=("client auth",)),
            "usages did not match [client auth digital signature key encipherment]",
        ),
        (serving(), ""),
        (serving(names=()), "DNS or IP subjectAltName is required"),
        (serving(names=(x509.DNSName("n"), x509.RFC822Name("a@b.c"))), "Email subjectAltNames are not allowed"),
        (csr(signer=requests.LEGACY_UNKNOWN, usages=("code signing",)), ""),
    ],
)
def test_what_signers_grant(made: Obj, refused: str) -> None:
    if not refused:
        requests.check(made, requests.parse(made))
        return
    with pytest.raises(requests.RequestError) as e:
        requests.check(made, requests.parse(made))
    assert str(e.value) == refused


def test_unreadable_requests() -> None:
    for text in ("", "!", base64.b64encode(b"-----BEGIN CERTIFICATE REQUEST-----\nx").decode()):
        with pytest.raises(requests.RequestError):
            requests.parse({"spec": {"request": text}})


def test_certificates() -> None:
    made = serving()
    cert = x509.load_pem_x509_certificate(
        authority().sign(requests.parse(made), ["digital signature", "server auth"], None, NOW)
    )
    assert cert.not_valid_before_utc.timestamp() == NOW - 300
    assert cert.not_valid_after_utc.timestamp() == NOW + 365 * 86400 - 300  # long lives are backdated as a whole
    uses = cert.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(uses) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert cert.extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature
    assert cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
        x509.DNSName
    ) == ["n"]
    assert not cert.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_lifetimes() -> None:
    signer = authority()
    assert [signer.lifetime(s) for s in (None, 60, 3600, 10**9)] == [365 * 86400, 600, 3600, 365 * 86400]
    short = x509.load_pem_x509_certificate(signer.sign(requests.parse(csr()), ["client auth"], 3600, NOW))
    assert short.not_valid_after_utc.timestamp() == NOW + 3600
    ending = x509.load_pem_x509_certificate(authority(days=1).sign(requests.parse(csr()), ["client auth"], None, NOW))
    assert ending.not_valid_after_utc.timestamp() == NOW - 3600 + 86400  # no longer than the authority itself


def test_no_authority() -> None:
    with pytest.raises(AuthorityError):
        Authority(b"", pem(KEY))
    with pytest.raises(requests.RequestError):
        authority().sign(requests.parse(csr()), ["dancing"], None, NOW)


class World:
    """A fake server that allows the subresources in `allowed` to everybody who asks."""

    def __init__(self, *allowed: str) -> None:
        self.server = FakeServer()
        self.client = self.server.client()
        self.allowed = allowed
        send = self.server.send

        async def answering(request: Any) -> Obj:
            if request.path.endswith("subjectaccessreviews"):
                asked = request.body["spec"]["resourceAttributes"]["subresource"]
                return {"status": {"allowed": asked in self.allowed}}
            return await send(request)

        self.server.send = answering  # type: ignore[method-assign]

    def csr(self) -> Obj:
        return self.server.objects[CSRS.key][("", "r")]

    def condition(self, kind: str) -> Obj | None:
        return get_condition(self.csr().get("status"), kind)


APPROVED = {"conditions": [{"type": "Approved", "status": "True", "lastUpdateTime": format_time(NOW)}]}


async def test_signs_what_is_approved_and_says_what_it_refuses() -> None:
    world = World()
    await world.client.create(CSRS, csr())
    async with running(world.server, lambda c, i: SigningController(c, i, authority())):
        await settle(lambda: bool(world.server.watchers))
        assert not world.csr().get("status")
        await world.client.update(CSRS, {**world.csr(), "status": APPROVED}, subresource="status")
        await settle(lambda: bool(world.csr()["status"].get("certificate")))
    refused = World()
    await refused.client.create(CSRS, {**csr(usages=("server auth",)), "status": APPROVED})
    async with running(refused.server, lambda c, i: SigningController(c, i, authority())):
        await settle(lambda: refused.condition("Failed") is not None)
    failed = refused.condition("Failed")
    assert failed is not None and failed["reason"] == "SignerValidationFailure"
    assert "certificate" not in refused.csr()["status"]


@pytest.mark.parametrize(
    ("user", "allowed", "message"),
    [
        ("system:bootstrap:x", "nodeclient", "Auto approving kubelet client"),
        ("system:node:n", "selfnodeclient", "Auto approving self kubelet client"),
    ],
)
async def test_approves_kubelets(user: str, allowed: str, message: str) -> None:
    world = World(allowed)
    await world.client.create(CSRS, kubelet(username=user))
    async with running(world.server, ApprovingController):
        await settle(lambda: world.condition("Approved") is not None)
    condition = world.condition("Approved")
    assert condition is not None and condition["reason"] == "AutoApproved"
    assert condition["message"] == f"{message} certificate after SubjectAccessReview."


async def test_does_not_approve_another_nodes_certificate() -> None:
    world = World("selfnodeclient")
    await world.client.create(CSRS, kubelet(username="system:node:other"))
    async with running(world.server, ApprovingController) as (controller,):
        await settle(lambda: bool(world.server.watchers) and not len(controller.queue))
    assert not world.csr().get("status")


def test_when_requests_go() -> None:
    made = csr()
    assert goes_at(made) == NOW + 86400
    approved = {**made, "status": APPROVED}
    assert goes_at(approved) is None  # approved, not issued yet
    pem_ = authority().sign(requests.parse(made), ["client auth"], 600, NOW)
    issued = {**made, "status": {**APPROVED, "certificate": base64.b64encode(pem_).decode()}}
    assert goes_at(issued) == NOW + 600
    denied = {"conditions": [{"type": "Denied", "lastUpdateTime": format_time(NOW)}]}
    assert goes_at({**made, "status": denied}) == NOW + 3600


async def test_cleans() -> None:
    world = World()
    world.server.now = lambda: NOW
    await world.client.create(CSRS, csr())
    async with running(world.server, lambda c, i: CleanerController(c, i, clock=lambda: NOW + 86401)):
        await settle(lambda: not world.server.objects[CSRS.key])
