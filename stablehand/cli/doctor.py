"""`stablehand doctor`: what this machine lacks, and the command that mends it. Changes nothing."""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path

# (what, programs or folders any of which will do, Debian package, needed for)
_NEEDS: tuple[tuple[str, tuple[str, ...], str, str], ...] = (
    ("containerd", ("containerd",), "containerd", "pods"),
    ("runc", ("runc", "/usr/sbin/runc"), "runc", "pods"),
    ("CNI plugins", ("/usr/lib/cni/ptp", "/opt/cni/bin/ptp"), "containernetworking-plugins", "pods"),
    ("nft", ("nft", "/usr/sbin/nft"), "nftables", "Services"),
    ("ip", ("ip", "/usr/sbin/ip", "/sbin/ip"), "iproute2", "pods"),
    ("kubectl", ("kubectl",), "", "you (see README: kubectl)"),
    ("nfs-ganesha", ("ganesha.nfsd", "/usr/bin/ganesha.nfsd"), "nfs-ganesha nfs-ganesha-vfs", "--nfs"),
)
_OPTIONAL = ("kubectl", "nfs-ganesha")


def arguments(parser: argparse.ArgumentParser) -> None:
    return None


def _found(candidates: tuple[str, ...]) -> bool:
    return any(Path(c).exists() if c.startswith("/") else shutil.which(c) is not None for c in candidates)


def run(args: argparse.Namespace) -> int:
    missing: list[str] = []
    bad = False
    for what, candidates, package, purpose in _NEEDS:
        if _found(candidates):
            print(f"ok       {what}")
            continue
        optional = what in _OPTIONAL
        bad |= not optional
        print(f"{'optional' if optional else 'MISSING '} {what}: needed for {purpose}")
        if package:
            missing.append(package)
    if os.geteuid() != 0:
        print("note     not root: `stablehand up` needs sudo, `stablehand up --no-node` does not")
    if missing:
        print(f"mend it: sudo apt-get install -y --no-install-recommends {' '.join(missing)}")
    return 1 if bad else 0
