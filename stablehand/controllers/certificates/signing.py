"""Signs approved requests of the kubernetes.io signers, or says in the condition Failed why it does not."""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import Callable

from stablehand.client import Client
from stablehand.controllers.certificates import requests
from stablehand.controllers.certificates.authority import Authority
from stablehand.machinery import meta
from stablehand.machinery.resources import resource
from stablehand.machinery.times import format_time
from stablehand.machinery.types import Obj, copy_object
from stablehand.runtime import Controller, Informers, Result, Terminal, writes

log = logging.getLogger("stablehand.certificates")


class SigningController(Controller):
    name = "certificatesigningrequest-signing"

    def __init__(
        self, client: Client, informers: Informers, authority: Authority, *, clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__(workers=1)
        self._client = client.with_manager("certificate-controller")
        self._authority = authority
        self._clock = clock
        self._requests = informers.get(resource("certificatesigningrequests.certificates.k8s.io"))
        self.wait_for = [self._requests]
        self._requests.on_change(self._changed)

    def _changed(self, event: str, old: Obj | None, new: Obj) -> None:
        if event != "DELETED" and new["spec"].get("signerName") in requests.SIGNERS and requests.is_approved(new):
            self.enqueue(meta.name(new))

    async def reconcile(self, key: str) -> Result | None:
        csr = self._requests.cached("", key)
        if csr is None or not requests.is_approved(csr) or requests.has_condition(csr, "Failed"):
            return None
        if (csr.get("status") or {}).get("certificate"):
            return None
        new = copy_object(csr)
        status, spec, now = new.setdefault("status", {}), csr["spec"], self._clock()
        try:
            request = requests.parse(csr)
        except requests.RequestError as e:
            raise Terminal(f"unable to parse csr {key!r}: {e}") from e
        try:
            requests.check(csr, request)
        except requests.RequestError as e:
            stamp = format_time(now)
            condition = {
                "type": "Failed",
                "status": "True",
                "reason": "SignerValidationFailure",
                "message": str(e),
                "lastUpdateTime": stamp,
                "lastTransitionTime": stamp,
            }
            status.setdefault("conditions", []).append(condition)
        else:
            try:
                pem = self._authority.sign(request, list(spec.get("usages") or ()), spec.get("expirationSeconds"), now)
            except requests.RequestError as e:
                raise Terminal(f"error auto signing csr: {e}") from e
            status["certificate"] = base64.b64encode(pem).decode()
        await writes.update(self._client, self._requests, new, subresource="status")
        return None
