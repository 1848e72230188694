"""`stablehand apiserver`: the API server alone, for other parts and clients to connect to."""

from __future__ import annotations

import argparse
import dataclasses
import os

from stablehand.cli import options


def arguments(parser: argparse.ArgumentParser) -> None:
    options.server_options(parser)


def run(args: argparse.Namespace) -> int:
    import uvloop

    from stablehand.cli.apart import log_to_stderr
    from stablehand.launch.supervisor import Supervisor, stop_on_signals

    log_to_stderr()
    config = dataclasses.replace(options.up_config(args), node=False)

    async def serve() -> None:
        supervisor = Supervisor(config, lambda line: print(line, flush=True), alone=True)
        stop_on_signals(supervisor)
        await supervisor.run(
            lambda: print(f"ready; kubeconfig: {config.paths.kubeconfig} (pid {os.getpid()})", flush=True)
        )

    uvloop.run(serve())
    return 0
