"""`stablehand scheduler`: the scheduler alone, against any conformant API server."""

from __future__ import annotations

import argparse

from stablehand.cli import options
from stablehand.cli.apart import run_part
from stablehand.client import Client


def arguments(parser: argparse.ArgumentParser) -> None:
    options.kubeconfig(parser)
    options.leader_elect(parser, True)
    parser.add_argument("--name", default="default-scheduler", help="pods' schedulerName; default: %(default)s")


def run(args: argparse.Namespace) -> int:
    from stablehand import scheduler

    async def part(client: Client) -> None:
        await scheduler.run(scheduler.SchedulerConfig(client, name=args.name, leader_elect=args.leader_elect))

    return run_part(args.kubeconfig, "kube-scheduler", part)
