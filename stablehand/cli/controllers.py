"""`stablehand controllers`: the controllers alone, against any conformant API server."""

from __future__ import annotations

import argparse
from pathlib import Path

from stablehand.cli import options
from stablehand.cli.apart import run_part
from stablehand.client import Client


def arguments(parser: argparse.ArgumentParser) -> None:
    options.kubeconfig(parser)
    parser.add_argument("--controllers", default="*", metavar="LIST", help='"*", names, or "-name" to leave one out')
    parser.add_argument("--root-ca-file", type=Path, metavar="FILE", help="published as kube-root-ca.crt")
    parser.add_argument("--leader-elect", action="store_true", help="only the holder of a Lease works")


def run(args: argparse.Namespace) -> int:
    from stablehand import controllers

    ca_pem = args.root_ca_file.read_text() if args.root_ca_file else ""
    enable = tuple(args.controllers.split(","))

    async def part(client: Client) -> None:
        await controllers.run(
            controllers.ControllersConfig(client, ca_pem=ca_pem, enable=enable, leader_elect=args.leader_elect)
        )

    return run_part(args.kubeconfig, "kube-controller-manager", part)
