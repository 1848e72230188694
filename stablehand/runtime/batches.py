"""Many writes at once, carefully: batches of 1, 2, 4, … that stop after the first batch with an error."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


async def slow_start(
    count: int, action: Callable[[int], Awaitable[object]], *, initial: int = 1, largest: int = 500
) -> tuple[int, Exception | None]:
    """Calls action(0) … action(count-1); returns how many succeeded and the first error.

    An API server that refuses everything is asked once, not `count` times.
    """
    done, start, size = 0, 0, min(initial, count)
    while size > 0:
        results = await asyncio.gather(*(action(i) for i in range(start, start + size)), return_exceptions=True)
        errors = [r for r in results if isinstance(r, BaseException)]
        done += len(results) - len(errors)
        for error in errors:
            if not isinstance(error, Exception):
                raise error
            return done, error
        start += size
        size = min(2 * size, largest, count - start)
    return done, None
