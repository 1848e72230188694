"""`stablehand node`: the node agent alone, against any conformant API server."""

from __future__ import annotations

import argparse
import os

from stablehand.cli import options
from stablehand.cli.apart import run_part
from stablehand.client import Client
from stablehand.launch.errors import LaunchError


def arguments(parser: argparse.ArgumentParser) -> None:
    options.kubeconfig(parser)
    options.up_options(parser)


def run(args: argparse.Namespace) -> int:
    from stablehand import node
    from stablehand.launch.parts import node_config
    from stablehand.launch.pki import Pki

    if os.geteuid() != 0:
        raise LaunchError("running pods needs root: use sudo")
    config = options.up_config(args)
    config.paths.root.mkdir(mode=0o711, parents=True, exist_ok=True)
    pki = Pki(config.paths.pki)

    async def part(client: Client) -> None:
        await node.run(node_config(config, pki, client))

    return run_part(args.kubeconfig, "kubelet", part)
