"""What a CertificateSigningRequest asks for, and what each kubernetes.io signer grants. Pure.

The rules are those of k8s.io/kubernetes pkg/apis/certificates (ValidateKubeletClientCSR and its siblings).
"""

from __future__ import annotations

import base64
import binascii

from cryptography import x509
from cryptography.x509.oid import NameOID

from stablehand.machinery.conditions import get_condition
from stablehand.machinery.types import Obj

CLIENT = "kubernetes.io/kube-apiserver-client"
KUBELET_CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
KUBELET_SERVING = "kubernetes.io/kubelet-serving"
LEGACY_UNKNOWN = "kubernetes.io/legacy-unknown"
SIGNERS = (CLIENT, KUBELET_CLIENT, KUBELET_SERVING, LEGACY_UNKNOWN)

_NODES = "system:nodes"
_NODE = "system:node:"
_DIGITAL, _ENCIPHER, _CLIENT_AUTH, _SERVER_AUTH = "digital signature", "key encipherment", "client auth", "server auth"


class RequestError(ValueError):
    """The request cannot be read, or is not one the signer grants; the text is for its author."""


def parse(csr: Obj) -> x509.CertificateSigningRequest:
    """The PKCS #10 request in spec.request (base64 of PEM). Raises RequestError."""
    try:
        pem = base64.b64decode(csr["spec"].get("request") or "", validate=True)
        if b"-----BEGIN CERTIFICATE REQUEST-----" not in pem:
            raise RequestError("PEM block type must be CERTIFICATE REQUEST")
        return x509.load_pem_x509_csr(pem)
    except (binascii.Error, ValueError) as e:
        raise e if isinstance(e, RequestError) else RequestError(str(e)) from e


def usages(csr: Obj) -> set[str]:
    return set(csr["spec"].get("usages") or ())


def common_name(request: x509.CertificateSigningRequest) -> str:
    found = request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[-1].value) if found else ""


def organizations(request: x509.CertificateSigningRequest) -> list[str]:
    return [str(a.value) for a in request.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]


def alternative_names(request: x509.CertificateSigningRequest) -> list[x509.GeneralName]:
    try:
        return list(request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return []


def has_condition(csr: Obj, kind: str) -> bool:
    condition = get_condition(csr.get("status"), kind)
    return condition is not None and condition.get("status", "True") != "False"


def is_approved(csr: Obj) -> bool:
    return has_condition(csr, "Approved") and not has_condition(csr, "Denied")


def is_kubelet_client(csr: Obj, request: x509.CertificateSigningRequest) -> bool:
    """Is this a node's client certificate, as its kubelet asks for it?"""
    if csr["spec"].get("signerName") != KUBELET_CLIENT:
        return False
    try:
        _check_kubelet_client(request, usages(csr))
    except RequestError:
        return False
    return True


def check(csr: Obj, request: x509.CertificateSigningRequest) -> None:
    """Whether the request's own signer grants it. Raises RequestError with what the Failed condition says."""
    signer, wanted = csr["spec"].get("signerName"), usages(csr)
    if signer == CLIENT:
        for usage in csr["spec"].get("usages") or ():
            if usage not in (_DIGITAL, _ENCIPHER, _CLIENT_AUTH):
                raise RequestError(f"invalid usage for client certificate: {usage}")
        if _CLIENT_AUTH not in wanted:
            raise RequestError(f"missing required usage for client certificate: {_CLIENT_AUTH}")
    elif signer == KUBELET_CLIENT:
        _check_kubelet_client(request, wanted)
    elif signer == KUBELET_SERVING:
        _check_kubelet_serving(request, wanted)


def _check_kubelet_client(request: x509.CertificateSigningRequest, wanted: set[str]) -> None:
    if organizations(request) != [_NODES]:
        raise RequestError("subject organization is not system:nodes")
    kinds = {type(n) for n in alternative_names(request)}
    for kind, text in (
        (x509.DNSName, "DNS"), (x509.RFC822Name, "Email"), (x509.IPAddress, "IP"),
        (x509.UniformResourceIdentifier, "URI"),
    ):  # fmt: skip
        if kind in kinds:
            raise RequestError(f"{text} subjectAltNames are not allowed")
    if not common_name(request).startswith(_NODE):
        raise RequestError("subject common name does not begin with system:node:")
    _require(wanted, {_DIGITAL, _ENCIPHER, _CLIENT_AUTH})


def _check_kubelet_serving(request: x509.CertificateSigningRequest, wanted: set[str]) -> None:
    if organizations(request) != [_NODES]:
        raise RequestError("subject organization is not system:nodes")
    kinds = {type(n) for n in alternative_names(request)}
    if x509.DNSName not in kinds and x509.IPAddress not in kinds:
        raise RequestError("DNS or IP subjectAltName is required")
    for kind, text in ((x509.RFC822Name, "Email"), (x509.UniformResourceIdentifier, "URI")):
        if kind in kinds:
            raise RequestError(f"{text} subjectAltNames are not allowed")
    _require(wanted, {_DIGITAL, _ENCIPHER, _SERVER_AUTH})
    if not common_name(request).startswith(_NODE):
        raise RequestError("subject common name does not begin with system:node:")


def _require(wanted: set[str], usual: set[str]) -> None:
    """Exactly the usual usages; keys that cannot encipher (not RSA) leave that one out."""
    if wanted not in (usual, usual - {_ENCIPHER}):
        raise RequestError(f"usages did not match [{' '.join(sorted(usual))}]")
