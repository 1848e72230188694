"""`stablehand status`: what runs, read from the state file and asked of the API."""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from pathlib import Path

from stablehand.cli import options
from stablehand.client import connect
from stablehand.launch.config import Paths
from stablehand.machinery.conditions import get_condition
from stablehand.machinery.resources import resource


def arguments(parser: argparse.ArgumentParser) -> None:
    options.data_dir(parser)


def run(args: argparse.Namespace) -> int:
    paths = Paths(args.data_dir.absolute())
    try:
        state = json.loads(paths.state.read_text())
        memory = _memory(state["pid"])
    except (OSError, ValueError):
        print(f"Stablehand does not run on {paths.root}")
        return 1
    print(f"stablehand  {state['version']}, process {state['pid']}, up {time.time() - state['started']:.0f} s")
    print(f"listens on  https://{state['listen']}")
    print(f"parts       {', '.join(state['parts'])}")
    print(f"memory      {memory:.0f} MB")
    asyncio.run(_cluster(paths))
    return 0


def _memory(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


async def _cluster(paths: Paths) -> None:
    client = await connect(str(paths.kubeconfig))
    try:
        for node in (await client.list(resource("nodes")))["items"]:
            condition = get_condition(node.get("status"), "Ready")
            ready = "Ready" if condition is not None and condition.get("status") == "True" else "NotReady"
            print(f"node        {node['metadata']['name']} {ready}")
        phases: dict[str, int] = {}
        for pod in (await client.list(resource("pods")))["items"]:
            phase = (pod.get("status") or {}).get("phase", "Unknown")
            phases[phase] = phases.get(phase, 0) + 1
        print("pods        " + (", ".join(f"{n} {phase}" for phase, n in sorted(phases.items())) or "none"))
    finally:
        await client.close()
