"""nfs volumes, by the first that works: the kernel's client; where this machine itself exports the folder, the folder;
a FUSE mount over libnfs. An event on the pod (NFSMounted) says which one it was."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

from stablehand.machinery.types import Obj
from stablehand.node import mounts
from stablehand.node.network import is_own_host
from stablehand.node.volumes.contract import Context, Mounted, VolumeError

_TIMEOUT = 60.0
_no_kernel_client = False


async def setup(context: Context, source: Obj) -> Mounted:
    global _no_kernel_client
    server, path = source["server"], source["path"]
    readonly = context.readonly or bool(source.get("readOnly"))
    folder = context.folder
    if folder.exists() and mounts.is_mount_point(folder):
        return Mounted(folder, readonly)
    problems: list[str] = []
    if not _no_kernel_client:
        folder.mkdir(parents=True, exist_ok=True)
        error = await _kernel(server, path, folder, readonly, context.mount_options)
        if error is None:
            _tell(context, f"{server}:{path} with the kernel's NFS client")
            return Mounted(folder, readonly)
        _no_kernel_client = "No such device" in error or "unknown filesystem type" in error
        problems.append(error)
    exported = await asyncio.get_running_loop().run_in_executor(None, own_export, context, server, path)
    if exported is not None:
        _tell(context, f"{server}:{path} as a bind mount of {exported}, which this machine exports")
        return Mounted(exported, readonly)
    program = shutil.which("fuse-nfs")
    if program is not None:
        folder.mkdir(parents=True, exist_ok=True)
        error = await _fuse(program, server, path, folder, readonly)
        if error is None:
            _tell(context, f"{server}:{path} with fuse-nfs")
            return Mounted(folder, readonly)
        problems.append(error)
    elif _no_kernel_client:
        problems.append("this kernel has no NFS client, and fuse-nfs is not on the PATH")
    raise VolumeError(f"mounting {server}:{path} failed: " + "; ".join(problems))


def _tell(context: Context, how: str) -> None:
    context.host.event(context.pod, "Normal", "NFSMounted", f'Mounted volume "{context.name}" from {how}')


def own_export(context: Context, server: str, path: str) -> Path | None:
    """The folder behind an export of this very machine. Raises VolumeError where the export lacks it."""
    if not is_own_host(server):
        return None
    wanted = os.path.normpath(path)
    for export in context.host.config.exports:
        root = os.path.normpath(export)
        if wanted != root and not wanted.startswith(root.rstrip("/") + "/"):
            continue
        real, top = os.path.realpath(wanted), os.path.realpath(root)
        if real != top and not real.startswith(top.rstrip("/") + "/"):
            raise VolumeError(f"{path} leads out of the export {export}")
        if not os.path.isdir(real):
            raise VolumeError(f"mounting {server}:{path} failed, reason given by server: No such file or directory")
        return Path(real)
    return None


async def _run(*command: str) -> str | None:
    """None when it worked, else what it said."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        out, _ = await asyncio.wait_for(process.communicate(), _TIMEOUT)
    except TimeoutError:
        process.kill()
        await process.wait()
        return f"{command[0]}: no answer within {_TIMEOUT:.0f} s"
    except asyncio.CancelledError:
        process.kill()
        raise
    if process.returncode == 0:
        return None
    return out.decode(errors="replace").strip().splitlines()[-1] if out.strip() else f"{command[0]} failed"


async def _kernel(server: str, path: str, folder: Path, readonly: bool, options: tuple[str, ...]) -> str | None:
    if shutil.which("mount.nfs") is None:
        return "mount.nfs not found (apt-get install nfs-common)"
    chosen = [*options, *(["ro"] if readonly else [])]
    flags = ["-o", ",".join(chosen)] if chosen else []
    host = f"[{server}]" if ":" in server else server
    return await _run("mount", "-t", "nfs4" if not options else "nfs", *flags, f"{host}:{path}", str(folder))


async def _fuse(program: str, server: str, path: str, folder: Path, readonly: bool) -> str | None:
    url = f"nfs://{server}{path}?version=4"
    return await _run(program, "-n", url, "-m", str(folder), "-a", *(["-r"] if readonly else []))
