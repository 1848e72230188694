"""When the network part calls itself healthy."""

from __future__ import annotations

from stablehand.network.status import Progress


def test_a_change_that_waits_too_long_is_unhealthy() -> None:
    now = 1000.0
    progress = Progress(lambda: now)
    assert progress.is_healthy()
    progress.changed()
    now += 59
    progress.changed()
    assert progress.is_healthy()
    now += 2
    assert not progress.is_healthy() and progress.updated == 1000.0
    progress.written()
    assert progress.is_healthy() and progress.updated == now
