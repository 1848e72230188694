"""PostgreSQL under Patroni, which elects its primary through this API server: no confirmed row is lost with a primary.

The manifest is examples/postgres-patroni, unchanged. Rows are written by a pod of no set, through the Service that
follows the primary, while the primary's pod is deleted and then its processes are killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import ROOT, Cluster
from tests.integration.tutorial import is_ready, set_ready, tutorial

MANIFEST = ROOT / "examples" / "postgres-patroni"
LEADERS = ("-l", "cluster-name=postgres,role=master")
# Prints the rows that were confirmed: 1, 2, 3, … A row whose fate is unknown is tried again.
WRITER = """
psql() { command psql -h postgres -U postgres -q "$@"; }
until psql -c 'CREATE TABLE orders (id int PRIMARY KEY)'; do sleep 0.1; done
i=1
while [ ! -e /tmp/enough ]; do
  if psql -c "INSERT INTO orders VALUES ($i)" 2>/tmp/why; then echo $i; i=$((i + 1))
  elif grep -q duplicate /tmp/why; then i=$((i + 1))
  else sleep 0.1; fi
done
"""


@pytest.fixture(scope="module")
def c(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with tutorial(tmp_path_factory.mktemp("patroni"), "", 6, "patroni", kubelet_port=10286) as running:
        yield running.cluster


class Orders:
    """What the writer's pod has said so far."""

    def __init__(self, c: Cluster) -> None:
        self.confirmed: list[int] = []
        self._c = c
        env = ("--env=PGPASSWORD=change-me", "--env=PGCONNECT_TIMEOUT=2")
        image = ("--image=patroni", "--image-pull-policy=IfNotPresent", "--restart=Never")
        c.kubectl("run", "writer", *image, *env, "--", "bash", "-c", WRITER)
        c.until(lambda: is_ready(c.get("pod", "writer")))
        self._process = c.start_kubectl("logs", "-f", "writer", stdout=subprocess.PIPE)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.strip().isdigit():
                self.confirmed.append(int(line))

    def more(self, count: int) -> None:
        reached = len(self.confirmed)
        self._c.until(lambda: len(self.confirmed) >= reached + count)

    def stop(self) -> list[int]:
        # The writer ends as soon as it sees that, and may take the command with it.
        self._c.kubectl("exec", "writer", "--", "touch", "/tmp/enough", check=False)
        self._reader.join(30)
        self._process.wait(30)
        return self.confirmed


def leader(c: Cluster) -> dict[str, Any] | None:
    """The one pod that is labelled as primary and to which the Service leads."""
    pods = c.get("pods", *LEADERS)["items"]
    addresses = [a["ip"] for s in c.get("endpoints", "postgres").get("subsets") or () for a in s["addresses"]]
    return pods[0] if len(pods) == 1 and addresses == [pods[0]["status"].get("podIP")] else None


def rows(c: Cluster, pod: str) -> set[int]:
    out = c.kubectl("exec", pod, "--", "psql", "-tAc", "SELECT id FROM orders", check=False).stdout
    return {int(line) for line in out.split()}


def delete(c: Cluster, pod: dict[str, Any]) -> None:
    c.kubectl("delete", "pod", pod["metadata"]["name"], "--wait=false")


def kill(c: Cluster, pod: dict[str, Any]) -> None:
    """kill -9 from the host for Patroni and every server process."""
    container = pod["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and container in (entry / "cgroup").read_text():
                os.kill(int(entry.name), signal.SIGKILL)
        except OSError:
            continue


def test_no_confirmed_row_is_lost_with_a_primary(c: Cluster) -> None:
    c.kubectl("apply", "-f", str(MANIFEST))
    c.until(lambda: set_ready(c, 3, "postgres"), 90)
    c.until(lambda: "Sync Standby" in c.kubectl("exec", "postgres-0", "--", "patronictl", "list").stdout)
    orders = Orders(c)
    orders.more(20)
    ways: tuple[Callable[[Cluster, dict[str, Any]], None], ...] = (delete, kill)
    for lose in ways:
        before = c.until(lambda: leader(c))
        lose(c, before)
        orders.more(20)
        c.until(lambda: set_ready(c, 3, "postgres") and leader(c), 90)
        orders.more(20)
    confirmed = set(orders.stop())
    for index in range(3):
        c.until(lambda: confirmed <= rows(c, f"postgres-{index}"), 30)  # noqa: B023
