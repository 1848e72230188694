"""Pod security in the server: who is refused, who is warned, and what namespaces may say."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from stablehand.apiserver.metrics import pod_security
from stablehand.machinery.types import copy_object

from .server import Server, serving

P = "pod-security.kubernetes.io/"
BAD = {"containers": [{"name": "c", "image": "i", "securityContext": {"privileged": True}}]}
FINE = {"containers": [{"name": "c", "image": "i"}]}
PRIVILEGED = 'privileged (container "c" must not set securityContext.privileged=true)'


async def namespace(s: Server, name: str = "n", **labels: str) -> dict[str, Any]:
    found = {P + key.replace("_", "-"): value for key, value in labels.items()}
    made = await s.made("/api/v1/namespaces", {"metadata": {"name": name, "labels": found}})
    await s.made(f"/api/v1/namespaces/{name}/serviceaccounts", {"metadata": {"name": "default"}})
    return copy_object(made)  # what is stored is shared


def pod(spec: Any, name: str = "p", **meta: Any) -> Any:
    return {"metadata": {"name": name, **meta} if name else meta, "spec": spec}


async def test_enforced() -> None:
    async with serving() as s:
        await namespace(s, enforce="baseline", enforce_version="v1.30")
        status = await s.refused("POST", "/api/v1/namespaces/n/pods", pod(BAD))
        assert status["message"] == f'pods "p" is forbidden: violates PodSecurity "baseline:v1.30": {PRIVILEGED}'
        assert (status["code"], status["reason"]) == (403, "Forbidden")
        assert status["details"] == {"name": "p", "kind": "pods"}
        status = await s.refused("POST", "/api/v1/namespaces/n/pods", pod(BAD, "", generateName="web-"))
        assert status["message"].startswith('pods "web-') and not status["message"].startswith('pods "web-"')
        await s.made("/api/v1/namespaces/n/pods", pod(FINE))
        name, labels = "pod_security_evaluations_total", 'policy_level="baseline",policy_version="v1.30",mode="enforce"'
        assert [text for text in pod_security(s.api.core) if text[0] != "#"] == [
            f'{name}{{decision="deny",{labels},request_operation="create",resource="pod",subresource=""}} 2',
            f'{name}{{decision="allow",{labels},request_operation="create",resource="pod",subresource=""}} 1',
        ]
        # A workload is made all the same.
        app = {"app": "a"}
        template = {"metadata": {"labels": app}, "spec": BAD}
        workload = {"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": app}, "template": template}}
        await s.made("/apis/apps/v1/namespaces/n/deployments", workload)
        assert not s.warnings


async def test_warned_of() -> None:
    async with serving() as s:
        await namespace(s, warn="baseline")
        said = [f'would violate PodSecurity "baseline:latest": {PRIVILEGED}']
        await s.made("/api/v1/namespaces/n/pods", pod(BAD))
        assert s.warnings == said
        selector, template = {"matchLabels": {"a": "b"}}, {"metadata": {"labels": {"a": "b"}}, "spec": BAD}
        once = {**template, "spec": {**BAD, "restartPolicy": "Never"}}
        cron = {"schedule": "@daily", "jobTemplate": {"spec": {"template": once}}}
        for path, obj in {
            "api/v1/namespaces/n/podtemplates": {"template": template},
            "api/v1/namespaces/n/replicationcontrollers": {"spec": {"selector": {"a": "b"}, "template": template}},
            "apis/apps/v1/namespaces/n/replicasets": {"spec": {"selector": selector, "template": template}},
            "apis/apps/v1/namespaces/n/deployments": {"spec": {"selector": selector, "template": template}},
            "apis/apps/v1/namespaces/n/daemonsets": {"spec": {"selector": selector, "template": template}},
            "apis/apps/v1/namespaces/n/statefulsets": {
                "spec": {"selector": selector, "template": template, "serviceName": "x"}
            },
            "apis/batch/v1/namespaces/n/jobs": {"spec": {"template": once}},
            "apis/batch/v1/namespaces/n/cronjobs": {"spec": cron},
        }.items():
            await s.made(f"/{path}", {"metadata": {"name": "w"}, **obj})
            assert s.warnings == said, path


async def test_written_down(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as s:
        await namespace(s, audit="baseline")
        with caplog.at_level(logging.INFO, "stablehand.audit"):
            await s.made("/api/v1/namespaces/n/pods", pod(BAD))
    assert not s.warnings
    assert caplog.messages == [
        f'{P}audit-violations pods n/p: would violate PodSecurity "baseline:latest": {PRIVILEGED}'
    ]


async def test_only_what_matters_is_looked_at_again() -> None:
    async with serving() as s:
        made = await namespace(s)
        path = "/api/v1/namespaces/n/pods/p"
        await s.made("/api/v1/namespaces/n/pods", pod(BAD))
        made["metadata"]["labels"][P + "enforce"] = "baseline"
        assert (await s.call("PUT", "/api/v1/namespaces/n", made))[0] == 200
        patch = {"content_type": "application/strategic-merge-patch+json"}
        assert (await s.call("PATCH", path, {"metadata": {"labels": {"a": "b"}}}, **patch))[0] == 200
        limits = {"name": "c", "resources": {"limits": {"cpu": "1"}}}
        _, out = await s.call("PATCH", f"{path}/resize", {"spec": {"containers": [limits]}}, **patch)
        assert "PodSecurity" not in str(out)
        image = {"spec": {"containers": [{"name": "c", "image": "other"}]}}
        assert "violates PodSecurity" in (await s.refused("PATCH", path, image, **patch))["message"]
        debug = {"name": "e", "image": "i", "securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}
        more = {"spec": {"ephemeralContainers": [debug]}}
        status = await s.refused("PATCH", f"{path}/ephemeralcontainers", more, **patch)
        assert (
            'container "e" must not include "SYS_ADMIN" in securityContext.capabilities.add), privileged'
            in status["message"]
        )


async def test_labels_must_be_right_where_they_are_new() -> None:
    async with serving() as s:
        wrong = {"name": "n", "labels": {P + "enforce": "strict", P + "warn-version": "1.2"}}
        status = await s.refused("POST", "/api/v1/namespaces", {"metadata": wrong})
        level = 'Invalid value: "strict": must be one of privileged, baseline, restricted'
        version = 'Invalid value: "1.2": must be "latest" or "v1.x"'
        assert (status["code"], status["reason"]) == (422, "Invalid")
        assert status["message"] == (
            f'Namespace "n" is invalid: [metadata.labels[{P}enforce]: {level}, '
            f"metadata.labels[{P}warn-version]: {version}]"
        )
        assert status["details"]["causes"] == [
            {"reason": "FieldValueInvalid", "message": level, "field": f"metadata.labels[{P}enforce]"},
            {"reason": "FieldValueInvalid", "message": version, "field": f"metadata.labels[{P}warn-version]"},
        ]
        made = await namespace(s)
        made["metadata"]["labels"][P + "audit"] = "none"
        assert (await s.refused("PUT", "/api/v1/namespaces/n", made))["code"] == 422


async def test_who_makes_a_namespace_stricter_learns_whom_it_would_refuse() -> None:
    async with serving() as s:
        made = await namespace(s)
        owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u", "controller": True}
        for name in ("b", "a", "c"):
            await s.made("/api/v1/namespaces/n/pods", pod(BAD, name, ownerReferences=[owner]))
        await s.made("/api/v1/namespaces/n/pods", pod({**FINE, "hostPID": True}, "host"))
        await s.made("/api/v1/namespaces/n/pods", pod(FINE, "z1"))

        async def labelled(**labels: str) -> list[str]:
            for key, value in labels.items():
                made["metadata"]["labels"][P + key.replace("_", "-")] = value
            made["metadata"].pop("resourceVersion", None)
            code, out = await s.call("PUT", "/api/v1/namespaces/n", copy_object(made), query={"dryRun": "All"})
            assert code == 200, out
            return s.warnings

        assert await labelled(warn="restricted") == []
        assert await labelled(enforce="baseline") == [
            'existing pods in namespace "n" violate the new PodSecurity enforce level "baseline:latest"',
            "a (and 2 other pods): privileged",
            "host: host namespaces",
        ]
        rest = "allowPrivilegeEscalation != false, unrestricted capabilities, runAsNonRoot != true, seccompProfile"
        assert await labelled(enforce="restricted", enforce_version="v1.36") == [
            'existing pods in namespace "n" violate the new PodSecurity enforce level "restricted:v1.36"',
            f"a (and 2 other pods): privileged, {rest}",
            f"host: host namespaces, {rest}",
            f"z1: {rest}",
        ]
        assert await labelled(enforce="privileged") == []


async def test_only_so_many_pods_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stablehand.apiserver.admission.podsecurity.MOST_PODS", 2)
    async with serving() as s:
        made = await namespace(s)
        for name in ("a", "b", "c"):
            await s.made("/api/v1/namespaces/n/pods", pod(BAD, name))
        made["metadata"]["labels"][P + "enforce"] = "baseline"
        assert (await s.call("PUT", "/api/v1/namespaces/n", made))[0] == 200
        assert s.warnings == [
            "new PodSecurity enforce level only checked against the first 2 of 3 existing pods",
            'existing pods in namespace "n" violate the new PodSecurity enforce level "baseline:latest"',
            "a (and 1 other pod): privileged",
        ]
