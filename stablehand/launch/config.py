"""Settings of `stablehand up`: flags become frozen dataclasses here. Paths below the data directory are named here only."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass, field
from pathlib import Path

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
    def state(self) -> Path:
        return self.root / "state.json"

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
    """`listen` is (host, port). `nfs` is the folder to export, or None. `store` is "sqlite" or "memory"."""

    paths: Paths
    listen: tuple[str, int] = ("127.0.0.1", 6443)
    nfs: Path | None = None
    node: bool = True
    node_name: str = field(default_factory=lambda: socket.gethostname().lower())
    stop_pods: bool = False
    store: str = "sqlite"
    pod_cidr: str = "10.244.0.0/24"
    service_cidr: str = "10.96.0.0/16"
    cluster_domain: str = "cluster.local"
    bridge: str = "stablehand0"
    registry_mirrors: tuple[str, ...] = ()
    kubelet_port: int = 10250

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
        raise ValueError(f"{text!r} is not HOST:PORT")
    return host, int(port)
