"""`stablehand apiserver`: the API server alone, for other parts and clients to connect to."""

from __future__ import annotations

import argparse
import logging
import os

from stablehand.cli import options


def arguments(parser: argparse.ArgumentParser) -> None:
    options.up_options(parser)


def run(args: argparse.Namespace) -> int:
    import dataclasses

    import uvloop

    from stablehand.launch.supervisor import Supervisor, stop_on_signals

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    config = dataclasses.replace(options.up_config(args), node=False, nfs=None)

    async def serve() -> None:
        supervisor = Supervisor(config, lambda line: print(line, flush=True), alone=True)
        stop_on_signals(supervisor)
        await supervisor.run(lambda: print(f"kubeconfig: {config.paths.kubeconfig} (pid {os.getpid()})", flush=True))

    uvloop.run(serve())
    return 0
