"""What a containerd that was killed in the middle of its work has forgotten: shims, and processes in our cgroups.

It had not written down yet what it was making, and knows nothing of it when it starts again. What it does know is the
agent's to clear.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import shutil
import signal
from collections.abc import Collection, Iterator
from pathlib import Path

from stablehand.node import cgroups, mounts
from stablehand.node.config import NodeConfig
from stablehand.node.containerd import process_start, wait_for_exit
from stablehand.node.cri.client import Runtime

log = logging.getLogger("stablehand.node")

_NAMESPACE = "k8s.io"
_RESULTS = Path("/var/lib/cni/results")
_TASK = re.compile(r"[0-9a-f]{64}")


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


def folders(config: NodeConfig, name: str = "") -> list[Path]:
    """All our cgroups, deepest first; or those of a name. Others may go meanwhile."""
    found = [Path(path) for top in cgroups.places(config.cgroup_parent) for path, _, _ in os.walk(top, topdown=False)]
    return [path for path in found if not name or path.name == name]


def processes(config: NodeConfig, name: str = "") -> set[int]:
    """The pids in our cgroups, or in those of a name."""
    found: set[int] = set()
    for folder in folders(config, name):
        with contextlib.suppress(OSError):
            found |= {int(line) for line in (folder / "cgroup.procs").read_text().split()}
    return found


async def kill(pid: int) -> None:
    """SIGKILL, and waiting for the end (5 s at most)."""
    start = process_start(pid)
    with contextlib.suppress(OSError, TimeoutError):
        os.kill(pid, signal.SIGKILL)
        await asyncio.wait_for(wait_for_exit(pid, start), 5)


def _in_use(cgroup: Path) -> bool:
    try:
        return bool((cgroup / "cgroup.procs").read_text().strip())
    except OSError:
        return False


def tasks(config: NodeConfig) -> dict[str, tuple[int, int]]:
    """Pid and start (in clock ticks) of the shim of every task that has processes; zeros for one in another's shim,
    which is no sandbox."""
    found = {f.name: (0, 0) for f in folders(config) if _TASK.fullmatch(f.name) and _in_use(f)}
    # Only now: a sandbox's shim is there before its processes are.
    return found | {task: (pid, int(process_start(pid) or 0)) for pid, task in shims(config)}


async def clear(config: NodeConfig, runtime: Runtime, since: int, before: Collection[str] = ()) -> set[str]:
    """Ends what the runtime, which began at clock tick `since`, has forgotten. It does not tell of sandboxes that it is
    making: what began with it or later counts as forgotten if it was unknown `before`. Answers what is unknown now.
    Raises CriError."""
    loop = asyncio.get_running_loop()
    # In this order: containers are known before they begin.
    running = await loop.run_in_executor(None, tasks, config)
    sandboxes, containers = await asyncio.gather(runtime.sandboxes(), runtime.containers())
    boxes = {s.id for s in sandboxes}
    unknown = {task: shim for task, shim in running.items() if task not in boxes | {c.id for c in containers}}
    lost = {task: pid for task, (pid, start) in unknown.items() if start < since or task in before}
    if lost:
        log.warning("ending %s, which containerd has forgotten", ", ".join(task[:12] for task in sorted(lost)))
        await asyncio.gather(*(kill(pid) for pid in lost.values() if pid))
        await asyncio.gather(*(kill(pid) for task in lost for pid in processes(config, task)))
        await loop.run_in_executor(None, _remove_traces, config, set(lost))
    return set(unknown) - set(lost)


def _remove_traces(config: NodeConfig, lost: Collection[str]) -> None:
    for task in lost:
        bundle = config.run_dir / "containerd" / "io.containerd.runtime.v2.task" / _NAMESPACE / task
        if mounts.unmount_below(bundle):
            shutil.rmtree(bundle, ignore_errors=True)
        shutil.rmtree(config.run_dir / "runc" / _NAMESPACE / task, ignore_errors=True)
        for folder in folders(config, task):
            with contextlib.suppress(OSError):
                folder.rmdir()


async def clear_networks(config: NodeConfig, runtime: Runtime) -> None:
    """Takes back the addresses and network namespaces of sandboxes that the runtime has forgotten. Nobody may make
    sandboxes meanwhile. Raises CriError."""
    boxes = {s.id for s in await runtime.sandboxes()}
    used = set(await asyncio.gather(*(runtime.sandbox_network(box) for box in boxes)))
    for place in (config.run_dir / "containerd" / "io.containerd.grpc.v1.cri" / "netns").glob("cni-*"):
        if str(place) not in used:
            log.info("removing network namespace %s, which belongs to no sandbox", place.name)
            mounts.unmount_below(place)
            place.unlink(missing_ok=True)
    for lease in (config.data_dir / "cni" / "addresses" / "stablehand").glob("[0-9]*"):
        owner = lease.read_text().split()[:1]
        if owner and owner[0] not in boxes:
            lease.unlink(missing_ok=True)
            for name in (f"stablehand-{owner[0]}-eth0", f"cni-loopback-{owner[0]}-lo"):
                (_RESULTS / name).unlink(missing_ok=True)
