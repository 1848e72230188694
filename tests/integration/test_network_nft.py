"""The rules in a real kernel: a namespace for the node and one for a pod, real connections through the VIP."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from stablehand.network.rules import service_part, skeleton
from stablehand.network.table import Part, Table
from tests.unit.network.test_rules import piece, service

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or shutil.which("nft") is None, reason="needs root and nft")
NODE, POD = f"shn-{os.getpid()}", f"shp-{os.getpid()}"
KEY = ("default", "web")
SERVER = """
import socket
s = socket.create_server(("0.0.0.0", 8080)); print("up", flush=True)
while True:
    c, a = s.accept(); c.sendall(a[0].encode()); c.close()
"""
CLIENT = """
import socket, sys
try: print(socket.create_connection((sys.argv[1], int(sys.argv[2])), 3).recv(99).decode())
except OSError as e: print(type(e).__name__)
"""


def sh(*command: str, stdin: str | None = None) -> str:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout.strip()


def nft(text: str) -> str:
    return sh("ip", "netns", "exec", NODE, "nft", "-f", "-", stdin=text)


def connect(where: str, host: str, port: int = 80) -> str:
    return sh("ip", "netns", "exec", where, "python3", "-c", CLIENT, host, str(port))


@pytest.fixture
def pod() -> Iterator[None]:
    server = None
    try:
        for each in (NODE, POD):
            sh("ip", "netns", "add", each)
            sh("ip", "-n", each, "link", "set", "lo", "up")
        sh("ip", "-n", NODE, "link", "add", "v0", "type", "veth", "peer", "name", "eth0", "netns", POD)
        sh("ip", "-n", NODE, "addr", "add", "10.244.0.1/32", "dev", "v0")
        sh("ip", "-n", NODE, "link", "set", "v0", "up")
        sh("ip", "-n", NODE, "route", "add", "10.244.0.5/32", "dev", "v0", "src", "10.244.0.1")
        sh("ip", "-n", NODE, "link", "add", "out0", "type", "bridge")
        sh("ip", "-n", NODE, "link", "set", "out0", "up")
        sh("ip", "-n", NODE, "route", "add", "default", "dev", "out0", "src", "10.244.0.1")
        sh("ip", "-n", POD, "addr", "add", "10.244.0.5/24", "dev", "eth0")
        sh("ip", "-n", POD, "link", "set", "eth0", "up")
        sh("ip", "-n", POD, "route", "add", "default", "via", "10.244.0.1")
        sh("ip", "netns", "exec", NODE, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        server = subprocess.Popen(
            ["ip", "netns", "exec", POD, "python3", "-c", SERVER], stdout=subprocess.PIPE, text=True
        )
        assert server.stdout is not None and server.stdout.readline() == "up\n"
        yield
    finally:
        if server is not None:
            server.kill()
            server.communicate()
        for each in (NODE, POD):
            subprocess.run(["ip", "netns", "del", each], capture_output=True)


def test_virtual_addresses(pod: None) -> None:
    table = Table("t")
    spec = {"externalIPs": ["192.0.2.1"], "ports": [{"name": "http", "port": 80, "nodePort": 30080}]}
    nft(skeleton("t") + table.change({KEY: service_part(service(**spec), [])}))
    assert connect(NODE, "10.96.0.7") == "ConnectionRefusedError"
    assert connect(POD, "10.96.0.7") == "ConnectionRefusedError"
    assert connect(POD, "192.0.2.1") == "ConnectionRefusedError"
    nft(table.change({KEY: service_part(service(**spec), [piece("10.244.0.5")])}))
    assert connect(NODE, "10.96.0.7") == connect(NODE, "192.0.2.1") == "10.244.0.1"
    assert connect(POD, "10.96.0.7") == "10.244.0.1"  # to itself: masqueraded
    assert connect(POD, "10.244.0.1", 30080) == "10.244.0.1"
    assert connect(POD, "10.96.0.7", 81) == "ConnectionRefusedError"
    sticky = service(**spec, sessionAffinity="ClientIP")
    nft(table.change({KEY: service_part(sticky, [piece("10.244.0.5")])}))
    assert connect(NODE, "10.96.0.7") == connect(NODE, "10.96.0.7") == "10.244.0.1"
    nft(table.change({KEY: service_part(sticky, [piece("10.244.0.5", "10.244.0.6")])}))
    assert connect(NODE, "10.96.0.7") == "10.244.0.1"  # stays where it was
    nft(table.change({KEY: service_part(service(**spec), [piece("10.244.0.5", "10.244.0.6")])}))
    nft(table.change({KEY: Part()}))
    left = sh("ip", "netns", "exec", NODE, "nft", "list", "table", "ip", "t")
    assert "port_" not in left and "10." not in left and "clients_" not in left


def test_pods_come_to_their_own_stablehand_first(pod: None) -> None:
    other, table = Table("other"), Table("t")
    nft(skeleton("other", pod_cidr="10.9.0.0/24") + other.change({KEY: service_part(service(), [piece("10.9.0.5")])}))
    nft(skeleton("t", pod_cidr="10.244.0.0/24") + table.change({KEY: service_part(service(), [piece("10.244.0.5")])}))
    assert connect(POD, "10.96.0.7") == "10.244.0.1"
