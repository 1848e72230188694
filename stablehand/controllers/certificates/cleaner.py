"""Deletes requests that are settled for an hour, that nobody decided on for a day, and whose certificate is void."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable

from cryptography import x509

from stablehand.client import Client, Conflict
from stablehand.machinery import meta
from stablehand.machinery.resources import resource
from stablehand.machinery.times import parse_time
from stablehand.machinery.types import Obj
from stablehand.runtime import Controller, Informers, Result, writes

_SETTLED, _PENDING = 3600.0, 24 * 3600.0


class CleanerController(Controller):
    name = "certificatesigningrequest-cleaner"

    def __init__(self, client: Client, informers: Informers, *, clock: Callable[[], float] = time.time) -> None:
        super().__init__(workers=1)
        self._client = client.with_manager("certificate-controller")
        self._clock = clock
        self._requests = informers.get(resource("certificatesigningrequests.certificates.k8s.io"))
        self.wait_for = [self._requests]
        self._requests.on_change(self._changed)

    def _changed(self, event: str, old: Obj | None, new: Obj) -> None:
        if event != "DELETED":
            self.enqueue(meta.name(new))

    async def reconcile(self, key: str) -> Result | None:
        csr = self._requests.cached("", key)
        if csr is None:
            return None
        deadline = goes_at(csr)
        if deadline is None:
            return None
        left = deadline - self._clock()
        if left > 0:
            return Result(after=left)
        try:
            await writes.delete(self._client, self._requests, csr)
        except Conflict:
            return None  # another of that name by now
        return None


def goes_at(csr: Obj) -> float | None:
    """When a request is of no more use, in Unix seconds. None: as long as it stays as it is, never."""
    status = csr.get("status") or {}
    conditions, issued = status.get("conditions") or (), status.get("certificate")
    times: list[float] = []
    for condition in conditions:
        since = condition.get("lastUpdateTime")
        done = condition.get("type") in ("Denied", "Failed") or (condition.get("type") == "Approved" and issued)
        if done and since:
            times.append(parse_time(since) + _SETTLED)
    if not conditions and csr["metadata"].get("creationTimestamp"):
        times.append(parse_time(csr["metadata"]["creationTimestamp"]) + _PENDING)
    if issued:
        times += [e for e in [_expiry(issued)] if e is not None]
    return min(times, default=None)


def _expiry(certificate: str) -> float | None:
    try:
        return x509.load_pem_x509_certificate(base64.b64decode(certificate)).not_valid_after_utc.timestamp()
    except ValueError:
        return None
