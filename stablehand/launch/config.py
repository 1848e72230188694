"""Settings of `stablehand up` as frozen dataclasses, and the parsing of their values. Paths below the data directory
are named here only. Flags are cli.options'."""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass, field
from pathlib import Path

from stablehand.machinery.names import dns1123_subdomain

DEFAULT_DATA_DIR = "/var/lib/stablehand"
DEFAULT_LISTEN = "127.0.0.1:6443"


@dataclass(frozen=True)
class Paths:
    """Everything in a data directory."""

    root: Path

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    @property
    def node_lock(self) -> Path:
        """Of a node agent that runs alone."""
        return self.root / "node.lock"

    @property
    def state(self) -> Path:
        return self.root / "state.json"

    @property
    def network(self) -> Path:
        """What the pods' network was called when pods last ran."""
        return self.root / "network.json"

    @property
    def database(self) -> Path:
        return self.root / "state.db"

    @property
    def pki(self) -> Path:
        return self.root / "pki"

    @property
    def kubeconfig(self) -> Path:
        return self.root / "kubeconfig.yaml"

    @property
    def log(self) -> Path:
        return self.root / "stablehand.log"

    @property
    def node(self) -> Path:
        return self.root / "node"

    @property
    def volumes(self) -> Path:
        return self.root / "volumes"

    @property
    def nfs(self) -> Path:
        return self.root / "nfs"


@dataclass(frozen=True)
class UpConfig:
    """`listen` is (host, port). `nfs` is the folder to export, or None. `store` is a URL (see launch.stores)."""

    paths: Paths
    listen: tuple[str, int] = ("127.0.0.1", 6443)
    nfs: Path | None = None
    node: bool = True
    node_name: str = field(default_factory=lambda: socket.gethostname().lower())
    stop_pods: bool = False
    store: str = "sqlite"
    leader_elect: bool = False
    pod_cidr: str = "10.244.0.0/24"
    service_cidr: str = "10.96.0.0/16"
    cluster_domain: str = "cluster.local"
    bridge: str = "stablehand0"
    registry_mirrors: tuple[str, ...] = ()
    insecure_registries: tuple[str, ...] = ()
    kubelet_port: int = 10250
    static_pods: Path | None = None  # a folder of manifests
    eviction_hard: tuple[tuple[str, str], ...] | None = None  # (signal, quantity or percentage); None: the node's own
    eviction_soft: tuple[tuple[str, str], ...] = ()
    eviction_soft_grace: tuple[tuple[str, str], ...] = ()  # (signal, duration)
    eviction_transition: float = 300.0  # seconds

    @property
    def gateway(self) -> str:
        """The bridge's own address: the node's InternalIP, where pods reach the API server and NFS."""
        return str(ipaddress.ip_network(self.pod_cidr)[1])

    @property
    def service_table(self) -> str:
        """The nft table of Services' virtual IPs; one per bridge."""
        return "stablehand_services" if self.bridge == "stablehand0" else f"{self.bridge}_services"

    @property
    def run_dir(self) -> Path:
        """Sockets and mounts; one per bridge, short enough for unix sockets."""
        return Path("/run/stablehand" if self.bridge == "stablehand0" else f"/run/{self.bridge}")

    @property
    def containerd_socket(self) -> Path:
        """There while this network's containerd runs, which is while pods may run."""
        return self.run_dir / "containerd.sock"

    @property
    def cluster_dns(self) -> str:
        return str(ipaddress.ip_network(self.service_cidr)[10])

    @property
    def kubernetes_ip(self) -> str:
        return str(ipaddress.ip_network(self.service_cidr)[1])


def parse_listen(text: str) -> tuple[str, int]:
    """ "HOST:PORT", ":PORT" or "PORT". Raises ValueError with a text for the user."""
    host, _, port = text.rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    if not port.isdigit() or not 0 <= int(port) < 65536:
        raise ValueError(f"{text!r} is not HOST:PORT (a port is a number from 0 to 65535)")
    return host, int(port)


def parse_cidr(text: str) -> str:
    """An IPv4 network with room for pods or Services. Raises ValueError with a text for the user."""
    try:
        network = ipaddress.IPv4Network(text)
    except ValueError as e:
        raise ValueError(f"{text!r} is not an IPv4 network such as 10.244.0.0/24: {e}") from e
    if network.prefixlen > 28:
        raise ValueError(f"{text!r} has too few addresses: give /28 or wider")
    return text


def parse_port(text: str) -> int:
    """A TCP port other than 0. Raises ValueError with a text for the user."""
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise ValueError(f"{text!r} is not a port: give a number from 1 to 65535")
    return int(text)


def parse_eviction(text: str) -> tuple[tuple[str, str], ...]:
    """Thresholds such as "memory.available<500Mi,nodefs.available<10%", or durations such as "memory.available=1m30s":
    (signal, value) each. Raises ValueError with a text for the user."""
    found = []
    for part in filter(None, text.split(",")):
        match = re.fullmatch(r"([a-zA-Z.]+)[<=](\S+)", part.strip())
        if match is None:
            raise ValueError(f"{part!r} is not SIGNAL<QUANTITY, such as memory.available<500Mi")
        found.append((match[1], match[2]))
    return tuple(found)


def parse_interface(text: str) -> str:
    """A network interface's name as Linux takes it. Raises ValueError with a text for the user."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,14}", text):
        raise ValueError(f"{text!r} is no interface name: a letter, then up to 14 letters, digits, - or _")
    return text


def parse_node_name(text: str) -> str:
    """A DNS subdomain, which node names are. Raises ValueError with a text for the user."""
    if dns1123_subdomain(text):
        raise ValueError(f"{text!r} is no node name: lower-case letters, digits, - and . (a DNS name)")
    return text
