"""Pod security through kubectl: what is refused, what is warned of, and what a namespace that becomes stricter tells."""

from __future__ import annotations

import json
from typing import Any

from tests.integration.conftest import Cluster

LABEL = "pod-security.kubernetes.io"
SECURE = {
    "allowPrivilegeEscalation": False,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
    "capabilities": {"drop": ["ALL"]},
}
MISSING = (
    'violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false (container "p" must set '
    'securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container "p" must set '
    'securityContext.capabilities.drop=["ALL"]), runAsNonRoot != true (pod or container "p" must set '
    'securityContext.runAsNonRoot=true), seccompProfile (pod or container "p" must set '
    'securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")'
)


def namespace(c: Cluster, name: str, *labels: str) -> None:
    c.kubectl("create", "ns", name)
    c.until(lambda: c.kubectl("get", "sa", "default", "-n", name, check=False).returncode == 0)
    if labels:
        c.kubectl("label", "ns", name, *(f"{LABEL}/{label}" for label in labels))


def run(c: Cluster, name: str, namespace: str, context: Any = None) -> Any:
    overrides = {"spec": {"containers": [{"name": name, "image": "x", "securityContext": context or {}}]}}
    return c.kubectl("run", name, "--image=x", "-n", namespace, "--overrides", json.dumps(overrides), check=False)


def test_restricted(control_plane: Cluster) -> None:
    c, n = control_plane, "secured"
    namespace(c, n, "enforce=restricted", "warn=restricted")
    assert run(c, "p", n).stderr.strip() == f'Error from server (Forbidden): pods "p" is forbidden: {MISSING}'
    done = run(c, "p", n, SECURE)
    assert done.returncode == 0 and not done.stderr
    # A Deployment is made, with a warning; its ReplicaSet cannot make the pods, and says so.
    made = c.kubectl("create", "deployment", "d", "--image=x", "-n", n)
    assert made.stdout == "deployment.apps/d created\n"
    assert made.stderr.startswith(
        'Warning: would violate PodSecurity "restricted:latest": allowPrivilegeEscalation != fal'
    )

    def event() -> str:
        found = c.get("events", "-n", n, "--field-selector=reason=FailedCreate")["items"]
        return next((e["message"] for e in found), "")

    told = c.until(event)
    assert told.startswith('Error creating: pods "d-') and '" is forbidden: violates PodSecurity "restricted:l' in told
    c.kubectl("delete", "ns", n, "--wait=false")


def test_stricter(control_plane: Cluster) -> None:
    c, n = control_plane, "stricter"
    namespace(c, n)
    for name in ("b", "a"):
        assert run(c, name, n, {"privileged": True}).returncode == 0
    assert run(c, "fine", n, SECURE).returncode == 0
    label = ["label", "--overwrite", "ns", n]
    told = c.kubectl(*label, f"{LABEL}/enforce=restricted", "--dry-run=server").stderr
    rest = "allowPrivilegeEscalation != false, unrestricted capabilities, runAsNonRoot != true, seccompProfile"
    assert told.splitlines() == [
        f'Warning: existing pods in namespace "{n}" violate the new PodSecurity enforce level "restricted:latest"',
        f"Warning: a (and 1 other pod): privileged, {rest}",
    ]
    told = c.kubectl(*label, f"{LABEL}/enforce=baseline", f"{LABEL}/enforce-version=v1.30").stderr
    assert told.splitlines()[1:] == ["Warning: a (and 1 other pod): privileged"]
    debugged = c.kubectl("debug", "-n", n, "fine", "--image=x", "--profile=sysadmin", "-c", "e", check=False)
    assert 'violates PodSecurity "baseline:v1.30": privileged (container "e" must not set' in debugged.stderr
    wrong = c.kubectl(*label, f"{LABEL}/warn=strict", check=False).stderr
    assert wrong.strip() == (
        f'The Namespace "{n}" is invalid: metadata.labels[{LABEL}/warn]: Invalid value: "strict": '
        "must be one of privileged, baseline, restricted"
    )
    c.kubectl("delete", "ns", n, "--wait=false")
