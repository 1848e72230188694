"""CertificateSigningRequests: who asked is written down by the server; approving and signing need the signer's right."""

from __future__ import annotations

import base64

from stablehand.apiserver import errors
from stablehand.apiserver.contract import RequestInfo
from stablehand.apiserver.core import Attributes, Core
from stablehand.machinery.meta import nested

_KEY = "certificatesigningrequests.certificates.k8s.io"
_GROUP = "certificates.k8s.io"
_CLIENT_SIGNER = "kubernetes.io/kube-apiserver-client"
_RIGHTS = {"approval": "approve", "status": "sign"}
_IDENTITY = ("username", "uid", "groups", "extra")


def requester(core: Core, a: Attributes) -> None:
    """A new request carries its requester, whatever the client wrote there."""
    if a.resource.key != _KEY or a.operation != "CREATE" or a.subresource or a.obj is None:
        return
    spec = a.obj.setdefault("spec", {})
    for field in _IDENTITY:
        spec.pop(field, None)
    user = a.request.user
    spec["username"] = user.name
    if user.uid:
        spec["uid"] = user.uid
    spec["groups"] = list(user.groups)
    if user.extra:
        spec["extra"] = {key: list(values) for key, values in user.extra.items()}


async def check(core: Core, a: Attributes) -> None:
    """`approve` and `sign` on the virtual resource signers, by the signer's name or its domain ("example.com/*")."""
    verb = _RIGHTS.get(a.subresource)
    if a.resource.key != _KEY or a.operation != "UPDATE" or verb is None or a.old is None or a.obj is None:
        return
    if verb == "sign" and all(
        (nested(a.old, "status", field) or None) == (nested(a.obj, "status", field) or None)
        for field in ("certificate", "conditions")
    ):
        return
    signer = nested(a.old, "spec", "signerName") or ""
    for name in (signer, signer.partition("/")[0] + "/*"):
        ask = RequestInfo("", verb, True, _GROUP, "v1", "", "signers", name)
        if (await core.authorize(a.request.user, ask))[0]:
            return
    raise errors.forbidden(a.resource, a.name, f'user not permitted to {verb} requests with signerName "{signer}"')


def check_subject(core: Core, a: Attributes) -> None:
    """CertificateSubjectRestriction: no certificate of the cluster's own signer makes its holder an administrator."""
    if a.resource.key != _KEY or a.operation != "CREATE" or a.subresource or a.obj is None:
        return
    if nested(a.obj, "spec", "signerName") != _CLIENT_SIGNER:
        return
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    try:
        request = x509.load_pem_x509_csr(base64.b64decode(nested(a.obj, "spec", "request") or ""))
    except ValueError as e:
        raise errors.forbidden(a.resource, a.told_name, f"failed to parse CSR: {e}") from None
    if any(o.value == "system:masters" for o in request.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)):
        why = f"use of {_CLIENT_SIGNER} signer with system:masters group is not allowed"
        raise errors.forbidden(a.resource, a.told_name, why)
