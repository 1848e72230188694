"""`stablehand up`: all parts in this process, in the foreground or detached."""

from __future__ import annotations

import argparse
import gc
import logging
import os
import subprocess
import sys
import time

from stablehand.cli import options
from stablehand.launch.config import UpConfig
from stablehand.launch.errors import LaunchError
from stablehand.launch.state import make_root


def arguments(parser: argparse.ArgumentParser) -> None:
    options.up_options(parser)
    parser.add_argument(
        "--detach", action="store_true", help="return once it is ready; the log goes to DIR/stablehand.log"
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="log what the parts do")
    parser.add_argument("--ready-fd", type=int, help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    config = options.up_config(args)
    if config.node and os.geteuid() != 0:
        raise LaunchError("running pods needs root: use sudo, or --no-node for a control plane alone")
    if config.nfs is not None and not config.node:
        raise LaunchError("--nfs needs the node: leave out --no-node")
    if config.nfs is not None and config.nfs.exists() and not config.nfs.is_dir():
        raise LaunchError(f"--nfs {config.nfs} is no folder")
    if args.detach:
        return _detach(config)
    logging.basicConfig(
        level=logging.DEBUG if args.verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    return _serve(config, args.ready_fd)


def _serve(config: UpConfig, ready_fd: int | None) -> int:
    import uvloop

    from stablehand.launch.supervisor import Supervisor, stop_on_signals

    if ready_fd is not None:
        os.set_inheritable(ready_fd, False)  # or whoever reads it waits for the end of the programs started here
    began = time.monotonic()

    def progress(line: str) -> None:
        print(line, flush=True)

    def ready() -> None:
        # What start-up made stays for good: keep the collector from walking it again and again.
        gc.collect()
        gc.freeze()
        print(f"ready in {time.monotonic() - began:.2f} s; kubeconfig: {config.paths.kubeconfig}", flush=True)
        print(f"  export KUBECONFIG={config.paths.kubeconfig}", flush=True)
        if ready_fd is not None:
            os.write(ready_fd, b"ok\n")
            os.close(ready_fd)

    async def serve() -> None:
        supervisor = Supervisor(config, progress)
        stop_on_signals(supervisor)
        await supervisor.run(ready)

    uvloop.run(serve())
    print(
        "stopped" + ("" if config.stop_pods or not config.node else "; pods go on (`stablehand down --pods` ends them)")
    )
    return 0


def _detach(config: UpConfig) -> int:
    """Starts the same command in its own session and waits until it is ready, or says why it is not."""
    make_root(config.paths)
    read_end, write_end = os.pipe()
    argv = [a for a in sys.argv[1:] if a != "--detach"] + ["--ready-fd", str(write_end)]
    with open(config.paths.log, "ab") as log:
        start = log.tell()
        child = subprocess.Popen(
            [sys.executable, "-m", "stablehand", *argv],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(write_end,),
            start_new_session=True,
        )
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        answer = pipe.read()
    with open(config.paths.log, "rb") as log:
        log.seek(start)
        text = log.read().decode(errors="replace")
    if answer == b"ok\n":
        print(text, end="")
        return 0
    code = child.wait()
    lines = text.strip().splitlines() or [f"it ended with status {code}"]
    print(lines[-1], file=sys.stderr)
    return code or 1
