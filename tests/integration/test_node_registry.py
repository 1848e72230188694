"""Images pulled from a real registry (Debian's docker-registry) on loopback: by its own name, and as a mirror."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import ROOT, Cluster, free_port

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="running containers needs root"),
    pytest.mark.skipif(shutil.which("docker-registry") is None, reason="docker-registry is not installed"),
]
WHERE = ["--bridge", "shtest5", "--pod-cidr", "10.232.0.0/24"]
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


class Registry:
    """`docker-registry serve` on a free port of loopback."""

    def __init__(self, folder: Path) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        config = folder / "registry.yml"
        storage = {"filesystem": {"rootdirectory": str(folder / "store")}}
        config.write_text(json.dumps({"version": 0.1, "storage": storage, "http": {"addr": self.address}}))
        self.process = subprocess.Popen(
            ["docker-registry", "serve", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 20
        while True:
            try:
                self.call("GET", "/v2/")
                return
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.02)

    def call(self, method: str, url: str, body: bytes | None = None, kind: str = "application/octet-stream") -> str:
        where = url if url.startswith("http") else f"http://{self.address}{url}"
        request = urllib.request.Request(where, body, {"Content-Type": kind}, method=method)
        with urllib.request.urlopen(request) as answer:
            return str(answer.headers.get("Location", ""))

    def push(self, archive: Path, repository: str, tag: str) -> None:
        with tarfile.open(archive) as tar:

            def blob(digest: str) -> bytes:
                member = tar.extractfile(f"blobs/sha256/{digest.removeprefix('sha256:')}")
                assert member is not None
                return member.read()

            index = json.loads(tar.extractfile("index.json").read())  # type: ignore[union-attr]
            manifest = blob(index["manifests"][0]["digest"])
            described = json.loads(manifest)
            for part in (described["config"], *described["layers"]):
                data = blob(part["digest"])
                place = self.call("POST", f"/v2/{repository}/blobs/uploads/", b"")
                digest = "sha256:" + hashlib.sha256(data).hexdigest()
                self.call("PUT", f"{place}{'&' if '?' in place else '?'}digest={digest}", data)
        self.call("PUT", f"/v2/{repository}/manifests/{tag}", manifest, _MANIFEST)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    served = Registry(tmp_path)
    try:
        yield served
    finally:
        served.process.terminate()
        served.process.wait(10)


@pytest.fixture
def cluster(tmp_path: Path, registry: Registry) -> Iterator[Cluster]:
    data = tmp_path / "data"
    mirror = f"mirrored.stablehand.dev=http://{registry.address}"
    try:
        yield Cluster(data, *WHERE, "--kubelet-port", "10277", "--registry-mirror", mirror)
    finally:
        command = [sys.executable, "-m", "stablehand", "down", "--pods", "--data-dir", str(data), *WHERE]
        subprocess.run(command, check=True, timeout=120)


def test_images_come_from_a_registry(cluster: Cluster, registry: Registry) -> None:
    sys.path.insert(0, str(ROOT / "scripts"))
    import archives  # type: ignore[import-not-found]

    c, archive = cluster, archives.archive("busybox", ROOT / ".cache" / "images")
    registry.push(archive, "team/busybox", "1")
    c.until(lambda: c.kubectl("get", "sa", "default", check=False).returncode == 0)

    def run(name: str, image: str) -> None:
        c.kubectl("run", name, "--image", image, "--image-pull-policy", "Always", "--", "sleep", "1000")

    def waiting(name: str) -> str:
        statuses = c.get("pod", name)["status"].get("containerStatuses") or [{}]
        return str(((statuses[0].get("state") or {}).get("waiting") or {}).get("reason", ""))

    run("named", f"{registry.address}/team/busybox:1")
    run("mirrored", "mirrored.stablehand.dev/team/busybox:1")
    run("late", f"{registry.address}/team/busybox:2")
    for name in ("named", "mirrored"):
        c.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=30s")
    assert "Successfully pulled image" in c.kubectl("describe", "pod", "named").stdout
    c.until(lambda: waiting("late") in ("ErrImagePull", "ImagePullBackOff"))
    assert "team/busybox:2: not found" in c.kubectl("describe", "pod", "late").stdout
    # The back-off goes on by itself once the image is there.
    registry.push(archive, "team/busybox", "2")
    c.kubectl("wait", "--for=condition=Ready", "pod/late", "--timeout=60s")
