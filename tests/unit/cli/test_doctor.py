"""What `stablehand doctor` makes of what a machine shows."""

from __future__ import annotations

from pathlib import Path

from stablehand.launch import machine
from stablehand.launch.config import Paths, UpConfig
from stablehand.launch.machine import MISSING, NOTE, OK, Listener

CONFIG = UpConfig(paths=Paths(Path("/x")))
TABLE = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:192B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0
   1: 0100007F:192C 0100007F:8AE2 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0 0 10 0
"""
TABLE6 = """  sl  local_address remote_address st tx_queue rx_queue tr tm->when retrnsmt uid timeout inode
   0: 00000000000000000000000000000000:0035 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 99 1
   1: 0000000000000000FFFF00000100007F:0050 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 98 1
"""


def test_listening_sockets_of_proc() -> None:
    assert machine.parse_sockets("tcp", TABLE) == [(Listener("tcp", "127.0.0.1", 6443), "4711")]
    assert [s for s, _ in machine.parse_sockets("tcp", TABLE6)] == [
        Listener("tcp", "::", 53),
        Listener("tcp", "127.0.0.1", 80),
    ]


def _levels(*taken: Listener, own: int | None = None) -> list[str]:
    return [f.level for f in machine.ports(CONFIG, list(taken), own)]


def test_a_taken_port_names_who_takes_it_and_the_way_out() -> None:
    (api, node, dns) = machine.ports(CONFIG, [Listener("tcp", "0.0.0.0", 6443, "k3s (12)")], None)
    assert (api.level, node.level, dns.level) == (MISSING, OK, OK)
    assert "k3s (12)" in api.text
    assert "kill 12" in api.fix
    assert "--listen" in api.fix


def test_ports_that_are_no_trouble() -> None:
    resolved = Listener("udp", "127.0.0.53", 53, "systemd-resolve (5)")
    ours = Listener("tcp", "127.0.0.1", 6443, "python3 (77)")
    assert _levels(resolved, Listener("tcp", "192.168.1.1", 6443)) == [OK, OK, OK]
    assert _levels(ours, own=77) == [OK, OK, OK]
    assert _levels(ours, own=78) == [MISSING, OK, OK]
    assert _levels(Listener("udp", "0.0.0.0", 53, "dnsmasq (6)")) == [OK, OK, MISSING]


def test_containerd() -> None:
    assert machine.containerd_finding(None).fix.endswith("containerd")
    assert machine.containerd_finding("containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20\n").level == OK
    assert machine.containerd_finding("containerd containerd.io v2.1.0 abc").level == OK
    assert machine.containerd_finding("containerd x 1.4.13 y").level == MISSING
    assert machine.containerd_finding("what?").level == NOTE


def test_cgroups() -> None:
    v2 = "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0"
    v1 = "\n".join(f"cgroup /sys/fs/cgroup/{c} cgroup rw,{c} 0 0" for c in ("cpu", "memory", "pids"))
    hybrid = v1 + "\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0"
    assert machine.cgroups(v2).text == "version 2"
    assert machine.cgroups(hybrid).text == "version 1"
    assert machine.cgroups("").fix
    lacking = machine.cgroups(v1.replace("memory", "devices"))
    assert lacking.level == MISSING
    assert "memory" in lacking.text


def test_forwarding_and_overlay() -> None:
    assert machine.forwarding("1\n").level == OK
    assert "put back" in machine.forwarding("0\n").text
    assert machine.forwarding("").level == MISSING
    assert machine.overlay("nodev\toverlay\n").level == OK
    assert "modprobe" in machine.overlay("ext4").fix


def test_disk_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    (finding,) = machine.disk(tmp_path / "not" / "yet")
    assert "GB free" in finding.text
