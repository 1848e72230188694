"""The environment of containers."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stablehand.machinery.types import Obj
from stablehand.node.env import (
    ConfigError,
    build_env,
    expand,
    field_value,
    format_map,
    resource_value,
    service_variables,
)
from tests.unit.node.pods import container, make_pod


def service(name: str, ip: str = "10.0.0.9", namespace: str = "ns", *ports: Obj) -> Obj:
    chosen = list(ports) or [{"name": "http-alt", "port": 80, "protocol": "TCP"}]
    return {"metadata": {"name": name, "namespace": namespace}, "spec": {"clusterIP": ip, "ports": chosen}}


def test_expansion() -> None:
    known = {"A": "1", "B": "two"}
    assert expand("$(A)-$(B)-$(C)-$$(A)-$$$(A)-$A-$(", known) == "1-two-$(C)-$(A)-$1-$A-$("


@given(st.text(alphabet="$(AB)x", max_size=12))
def test_expansion_never_fails_and_leaves_plain_text(text: str) -> None:
    result = expand(text, {"A": "1"})
    if "$" not in text:
        assert result == text


def test_service_variables() -> None:
    found = service_variables(
        [service("my-db"), service("other", namespace="x"), service("headless", "None")], "ns", True
    )
    assert found["MY_DB_SERVICE_HOST"] == "10.0.0.9"
    assert found["MY_DB_SERVICE_PORT"] == found["MY_DB_SERVICE_PORT_HTTP_ALT"] == "80"
    assert found["MY_DB_PORT"] == found["MY_DB_PORT_80_TCP"] == "tcp://10.0.0.9:80"
    assert found["MY_DB_PORT_80_TCP_PROTO"] == "tcp" and found["MY_DB_PORT_80_TCP_ADDR"] == "10.0.0.9"
    assert not any(key.startswith(("OTHER", "HEADLESS")) for key in found)
    api = service("kubernetes", "10.96.0.1", "default")
    assert set(service_variables([api, service("my-db")], "ns", False)) == set(service_variables([api], "ns", True))


def env_of(spec: Obj, **more: Obj) -> dict[str, str]:
    pod = make_pod(containers=[container("c", **spec)])
    maps: dict[str, Obj | None] = {"m": {"data": {"k": "v", "1-b": "x"}}}
    secrets: dict[str, Obj | None] = {"s": {"data": {"k": base64.b64encode(b"pw").decode()}}}
    return build_env(
        pod,
        pod["spec"]["containers"][0],
        services=[],
        maps=maps,
        secrets=secrets,
        node={"podIP": "10.0.0.5", "hostIP": "10.0.0.1"},
        allocatable={"cpu": "2", "memory": "1Gi"},
    )


def test_sources() -> None:
    env = [
        {"name": "M", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}},
        {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        {"name": "F", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "O", "valueFrom": {"configMapKeyRef": {"name": "none", "key": "k", "optional": True}}},
        {"name": "E", "value": "$(M)/$(p_k)"},
    ]
    sources = [{"configMapRef": {"name": "m"}, "prefix": "p_"}, {"secretRef": {"name": "none", "optional": True}}]
    found = env_of({"env": env, "envFrom": sources})
    assert found == {"p_k": "v", "p_1-b": "x", "M": "v", "S": "pw", "F": "10.0.0.5", "E": "v/v"}


@pytest.mark.parametrize(
    ("origin", "message"),
    [
        ({"configMapKeyRef": {"name": "none", "key": "k"}}, 'configmap "none" not found'),
        ({"configMapKeyRef": {"name": "m", "key": "no"}}, "couldn't find key no in ConfigMap ns/m"),
        ({"secretKeyRef": {"name": "s", "key": "no"}}, "couldn't find key no in Secret ns/s"),
    ],
)
def test_what_is_missing_is_named(origin: Obj, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        env_of({"env": [{"name": "X", "valueFrom": origin}]})


def test_downward_api() -> None:
    pod = make_pod(containers=[container("c", resources={"limits": {"memory": "1500Mi"}, "requests": {"cpu": "250m"}})])
    pod["metadata"]["annotations"] = {"b": 'say "hi"\n', "a": "1"}
    assert field_value(pod, "metadata.labels['app']", {}) == "web"
    assert field_value(pod, "metadata.annotations", {}) == 'a="1"\nb="say \\"hi\\"\\n"'
    assert resource_value(pod, {"resource": "limits.memory", "divisor": "1Gi"}, "c", {}) == "2"
    assert resource_value(pod, {"resource": "requests.cpu", "divisor": "1m"}, "c", {}) == "250"
    assert resource_value(pod, {"resource": "limits.cpu"}, "c", {"cpu": "4"}) == "4"
    assert format_map({}) == ""
