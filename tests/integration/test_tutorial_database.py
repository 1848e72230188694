"""Three MariaDB servers replicating from pod 0, on real containers: no committed row is lost when the primary is."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import ROOT, Cluster
from tests.integration.tutorial import lose, set_ready, tutorial

MANIFEST = ROOT / "examples" / "mariadb"
PRIMARY = "mariadb-0"


@pytest.fixture(scope="module")
def c(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with tutorial(tmp_path_factory.mktemp("database"), "", 3, "mariadb", kubelet_port=10273) as running:
        yield running.cluster


def sql(c: Cluster, pod: str, statement: str) -> str:
    return c.kubectl("exec", pod, "--", "mariadb", "-N", "-e", statement).stdout


class Orders:
    """Commits rows 1, 2, 3, … on the primary, one connection each try, until it is stopped; knows which were confirmed.

    Inside the first replica's pod, so that the primary is found by its stable name as any client would.
    """

    SCRIPT = """
    i=$1
    while [ ! -e /tmp/enough ]; do
      if mariadb -h mariadb-0.mariadb --connect-timeout=1 -e "INSERT INTO shop.orders VALUES ($i)" 2>/tmp/why; then
        echo $i; i=$((i + 1))
      elif grep -q 'Duplicate entry' /tmp/why; then
        i=$((i + 1))
      fi
    done
    """

    def __init__(self, c: Cluster, first: int) -> None:
        self._c = c
        self.committed: list[int] = []
        c.kubectl("exec", "mariadb-1", "--", "rm", "-f", "/tmp/enough")
        command = ("exec", "mariadb-1", "--", "sh", "-c", self.SCRIPT, "orders", str(first))
        self._process = c.start_kubectl(*command, stdout=subprocess.PIPE)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.committed.append(int(line))

    def stop(self) -> list[int]:
        self._c.kubectl("exec", "mariadb-1", "--", "touch", "/tmp/enough")
        self._reader.join(30)
        self._process.wait(30)
        return self.committed


def ids(c: Cluster, pod: str) -> list[int]:
    return [int(line) for line in sql(c, pod, "SELECT id FROM shop.orders ORDER BY id").split()]


def test_replicas_show_what_the_primary_was_told(c: Cluster) -> None:
    c.kubectl("apply", "-f", str(MANIFEST))
    c.until(lambda: set_ready(c, 3, "mariadb"), 120)
    sql(
        c,
        PRIMARY,
        "CREATE DATABASE shop; CREATE TABLE shop.orders (id INT PRIMARY KEY); INSERT INTO shop.orders VALUES (0)",
    )
    for replica in ("mariadb-1", "mariadb-2"):
        c.until(lambda: "orders" in sql(c, replica, "SHOW TABLES FROM shop") and ids(c, replica) == [0], 30)  # noqa: B023
        status = sql(c, replica, "SHOW SLAVE STATUS\\G")
        assert "mariadb-0.mariadb" in status and status.count("Yes") >= 2
        assert sql(c, replica, "SELECT @@read_only").strip() == "1"


def test_no_committed_row_is_lost_with_the_primarys_pod(c: Cluster) -> None:
    orders = Orders(c, 1)
    try:
        c.until(lambda: len(orders.committed) >= 20)
        lose(c, PRIMARY)
        reached = len(orders.committed)
        c.until(lambda: len(orders.committed) >= reached + 20)
    finally:
        committed = orders.stop()
    check(c, committed, 3)


def test_no_committed_row_is_lost_with_the_primarys_process(c: Cluster) -> None:
    orders = Orders(c, 1_000_000)
    try:
        c.until(lambda: len(orders.committed) >= 20)
        restarts = c.get("pod", PRIMARY)["status"]["containerStatuses"][0]["restartCount"]
        kill_main_process(c, PRIMARY)
        c.until(lambda: c.get("pod", PRIMARY)["status"]["containerStatuses"][0]["restartCount"] == restarts + 1)
        c.until(lambda: set_ready(c, 3, "mariadb"))
        reached = len(orders.committed)
        c.until(lambda: len(orders.committed) >= reached + 20)
    finally:
        committed = orders.stop()
    check(c, committed, 3)


def test_a_fourth_server_begins_with_every_row(c: Cluster) -> None:
    every = ids(c, PRIMARY)
    c.kubectl("scale", "statefulset", "mariadb", "--replicas=4")
    c.until(lambda: set_ready(c, 4, "mariadb"), 60)
    assert ids(c, "mariadb-3") == every
    sql(c, PRIMARY, "INSERT INTO shop.orders VALUES (5000000)")
    c.until(lambda: ids(c, "mariadb-3") == [*every, 5000000], 30)


def check(c: Cluster, committed: list[int], servers: int) -> None:
    """Every confirmed row is on the primary, and each replica catches up to the same rows."""
    every = ids(c, PRIMARY)
    assert set(committed) <= set(every)
    for index in range(1, servers):
        c.until(lambda: ids(c, f"mariadb-{index}") == every, 60)  # noqa: B023


def kill_main_process(c: Cluster, pod: str) -> None:
    """kill -9 from the host: inside its own namespace the first process is safe from it."""
    container = c.get("pod", pod)["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")
    for entry in Path("/proc").iterdir():
        try:
            if container in (entry / "cgroup").read_text() and b"mariadbd" in (entry / "cmdline").read_bytes():
                subprocess.run(["kill", "-9", entry.name], check=True)
                return
        except (OSError, UnicodeDecodeError):
            continue
    raise AssertionError(f"no mariadbd runs in {container}")
