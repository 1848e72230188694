"""Reads that must not be older than a revision: they wait for it, as upstream's watch cache does, and give up.

A client that has seen a revision elsewhere (another API server on the same store) may name one that this server has
not taken in yet; one that names what was never given out is told so after the wait.
"""

from __future__ import annotations

import asyncio

from stablehand.apiserver import errors
from stablehand.apiserver.contract import StatusError
from stablehand.apiserver.core import Core

WAIT = 3.0  # seconds a read waits for its revision (cacher's blockTimeout)


def revision_of(text: str) -> int:
    """Raises StatusError 400 for what is no revision."""
    if not text.isdigit():
        raise errors.bad_request(f'Invalid value: "{text}": strconv.ParseUint: parsing "{text}": invalid syntax')
    return int(text)


async def reached(core: Core, revision: int) -> None:
    """Returns when the server has taken in `revision`. Raises StatusError 504 when it does not come."""
    if revision <= core.storage.revision:
        return
    try:
        async with asyncio.timeout(WAIT):
            while revision > core.storage.revision:
                await core.storage.changed()
    except TimeoutError:
        raise too_large(core, revision) from None


def too_large(core: Core, revision: int) -> StatusError:
    return StatusError(
        504,
        "Timeout",
        f"Too large resource version: {revision}, current: {core.storage.revision}",
        {
            "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
            "retryAfterSeconds": 1,
        },
    )
