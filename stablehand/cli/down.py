"""`stablehand down`: stops a running Stablehand, and with --pods what it runs."""

from __future__ import annotations

import argparse
import asyncio
import os
import select
import signal

from stablehand.cli import options
from stablehand.launch.config import Paths, UpConfig
from stablehand.launch.errors import LaunchError
from stablehand.launch.state import lock_holder


def arguments(parser: argparse.ArgumentParser) -> None:
    options.data_dir(parser)
    parser.add_argument("--pods", action="store_true", help="stop the pods too, and remove bridge, rules and mounts")
    options.pod_network(parser, remembered=True)
    parser.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS", help="default: %(default)s")


def run(args: argparse.Namespace) -> int:
    paths = Paths(args.data_dir.absolute())
    if not paths.root.exists():
        raise LaunchError(f"there is no data directory {paths.root}; give --data-dir")
    stopped = _stop(paths, args.timeout)
    if args.pods:
        if os.geteuid() != 0:
            raise LaunchError("stopping pods needs root: use sudo")
        asyncio.run(_teardown(options.network_of(args)))
    print(("stopped" if stopped else "it was not running") + ("; pods and their network are gone" if args.pods else ""))
    return 0


def _stop(paths: Paths, timeout: float) -> bool:
    """Stops what holds the data directory: all parts together, or a node agent alone."""
    try:
        holders = [lock_holder(path) for path in (paths.lock, paths.node_lock)]
    except PermissionError as e:
        raise LaunchError(f"{paths.root} belongs to root: use sudo") from e
    ended = [_end(pid, timeout) for pid in holders if pid is not None]
    return any(ended)


def _end(pid: int, timeout: float) -> bool:
    """SIGTERM, and waiting for the end. False for a process that was gone already."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        signal.pidfd_send_signal(handle, signal.SIGTERM)
        readable, _, _ = select.select([handle], [], [], timeout)
        if not readable:
            raise LaunchError(f"process {pid} did not stop within {timeout:g} s")
    except PermissionError as e:
        raise LaunchError(f"process {pid} belongs to another user: use sudo") from e
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)
    return True


async def _teardown(config: UpConfig) -> None:
    from stablehand.launch.parts import teardown

    await teardown(config)
