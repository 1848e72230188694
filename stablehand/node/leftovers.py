"""What a containerd that was killed in the middle of its work has forgotten: shims without a task, and what runs in them.

containerd drops such a task when it starts again, and leaves the processes. What it does know is the agent's to clear.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

from stablehand.node.config import NodeConfig
from stablehand.node.containerd import process_start, wait_for_exit

log = logging.getLogger("stablehand.node")

_NAMESPACE = "k8s.io"


def shims(config: NodeConfig) -> Iterator[tuple[int, str]]:
    """(pid, id of the sandbox) of our shims, known by our socket's address on their command line."""
    mine = str(config.socket)
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError, ValueError):
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if "containerd-shim-runc-v2" in words[0] and mine in words:
                yield int(entry.name), words[words.index("-id") + 1]


def cgroups(config: NodeConfig) -> list[Path]:
    """Our cgroup in every hierarchy (v1), or the one (v2)."""
    root, parent = Path("/sys/fs/cgroup"), config.cgroup_parent.lstrip("/")
    return [path for path in (root / parent, *(h / parent for h in root.iterdir())) if path.is_dir()]


def processes(config: NodeConfig, below: str = "**") -> set[int]:
    """The pids in our cgroups, or in those of some name below them."""
    found: set[int] = set()
    for top in cgroups(config):
        for procs in top.glob(f"{below}/cgroup.procs"):
            with contextlib.suppress(OSError):
                found |= {int(line) for line in procs.read_text().split()}
    return found


async def kill(pid: int) -> None:
    """SIGKILL, and waiting for the end (5 s at most)."""
    start = process_start(pid)
    with contextlib.suppress(OSError, TimeoutError):
        os.kill(pid, signal.SIGKILL)
        await asyncio.wait_for(wait_for_exit(pid, start), 5)


def forgotten(config: NodeConfig) -> list[tuple[int, str]]:
    """The shims that containerd has no task for. A task's folder is made before its shim starts, and a containerd that
    starts has read them all before it answers."""
    tasks = config.run_dir / "containerd" / "io.containerd.runtime.v2.task" / _NAMESPACE
    return [(pid, task) for pid, task in shims(config) if not (tasks / task).exists()]


async def clear(config: NodeConfig) -> None:
    """Ends what containerd, which answers, has forgotten."""
    found = await asyncio.get_running_loop().run_in_executor(None, forgotten, config)
    for pid, task in found:
        log.info("ending shim %s of %s, which containerd has forgotten", pid, task[:12])
        await kill(pid)
        await asyncio.gather(*(kill(inside) for inside in processes(config, f"**/{task}")))
        shutil.rmtree(config.run_dir / "runc" / _NAMESPACE / task, ignore_errors=True)
        for top in cgroups(config):
            for folder in sorted(top.glob(f"**/{task}")):
                with contextlib.suppress(OSError):
                    folder.rmdir()
