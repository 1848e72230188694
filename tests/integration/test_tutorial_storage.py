"""The tutorial's second part on real NFS and real containers: each pod its own claim, each claim its own volume."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.integration.conftest import Cluster
from tests.integration.tutorial import SET, Tutorial, set_ready, tutorial, words


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tutorial]:
    base = tmp_path_factory.mktemp("storage")
    with tutorial(base, "2-storage", 1, "httpd", "provisioner", kubelet_port=10271, nfs=True) as running:
        yield running


@pytest.fixture(scope="module")
def c(part: Tutorial) -> Cluster:
    return part.cluster


def test_showmount_lists_the_export(c: Cluster, part: Tutorial) -> None:
    if any(shutil.which(name, path="/usr/sbin:/sbin:/usr/bin") is None for name in ("rpcbind", "showmount")):
        pytest.skip("rpcbind and showmount (nfs-common) are not installed")
    address = c.get("nodes")["items"][0]["status"]["addresses"][0]["address"]
    listed = c.until(lambda: run("showmount", "-e", "--no-headers", address), 20)
    assert listed.split()[0] == str(part.export)
    # As on any NFS server, which need not be told its own name.
    assert c.until(lambda: run("showmount", "-e", "--no-headers", "localhost"), 20) == listed
    if not (c.data_dir / "nfs" / "rpcbind.pid").exists():
        return  # the machine's own port mapper, listening where its administrator wants
    # Ours is there for the pods and for this machine alone.
    listening = {line.split()[4] for line in run("ss", "-lntuH", "sport = :111").splitlines()}
    assert listening <= {f"{address}:111", "127.0.0.1:111", "[::1]:111"}


def run(*command: str) -> str:
    """What it prints; nothing while it fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return "" if done.returncode else done.stdout


def test_an_nfs_server_that_dies_is_started_again(c: Cluster, part: Tutorial) -> None:
    pid_file = c.data_dir / "nfs" / "ganesha.pid"
    first = c.until(lambda: pid_file.exists() and pid_file.read_text())
    os.kill(int(first), signal.SIGKILL)
    second = c.until(lambda: pid_file.exists() and pid_file.read_text() not in ("", first) and pid_file.read_text())
    address = c.get("nodes")["items"][0]["status"]["addresses"][0]["address"]

    def answers() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((address, 2049)) == 0

    c.until(answers)
    assert Path(f"/proc/{int(second)}").exists()


def test_without_its_account_the_provisioner_is_not_made(c: Cluster, part: Tutorial) -> None:
    files = ("nfs-deployment.yaml", "test-storageclass.yaml", "statefulset.yaml")
    done = c.kubectl("apply", *(f"--filename={part.manifests / name}" for name in files))
    assert "extensions/v1beta1 Deployment is deprecated" in done.stderr
    c.until(lambda: 'serviceaccount "nfs-provisioner" not found' in c.kubectl("get", "events").stdout)
    assert c.kubectl("get", "pods", "-l", "app=nfs-client-provisioner").stdout == ""


def test_without_the_binding_the_provisioner_is_refused_and_says_so(c: Cluster, part: Tutorial) -> None:
    accounts = [
        document
        for document in yaml.safe_load_all((part.manifests / "rbac-rolebind.yaml").read_text())
        if document["kind"] != "ClusterRoleBinding"
    ]
    c.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(accounts))
    logs = ("logs", "deployment/nfs-client-provisioner")
    told = c.until(lambda: c.kubectl(*logs, check=False).stdout, 60)
    assert "forbidden" in told and 'User "system:serviceaccount:default:nfs-provisioner" cannot' in told
    claim = c.get("pvc", f"test-{SET}-0")
    assert claim["status"]["phase"] == "Pending"
    assert "the provisioner" in c.kubectl("describe", "pvc", f"test-{SET}-0").stdout
    pod = words(c.kubectl("get", "pods", "-l", "app=headless-pod").stdout)
    assert [row[:3] for row in pod[1:]] == [[f"{SET}-0", "0/1", "Pending"]]
    assert "pod has unbound immediate PersistentVolumeClaims" in c.kubectl("describe", "pod", f"{SET}-0").stdout
    assert list(part.export.iterdir()) == []


def test_with_the_binding_each_claim_has_its_volume_and_folder(c: Cluster, part: Tutorial) -> None:
    c.kubectl("apply", "-f", str(part.manifests / "rbac-rolebind.yaml"))
    c.until(lambda: set_ready(c, 3), 90)
    claims = c.get("pvc")["items"]
    assert [claim["metadata"]["name"] for claim in claims] == [f"test-{SET}-{n}" for n in range(3)]
    volumes = {f"pvc-{claim['metadata']['uid']}" for claim in claims}
    assert {claim["spec"]["volumeName"] for claim in claims} == volumes
    assert {path.name for path in part.export.iterdir()} == {part.folder(claim).name for claim in claims}


def test_the_tables_show_what_the_article_shows(c: Cluster) -> None:
    classes = words(c.kubectl("get", "sc").stdout)
    head = ["NAME", "PROVISIONER", "RECLAIMPOLICY", "VOLUMEBINDINGMODE", "ALLOWVOLUMEEXPANSION", "AGE"]
    assert classes[0] == head
    row = next(row for row in classes if row[0] == "stateful-nfs")
    assert row[1:5] == ["bdqn", "Retain", "Immediate", "false"]
    claims = c.kubectl("get", "pvc").stdout
    assert re.match(r"NAME +STATUS +VOLUME +CAPACITY +ACCESS MODES +STORAGECLASS", claims)
    for index, row in enumerate(words(claims)[1:]):
        assert row[:2] == [f"test-{SET}-{index}", "Bound"] and row[2].startswith("pvc-")
        assert row[3:6] == ["100Mi", "RWO", "stateful-nfs"]
    volumes = c.kubectl("get", "pv").stdout
    assert re.match(r"NAME +CAPACITY +ACCESS MODES +RECLAIM POLICY +STATUS +CLAIM +STORAGECLASS", volumes)
    rows = words(volumes)[1:]
    assert {tuple(row[1:5]) for row in rows} == {("100Mi", "RWO", "Retain", "Bound")}
    assert {row[5] for row in rows} == {f"default/test-{SET}-{index}" for index in range(3)}
    assert {row[6] for row in rows} == {"stateful-nfs"}


class Terminal:
    """A program on a pseudo-terminal."""

    def __init__(self, path: str, args: list[str], environment: dict[str, str]) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(path, [path, *args], environment)
        self.shown = ""

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def until(self, text: str, seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.shown:
            readable, _, _ = select.select([self.fd], [], [], max(0.0, deadline - time.monotonic()))
            assert readable, f"{text!r} was not shown, but {self.shown!r}"
            self.shown += os.read(self.fd, 4096).decode(errors="replace")

    def end(self) -> int:
        """Its exit status, once all it printed is read."""
        try:
            while data := os.read(self.fd, 4096):
                self.shown += data.decode(errors="replace")
        except OSError:  # the terminal's other side is closed
            pass
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_a_shell_on_a_terminal_touches_a_file_that_the_host_has(c: Cluster, part: Tutorial) -> None:
    folder = part.folder(c.get("pvc", f"test-{SET}-0"))
    shell = Terminal(c.kubectl_path, ["exec", "-it", f"{SET}-0", "--", "/bin/sh"], c.environment)
    shell.until("# ")
    shell.type("touch /mnt/testfile; tty; echo $((40 + 2))\n")
    shell.until("42\r\n")
    assert "/dev/pts/" in shell.shown
    shell.type("exit 5\n")
    assert shell.end() == 5
    assert (folder / "testfile").exists()
    others = [part.folder(c.get("pvc", f"test-{SET}-{index}")) for index in (1, 2)]
    assert [list(other.iterdir()) for other in others] == [[], []]


def test_a_claim_of_a_class_that_is_not_there_says_so(c: Cluster) -> None:
    claim = """
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: lost}
spec: {storageClassName: nope, accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
"""
    c.kubectl("apply", "-f", "-", stdin=claim)
    event = re.compile(r"Warning +ProvisioningFailed .*storageclass.storage.k8s.io \"nope\" not found")
    c.until(lambda: event.search(c.kubectl("describe", "pvc", "lost").stdout), 20)
    c.kubectl("delete", "pvc", "lost")


def test_volumes_and_folders_stay(c: Cluster, part: Tutorial) -> None:
    claim = c.get("pvc", f"test-{SET}-0")
    c.kubectl("delete", "-f", str(part.manifests / "statefulset.yaml"))
    c.until(lambda: not c.get("pods", "-l", "app=headless-pod")["items"])
    assert len(c.get("pvc")["items"]) == 3
    c.kubectl("delete", "pvc", f"test-{SET}-0")
    volume = claim["spec"]["volumeName"]
    c.until(lambda: c.get("pv", volume)["status"]["phase"] == "Released")
    assert c.get("pv", volume)["spec"]["claimRef"]["name"] == f"test-{SET}-0"
    assert (part.folder(claim) / "testfile").exists()
