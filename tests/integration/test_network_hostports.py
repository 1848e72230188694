"""Host ports on real containers: by protocol and host address, from a pod to itself, and after a restart of the agent."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
from pathlib import Path

import pytest

from tests.integration.test_node_containerd import Running, folder
from tests.unit.node.fakeapi import FakeApi

__all__ = ["folder"]
pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("containerd") is None, reason="needs root and containerd"
)
SERVE = ["perl", "/httpd.pl", "8080"]
ASK = """
use IO::Socket::INET; my $s = IO::Socket::INET->new(PeerAddr => $ARGV[0], PeerPort => $ARGV[1], Timeout => 2)
or do { print "refused"; exit }; print $s "GET / HTTP/1.0\\r\\n\\r\\n"; print scalar <$s>;
"""

# Tells its name and what it was sent.
ECHO = """use IO::Socket::INET; $SIG{TERM} = sub { exit 0 };
my $s = IO::Socket::INET->new(LocalPort => 5353, Proto => "udp") or die;
while ($s->recv(my $d, 99)) { $s->send("$ARGV[0] $d"); }"""


async def fetch(host: str, port: int) -> str:
    """The first line of the answer; "refused"."""
    try:
        async with asyncio.timeout(3):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            line = (await reader.readline()).decode().strip()
            writer.close()
            return line
    except ConnectionError:
        return "refused"


async def test_host_ports(folder: Path) -> None:
    node = await Running(folder, FakeApi()).start()
    try:
        ports = [
            {"containerPort": 8080, "hostPort": 21271},
            {"containerPort": 8080, "hostPort": 21272, "hostIP": "127.0.0.2"},
        ]
        node.create("served", {"command": SERVE, "ports": ports})
        await node.ready("served")
        gateway = node.config.address

        async def reachable() -> None:
            assert await fetch("127.0.0.1", 21271) == "HTTP/1.1 200 OK"
            assert await fetch(gateway, 21271) == "HTTP/1.1 200 OK"
            assert await fetch("127.0.0.2", 21272) == "HTTP/1.1 200 OK"
            assert await fetch("127.0.0.1", 21272) == "refused" == await fetch(gateway, 21272)

        async def answers() -> None:
            async with asyncio.timeout(10):
                while await fetch(gateway, 21271) == "refused":
                    await asyncio.sleep(0.02)

        await answers()
        await reachable()
        assert "200 OK" in await node.exec("served", "perl", "-e", ASK, gateway, "21271")
        await node.stop()
        node = await Running(folder, node.api).start()
        await answers()
        await reachable()
        await node.remove("served")
        assert await fetch(gateway, 21271) == await fetch("127.0.0.2", 21272) == "refused"
    finally:
        await node.stop()


async def test_udp_clients_that_keep_their_port_follow_the_pods(folder: Path) -> None:
    node = await Running(folder, FakeApi()).start()
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.setblocking(False)
    client.bind(("0.0.0.0", 0))

    async def told(by: str) -> None:
        """Asks from the one port until this pod answers."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(10):
            while True:
                await loop.sock_sendto(client, b"hi", (node.config.address, 21273))
                try:
                    async with asyncio.timeout(0.1):
                        if await loop.sock_recv(client, 99) == f"{by} hi".encode():
                            return
                except (TimeoutError, OSError):
                    continue

    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                await told("nobody")
        ports = [{"containerPort": 5353, "hostPort": 21273, "protocol": "UDP"}]
        for name in ("first", "second"):
            node.create(name, {"command": ["perl", "-e", ECHO, name], "ports": ports})
            await node.ready(name)
            await told(name)
            await node.remove(name)
    finally:
        client.close()
        await node.stop()
