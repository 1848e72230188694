"""Starting and undoing a node: `run` until cancelled, `teardown` for `stablehand down --pods` and `make clean`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import socket
from pathlib import Path

from stablehand.node import cgroups, leftovers, mounts
from stablehand.node.agent import Agent, remove_sandbox
from stablehand.node.config import NodeConfig
from stablehand.node.containerd import Containerd
from stablehand.node.cri.client import CriError, Runtime
from stablehand.node.network import Network

log = logging.getLogger("stablehand.node")


async def run(config: NodeConfig, *, ready: asyncio.Event | None = None, containerd: Containerd | None = None) -> None:
    """Runs the node until cancelled. `ready` is set when the Node is registered. Raises NodeError.

    Pods and containerd go on after it, unless config.stop_pods_on_exit.
    """
    from stablehand.node.server import KubeletServer

    agent = Agent(config, containerd)
    server = KubeletServer(agent)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(agent.run(ready))
            group.create_task(server.run())
    except BaseExceptionGroup as e:
        first = e.exceptions[0]
        raise first from None
    finally:
        if config.stop_pods_on_exit:
            await teardown(config, pods=True)


async def teardown(config: NodeConfig, *, pods: bool) -> None:
    """With `pods`: stops every pod, containerd and its shims, and removes network, mounts and pod folders.

    Without: only ends containerd's supervision (nothing): pods go on. Images and volumes' data are never touched.
    """
    if not pods:
        return
    containerd = Containerd(config)
    if config.socket.exists():
        with contextlib.suppress(CriError, OSError):
            await _remove_all(config)
    await containerd.stop()
    await end_processes(config)
    await Network(config).teardown()
    await asyncio.get_running_loop().run_in_executor(None, _remove_files, config)


async def _remove_all(config: NodeConfig) -> None:
    runtime = Runtime(config.socket)
    try:
        sandboxes = await runtime.sandboxes(timeout=5)

        async def end(sandbox: str, ready: bool) -> None:
            if ready:
                for container in await runtime.containers():
                    if container.pod_sandbox_id == sandbox and container.state == 1:
                        with contextlib.suppress(CriError):
                            await runtime.stop_container(container.id, 5)
            await remove_sandbox(runtime, sandbox)

        await asyncio.gather(*(end(s.id, s.state == 0) for s in sandboxes), return_exceptions=True)
    finally:
        await runtime.close()


async def end_processes(config: NodeConfig) -> None:
    """What outlived containerd: shims, and all in our cgroups."""
    await asyncio.gather(*(leftovers.kill(pid) for pid, _ in list(leftovers.shims(config))))
    await asyncio.gather(*(leftovers.kill(pid) for pid in leftovers.processes(config)))


def _remove_files(config: NodeConfig) -> None:
    for folder in (config.pods_dir, config.run_dir, config.data_dir / "containerd"):
        if not mounts.unmount_below(folder):
            log.warning("something is still mounted below %s: it is left alone", folder)
    for folder in (config.pods_dir, config.logs_dir, config.run_dir / "containerd", config.run_dir / "runc"):
        if not mounts.mount_points(folder):
            shutil.rmtree(folder, ignore_errors=True)
    for top in list(cgroups.places(config.cgroup_parent)):
        for path in (*sorted(top.glob("**/"), key=lambda p: -len(str(p))), top.parent):
            with contextlib.suppress(OSError):
                path.rmdir()
    for name in ("containerd.sock", "containerd.sock.ttrpc", "containerd.json"):
        (config.run_dir / name).unlink(missing_ok=True)
    _remove_dead_sockets(Path("/run/containerd/s"))
    for shared in ("/run/containerd/s", "/run/containerd", "/var/lib/cni/results", "/var/lib/cni"):
        with contextlib.suppress(OSError):
            os.rmdir(shared)
    with contextlib.suppress(OSError):
        config.run_dir.rmdir()


def _remove_dead_sockets(folder: Path) -> None:
    """Shims that were killed leave theirs behind, in a folder whose place containerd fixes: nobody answers on them."""
    for path in folder.iterdir() if folder.is_dir() else ():
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                path.unlink(missing_ok=True)
            except OSError:
                continue
