"""A small machine of network namespaces for tests: one for the node, one per pod on a routed link, one outside.

Everything lives in namespaces of its own and goes with them; the host's tables are never touched.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import subprocess
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

_CLONE_NEWNET = 0x40000000
GATEWAY, OUTSIDE = "10.244.0.1", "192.0.2.9"
# Serves TCP and UDP ports given as arguments: tells the caller its own address and what was asked.
SERVER = """
import selectors, socket, sys
found = selectors.DefaultSelector()
for word in sys.argv[1:]:
    kind, _, port = word.partition(":")
    s = socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("0.0.0.0", int(port)))
    if kind == "tcp": s.listen(64)
    found.register(s, selectors.EVENT_READ, kind)
print("up", flush=True)
while True:
    for key, _ in found.select():
        if key.data == "tcp":
            c, a = key.fileobj.accept(); found.register(c, selectors.EVENT_READ, "peer")
            c.sendall(a[0].encode())
        elif key.data == "udp":
            d, a = key.fileobj.recvfrom(99); key.fileobj.sendto(socket.gethostname().encode() + b" " + d, a)
        else:
            d = key.fileobj.recv(99)
            if d: key.fileobj.sendall(d)
            else: found.unregister(key.fileobj); key.fileobj.close()
"""
# Asks one line's worth of questions each: "tcp host port" or "udp host port"; answers a line each.
CLIENT = """
import socket, sys
TIMEOUT = float(sys.argv[1])
def ask(kind, host, port):
    try:
        if kind == "tcp":
            with socket.create_connection((host, int(port)), TIMEOUT) as s: return s.recv(99).decode()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.settimeout(TIMEOUT); s.connect((host, int(port))); s.send(b"hi"); return s.recv(99).decode()
    except TimeoutError: return "timeout"
    except OSError as e: return type(e).__name__
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(32) as pool:
    for answer in pool.map(lambda w: ask(*w.split()), sys.argv[2:]): print(answer)
"""


def sh(*command: str, stdin: str | None = None) -> str:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


class Machine:
    """`pods` by name and address. Use as a context manager: all namespaces and processes end with it."""

    def __init__(self, pods: dict[str, str]) -> None:
        self.pods = pods
        self._mark = f"sh{os.getpid()}"
        self.processes: list[subprocess.Popen[str]] = []

    def name(self, who: str) -> str:
        return f"{self._mark}-{who}"

    def __enter__(self) -> Machine:
        try:
            for who in ("node", "out", *self.pods):
                sh("ip", "netns", "add", self.name(who))
                sh("ip", "-n", self.name(who), "link", "set", "lo", "up")
            for index, (who, address) in enumerate(self.pods.items()):
                self._link(who, f"v{index}", address, GATEWAY)
            self._link("out", "vout", OUTSIDE, GATEWAY)
            sh("ip", "-n", self.name("node"), "route", "add", "default", "via", OUTSIDE, "dev", "vout", "onlink")
            # Redirects would use up the ICMP messages that the kernel grants, and refusals with them.
            off = "for f in /proc/sys/net/ipv4/conf/*/send_redirects; do echo 0 > $f; done"
            self.on("node", "sh", "-c", f"echo 1 > /proc/sys/net/ipv4/ip_forward; {off}")
        except BaseException:
            self.__exit__()
            raise
        return self

    def _link(self, who: str, device: str, address: str, gateway: str) -> None:
        node, own = self.name("node"), self.name(who)
        sh("ip", "-n", node, "link", "add", device, "type", "veth", "peer", "name", "eth0", "netns", own)
        sh("ip", "-n", node, "addr", "add", f"{gateway}/32", "dev", device)
        sh("ip", "-n", node, "link", "set", device, "up")
        sh("ip", "-n", node, "route", "add", f"{address}/32", "dev", device, "src", gateway)
        sh("ip", "-n", own, "addr", "add", f"{address}/32", "dev", "eth0")
        sh("ip", "-n", own, "link", "set", "eth0", "up")
        sh("ip", "-n", own, "route", "add", f"{gateway}/32", "dev", "eth0")
        sh("ip", "-n", own, "route", "add", "default", "via", gateway)

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()
        for who in ("node", "out", *self.pods):
            subprocess.run(["ip", "netns", "del", self.name(who)], capture_output=True)

    def on(self, who: str, *command: str, stdin: str | None = None) -> str:
        return sh("ip", "netns", "exec", self.name(who), *command, stdin=stdin)

    def serve(self, who: str, *ports: str) -> None:
        """ "tcp:80", "udp:53": answers there, until the end."""
        command = ["ip", "netns", "exec", self.name(who), "unshare", "--uts", "sh", "-c"]
        inner = f'hostname {who} && exec python3 -c "$0" "$@"'
        process = subprocess.Popen([*command, inner, SERVER, *ports], stdout=subprocess.PIPE, text=True)
        self.processes.append(process)
        assert process.stdout is not None and process.stdout.readline() == "up\n"

    def ask(self, who: str, *questions: str, timeout: float = 0.4) -> list[str]:
        """Answers to "tcp HOST PORT" and "udp HOST PORT", asked at once: the server's, "timeout" or an error's name."""
        return self.on(who, "python3", "-c", CLIENT, str(timeout), *questions).splitlines()

    def nft(self, *words: str, stdin: str | None = None) -> str:
        return self.on("node", "nft", *words, stdin=stdin)

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs an event loop in the node's namespace: its sockets and children are made there."""

        def inside() -> None:
            enter(f"/run/netns/{self.name('node')}")
            asyncio.run(work)

        with ThreadPoolExecutor(1) as pool:
            pool.submit(inside).result()


def enter(path: str) -> None:
    """Moves this thread into a network namespace."""
    with open(path) as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")


async def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Looks again and again, off the loop, until it is true."""
    async with asyncio.timeout(seconds):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.02)
