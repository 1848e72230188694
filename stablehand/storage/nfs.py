"""Stablehand's own NFS server: one exported folder, served by nfs-ganesha in user space. Mounting it is the node's."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import signal
import subprocess
from pathlib import Path

from stablehand.storage.errors import StorageError
from stablehand.storage.loopback import Loopback
from stablehand.storage.rpcbind import Rpcbind, connects

log = logging.getLogger("stablehand.nfs")

PORT = 2049
_START_SECONDS = 20.0
_PLUGIN_DIRS = ("/usr/lib/ganesha", "/usr/lib/x86_64-linux-gnu/ganesha", "/usr/lib/aarch64-linux-gnu/ganesha")


def render_config(folder: Path, state_dir: Path, bind: str, protocols: str, plugins: str) -> str:
    """ganesha.conf: one read-write export without root squashing, graceless, no kernel, no DBus needed."""
    q = json.dumps
    return f"""NFS_CORE_PARAM {{
  Protocols = {protocols};
  Bind_addr = {bind};
  NFS_Port = {PORT};
  Enable_UDP = false;
  Enable_NLM = false;
  Enable_RQUOTA = false;
  Plugins_Dir = {q(plugins)};
}}
NFSv4 {{
  Graceless = true;
  RecoveryBackend = fs;
  RecoveryRoot = {q(str(state_dir / "recovery"))};
}}
NFS_KRB5 {{ Active_krb5 = false; }}
EXPORT {{
  Export_Id = 1;
  Path = {q(str(folder))};
  Pseudo = {q(str(folder))};
  Protocols = {protocols};
  Access_Type = RW;
  Squash = No_Root_Squash;
  SecType = sys;
  FSAL {{ Name = VFS; }}
}}
"""


class NfsServer:
    """`start` returns when the server answers, `stop` when it has ended. `showmount` says whether -e lists it."""

    def __init__(self, folder: Path, state_dir: Path, bind: str = "127.0.0.1") -> None:
        self.folder, self.bind = folder, bind
        self._state = state_dir
        self._process: subprocess.Popen[bytes] | None = None
        self.showmount = False
        self._rpcbind = Rpcbind(state_dir, bind)
        self._loopback = Loopback(bind)

    @property
    def log_file(self) -> Path:
        return self._state / "ganesha.log"

    @property
    def pid_file(self) -> Path:
        return self._state / "ganesha.pid"

    async def start(self) -> None:
        """Raises StorageError when ganesha is missing, the port is taken, or it ends at once."""
        binary = shutil.which("ganesha.nfsd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
        plugins = next((d for d in _PLUGIN_DIRS if (Path(d) / "libfsalvfs.so").exists()), "")
        if binary is None or not plugins:
            raise StorageError("NFS needs nfs-ganesha: apt-get install nfs-ganesha nfs-ganesha-vfs")
        if os.geteuid() != 0:
            raise StorageError("serving NFS needs root: start Stablehand with sudo")
        self.folder.mkdir(parents=True, exist_ok=True)
        (self._state / "recovery").mkdir(parents=True, exist_ok=True)
        await self._end_old()
        if await self._answers():
            raise StorageError(f"an NFS server runs on {self.bind}:{PORT} already: stop it, or leave out --nfs")
        # NFS 3 and its MOUNT protocol, which showmount asks, are there where a port mapper is.
        self.showmount = await self._rpcbind.start()
        config = self._state / "ganesha.conf"
        config.write_text(
            render_config(self.folder, self._state, self.bind, "3, 4" if self.showmount else "4", plugins)
        )
        arguments = ["-F", "-f", str(config), "-L", str(self.log_file), "-p", str(self.pid_file), "-N", "NIV_EVENT"]
        self._process = subprocess.Popen(
            [binary, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )
        deadline = asyncio.get_running_loop().time() + _START_SECONDS
        while not await self._answers():
            if self._process.poll() is not None or asyncio.get_running_loop().time() > deadline:
                text = self._tail()
                await self.stop()
                raise StorageError(f"ganesha.nfsd does not serve {self.folder}: {text} (see {self.log_file})")
            await asyncio.sleep(0.05)
        if self.showmount:
            await self._loopback.start()
        log.info("%s is exported on %s (pid %s)", self.folder, self.bind, self._process.pid)

    async def watch(self) -> None:
        """Restarts the server whenever it dies, until cancelled."""
        while self._process is not None:
            await asyncio.to_thread(self._process.wait)
            if self._process is None:
                return
            log.error("ganesha.nfsd ended: %s; starting it again", self._tail())
            await self._loopback.stop()
            await asyncio.sleep(1)
            await self.start()

    async def stop(self) -> None:
        """Ends the server."""
        process, self._process = self._process, None
        await self._loopback.stop()
        if process is not None:
            await _end(process)
        await self._rpcbind.stop()
        with contextlib.suppress(FileNotFoundError):
            self.pid_file.unlink()

    async def _answers(self) -> bool:
        return await connects(self.bind, PORT)

    async def end_left_behind(self) -> None:
        """Ends what a killed Stablehand left running."""
        await self._end_old()
        await self._rpcbind.end_left_behind()

    async def _end_old(self) -> None:
        """Ends the ganesha that a killed Stablehand left behind."""
        try:
            pid = int(self.pid_file.read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return
        if str(self._state / "ganesha.conf").encode() not in command:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
            for _ in range(100):
                await asyncio.sleep(0.1)
                os.kill(pid, 0)
            os.kill(pid, signal.SIGKILL)

    def _tail(self) -> str:
        try:
            lines = self.log_file.read_text(errors="replace").splitlines()
        except OSError:
            return "it wrote no log"
        worst = [line for line in lines[-60:] if ":CRIT :" in line or ":FATAL :" in line or ":MAJ :" in line]
        return "; ".join(line.partition("] ")[2] or line for line in (worst or lines)[-2:])


async def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        child.terminate()
        try:
            await asyncio.to_thread(child.wait, 10)
        except subprocess.TimeoutExpired:
            child.kill()
            await asyncio.to_thread(child.wait)
