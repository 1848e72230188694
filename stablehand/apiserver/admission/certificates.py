"""CertificateSigningRequests: who asked is written down by the server; approving and signing need the signer's right."""

from __future__ import annotations

from stablehand.apiserver import errors
from stablehand.apiserver.contract import RequestInfo
from stablehand.apiserver.core import Attributes, Core
from stablehand.machinery.meta import nested

_KEY = "certificatesigningrequests.certificates.k8s.io"
_GROUP = "certificates.k8s.io"
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
    if verb == "sign":
        before, after = nested(a.old, "status", "certificate"), nested(a.obj, "status", "certificate")
        if before == after:
            return
    signer = nested(a.old, "spec", "signerName") or ""
    for name in (signer, signer.partition("/")[0] + "/*"):
        ask = RequestInfo("", verb, True, _GROUP, "v1", "", "signers", name)
        if (await core.authorize(a.request.user, ask))[0]:
            return
    raise errors.forbidden(a.resource, a.name, f'user not permitted to {verb} requests with signerName "{signer}"')
