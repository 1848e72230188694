"""What the tests of the tutorial share: its manifests with this machine's address in them, a cluster, a watch of pods."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import ROOT, Cluster

SHARED = Path(__file__).resolve().parents[3] / "shared" / "tutorial"
SOURCE = SHARED if SHARED.exists() else ROOT / "examples" / "tutorial"
SET = "statefulset-test"
AUTHORS_ADDRESS = "192.168.1.21"


@dataclass(frozen=True)
class Tutorial:
    """One part of the tutorial on a cluster of its own. `export` is the folder served over NFS, where there is one."""

    cluster: Cluster
    manifests: Path
    export: Path

    def folder(self, claim: dict[str, Any]) -> Path:
        """The exported folder behind a claim, by the name that the article shows."""
        meta = claim["metadata"]
        return self.export / f"{meta['namespace']}-{meta['name']}-pvc-{meta['uid']}"


@contextlib.contextmanager
def tutorial(
    base: Path, part: str, number: int, *images: str, kubelet_port: int, nfs: bool = False
) -> Iterator[Tutorial]:
    """A cluster on the bridge shtest<number>, 10.<246 + number>.0.0/24; undone to the last mount also on failure."""
    from archives import archive, place  # type: ignore[import-not-found]

    if os.geteuid() != 0:
        pytest.skip("running containers needs root")
    if nfs and shutil.which("ganesha.nfsd", path="/usr/bin:/usr/sbin") is None:
        pytest.skip("nfs-ganesha is not installed")
    data, export, manifests = base / "data", base / "nfsdata", base / "manifests"
    for name in images:
        place(archive(name, ROOT / ".cache" / "images"), data / "node" / "images")
    export.mkdir()
    manifests.mkdir()
    network = f"10.{246 + number}.0"
    if part:
        for file in sorted((SOURCE / part).glob("*.yaml")):
            text = file.read_text().replace(AUTHORS_ADDRESS, f"{network}.1").replace("/nfsdata", str(export))
            (manifests / file.name).write_text(text)
    where = ["--bridge", f"shtest{number}", "--pod-cidr", f"{network}.0/24"]
    more = ["--nfs", str(export)] if nfs else []
    try:
        yield Tutorial(Cluster(data, *where, "--kubelet-port", str(kubelet_port), *more), manifests, export)
    finally:
        command = [sys.executable, "-m", "stablehand", "down", "--pods", "--data-dir", str(data), *where]
        subprocess.run(command, check=True, timeout=120)


def is_ready(pod: dict[str, Any]) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def set_ready(c: Cluster, count: int, name: str = SET, *flags: str) -> bool:
    """Exactly `count` pods, all of them ready, as the set itself says of its present generation."""
    found = c.get("sts", name, *flags)
    status = found.get("status") or {}
    seen = status.get("observedGeneration") == found["metadata"]["generation"]
    return bool(seen and status.get("readyReplicas", 0) == count == status.get("replicas", 0))


def lose(c: Cluster, name: str, *flags: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Deletes a pod of a set and waits for its successor to be ready: (the old one, the new one)."""
    before = c.get("pod", name, *flags)
    c.kubectl("delete", "pod", name, *flags)

    def successor() -> dict[str, Any] | None:
        found = c.kubectl("get", "pod", name, "--ignore-not-found", "-o", "json", *flags).stdout
        pod = json.loads(found) if found else None
        return pod if pod and pod["metadata"]["uid"] != before["metadata"]["uid"] and is_ready(pod) else None

    return before, c.until(successor)


def words(table: str) -> list[list[str]]:
    """A table of kubectl's, as lists of words."""
    return [line.split() for line in table.splitlines()]


class PodWatch:
    """A watch of the namespace's pods beside a test; `moments` are what it told, oldest first."""

    def __init__(self, c: Cluster, namespace: str = "default") -> None:
        path = f"/api/v1/namespaces/{namespace}/pods"
        now = json.loads(c.kubectl("get", "--raw", path).stdout)["metadata"]["resourceVersion"]
        path += f"?watch=1&resourceVersion={now}"
        self._file = c.data_dir.parent / f"watch-{time.monotonic_ns()}.json"
        with open(self._file, "wb") as out:
            self._process = c.start_kubectl("get", "--raw", path, stdout=out)

    def __enter__(self) -> PodWatch:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(10)

    @property
    def moments(self) -> list[tuple[str, dict[str, Any]]]:
        """(ADDED, MODIFIED or DELETED, pod)"""
        lines = self._file.read_text().split("\n")[:-1]
        events = [json.loads(line) for line in lines if line]
        return [(e["type"], e["object"]) for e in events]

    def story(self, owner: str) -> list[tuple[str, str]]:
        """(made, ready or gone, name) of the pods whose names begin with `owner`, each as it first happened."""
        told: list[tuple[str, str]] = []
        for kind, pod in self.moments:
            name = pod["metadata"]["name"]
            if not name.startswith(owner):
                continue
            what = {"ADDED": "made", "DELETED": "gone"}.get(kind, "ready" if is_ready(pod) else "")
            if what and (what, name) not in told:
                told.append((what, name))
        return told
