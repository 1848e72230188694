"""Certificates from requests, under the cluster's key: what kube-controller-manager's authority package does."""

from __future__ import annotations

import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from stablehand.controllers.certificates.requests import RequestError, alternative_names

YEAR = 365 * 24 * 3600.0
_BACKDATE, _SHORT, _LEAST = 300.0, 8 * 3600.0, 600.0

# x509.KeyUsage's fields by the names that spec.usages has for them.
_KEY_USAGES = {
    "signing": "digital_signature", "digital signature": "digital_signature",
    "content commitment": "content_commitment", "key encipherment": "key_encipherment",
    "key agreement": "key_agreement", "data encipherment": "data_encipherment", "cert sign": "key_cert_sign",
    "crl sign": "crl_sign", "encipher only": "encipher_only", "decipher only": "decipher_only",
}  # fmt: skip
_EXTENDED = {
    "any": ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
    "server auth": ExtendedKeyUsageOID.SERVER_AUTH,
    "client auth": ExtendedKeyUsageOID.CLIENT_AUTH,
    "code signing": ExtendedKeyUsageOID.CODE_SIGNING,
    "email protection": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "s/mime": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "ipsec end system": ObjectIdentifier("1.3.6.1.5.5.7.3.5"),
    "ipsec tunnel": ObjectIdentifier("1.3.6.1.5.5.7.3.6"),
    "ipsec user": ObjectIdentifier("1.3.6.1.5.5.7.3.7"),
    "timestamping": ExtendedKeyUsageOID.TIME_STAMPING,
    "ocsp signing": ExtendedKeyUsageOID.OCSP_SIGNING,
    "microsoft sgc": ObjectIdentifier("1.3.6.1.4.1.311.10.3.3"),
    "netscape sgc": ObjectIdentifier("2.16.840.1.113730.4.1"),
}
_FIELDS = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
    "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip


class AuthorityError(ValueError):
    """The certificate and key are not an authority's."""


class Authority:
    """A certificate and its private key, both PEM. `longest` is how long what it signs lives at most, in seconds."""

    def __init__(self, cert_pem: bytes, key_pem: bytes, longest: float = YEAR) -> None:
        try:
            self._cert = x509.load_pem_x509_certificate(cert_pem)
            key = serialization.load_pem_private_key(key_pem, None)
        except (ValueError, TypeError) as e:
            raise AuthorityError("not a certificate and its private key in PEM form") from e
        if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey):
            raise AuthorityError(f"{type(key).__name__} cannot sign certificates")
        if key.public_key() != self._cert.public_key():
            raise AuthorityError("the certificate is not of this key")
        self._key = key
        self._longest = longest

    def lifetime(self, seconds: int | None) -> float:
        """How long a certificate lives whose request names `seconds`: at least ten minutes, at most `longest`."""
        if seconds is None:
            return self._longest
        return min(self._longest, max(_LEAST, float(seconds)))

    def sign(
        self, request: x509.CertificateSigningRequest, usages: list[str], seconds: int | None, now: float
    ) -> bytes:
        """The certificate as PEM, with the subject, key and alternative names of the request. Raises RequestError."""
        if not request.is_signature_valid:
            raise RequestError("unable to verify certificate request signature")
        lifetime = self.lifetime(seconds)
        end = now + lifetime - (_BACKDATE if lifetime >= _SHORT else 0.0)
        expires = min(datetime.datetime.fromtimestamp(int(end), datetime.UTC), self._cert.not_valid_after_utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(request.subject)
            .issuer_name(self._cert.subject)
            .public_key(request.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(datetime.datetime.fromtimestamp(int(now - _BACKDATE), datetime.UTC))
            .not_valid_after(expires)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(self._identifier(), critical=False)
        )
        keyed, extended = _usages(usages)
        if keyed is not None:
            builder = builder.add_extension(keyed, critical=True)
        if extended:
            builder = builder.add_extension(x509.ExtendedKeyUsage(extended), critical=False)
        names = alternative_names(request)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        algorithm = None if isinstance(self._key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
        return builder.sign(self._key, algorithm).public_bytes(serialization.Encoding.PEM)

    def _identifier(self) -> x509.AuthorityKeyIdentifier:
        try:
            own = self._cert.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        except x509.ExtensionNotFound:
            return x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _usages(usages: list[str]) -> tuple[x509.KeyUsage | None, list[ObjectIdentifier]]:
    unknown = [u for u in usages if u not in _KEY_USAGES and u not in _EXTENDED]
    if unknown:
        raise RequestError(f"unrecognized usage values: {unknown}")
    fields = {_KEY_USAGES[u] for u in usages if u in _KEY_USAGES}
    keyed = None
    if fields:
        given = {f: f in fields for f in _FIELDS}
        if not given["key_agreement"]:
            given["encipher_only"] = given["decipher_only"] = False  # mean nothing without it
        keyed = x509.KeyUsage(**given)
    extended = dict.fromkeys(_EXTENDED[u] for u in usages if u in _EXTENDED)
    return keyed, list(extended)
