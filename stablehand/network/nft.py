"""Writing nftables: one transaction by `nft`, and a table kept in step with what it should hold.

What the rules say is rules' (Services) and policyrules' (NetworkPolicies).
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable, Collection, Mapping

from stablehand.aiokit import netlink
from stablehand.aiokit.backoff import Backoff
from stablehand.network.table import Key, Part, Table

log = logging.getLogger("stablehand.network")
_TRY_AGAIN = 60.0  # seconds between looks at what nft refused


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

    `everything` gives all parts as they should be now, what others refer to first; it is asked again whenever the table
    is written anew. A part that nft refuses does not keep the others out: `instead` gives what is written for it (None:
    the rules it had before), `refused` hears of it once, with nft's words.
    """

    def __init__(
        self,
        name: str,
        skeleton: str,
        everything: Callable[[], dict[Key, Part]],
        refused: Callable[[Key, str], None] = lambda _key, _why: None,
        instead: Callable[[Key, Part], Part | None] = lambda _key, _part: None,
    ) -> None:
        self._name, self._skeleton, self._everything = name, skeleton, everything
        self._tell, self._instead = refused, instead
        self._table = Table(name)
        self._refused: dict[Key, tuple[Part, Part]] = {}  # what was refused, and what is written for it
        self._lock = asyncio.Lock()

    async def rewrite(self) -> int:
        """In one transaction, so that connections never meet an empty table. The number of parts."""
        async with self._lock:
            return await self._rewrite()

    async def _rewrite(self, suspects: Collection[Key] = ()) -> int:
        table = Table(self._name)
        parts = self._bearable(self._everything())
        try:
            await apply(self._skeleton + table.change(parts))
        except NetworkError as e:
            log.warning("%s; looking for the part that is not accepted", e)
            await self._piecewise(suspects)
        else:
            self._table = table
        return len(parts)

    async def change(self, parts: dict[Key, Part]) -> None:
        """Takes in new parts (an empty one removes); returns once the kernel has them."""
        async with self._lock:
            try:
                await self._write(self._bearable(parts))
                return
            except NetworkError as e:
                # Somebody flushed our table, or one part is odd: begin again from nothing.
                log.warning("%s; writing table %s again", e, self._name)
            try:
                await self._rewrite(parts)
                return
            except NetworkError as e:
                log.error("%s", e)
        await self.insist()

    async def _write(self, parts: dict[Key, Part]) -> None:
        if commands := self._table.change(parts):
            try:
                await apply(commands)
            except NetworkError:
                self._table.undo()
                raise

    # -- parts that nft refuses

    def _bearable(self, parts: dict[Key, Part]) -> dict[Key, Part]:
        """Parts known to be refused are replaced; those that changed since are tried again."""
        out = {}
        for key, part in parts.items():
            known = self._refused.get(key)
            if known is not None and known[0] != part:
                del self._refused[key]
                known = None
            out[key] = part if known is None else known[1]
        return out

    async def _piecewise(self, suspects: Collection[Key]) -> None:
        """Writes the table without the suspects and then these, as far as they are accepted; where it cannot be
        without them, or there are none, everything is suspect. Raises NetworkError when nothing is accepted."""
        before = self._table.parts
        everything = self._bearable(self._everything())
        known = set(self._refused)
        trusted = {key: part for key, part in everything.items() if key not in suspects} if suspects else {}
        table = Table(self._name)
        try:
            await apply(self._skeleton + table.change(trusted))
        except NetworkError:
            if not trusted:
                raise
            trusted, table = {}, Table(self._name)
            await apply(self._skeleton)
        self._table = table
        rest = {key: part for key, part in everything.items() if key not in trusted}
        await self._add(rest, before)
        new = {key for key in rest if key in self._refused and key not in known}
        if len(new) == len(rest) > 1:
            for key in new:
                del self._refused[key]
            raise NetworkError(f"nft refuses all rules of table {self._name}")

    async def _add(self, parts: dict[Key, Part], before: Mapping[Key, Part]) -> None:
        """Halves what is refused until single parts are left."""
        try:
            await self._write(parts)
            return
        except NetworkError as e:
            why = str(e)
        if len(parts) > 1:
            keys, middle = list(parts), len(parts) // 2
            await self._add({key: parts[key] for key in keys[:middle]}, before)
            await self._add({key: parts[key] for key in keys[middle:]}, before)
            return
        ((key, part),) = parts.items()
        spare = self._instead(key, part)
        spare = spare if spare is not None else before.get(key, Part())
        try:
            await self._write({key: spare})
        except NetworkError:
            spare = Part()
        self._refused[key] = part, spare
        log.error("the rules of %s are left out: %s", "/".join(key), why)
        self._tell(key, why)

    async def _try_refused(self) -> None:
        """What was refused for want of something else (memory, a kernel module) may go in now."""
        async with self._lock:
            for key, (part, _) in list(self._refused.items()):
                try:
                    await self._write({key: part})
                except NetworkError:
                    continue
                self._refused.pop(key, None)
                log.warning("the rules of %s are in force now", "/".join(key))

    async def keep(self) -> None:
        """Until cancelled: a firewall that is loaded anew takes every table with it."""
        deleted = asyncio.Event()
        with netlink.Notices(netlink.NETFILTER, netlink.TABLES, (netlink.DEL_TABLE,), deleted.set):
            while True:
                try:
                    async with asyncio.timeout(_TRY_AGAIN):
                        await deleted.wait()
                except TimeoutError:
                    if self._refused:
                        await self._try_refused()
                    continue
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
