"""The tutorial's second part on real NFS and real containers: the provisioner in its pod, a folder for each claim."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import ROOT, Cluster

TUTORIAL = Path(__file__).resolve().parents[3] / "shared" / "tutorial"
SET = "statefulset-test"

pytestmark = [
    pytest.mark.skipif(not TUTORIAL.exists(), reason="shared/ is not beside the checkout"),
    pytest.mark.skipif(os.geteuid() != 0, reason="running containers needs root"),
]


@pytest.fixture(scope="module")
def nfs_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, Path, Path]]:
    """(cluster, exported folder, folder of the manifests with the node's own address in them)."""
    from stablehand.launch.imagebuild import build

    if shutil.which("ganesha.nfsd", path="/usr/bin:/usr/sbin") is None:
        pytest.skip("nfs-ganesha is not installed")
    base = tmp_path_factory.mktemp("nfs")
    cache = ROOT / ".cache" / "images"
    cache.mkdir(parents=True, exist_ok=True)
    data, export, manifests = base / "data", base / "nfsdata", base / "manifests"
    (data / "node" / "images").mkdir(parents=True)
    for name in ("httpd", "provisioner"):
        if not (cache / f"{name}.tar").exists():
            build(name, cache)
        os.link(cache / f"{name}.tar", data / "node" / "images" / f"{name}.tar")
    export.mkdir()
    manifests.mkdir()
    for file in sorted((TUTORIAL / "2-storage").glob("*.yaml")):
        text = file.read_text().replace("192.168.1.21", "10.248.0.1").replace("/nfsdata", str(export))
        (manifests / file.name).write_text(text)
    where = ["--bridge", "shtest1", "--pod-cidr", "10.248.0.0/24"]
    try:
        yield Cluster(data, *where, "--kubelet-port", "10271", "--nfs", str(export)), export, manifests
    finally:
        command = [sys.executable, "-m", "stablehand", "down", "--pods", "--data-dir", str(data), *where]
        subprocess.run(command, check=True, timeout=120)


def test_each_claim_has_its_volume_and_folder(nfs_cluster: tuple[Cluster, Path, Path]) -> None:
    c, export, manifests = nfs_cluster
    c.kubectl("apply", "-f", str(manifests))
    c.until(lambda: (c.get("sts", SET).get("status") or {}).get("readyReplicas", 0) == 3, 120)
    claims = c.get("pvc")["items"]
    assert [i["metadata"]["name"] for i in claims] == [f"test-{SET}-{n}" for n in range(3)]
    assert {i["status"]["phase"] for i in claims} == {"Bound"}
    c.kubectl("exec", f"{SET}-0", "--", "touch", "/mnt/testfile")
    folder = f"default-test-{SET}-0-pvc-{claims[0]['metadata']['uid']}"
    assert (export / folder / "testfile").exists()


def test_volumes_and_folders_stay(nfs_cluster: tuple[Cluster, Path, Path]) -> None:
    c, export, manifests = nfs_cluster
    claim = c.get("pvc", f"test-{SET}-0")
    c.kubectl("delete", "-f", str(manifests / "statefulset.yaml"))
    assert len(c.get("pvc")["items"]) == 3
    c.until(lambda: not [p for p in c.get("pods")["items"] if p["metadata"]["name"].startswith(SET)])
    c.kubectl("delete", "pvc", f"test-{SET}-0")
    c.until(lambda: c.get("pv", claim["spec"]["volumeName"])["status"]["phase"] == "Released")
    assert (export / f"default-test-{SET}-0-pvc-{claim['metadata']['uid']}" / "testfile").exists()
