"""What a provisioner is told at start. No I/O here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stablehand.client import Client

LOCAL_PROVISIONER = "stablehand.dev/local"


@dataclass(frozen=True)
class ProvisionerConfig:
    """`root` is where folders are made; `server`:`path` is the NFS export that `root` is (kind "nfs" only).

    `node_name` ties local volumes to a node. `namespace` holds the leader's lock.
    """

    client: Client
    kind: str
    name: str
    root: Path
    server: str = ""
    path: str = ""
    leader_elect: bool = False
    node_name: str = ""
    namespace: str = "default"
