"""Kubernetes' protobuf form: golden bytes from a Go client, and that every built-in kind goes there and back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stablehand.apiserver import protobuf
from stablehand.apiserver.contract import StatusError
from stablehand.machinery.resources import RESOURCES
from stablehand.machinery.schema import definitions_path

POD: dict[str, Any] = {
    "kind": "Pod",
    "apiVersion": "v1",
    "metadata": {
        "name": "p",
        "creationTimestamp": "2026-01-31T12:00:00Z",
        "labels": {"a": "b"},
        "managedFields": [{"manager": "m", "fieldsV1": {"f:spec": {".": {}}}}],
    },
    "spec": {
        "containers": [
            {
                "name": "c",
                "resources": {"limits": {"cpu": "100m"}},
                "livenessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 3},
                "readinessProbe": {"tcpSocket": {"port": 8080}},
                "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
                "securityContext": {"runAsUser": 0, "privileged": False},
            }
        ],
        "tolerations": [{"operator": "Exists"}, {"key": "x"}],
        "volumes": [{"name": "v", "emptyDir": {}}, {"name": "w", "configMap": {"name": "cm", "optional": False}}],
        "terminationGracePeriodSeconds": 0,
    },
}


def test_round_trip_of_a_pod() -> None:
    raw = protobuf.encode(POD)
    assert raw is not None and protobuf.decode(raw) == POD


def test_bytes_as_a_go_client_sends_them() -> None:
    # kubectl 1.37 create role r --verb=get --resource=pods: Go sends empty strings of non-pointers, JSON has none.
    meta = bytes.fromhex("0a 01 72 12 00 1a 00 22 00 2a 00 32 00 38 00 42 00")
    rule = b"\x0a\x03get\x12\x00\x1a\x04pods"
    body = b"\x0a" + bytes([len(meta)]) + meta + b"\x12" + bytes([len(rule)]) + rule
    kind = b"\x0a\x1crbac.authorization.k8s.io/v1\x12\x04Role"
    raw = b"k8s\0\x0a" + bytes([len(kind)]) + kind + b"\x12" + bytes([len(body)]) + body + b"\x1a\x00\x22\x00"
    assert protobuf.decode(raw) == {
        "kind": "Role",
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "metadata": {"name": "r"},
        "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}],
    }


@pytest.mark.parametrize(
    "obj",
    [
        {"kind": "DeleteOptions", "apiVersion": "policy/v1", "gracePeriodSeconds": 0, "propagationPolicy": "Orphan"},
        {
            "kind": "SubjectAccessReview",
            "apiVersion": "authorization.k8s.io/v1",
            "metadata": {},
            "spec": {"user": "u", "extra": {"k": ["a", "b"]}},
        },
        {"kind": "Secret", "apiVersion": "v1", "data": {"a": "/wA="}, "immutable": False},
        {
            "kind": "Lease",
            "apiVersion": "coordination.k8s.io/v1",
            "spec": {"renewTime": "2026-01-31T12:00:00.250000Z", "leaseTransitions": 0},
        },
        {
            "kind": "CustomResourceDefinition",
            "apiVersion": "apiextensions.k8s.io/v1",
            "spec": {
                "group": "g",
                "names": {"plural": "p", "kind": "K"},
                "scope": "Cluster",
                "versions": [
                    {
                        "name": "v1",
                        "served": True,
                        "storage": False,
                        "schema": {
                            "openAPIV3Schema": {
                                "type": "object",
                                "default": {"a": [1]},
                                "maximum": 2.5,
                                "enum": ["a", 1],
                                "additionalProperties": True,
                                "properties": {
                                    "a": {"items": {"type": "string"}, "additionalProperties": {"$ref": "#/x"}}
                                },
                            }
                        },
                    }
                ],
            },
        },
        {"kind": "ControllerRevision", "apiVersion": "apps/v1", "data": {"spec": {"a": None}}, "revision": 1},
        {
            "kind": "PodDisruptionBudget",
            "apiVersion": "policy/v1",
            "spec": {"minAvailable": 0, "maxUnavailable": "50%"},
        },
    ],
    ids=lambda obj: obj["kind"],
)
def test_round_trips(obj: dict[str, Any]) -> None:
    raw = protobuf.encode(obj)
    assert raw is not None and protobuf.decode(raw) == obj


def test_every_built_in_kind_is_in_the_table() -> None:
    missing = [r.key for r in RESOURCES if protobuf._message_of(r.api_version, r.kind) is None]
    assert missing == []


def test_the_table_has_the_definitions_fields() -> None:
    """Made for one release: when the definitions move on, scripts/protobuf_fields.py is to be run again."""

    def names(message: str) -> set[str]:
        out: set[str] = set()
        for field in protobuf._table(message).values():
            out |= {field.name} if field.name else names(field.code)
        return out

    messages = protobuf._file()["messages"]
    for name, schema in json.loads(definitions_path().read_bytes())["$defs"].items():
        short = name.removeprefix("io.k8s.api.").removeprefix("io.k8s.apimachinery.pkg.apis.")
        if short in messages:
            typed = {"kind", "apiVersion"}
            assert names(short) - typed == set(schema.get("properties", {})) - typed, short


def test_what_is_refused() -> None:
    for raw, code in ((b"{}", 400), (b"k8s\0\x0a\xff", 400), (protobuf.encode(POD)[:-60], 400)):  # type: ignore[index]
        with pytest.raises(StatusError) as caught:
            protobuf.decode(raw)
        assert caught.value.code == code
    custom = b"k8s\0\x0a\x0d\x0a\x06x.y/v1\x12\x03Foo\x12\x00"
    with pytest.raises(StatusError) as caught:
        protobuf.decode(custom)
    assert caught.value.code == 415


def test_who_gets_protobuf_back() -> None:
    assert protobuf.wanted(protobuf.CONTENT_TYPE)
    assert not protobuf.wanted(protobuf.CONTENT_TYPE + ", */*")
    assert not protobuf.wanted("application/json")


@pytest.mark.parametrize("moment", ["2026-01-01T00:00:00.000001Z", "2026-11-24T02:00:00.999999Z"])
def test_micro_times_keep_their_last_digit(moment: str) -> None:
    lease = {"kind": "Lease", "apiVersion": "coordination.k8s.io/v1", "spec": {"renewTime": moment}}
    raw = protobuf.encode(lease)
    assert raw is not None and protobuf.decode(raw)["spec"]["renewTime"] == moment
