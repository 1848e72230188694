"""Approves the client certificates of kubelets whose requesters may have them: RBAC's verb create on
certificatesigningrequests/nodeclient (a node's first) and /selfnodeclient (its own renewed)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from stablehand.client import Client
from stablehand.controllers.certificates import requests
from stablehand.machinery import meta
from stablehand.machinery.resources import resource
from stablehand.machinery.times import format_time
from stablehand.machinery.types import Obj, copy_object
from stablehand.runtime import Controller, Informers, Result, Terminal, writes

log = logging.getLogger("stablehand.certificates")
_REVIEWS = resource("subjectaccessreviews.authorization.k8s.io")


class ApprovingController(Controller):
    name = "certificatesigningrequest-approving"

    def __init__(self, client: Client, informers: Informers, *, clock: Callable[[], float] = time.time) -> None:
        super().__init__(workers=1)
        self._client = client.with_manager("certificate-controller")
        self._clock = clock
        self._requests = informers.get(resource("certificatesigningrequests.certificates.k8s.io"))
        self.wait_for = [self._requests]
        self._requests.on_change(self._changed)

    def _changed(self, event: str, old: Obj | None, new: Obj) -> None:
        if event != "DELETED" and new["spec"].get("signerName") == requests.KUBELET_CLIENT:
            self.enqueue(meta.name(new))

    async def reconcile(self, key: str) -> Result | None:
        csr = self._requests.cached("", key)
        if csr is None or (csr.get("status") or {}).get("certificate"):
            return None
        if requests.has_condition(csr, "Approved") or requests.has_condition(csr, "Denied"):
            return None
        try:
            request = requests.parse(csr)
        except requests.RequestError as e:
            raise Terminal(f"unable to parse csr {key!r}: {e}") from e
        if not requests.is_kubelet_client(csr, request):
            return None
        own = csr["spec"].get("username") == requests.common_name(request)
        tried = []
        for subresource, what in (("selfnodeclient", "self kubelet client"), ("nodeclient", "kubelet client")):
            if subresource == "selfnodeclient" and not own:
                continue
            tried.append(subresource)
            if await self._may(csr, subresource):
                await self._approve(csr, f"Auto approving {what} certificate after SubjectAccessReview.")
                return None
        log.info("recognized csr %s as %s but subject access review was not approved", key, tried)
        # Rights may be given later; upstream looks again with back-off.
        return Result(after=60.0)

    async def _may(self, csr: Obj, subresource: str) -> bool:
        spec = csr["spec"]
        attributes = {
            "group": "certificates.k8s.io",
            "resource": "certificatesigningrequests",
            "verb": "create",
            "version": "*",
            "subresource": subresource,
        }
        review: Obj = {
            "apiVersion": _REVIEWS.api_version,
            "kind": _REVIEWS.kind,
            "metadata": {},
            "spec": {"user": spec.get("username") or "", "resourceAttributes": attributes},
        }
        review["spec"] |= {k: spec[k] for k in ("uid", "groups", "extra") if spec.get(k)}
        answer = await self._client.create(_REVIEWS, review)
        return bool((answer.get("status") or {}).get("allowed"))

    async def _approve(self, csr: Obj, message: str) -> None:
        new = copy_object(csr)
        now = format_time(self._clock())
        condition = {
            "type": "Approved",
            "status": "True",
            "reason": "AutoApproved",
            "message": message,
            "lastUpdateTime": now,
            "lastTransitionTime": now,
        }
        new.setdefault("status", {}).setdefault("conditions", []).append(condition)
        await writes.update(self._client, self._requests, new, subresource="approval")
