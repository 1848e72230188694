"""What Stablehand needs of this machine, and the command that mends what is missing. Looks only; changes nothing."""

from __future__ import annotations

import ipaddress
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stablehand.launch.config import UpConfig

OK, NOTE, OPTIONAL, MISSING = "ok", "note", "optional", "MISSING"
_INSTALL = "sudo apt-get install -y --no-install-recommends "
_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
_LEAST_FREE, _COMFORTABLE = 1 << 30, 4 << 30


@dataclass(frozen=True)
class Finding:
    """One line of `stablehand doctor`. `level` MISSING: Stablehand cannot run pods like this. `fix` is a command."""

    level: str
    what: str
    text: str = ""
    fix: str = ""


@dataclass(frozen=True)
class Listener:
    """A socket that takes a port. `process` is "name (pid)", or "" where we may not see it."""

    protocol: str
    address: str
    port: int
    process: str = ""


def findings(config: UpConfig, own_pid: int | None) -> list[Finding]:
    """Everything, in the order it is shown. `own_pid` is a running Stablehand's, whose ports are its own."""
    return [
        root(os.geteuid()),
        *programs(),
        overlay(_read("/proc/filesystems")),
        cgroups(_read("/proc/mounts")),
        forwarding(_read("/proc/sys/net/ipv4/ip_forward")),
        *ports(config, listeners(), own_pid),
        *disk(config.paths.root),
    ]


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def root(uid: int) -> Finding:
    if uid == 0:
        return Finding(OK, "root")
    return Finding(
        NOTE,
        "root",
        "you are not root: `stablehand up` needs it, `stablehand up --no-node` does not",
        "sudo stablehand up",
    )


def which(name: str) -> str | None:
    """As the shell finds it, and in sbin, which a user's PATH leaves out."""
    return shutil.which(name) or shutil.which(name, path=_SBIN)


def programs() -> Iterator[Finding]:
    """What other people's programs do for us."""
    yield containerd_finding(_version("containerd"))
    for name, package, purpose in (
        ("runc", "runc", "starts containers"),
        ("nft", "nftables", "gives Services their addresses"),
        ("ip", "iproute2", "makes the pods' network"),
    ):
        path = which(name)
        yield Finding(OK, name, path) if path else Finding(MISSING, name, purpose, _INSTALL + package)
    places = [Path("/usr/lib/cni"), Path("/opt/cni/bin")]
    found = next((p for p in places if all((p / n).exists() for n in ("ptp", "host-local", "loopback"))), None)
    if found is not None:
        yield Finding(OK, "CNI plugins", str(found))
    else:
        yield Finding(MISSING, "CNI plugins", "make the pods' network", _INSTALL + "containernetworking-plugins")
    for name, package, purpose in (
        ("mmdebstrap", "mmdebstrap", "`stablehand image build`"),
        ("ganesha.nfsd", "nfs-ganesha nfs-ganesha-vfs", "`stablehand up --nfs`"),
    ):
        path = which(name)
        yield Finding(OK, name, path) if path else Finding(OPTIONAL, name, f"for {purpose}", _INSTALL + package)
    kubectl = which("kubectl")
    if kubectl:
        yield Finding(OK, "kubectl", kubectl)
    else:
        yield Finding(OPTIONAL, "kubectl", "for you to use the cluster", "python3 scripts/kubectl.py")


def _version(program: str) -> str | None:
    """What `program --version` says; None where there is no such program."""
    path = which(program)
    if path is None:
        return None
    try:
        return subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired) as e:
        return str(e)


def containerd_finding(version: str | None) -> Finding:
    if version is None:
        return Finding(MISSING, "containerd", "runs the containers", _INSTALL + "containerd")
    match = re.search(r"\bv?(\d+)\.(\d+)(\.\d+)?", version)
    if match is None:
        return Finding(NOTE, "containerd", f"its version is unknown ({version.strip()[:80]!r}); 1.6 or newer is needed")
    if (int(match[1]), int(match[2])) < (1, 6):
        return Finding(MISSING, "containerd", f"{match[0]} is too old: 1.6 or newer is needed", _INSTALL + "containerd")
    return Finding(OK, "containerd", match[0])


def overlay(filesystems: str) -> Finding:
    if "overlay" in filesystems.split():
        return Finding(OK, "overlayfs")
    return Finding(
        NOTE, "overlayfs", "not loaded; without it, images are copied for each container", "sudo modprobe overlay"
    )


def cgroups(mounts: str) -> Finding:
    """Version 2, or version 1 with the controllers that limits need."""
    version_1: set[str] = set()
    unified = False
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) < 4:
            continue
        if fields[2] == "cgroup2" and fields[1] == "/sys/fs/cgroup":
            unified = True
        elif fields[2] == "cgroup":
            version_1.update(fields[3].split(","))
    if unified:
        return Finding(OK, "cgroups", "version 2")
    absent = {"cpu", "memory", "pids"} - version_1
    if not absent:
        return Finding(OK, "cgroups", "version 1")
    if not version_1:
        return Finding(MISSING, "cgroups", "none mounted", "sudo mount -t cgroup2 none /sys/fs/cgroup")
    return Finding(
        MISSING,
        "cgroups",
        f"no {' and '.join(sorted(absent))} controller: boot with cgroup_enable=memory on the kernel's line",
    )


def forwarding(value: str) -> Finding:
    if value.strip() == "1":
        return Finding(OK, "ip_forward")
    if value.strip() == "0":
        return Finding(OK, "ip_forward", "off; switched on while pods run, and put back by `stablehand down --pods`")
    return Finding(MISSING, "ip_forward", "/proc/sys/net/ipv4/ip_forward cannot be read: pods need IPv4")


def ports(config: UpConfig, taken: list[Listener], own_pid: int | None) -> Iterator[Finding]:
    """The ports of `up`'s own settings: the API server's, the node's and DNS."""
    wanted = (
        ("API server", ("tcp",), (config.listen[0], config.gateway), config.listen[1], "--listen 127.0.0.1:PORT"),
        ("node", ("tcp",), ("127.0.0.1", config.gateway), config.kubelet_port, "--kubelet-port PORT"),
        ("DNS", ("tcp", "udp"), (config.gateway,), 53, "--pod-cidr CIDR"),
    )
    for part, protocols, hosts, port, flag in wanted:
        what = f"port {port} ({part})"
        by = [t for t in taken if t.protocol in protocols and t.port == port and _same_address(t.address, hosts)]
        if not by:
            yield Finding(OK, what)
        elif own_pid is not None and all(t.process.endswith(f"({own_pid})") for t in by):
            yield Finding(OK, what, "Stablehand's own, which runs")
        else:
            who = by[0].process or "a process of another user"
            pid = re.search(r"\((\d+)\)$", by[0].process)
            fix = f"sudo kill {pid[1]}, or stablehand up {flag}" if pid else f"stablehand up {flag}"
            yield Finding(MISSING, what, f"taken by {who} on {by[0].address}", fix)


def _same_address(address: str, hosts: tuple[str, ...]) -> bool:
    anywhere = ("0.0.0.0", "::")
    return address in anywhere or address in hosts or any(h in anywhere for h in hosts)


def disk(folder: Path) -> Iterator[Finding]:
    """Room where the data directory is, or will be."""
    place = folder
    while not place.exists():
        place = place.parent
    try:
        stat = os.statvfs(place)
    except OSError as e:
        yield Finding(MISSING, "disk space", f"{place}: {e.strerror}")
        return
    free = stat.f_bavail * stat.f_frsize
    text = f"{free / 1e9:.1f} GB free for {folder}"
    if free < _LEAST_FREE:
        yield Finding(
            MISSING, "disk space", f"{text}: too little for images", "stablehand up --data-dir DIR (elsewhere)"
        )
    elif free < _COMFORTABLE:
        yield Finding(NOTE, "disk space", text)
    else:
        yield Finding(OK, "disk space", text)


# -- who listens


def listeners() -> list[Listener]:
    """Every TCP listener and bound UDP socket of this network namespace."""
    found: list[tuple[Listener, str]] = []
    for protocol, file in (("tcp", "tcp"), ("tcp", "tcp6"), ("udp", "udp"), ("udp", "udp6")):
        found += parse_sockets(protocol, _read(f"/proc/net/{file}"))
    owners = _owners({inode for _, inode in found}) if found else {}
    return [Listener(s.protocol, s.address, s.port, owners.get(inode, "")) for s, inode in found]


def parse_sockets(protocol: str, table: str) -> list[tuple[Listener, str]]:
    """(socket, inode) of the listening sockets of a /proc/net table."""
    out = []
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 10 or (protocol == "tcp" and fields[3] != "0A"):
            continue
        address, _, port = fields[1].partition(":")
        # Each 32-bit word is in this machine's byte order.
        words = [bytes.fromhex(address[i : i + 8])[::-1] for i in range(0, len(address), 8)]
        ip = ipaddress.ip_address(b"".join(words))
        mapped = getattr(ip, "ipv4_mapped", None)
        out.append((Listener(protocol, str(mapped or ip), int(port, 16)), fields[9]))
    return out


def _owners(inodes: set[str]) -> dict[str, str]:
    """inode -> "name (pid)", of the processes that we may look into."""
    out: dict[str, str] = {}
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            for fd in (process / "fd").iterdir():
                target = os.readlink(fd)
                if target.startswith("socket:[") and target[8:-1] in inodes:
                    out[target[8:-1]] = f"{(process / 'comm').read_text().strip()} ({process.name})"
        except OSError:
            continue
    return out
