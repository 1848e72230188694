"""The state file of a running Stablehand: who it is, where it listens, what runs. And the memory that it all takes."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

from stablehand.launch.config import Paths, UpConfig
from stablehand.launch.errors import LaunchError


def make_root(paths: Paths) -> None:
    """The data directory: others may pass through to what is theirs, not list it. Raises LaunchError."""
    try:
        paths.root.mkdir(mode=0o711, parents=True, exist_ok=True)
    except OSError as e:
        raise unusable(paths.root, e) from e


def unusable(root: Path, error: OSError) -> LaunchError:
    return LaunchError(f"cannot use the data directory {root}: {error.strerror}; run as root or give --data-dir")


def read_state(paths: Paths) -> dict[str, Any] | None:
    """The state of the Stablehand that runs on a data directory; None where none does. Raises PermissionError."""
    try:
        state = json.loads(paths.state.read_text())
        start = process_start(int(state["pid"]))
    except PermissionError:
        raise
    except (OSError, ValueError, KeyError, TypeError):
        return None
    # A process id may be another's by now: a machine that was switched off leaves its state file behind.
    return state if start == state.get("process_start") else None


def remember_network(config: UpConfig) -> None:
    """Writes down what `down --pods` must take away later, when nothing runs that could be asked. Raises LaunchError
    where pods still run in another network, which would be forgotten."""
    if old := remembered_network(config.paths):
        before = UpConfig(paths=config.paths, bridge=old["bridge"], pod_cidr=old["pod_cidr"])
        if (before.bridge, before.pod_cidr) != (config.bridge, config.pod_cidr) and before.containerd_socket.exists():
            raise LaunchError(
                f"pods of an earlier `up` run in the network {before.pod_cidr} at {before.bridge}: give --bridge "
                f"{before.bridge} --pod-cidr {before.pod_cidr}, or end them with `stablehand down --pods`"
            )
    fresh = config.paths.network.with_suffix(".new")
    fresh.write_text(json.dumps({"bridge": config.bridge, "pod_cidr": config.pod_cidr}))
    fresh.replace(config.paths.network)


def remembered_network(paths: Paths) -> dict[str, str]:
    """`bridge` and `pod_cidr` of the pods that this data directory last ran; empty where it ran none."""
    try:
        found = json.loads(paths.network.read_text())
        return {"bridge": str(found["bridge"]), "pod_cidr": str(found["pod_cidr"])}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def process_start(pid: int) -> int:
    """When the process was started, in clock ticks since boot: with its id, this names a process. Raises OSError."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def lock_holder(path: Path) -> int | None:
    """The process that holds a lock file (supervisor.take_lock); None where none does. Raises PermissionError."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.read(fd, 32).decode().strip()
        return int(text) if text.isdigit() else None
    finally:
        os.close(fd)
    return None


def memory(state: dict[str, Any], proc: Path = Path("/proc")) -> dict[str, float]:
    """Resident MB by what takes it: Stablehand itself, containerd, its shims, the NFS server."""
    folders = {"containerd": "node_dir", "containerd-shim": "run_dir", "ganesha.nfsd": "nfs_dir"}
    wanted = {name: f"{state[key]}/".encode() for name, key in folders.items() if state.get(key)}
    out = {"stablehand": resident(int(state["pid"]), proc)}
    for process in proc.iterdir() if wanted else ():
        if not process.name.isdigit():
            continue
        try:
            program, *words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        name = program.rpartition(b"/")[2].decode(errors="replace")
        name = "containerd-shim" if name.startswith("containerd-shim") else name
        if name in wanted and any(word.startswith(wanted[name]) for word in words):
            out[name] = out.get(name, 0.0) + resident(int(process.name), proc)
    return out


def resident(pid: int, proc: Path = Path("/proc")) -> float:
    """MB; 0 for a process that is gone."""
    try:
        for line in (proc / str(pid) / "status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0
