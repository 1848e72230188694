"""Who each part is to the API server, and kubeconfigs for parts that run alone. RBAC knows these users by name."""

from __future__ import annotations

from pathlib import Path

from stablehand.launch.config import Paths
from stablehand.launch.errors import LaunchError
from stablehand.launch.pki import Pki, write_kubeconfig

IDENTITIES = {
    "controllers": "system:kube-controller-manager",
    "scheduler": "system:kube-scheduler",
    "proxy": "system:kube-proxy",
    "dns": "system:kube-dns",
    "provisioner": "system:stablehand:provisioner",
}
PARTS = (*IDENTITIES, "node")


def part_kubeconfig(paths: Paths, part: str, node_name: str, server: str) -> Path:
    """Writes DIR/kubeconfig-PART.yaml with a client certificate of its own, and answers its path. Raises LaunchError."""
    if not (paths.pki / "ca.key").exists():
        raise LaunchError(f"{paths.pki} has no cluster's authority: start `stablehand apiserver` or `up` first")
    pki = Pki(paths.pki)
    file, user = part, IDENTITIES.get(part, "")
    groups: tuple[str, ...] = ()
    if part == "node":
        file, user, groups = f"node-{node_name}", f"system:node:{node_name}", ("system:nodes",)
    crt, key = pki.certificate(f"client-{file}", user, groups)
    path = paths.root / f"kubeconfig-{file}.yaml"
    write_kubeconfig(path, server, pki.ca_file, crt, key, user)
    return path
