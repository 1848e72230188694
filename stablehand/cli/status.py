"""`stablehand status`: what runs, read from the state file and asked of the API. Exit status 1 where it does not run or
does not answer."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter
from typing import Any

from stablehand.cli import options
from stablehand.client import Client, connect
from stablehand.launch.config import Paths
from stablehand.launch.errors import LaunchError, is_expected, one_line
from stablehand.launch.state import lock_holder, memory, read_state
from stablehand.machinery.conditions import get_condition, is_pod_ready
from stablehand.machinery.resources import resource


def arguments(parser: argparse.ArgumentParser) -> None:
    options.data_dir(parser)


def run(args: argparse.Namespace) -> int:
    paths = Paths(args.data_dir.absolute())
    try:
        state = read_state(paths)
        agent = lock_holder(paths.node_lock)
    except PermissionError as e:
        raise LaunchError(f"{paths.root} is readable by root alone: use sudo") from e
    if state is None and agent is not None:
        _line("node", f"an agent runs alone, process {agent}; its API server knows more")
        return 0
    if state is None:
        print(f"Stablehand does not run on {paths.root}: `stablehand up` starts it")
        return 1
    _own(state)
    try:
        return asyncio.run(_cluster(paths))
    except Exception as e:
        if not is_expected(e):
            raise
        print(f"stablehand status: the API server does not answer: {one_line(e)}", file=sys.stderr)
        return 1


def _line(what: str, text: str) -> None:
    print(f"{what:<11} {text}")


def _own(state: dict[str, Any]) -> None:
    """What the state file and /proc know."""
    seconds = time.time() - state["started"]
    _line("stablehand", f"{state['version']}, process {state['pid']}, up {_duration(seconds)}")
    _line("listens on", f"https://{state['listen']}")
    _line("parts", ", ".join(state["parts"]))
    _line("store", state["store"])
    ports = {"API server": state["listen"], "node": state["kubelet_port"], "DNS": state["dns"]}
    _line("ports", ", ".join(f"{part} {where}" for part, where in ports.items() if where))
    if state["nfs"]:
        _line("nfs", f"{state['nfs']} on port 2049")
    shares = memory(state)
    each = ", ".join(f"{name} {size:.0f}" for name, size in shares.items())
    _line("memory", f"{sum(shares.values()):.0f} MB ({each})")


def _duration(seconds: float) -> str:
    """As kubectl shows ages: at most two units."""
    whole = int(seconds)
    for size, unit, smaller, small in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // smaller}{small}"
    return f"{whole}s"


async def _cluster(paths: Paths) -> int:
    """What only the API knows: its version, nodes, pods."""
    client = await connect(str(paths.kubeconfig))
    try:
        async with asyncio.timeout(10):
            return await _asked(client)
    except TimeoutError:
        raise LaunchError("no answer within 10 s") from None
    finally:
        await client.close()


async def _asked(client: Client) -> int:
    version = await client.request("GET", "/version")
    _line("kubernetes", str(version["gitVersion"]))
    nodes = (await client.list(resource("nodes")))["items"]
    for node in nodes:
        info = (node.get("status") or {}).get("nodeInfo") or {}
        condition = get_condition(node.get("status"), "Ready")
        ready = "Ready" if condition is not None and condition.get("status") == "True" else "NotReady"
        runtime = info.get("containerRuntimeVersion", "").replace("://", " ")
        _line("node", ", ".join(filter(None, (f"{node['metadata']['name']} {ready}", runtime, info.get("osImage")))))
    if not nodes:
        _line("node", "none")
    pods = (await client.list(resource("pods")))["items"]
    phases = Counter((pod.get("status") or {}).get("phase", "Unknown") for pod in pods)
    ready_pods = sum(is_pod_ready(pod) for pod in pods)
    counts = ", ".join(f"{n} {phase}" for phase, n in sorted(phases.items()))
    _line("pods", f"{counts} ({ready_pods} ready)" if pods else "none")
    return 0
