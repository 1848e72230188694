"""Admission of certificate requests, and what a pod's update keeps when its manifest is applied again."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from stablehand.apiserver.admission import certificates, pods, priorities
from stablehand.apiserver.contract import Request, RequestInfo, StatusError, User
from stablehand.apiserver.core import Attributes
from stablehand.machinery.resources import resource

REQUESTS = resource("certificatesigningrequests.certificates.k8s.io")
PODS = resource("pods")
ALICE = User("alice", ("dev",), extra={"k": ["v"]})


def attributes(res: Any, operation: str, obj: Any, old: Any = None, subresource: str = "") -> Attributes:
    request = Request("POST", "", {}, user=ALICE)
    return Attributes(request, res, operation, "", "x", obj, old, subresource)


def core(*allowed: tuple[str, str]) -> Any:
    async def authorize(user: User, info: RequestInfo) -> tuple[bool, str]:
        return (info.verb, info.name) in allowed, ""

    return SimpleNamespace(authorize=authorize)


def test_a_request_carries_its_requester() -> None:
    a = attributes(REQUESTS, "CREATE", {"spec": {"username": "root", "groups": ["system:masters"], "uid": "1"}})
    certificates.requester(core(), a)
    assert a.obj == {"spec": {"username": "alice", "groups": ["dev"], "extra": {"k": ["v"]}}}


@pytest.mark.parametrize(
    ("allowed", "refused"),
    [([("approve", "a.io/x")], False), ([("approve", "a.io/*")], False), ([("sign", "a.io/x")], True), ([], True)],
)
async def test_approval_needs_the_signers_right(allowed: list[tuple[str, str]], refused: bool) -> None:
    obj = {"spec": {"signerName": "a.io/x"}}
    a = attributes(REQUESTS, "UPDATE", obj, obj, "approval")
    if not refused:
        return await certificates.check(core(*allowed), a)
    with pytest.raises(StatusError) as caught:
        await certificates.check(core(*allowed), a)
    assert caught.value.code == 403 and 'signerName "a.io/x"' in caught.value.message


async def test_signing_is_asked_for_only_where_the_certificate_or_a_condition_changes() -> None:
    old = {"spec": {"signerName": "a.io/x"}, "status": {}}
    await certificates.check(core(), attributes(REQUESTS, "UPDATE", old, old, "status"))
    for status in ({"certificate": "eA=="}, {"conditions": [{"type": "Failed"}]}):
        with pytest.raises(StatusError):
            await certificates.check(core(), attributes(REQUESTS, "UPDATE", {**old, "status": status}, old, "status"))


def test_an_applied_pod_keeps_its_tolerations_and_priority() -> None:
    a = attributes(PODS, "CREATE", {"metadata": {}, "spec": {"tolerations": [{"key": "a"}]}})
    pods.default_tolerations(core(), a)
    assert a.obj is not None
    stored = {**a.obj, "spec": {**a.obj["spec"], "priority": 7, "preemptionPolicy": "Never"}}
    again = attributes(PODS, "UPDATE", {"metadata": {}, "spec": {"tolerations": [{"key": "a"}]}}, stored)
    priorities.priority(core(), again)
    pods.default_tolerations(core(), again)
    assert again.obj == stored


def runtimes(**classes: Any) -> Any:
    """A core that has these RuntimeClasses."""
    found = {("", name): SimpleNamespace(obj=obj) for name, obj in classes.items()}
    return SimpleNamespace(storage=SimpleNamespace(collection=lambda res: found))


def test_a_runtime_class_adds_its_overhead_and_its_place() -> None:
    taint = {"key": "k", "operator": "Exists"}
    heavy = {
        "handler": "runc",
        "overhead": {"podFixed": {"cpu": "10m"}},
        "scheduling": {"nodeSelector": {"a": "b"}, "tolerations": [taint]},
    }
    have = runtimes(heavy=heavy, light={"handler": "runc"})
    a = attributes(PODS, "CREATE", {"spec": {"runtimeClassName": "heavy", "containers": []}})
    pods.runtime_class(have, a)
    assert a.obj is not None
    spec = a.obj["spec"]
    assert spec["overhead"] == {"cpu": "10m"} and spec["nodeSelector"] == {"a": "b"} and spec["tolerations"] == [taint]
    pods.runtime_class(have, a)  # admission may run twice
    assert a.obj["spec"]["tolerations"] == [taint]
    for spec, text in (
        ({"runtimeClassName": "gone"}, 'RuntimeClass "gone" not found'),
        ({"runtimeClassName": "heavy", "overhead": {"cpu": "1"}}, "doesn't match RuntimeClass's defined Overhead"),
        ({"runtimeClassName": "light", "overhead": {"cpu": "1"}}, "without corresponding RuntimeClass"),
        ({"runtimeClassName": "heavy", "nodeSelector": {"a": "c"}}, "conflict: runtimeClass.scheduling.nodeSelector"),
    ):
        with pytest.raises(StatusError) as caught:
            pods.runtime_class(have, attributes(PODS, "CREATE", {"spec": spec}))
        assert caught.value.code == 403 and text in caught.value.message
