"""`stablehand node`: the node agent alone, against any conformant API server; with --proxy-kubeconfig, the Services'
virtual addresses on this machine too."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import os
from pathlib import Path

from stablehand.cli import options
from stablehand.cli.apart import run_part
from stablehand.client import Client, connect
from stablehand.launch.config import UpConfig
from stablehand.launch.errors import LaunchError


def arguments(parser: argparse.ArgumentParser) -> None:
    options.kubeconfig(parser)
    options.data_dir(parser)
    options.node_options(parser)
    options.cidr(parser, "--service-cidr", UpConfig.service_cidr)
    parser.add_argument(
        "--client-ca",
        type=Path,
        metavar="FILE",
        help="whose certificates may ask this node for logs and exec (the API server's); default: DIR/pki/ca.crt",
    )
    parser.add_argument(
        "--proxy-kubeconfig", metavar="FILE", help="serve the Services' virtual addresses with this identity"
    )


def run(args: argparse.Namespace) -> int:
    from stablehand import node
    from stablehand.launch.nodeconfig import node_config
    from stablehand.launch.parts import network
    from stablehand.launch.state import remember_network
    from stablehand.launch.supervisor import open_pki, take_lock

    if os.geteuid() != 0:
        raise LaunchError("running pods needs root: use sudo")
    if args.client_ca is not None and not args.client_ca.is_file():
        raise LaunchError(f"--client-ca {args.client_ca}: there is no such file")
    config = options.up_config(args)
    lock = take_lock(config.paths.node_lock)
    remember_network(config)
    pki = open_pki(config.paths.pki)

    async def part(client: Client) -> None:
        settings = node_config(config, pki, client)
        if args.client_ca is not None:
            settings = dataclasses.replace(settings, client_ca=args.client_ca.absolute())
        async with asyncio.TaskGroup() as group:
            group.create_task(node.run(settings))
            if args.proxy_kubeconfig is not None:
                group.create_task(proxy())

    async def proxy() -> None:
        client = (await connect(args.proxy_kubeconfig, user_agent="kube-proxy")).with_manager("kube-proxy")
        try:
            await network(config, client)
        finally:
            await client.close()

    try:
        return run_part(args.kubeconfig, "kubelet", part, stop_seconds=120 if config.stop_pods else 10)
    finally:
        os.close(lock)
