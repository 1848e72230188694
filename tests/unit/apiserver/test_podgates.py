"""Fields behind feature gates that are off."""

from __future__ import annotations

from typing import Any

from stablehand.apiserver.strategies.podgates import drop_disabled


def test_they_are_dropped_and_nothing_else() -> None:
    hook = {"preStop": {"sleep": {"seconds": 1}}}
    spec: dict[str, Any] = {
        "containers": [{"lifecycle": {"stopSignal": "SIGUSR1"}}, {"lifecycle": {"stopSignal": "SIGUSR1", **hook}}],
        "volumes": [{"projected": {"sources": [{"clusterTrustBundle": {}}, {"podCertificate": {}}, {"secret": {}}]}}],
    }
    drop_disabled(spec)
    assert spec["containers"] == [{}, {"lifecycle": hook}]
    assert spec["volumes"][0]["projected"]["sources"] == [{}, {}, {"secret": {}}]
