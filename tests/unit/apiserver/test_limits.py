"""LimitRanger: what it fills in, what it writes down, what it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from .server import serving

DEFAULT = "/api/v1/namespaces/default"


def pod(*containers: Any, **spec: Any) -> Any:
    found = [{"name": f"c{i}", "image": "i", "resources": r} for i, r in enumerate(containers)]
    return {"metadata": {"name": "p"}, "spec": {"containers": found, **spec}}


def ranges(**item: Any) -> Any:
    return {"metadata": {"name": "l"}, "spec": {"limits": [{"type": "Container", **item}]}}


async def test_defaults_are_filled_in_and_told() -> None:
    async with serving() as s:
        await s.made(f"{DEFAULT}/serviceaccounts", {"metadata": {"name": "default"}})
        limits = ranges(default={"cpu": "1", "memory": "1Gi"}, defaultRequest={"cpu": "100m"})
        await s.made(f"{DEFAULT}/limitranges", limits)
        made = await s.made(f"{DEFAULT}/pods", pod({"limits": {"cpu": "2"}}, {}))
        first, second = (c["resources"] for c in made["spec"]["containers"])
        assert first == {"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "2", "memory": "1Gi"}}
        assert second == {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "100m", "memory": "1Gi"}}
        assert made["metadata"]["annotations"]["kubernetes.io/limit-ranger"] == (
            "LimitRanger plugin set: memory request for container c0; memory limit for container c0; "
            "cpu, memory request for container c1; cpu, memory limit for container c1"
        )


@pytest.mark.parametrize(
    ("item", "resources", "why"),
    [
        ({"min": {"cpu": "100m"}}, {"requests": {"cpu": "50m"}}, "minimum cpu usage per Container is 100m, but request is 50m"),
        ({"max": {"memory": "1Gi"}}, {"limits": {"memory": "2Gi"}}, "maximum memory usage per Container is 1Gi, but limit is 2Gi"),
        (
            {"maxLimitRequestRatio": {"cpu": "2"}}, {"limits": {"cpu": "3"}, "requests": {"cpu": "1"}},
            "cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000",
        ),
        ({"maxLimitRequestRatio": {"cpu": "2"}}, {}, "but no request is specified or request is 0"),
        ({"type": "Pod", "max": {"cpu": "1"}}, {"limits": {"cpu": "600m"}}, "maximum cpu usage per Pod is 1, but limit is 1200m"),
        ({"type": "Pod", "max": {"cpu": "1"}}, {}, "maximum cpu usage per Pod is 1.  No limit is specified"),
        ({"type": "Pod", "min": {"cpu": "2"}}, {"requests": {"cpu": "600m"}}, "minimum cpu usage per Pod is 2, but request is 1200m"),
    ],
)  # fmt: skip
async def test_what_is_out_of_bounds(item: Any, resources: Any, why: str) -> None:
    async with serving() as s:
        await s.made(f"{DEFAULT}/serviceaccounts", {"metadata": {"name": "default"}})
        await s.made(f"{DEFAULT}/limitranges", ranges(**item))
        twice = item.get("type") == "Pod"
        status = await s.refused("POST", f"{DEFAULT}/pods", pod(resources, *([resources] if twice else [])))
        assert status["code"] == 403 and why in status["message"], status["message"]


async def test_claims_are_held_to_their_bounds_later_too() -> None:
    async with serving() as s:
        bounds = {"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "2Gi"}}
        await s.made(f"{DEFAULT}/limitranges", {"metadata": {"name": "l"}, "spec": {"limits": [bounds]}})

        def claim(size: str) -> Any:
            spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
            return {"metadata": {"name": "c"}, "spec": spec}

        status = await s.refused("POST", f"{DEFAULT}/persistentvolumeclaims", claim("3Gi"))
        assert "maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi" in status["message"]
        await s.made(f"{DEFAULT}/persistentvolumeclaims", claim("1Gi"))
        more = {"spec": {"limits": [{**bounds, "min": {"storage": "2Gi"}}]}, "metadata": {"name": "more"}}
        await s.made(f"{DEFAULT}/limitranges", more)
        status = await s.refused("PUT", f"{DEFAULT}/persistentvolumeclaims/c", claim("1Gi"))
        assert "minimum storage usage per PersistentVolumeClaim is 2Gi, but request is 1Gi" in status["message"]
