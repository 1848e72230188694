"""The provisioners' decisions and what they do to folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stablehand.storage.provisioner import plan
from stablehand.storage.provisioner.local import LocalBackend
from stablehand.storage.provisioner.nfs import NfsBackend

ANNOTATION = "volume.beta.kubernetes.io/storage-provisioner"
CLASS: dict[str, Any] = {"metadata": {"name": "nfs"}, "provisioner": "bdqn", "reclaimPolicy": "Retain"}


def claim(**spec: Any) -> dict[str, Any]:
    base = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "100Mi"}},
        "storageClassName": "nfs",
    }
    meta = {"name": "test-0", "namespace": "default", "uid": "u1", "annotations": {ANNOTATION: "bdqn"}}
    return {"metadata": meta, "spec": {**base, **spec}}


def with_parameters(**parameters: str) -> dict[str, Any]:
    return {**CLASS, "parameters": parameters}


def test_wants_volume() -> None:
    assert plan.wants_volume(claim(), "bdqn", CLASS)
    assert not plan.wants_volume(claim(), "other", CLASS)
    assert not plan.wants_volume(claim(volumeName="pv"), "bdqn", CLASS)
    waiting = {**CLASS, "volumeBindingMode": "WaitForFirstConsumer"}
    assert not plan.wants_volume(claim(), "bdqn", waiting)
    chosen = claim()
    chosen["metadata"]["annotations"]["volume.kubernetes.io/selected-node"] = "n"
    assert plan.wants_volume(chosen, "bdqn", waiting)


def test_refusal() -> None:
    assert plan.refusal(claim()) is None
    assert plan.refusal(claim(selector={})) == ("claim Selector is not supported", True)
    block = plan.refusal(claim(volumeMode="Block"))
    assert block is not None and not block[1]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("", "default-test-0-pvc-u1"),
        ("${.PVC.namespace}/${.PVC.name}", "default/test-0"),
        ("${.PVC.labels.none}", "default-test-0-pvc-u1"),
        ("a/${.PVC.annotations.b}/c", "a/c"),
    ],
)
def test_directory(pattern: str, expected: str) -> None:
    assert plan.directory(claim(), with_parameters(pathPattern=pattern)) == expected


@pytest.mark.parametrize("pattern", ["../x", "a/../..", "a/../../b", ".."])
def test_directory_stays_inside(pattern: str) -> None:
    with pytest.raises(plan.PlanError):
        plan.directory(claim(), with_parameters(pathPattern=pattern))


def test_volume() -> None:
    pv = plan.volume(claim(), {**CLASS, "mountOptions": ["hard"]}, "bdqn", {"nfs": {"server": "s", "path": "/p"}})
    assert pv["metadata"]["name"] == "pvc-u1"
    assert pv["metadata"]["annotations"] == {"pv.kubernetes.io/provisioned-by": "bdqn"}
    spec = pv["spec"]
    assert spec["capacity"] == {"storage": "100Mi"} and spec["mountOptions"] == ["hard"]
    assert spec["persistentVolumeReclaimPolicy"] == "Retain" and spec["claimRef"]["uid"] == "u1"


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, plan.ARCHIVE),
        ({"archiveOnDelete": "false"}, plan.DELETE),
        ({"archiveOnDelete": "true"}, plan.ARCHIVE),
        ({"archiveOnDelete": "false", "onDelete": "retain"}, plan.RETAIN),
        ({"onDelete": "delete"}, plan.DELETE),
        ({"onDelete": "other"}, plan.ARCHIVE),
    ],
)
def test_on_delete(parameters: dict[str, str], expected: str) -> None:
    assert plan.on_delete(with_parameters(**parameters)) == expected


def test_on_delete_unreadable() -> None:
    with pytest.raises(plan.PlanError):
        plan.on_delete(with_parameters(archiveOnDelete="perhaps"))


def released(pv: dict[str, Any]) -> dict[str, Any]:
    pv["spec"]["persistentVolumeReclaimPolicy"] = "Delete"
    return {**pv, "status": {"phase": "Released"}}


def test_local_folder(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path, "n1")
    source = backend.provision(claim(), CLASS)
    folder = tmp_path / "default-test-0-pvc-u1"
    assert source == {"hostPath": {"path": str(folder), "type": "DirectoryOrCreate"}}
    assert folder.stat().st_mode & 0o7777 == 0o777
    pv = released(plan.volume(claim(), CLASS, "bdqn", source, "n1"))
    assert plan.must_delete(pv, "bdqn") and not plan.must_delete(pv, "other")
    backend.remove(pv, None)
    assert not folder.exists() and tmp_path.exists()
    backend.remove(pv, None)
    with pytest.raises(plan.PlanError):
        backend.remove({"spec": {"hostPath": {"path": "/etc"}}}, None)
    with pytest.raises(plan.PlanError):
        backend.remove({"spec": {"hostPath": {"path": str(tmp_path)}}}, None)


def test_nfs_folder(tmp_path: Path) -> None:
    backend = NfsBackend(tmp_path, "10.0.0.1", "/nfsdata")
    source = backend.provision(claim(), CLASS)
    name = "default-test-0-pvc-u1"
    assert source == {"nfs": {"server": "10.0.0.1", "path": f"/nfsdata/{name}"}}
    (tmp_path / name / "testfile").write_text("x")
    pv = released(plan.volume(claim(), CLASS, "bdqn", source))
    with pytest.raises(plan.PlanError):
        backend.remove(pv, None)
    backend.remove(pv, with_parameters(onDelete="retain"))
    assert (tmp_path / name).exists()
    backend.remove(pv, CLASS)
    assert (tmp_path / f"archived-{name}" / "testfile").read_text() == "x"
    backend.remove(pv, CLASS)
    backend.provision(claim(), CLASS)
    backend.remove(pv, with_parameters(archiveOnDelete="false"))
    assert not (tmp_path / name).exists()
