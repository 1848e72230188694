"""What the node agent is told at start, where its files lie, and the one error it gives a user. No I/O here."""

from __future__ import annotations

import hashlib
import ipaddress
import platform
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stablehand.client import Client
from stablehand.node.signals import TRANSITION, Threshold, parse_thresholds

PAUSE_IMAGE = "stablehand.local/pause:1"
SOCKET_LIMIT = 100  # a unix socket's path has at most 107 bytes; containerd adds ".ttrpc"


class NodeError(Exception):
    """This machine or its configuration cannot run a node; the text says what to do."""


@dataclass(frozen=True, kw_only=True)
class NodeConfig:
    """`data_dir` persists; `run_dir` (sockets, container state) may be gone after a reboot.

    `exports` are folders that Stablehand's own NFS server exports from this machine; `mirrors` maps a registry
    ("docker.io") to the URLs asked in its place; `insecure_registries` are "host:port" spoken to over plain HTTP
    (loopback registries are, always).
    """

    client: Client
    data_dir: Path
    run_dir: Path = Path("/run/stablehand")
    node_name: str = field(default_factory=lambda: socket.gethostname().lower())
    node_ip: str = ""  # default: the gateway address of the pod network
    pod_cidr: str = "10.244.0.0/24"
    bridge: str = "stablehand0"
    port: int = 10250
    listen: tuple[str, ...] = ()  # addresses; default: the node's and 127.0.0.1
    tls_cert: Path | None = None
    tls_key: Path | None = None
    client_ca: Path | None = None
    cluster_dns: tuple[str, ...] = ("10.96.0.10",)
    cluster_domain: str = "cluster.local"
    exports: tuple[str, ...] = ()
    mirrors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    insecure_registries: tuple[str, ...] = ()
    images_dir: Path | None = None  # default: <data_dir>/images; archives here are imported at start
    manifests_dir: Path | None = None  # default: <data_dir>/manifests; of static pods
    cni_bin_dir: Path | None = None
    node_labels: Mapping[str, str] = field(default_factory=dict)
    max_pods: int = 110
    stop_pods_on_exit: bool = False
    eviction_hard: Mapping[str, str] | None = None  # quantity or percentage by signal; default: signals.HARD
    eviction_soft: Mapping[str, str] = field(default_factory=dict)
    eviction_soft_grace: Mapping[str, str] = field(default_factory=dict)  # durations by signal
    eviction_transition: float = TRANSITION  # seconds

    @property
    def gateway(self) -> str:
        return str(next(ipaddress.ip_network(self.pod_cidr).hosts()))

    @property
    def address(self) -> str:
        """The node's InternalIP."""
        return self.node_ip or self.gateway

    @property
    def listen_addresses(self) -> tuple[str, ...]:
        return self.listen or tuple(dict.fromkeys((self.address, "127.0.0.1")))

    @property
    def socket(self) -> Path:
        return self.run_dir / "containerd.sock"

    @property
    def cgroup_parent(self) -> str:
        """One for each data directory: what is below it is ours to end."""
        return f"/stablehand/{hashlib.sha256(str(self.data_dir).encode()).hexdigest()[:10]}"

    @property
    def pods_dir(self) -> Path:
        return self.data_dir / "pods"

    @property
    def logs_dir(self) -> Path:
        return self.data_dir / "pods-logs"

    @property
    def archives_dir(self) -> Path:
        return self.images_dir or self.data_dir / "images"

    @property
    def static_pods_dir(self) -> Path:
        return self.manifests_dir or self.data_dir / "manifests"

    @property
    def thresholds(self) -> list[Threshold]:
        """Below which pods are evicted. Raises ValueError."""
        return parse_thresholds(self.eviction_hard, self.eviction_soft, self.eviction_soft_grace)

    def check(self) -> None:
        """Raises NodeError for what cannot work."""
        try:
            self.thresholds  # noqa: B018
        except ValueError as e:
            raise NodeError(str(e)) from None
        try:
            network = ipaddress.ip_network(self.pod_cidr)
        except ValueError as e:
            raise NodeError(f"pod CIDR {self.pod_cidr!r}: {e}; give one like 10.244.0.0/24") from None
        if network.num_addresses < 8:
            raise NodeError(f"pod CIDR {self.pod_cidr} is too small: give a /24 or larger")
        if not 1 <= len(self.bridge) <= 15:
            raise NodeError(f"bridge name {self.bridge!r}: an interface name has 1 to 15 characters")
        if len(str(self.socket)) > SOCKET_LIMIT:
            raise NodeError(f"run directory {self.run_dir} is too long for a unix socket: give a shorter one")


def machine_arch() -> str:
    """This machine as Go names it."""
    machine = platform.machine()
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
