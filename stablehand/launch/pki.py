"""The cluster's own certificate authority, the certificates made from it, and kubeconfig files. EC P-256 throughout."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import os
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_YEAR = datetime.timedelta(days=365)


def _write(path: Path, data: bytes) -> None:
    """Creates the file readable by its owner alone; whole or not at all."""
    temporary = path.with_name(path.name + ".new")
    fd = os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "wb") as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())
    temporary.replace(path)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


class Pki:
    """Certificates in a folder; missing ones are made. Paths are given out, keys stay on disk. Raises ValueError for a
    damaged authority or signing key."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        key_file = folder / "ca.key"
        if not key_file.exists() or not (folder / "ca.crt").exists():
            self._make_authority()
        key = serialization.load_pem_private_key(key_file.read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError("ca.key is no elliptic curve key")
        self._key = key
        self._ca = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
        if (folder / "sa.key").exists():  # tokens are signed with it: damaged, it must not be found out later
            serialization.load_pem_private_key(self.signing_key(), None)

    @property
    def ca_file(self) -> Path:
        return self._folder / "ca.crt"

    @property
    def ca_pem(self) -> str:
        return self.ca_file.read_text()

    @property
    def ca_key(self) -> bytes:
        """The authority's private key (PEM), for the controller that signs certificates."""
        return _pem(self._key)

    def _builder(self, name: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=5)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(issuer)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now)
            .not_valid_after(now + 10 * _YEAR)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        )

    def _make_authority(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "stablehand-ca")])
        usage = x509.KeyUsage(True, False, True, False, False, True, True, False, False)
        cert = (
            self._builder(name, name, key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .sign(key, hashes.SHA256())
        )
        _write(self._folder / "ca.key", _pem(key))
        _write(self._folder / "ca.crt", cert.public_bytes(serialization.Encoding.PEM))

    def certificate(
        self,
        file: str,
        common_name: str,
        groups: tuple[str, ...] = (),
        *,
        hosts: tuple[str, ...] = (),
        server: bool = False,
    ) -> tuple[Path, Path]:
        """(certificate file, key file); made anew when missing, near its end, or for other hosts."""
        crt, key_file = self._folder / f"{file}.crt", self._folder / f"{file}.key"
        if crt.exists() and key_file.exists() and self._good(crt, key_file, hosts):
            return crt, key_file
        key = ec.generate_private_key(ec.SECP256R1())
        attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, g) for g in groups]
        attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, common_name))
        use = [ExtendedKeyUsageOID.SERVER_AUTH] if server else [ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = (
            self._builder(x509.Name(attributes), self._ca.subject, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.KeyUsage(True, False, True, False, False, False, False, False, False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(use), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName(_names(hosts)), critical=False)
        cert = builder.sign(self._key, hashes.SHA256())
        _write(key_file, _pem(key))
        _write(crt, cert.public_bytes(serialization.Encoding.PEM))
        return crt, key_file

    def _good(self, crt: Path, key_file: Path, hosts: tuple[str, ...]) -> bool:
        try:
            cert = x509.load_pem_x509_certificate(crt.read_bytes())
            key = serialization.load_pem_private_key(key_file.read_bytes(), None)
        except ValueError:  # damaged
            return False
        if cert.public_key() != key.public_key():  # a stop between the writing of one and the other
            return False
        if cert.not_valid_after_utc < datetime.datetime.now(datetime.UTC) + _YEAR:
            return False
        if not hosts:
            return True
        names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return set(names) == set(_names(hosts))

    def signing_key(self) -> bytes:
        """The service account signing key (PEM)."""
        path = self._folder / "sa.key"
        if not path.exists():
            _write(path, _pem(ec.generate_private_key(ec.SECP256R1())))
        return path.read_bytes()


def _names(hosts: tuple[str, ...]) -> list[x509.GeneralName]:
    out: list[x509.GeneralName] = []
    for host in dict.fromkeys(hosts):
        try:
            out.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            out.append(x509.DNSName(host))
    return out


def write_kubeconfig(path: Path, server: str, ca: Path, crt: Path, key: Path, user: str = "admin") -> None:
    """A kubeconfig with everything inside, readable by its owner alone."""

    def data(file: Path) -> str:
        return base64.b64encode(file.read_bytes()).decode()

    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "stablehand", "cluster": {"server": server, "certificate-authority-data": data(ca)}}],
        "users": [
            {"name": user, "user": {"client-certificate-data": data(crt), "client-key-data": data(key)}},
        ],
        "contexts": [{"name": "stablehand", "context": {"cluster": "stablehand", "user": user}}],
        "current-context": "stablehand",
    }
    text = yaml.safe_dump(config, sort_keys=False).encode()
    if not path.exists() or path.read_bytes() != text:
        _write(path, text)
