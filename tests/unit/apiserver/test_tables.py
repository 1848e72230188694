from typing import Any

import pytest

from stablehand.apiserver.tables import custom_table, printer_for, table_for
from stablehand.apiserver.tables.format import human_duration
from stablehand.machinery.resources import RESOURCES, resource
from stablehand.machinery.times import parse_time

NOW = parse_time("2026-01-01T00:05:00Z")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (182, "3m2s"),
        (600, "10m"),
        (3 * 3600, "3h"),
        (3 * 3600 + 300, "3h5m"),
        (47 * 3600, "47h"),
        (48 * 3600, "2d"),
        (5 * 86400 + 3 * 3600, "5d3h"),
        (9 * 86400, "9d"),
        (800 * 86400, "2y70d"),
        (9 * 365 * 86400, "9y"),
    ],
)
def test_human_duration(seconds: int, text: str) -> None:
    assert human_duration(seconds) == text


def cells(key: str, obj: dict[str, Any]) -> list[Any]:
    table = table_for(resource(key), [obj], NOW)
    row = table["rows"][0]
    assert row["object"]["kind"] == "PartialObjectMetadata"
    return list(row["cells"])


def pod(status: dict[str, Any], spec: dict[str, Any] | None = None, **meta: Any) -> dict[str, Any]:
    metadata = {"name": "p", "creationTimestamp": "2026-01-01T00:00:00Z", **meta}
    return {"metadata": metadata, "spec": {"containers": [{"name": "a"}], **(spec or {})}, "status": status}


def test_every_kind_has_as_many_cells_as_columns() -> None:
    for res in RESOURCES:
        table = table_for(res, [{"apiVersion": res.api_version, "kind": res.kind, "metadata": {"name": "x"}}], NOW)
        assert len(table["columnDefinitions"]) == len(table["rows"][0]["cells"]), res
        assert "x" in table["rows"][0]["cells"]


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (pod({"phase": "Pending"}), ["p", "0/1", "Pending", "0", "5m"]),
        (
            pod({"phase": "Running", "containerStatuses": [{"name": "a", "ready": True, "state": {"running": {}}}]}),
            ["p", "1/1", "Running", "0", "5m"],
        ),
        (
            pod(
                {
                    "phase": "Running",
                    "containerStatuses": [
                        {
                            "name": "a",
                            "restartCount": 3,
                            "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                            "lastState": {"terminated": {"finishedAt": "2026-01-01T00:03:00Z"}},
                        }
                    ],
                }
            ),
            ["p", "0/1", "CrashLoopBackOff", "3 (2m ago)", "5m"],
        ),
        (
            pod(
                {"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"running": {}}}]},
                {"initContainers": [{"name": "i"}]},
            ),
            ["p", "0/1", "Init:0/1", "0", "5m"],
        ),
        (
            pod(
                {"phase": "Failed", "initContainerStatuses": [{"name": "i", "state": {"terminated": {"exitCode": 2}}}]},
                {"initContainers": [{"name": "i"}]},
            ),
            ["p", "0/1", "Init:ExitCode:2", "0", "5m"],
        ),
        (
            pod(
                {
                    "phase": "Succeeded",
                    "containerStatuses": [{"name": "a", "state": {"terminated": {"reason": "Completed"}}}],
                }
            ),
            ["p", "0/1", "Completed", "0", "5m"],
        ),
        (pod({"phase": "Running"}, deletionTimestamp="2026-01-01T00:04:00Z"), ["p", "0/1", "Terminating", "0", "5m"]),
    ],
)
def test_pods(obj: dict[str, Any], expected: list[str]) -> None:
    assert cells("pods", obj)[:5] == expected


def test_some_kinds() -> None:
    meta = {"name": "x", "creationTimestamp": "2026-01-01T00:00:00Z"}
    template = {"spec": {"containers": [{"name": "c", "image": "i"}]}}
    sts = {"metadata": meta, "spec": {"replicas": 3, "template": template}, "status": {"readyReplicas": 2}}
    assert cells("statefulsets.apps", sts) == ["x", "2/3", "5m", "c", "i"]
    service = {
        "metadata": meta,
        "spec": {
            "type": "NodePort",
            "clusterIP": "10.0.0.1",
            "ports": [{"port": 80, "nodePort": 30000, "protocol": "TCP"}],
            "selector": {"b": "2", "a": "1"},
        },
    }
    assert cells("services", service) == ["x", "NodePort", "10.0.0.1", "<none>", "80:30000/TCP", "5m", "a=1,b=2"]
    headless = {"metadata": meta, "spec": {"clusterIP": "None"}}
    assert cells("services", headless)[:5] == ["x", "ClusterIP", "None", "<none>", "<none>"]
    claim = {
        "metadata": meta,
        "spec": {"volumeName": "pv", "storageClassName": "standard", "volumeMode": "Filesystem"},
        "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]},
    }
    expected = ["x", "Bound", "pv", "1Gi", "RWO", "standard", "<unset>", "5m", "Filesystem"]
    assert cells("persistentvolumeclaims", claim) == expected
    node = {
        "metadata": {**meta, "labels": {"node-role.kubernetes.io/control-plane": ""}},
        "spec": {"unschedulable": True},
        "status": {"conditions": [{"type": "Ready", "status": "True"}], "nodeInfo": {"kubeletVersion": "v1"}},
    }
    assert cells("nodes", node)[:5] == ["x", "Ready,SchedulingDisabled", "control-plane", "5m", "v1"]
    endpoints = {
        "metadata": meta,
        "subsets": [{"addresses": [{"ip": f"10.0.0.{n}"} for n in range(5)], "ports": [{"port": 80}]}],
    }
    assert cells("endpoints", endpoints)[1] == "10.0.0.0:80,10.0.0.1:80,10.0.0.2:80 + 2 more..."
    event = {
        "metadata": meta,
        "lastTimestamp": "2026-01-01T00:04:00Z",
        "involvedObject": {"kind": "Pod", "name": "p"},
        "reason": "R",
        "type": "Normal",
        "message": "m\n",
    }
    assert cells("events", event)[:7] == ["60s", "Normal", "R", "pod/p", "", "", "m"]


def test_include_and_conditions() -> None:
    obj = pod({"phase": "Succeeded"})
    res = resource("pods")
    assert table_for(res, [obj], NOW, "Object")["rows"][0]["object"] is obj
    assert table_for(res, [obj], NOW, "None")["rows"][0]["object"] is None
    assert table_for(res, [obj], NOW)["rows"][0]["conditions"][0]["type"] == "Completed"
    assert [c.name for c in printer_for("nothing.known").columns] == ["Name", "Age"]


def test_custom_columns() -> None:
    obj = {
        "metadata": {"name": "c", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"n": 4, "m": {"a": 1}},
    }
    columns = [
        {"name": "N", "type": "integer", "jsonPath": ".spec.n"},
        {"name": "M", "type": "string", "jsonPath": ".spec.m", "priority": 1},
        {"name": "None", "type": "string", "jsonPath": ".status.x"},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]
    table = custom_table(columns, [obj], NOW)
    assert table["rows"][0]["cells"] == ["c", 4, '{"a":1}', None, "5m"]
    assert [c["name"] for c in table["columnDefinitions"]] == ["Name", "N", "M", "None", "Age"]
    assert custom_table(None, [obj], NOW)["rows"][0]["cells"] == ["c", "5m"]
