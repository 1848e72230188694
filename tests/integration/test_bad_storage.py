"""A disk that is full, and a database that is damaged: a clear error, and nothing that was stored is lost."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import ROOT, Cluster, free_port


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MB, for the data and for the caches that kubectl keeps."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "stablehand-test", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_refuses_writes_and_loses_nothing(small_disk: Path) -> None:
    cluster = Cluster(small_disk / "data", "--no-node")
    filler = small_disk / "filler"
    try:
        cluster.kubectl("create", "configmap", "before", "--from-literal=a=1")
        with open(filler, "wb", buffering=0) as f, contextlib.suppress(OSError):
            while f.write(b"\0" * 4096) == 4096:
                pass
        payload = "x" * 100_000
        refused = cluster.kubectl("create", "configmap", "during", f"--from-literal=a={payload}", check=False)
        assert "the store could not write" in refused.stderr
        assert cluster.get("cm", "before")["data"] == {"a": "1"}
        assert cluster.kubectl("get", "cm", "during", check=False).returncode
        filler.unlink()
        cluster.kubectl("create", "configmap", "after", f"--from-literal=a={payload}")
    finally:
        filler.unlink(missing_ok=True)
        cluster.stop()
    cluster.start()
    try:
        names = {i["metadata"]["name"] for i in cluster.get("cm")["items"]}
        assert {"before", "after"} <= names and "during" not in names
    finally:
        cluster.stop()


def test_a_damaged_database_is_told_of_and_left_alone(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path / "data", "--no-node")
    cluster.kubectl("create", "configmap", "kept", "--from-literal=a=1")
    cluster.stop()
    database = next((tmp_path / "data").rglob("*.db"))
    whole = database.read_bytes()
    database.write_bytes(b"not a database" + whole[14:])
    damaged = database.read_bytes()
    command = [sys.executable, "-m", "stablehand", "up", "--no-node", "--data-dir", str(tmp_path / "data")]
    done = subprocess.run(
        [*command, "--listen", f"127.0.0.1:{free_port()}"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "it is left as it is" in done.stderr and str(database) in done.stderr
    assert database.read_bytes() == damaged
    database.write_bytes(whole)
    cluster.start()
    try:
        assert cluster.get("cm", "kept")["data"] == {"a": "1"}
    finally:
        cluster.stop()
