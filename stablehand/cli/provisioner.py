"""`stablehand provisioner`: one volume provisioner against any API server. Flags default to the environment
that nfs-subdir-external-provisioner reads, so that its Deployments work unchanged."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from stablehand.cli import options

_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def arguments(parser: argparse.ArgumentParser) -> None:
    env = os.environ
    options.kubeconfig(parser)
    parser.add_argument("--kind", choices=("nfs", "local"), default="nfs", help="default: %(default)s")
    parser.add_argument("--name", default=env.get("PROVISIONER_NAME", ""), help="default: $PROVISIONER_NAME")
    parser.add_argument(
        "--root", type=Path, default=Path("/persistentvolumes"), metavar="DIR", help="default: %(default)s"
    )
    parser.add_argument("--server", default=env.get("NFS_SERVER", ""), metavar="HOST", help="default: $NFS_SERVER")
    parser.add_argument("--path", default=env.get("NFS_PATH", ""), metavar="PATH", help="default: $NFS_PATH")
    parser.add_argument("--node-name", default="", metavar="NAME", help="tie local volumes to this node")
    parser.add_argument(
        "--leader-elect",
        action=argparse.BooleanOptionalAction,
        default=env.get("ENABLE_LEADER_ELECTION", "true").lower() not in ("false", "0", "f"),
        help="default: $ENABLE_LEADER_ELECTION, else true",
    )


def namespace() -> str:
    """Where the leader's lock lies: POD_NAMESPACE, the service account's namespace, default."""
    if named := os.environ.get("POD_NAMESPACE"):
        return named
    try:
        return _NAMESPACE_FILE.read_text().strip() or "default"
    except OSError:
        return "default"


def run(args: argparse.Namespace) -> int:
    from stablehand import storage
    from stablehand.cli.apart import run_part
    from stablehand.client import Client
    from stablehand.runtime.leases import LeadershipLost

    async def part(client: Client) -> None:
        await storage.run(
            storage.ProvisionerConfig(
                client=client,
                kind=args.kind,
                name=args.name,
                root=args.root,
                server=args.server,
                path=args.path,
                leader_elect=args.leader_elect,
                node_name=args.node_name,
                namespace=namespace(),
            )
        )

    try:
        return run_part(args.kubeconfig, "stablehand-provisioner", part)
    except LeadershipLost as e:
        print(f"stablehand provisioner: {e}", file=sys.stderr)
        return 1
