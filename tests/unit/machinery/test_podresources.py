"""What pods ask for, are limited to, and count for while they are resized."""

from __future__ import annotations

from typing import Any

from stablehand.machinery.podresources import claimed_spec, pod_limits, pod_requests

MIB = 1 << 20


def container(name: str, request: str = "", limit: str = "", **more: Any) -> dict[str, Any]:
    resources = {k: {"memory": v} for k, v in (("requests", request), ("limits", limit)) if v}
    return {"name": name, "resources": resources, **more}


def test_limits() -> None:
    spec: dict[str, Any] = {"containers": [container("a", "1Mi", "10Mi"), container("b", "1Mi")]}
    assert pod_limits(spec) == {"memory": 10 * MIB}
    assert pod_limits({**spec, "overhead": {"memory": "1Mi", "cpu": "1"}}) == {"memory": 11 * MIB}
    spec["resources"] = {"limits": {"memory": "64Mi"}, "requests": {"memory": "32Mi"}}
    assert pod_limits(spec) == {"memory": 64 * MIB} and pod_requests(spec) == {"memory": 32 * MIB}


def test_a_pod_that_is_resized_counts_for_the_larger() -> None:
    pod: dict[str, Any] = {"spec": {"containers": [container("a", "10Mi"), container("b", "5Mi")]}}
    assert claimed_spec(pod) is pod["spec"]
    has = {"requests": {"memory": "40Mi"}}
    pod["status"] = {"containerStatuses": [{"name": "a", "resources": has, "allocatedResources": {"memory": "30Mi"}}]}
    assert pod_requests(claimed_spec(pod)) == {"memory": 45 * MIB}
    pod["spec"]["containers"][0] = container("a", "100Mi")
    assert pod_requests(claimed_spec(pod)) == {"memory": 105 * MIB}
    pod["status"]["conditions"] = [{"type": "PodResizePending", "status": "True", "reason": "Infeasible"}]
    assert pod_requests(claimed_spec(pod)) == {"memory": 45 * MIB}
