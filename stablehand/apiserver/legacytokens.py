"""Service account tokens that are kept in Secrets: good as long as the Secret and its account are there.

The token controller makes them (controllers.serviceaccounttokens); the signature has been checked by tokens.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import time
from typing import Any

from stablehand.apiserver.contract import User
from stablehand.apiserver.storage.storage import Storage
from stablehand.machinery import accounttokens
from stablehand.machinery.resources import resource
from stablehand.machinery.types import Obj
from stablehand.store.contract import RevisionMismatch, StoreError

log = logging.getLogger("stablehand.tokens")
_DAY = 24 * 3600.0


class LegacyTokens:
    def __init__(self, storage: Storage) -> None:
        self._secrets = storage.collection(resource("secrets"))
        self._accounts = storage.collection(resource("serviceaccounts"))
        self._storage = storage
        self._noting: set[tuple[str, str]] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def user(self, token: str, claims: dict[str, Any], now: float) -> User | None:
        """The token's user, or None when it is void; that it was used today is written on its Secret."""
        found = accounttokens.read(claims)
        if found is None:
            return None
        namespace, secret_name, name, uid = found
        entry = self._secrets.get((namespace, secret_name))
        if entry is None or entry.obj["metadata"].get("deletionTimestamp") or _token(entry.obj) != token:
            return None
        account = self._accounts.get((namespace, name))
        if account is None or account.obj["metadata"]["uid"] != uid:
            return None
        if account.obj["metadata"].get("deletionTimestamp"):
            return None
        labels = entry.obj["metadata"].get("labels") or {}
        if labels.get(accounttokens.INVALID_SINCE):
            log.info("the token in secret %s/%s has been marked invalid", namespace, secret_name)
            return None
        # Clocks of several servers may differ by a day's turn: tomorrow is as good as today.
        if labels.get(accounttokens.LAST_USED) not in (_date(now), _date(now + _DAY)):
            self._note((namespace, secret_name), _date(now))
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
        return User(accounttokens.username(namespace, name), groups, uid)

    def _note(self, key: tuple[str, str], today: str) -> None:
        if key in self._noting:
            return
        self._noting.add(key)
        task = asyncio.get_running_loop().create_task(self._write(key, today), name="legacy-token-used")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _write(self, key: tuple[str, str], today: str) -> None:
        try:
            entry = self._secrets.get(key)
            if entry is None:
                return
            meta = entry.obj["metadata"]
            labels = {**(meta.get("labels") or {}), accounttokens.LAST_USED: today}
            new = {**entry.obj, "metadata": {**meta, "labels": labels}}
            await self._storage.put(self._secrets, key, new, entry.revision)
        except RevisionMismatch:
            pass  # the next use tries again
        except StoreError as e:
            log.warning("that secret %s/%s was used could not be written: %s", *key, e)
        finally:
            self._noting.discard(key)


def _token(secret: Obj) -> str:
    try:
        return base64.b64decode((secret.get("data") or {}).get("token") or "").decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _date(now: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(now))
