"""Writing nftables: one transaction by `nft`, and a table kept in step with what it should hold.

What the rules say is rules' (Services) and policyrules' (NetworkPolicies).
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable

from stablehand.aiokit import netlink
from stablehand.aiokit.backoff import Backoff
from stablehand.network.table import Key, Part, Table

log = logging.getLogger("stablehand.network")


class NetworkError(Exception):
    """nft is missing, or refused our rules."""


async def apply(commands: str) -> str:
    """One transaction: all of the commands, or none; what they print. Raises NetworkError."""
    nft = shutil.which("nft") or shutil.which("nft", path="/usr/sbin:/sbin")
    if nft is None:
        raise NetworkError("nft not found: install nftables: apt-get install nftables")
    process = await asyncio.create_subprocess_exec(
        nft, "-f", "-", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await process.communicate(commands.encode())
    if process.returncode:
        raise NetworkError(f"nft refused our rules: {out.decode(errors='replace').strip()}")
    return out.decode(errors="replace")


async def delete_table(table: str) -> None:
    """Deletes the table, if there is one."""
    await apply(f"add table ip {table}\ndelete table ip {table}\n")


async def has_table(table: str) -> bool:
    """Raises NetworkError."""
    return f"table ip {table}" in (await apply("list tables ip\n")).splitlines()


class TableWriter:
    """One table in the kernel: `rewrite` replaces it as a whole, `change` writes differences, `keep` brings it back when
    somebody else deleted it.

    `everything` gives all parts as they should be now; it is asked again whenever the table is written anew.
    """

    def __init__(self, name: str, skeleton: str, everything: Callable[[], dict[Key, Part]]) -> None:
        self._name, self._skeleton, self._everything = name, skeleton, everything
        self._table = Table(name)
        self._lock = asyncio.Lock()

    async def rewrite(self) -> int:
        """In one transaction, so that connections never meet an empty table. The number of parts."""
        async with self._lock:
            return await self._rewrite()

    async def _rewrite(self) -> int:
        table = Table(self._name)
        parts = self._everything()
        await apply(self._skeleton + table.change(parts))
        self._table = table
        return len(parts)

    async def change(self, parts: dict[Key, Part]) -> None:
        """Takes in new parts (an empty one removes); returns once the kernel has them."""
        async with self._lock:
            commands = self._table.change(parts)
            if not commands:
                return
            try:
                await apply(commands)
                return
            except NetworkError as e:
                # Somebody flushed our table, or one part is odd: begin again from nothing.
                log.warning("%s; writing table %s again", e, self._name)
        await self.insist()

    async def keep(self) -> None:
        """Until cancelled: a firewall that is loaded anew takes every table with it."""
        deleted = asyncio.Event()
        with netlink.Notices(netlink.NETFILTER, netlink.TABLES, (netlink.DEL_TABLE,), deleted.set):
            while True:
                await deleted.wait()
                deleted.clear()
                try:
                    async with self._lock:  # our own rewriting is told of too
                        if await has_table(self._name):
                            continue
                        log.warning("somebody deleted the nft table %s: writing it again", self._name)
                        await self._rewrite()
                except NetworkError as e:
                    log.error("%s", e)
                    await self.insist()

    async def insist(self) -> None:
        """Rewrites the table, however often nft refuses."""
        backoff = Backoff(0.1, 30.0)
        while True:
            try:
                await self.rewrite()
                return
            except NetworkError as e:
                log.error("%s", e)
                await asyncio.sleep(backoff.next())
