"""The proxy's loop on a real kernel: Services and slices of a fake API, pods as namespaces, real connections."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from typing import Any

import pytest

from stablehand.machinery.types import Obj
from stablehand.network import NetworkConfig, run
from tests.integration.netns import GATEWAY, OUTSIDE, Machine, until
from tests.integration.test_network_policies import Api

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or shutil.which("nft") is None, reason="needs root and nft")
PODS = {"a": "10.244.0.5", "b": "10.244.0.6", "c": "10.244.0.7"}
A, B, C = PODS.values()
VIP, LB, EXTERNAL = "10.96.0.7", "203.0.113.7", "203.0.113.8"
SERVICE = "/api/v1/namespaces/default/services/web"
SLICE = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/web-1"
PORTS = [
    {"name": "http", "port": 80, "protocol": "TCP", "nodePort": 30080},
    {"name": "dns", "port": 53, "protocol": "UDP", "nodePort": 30053},
]
# Asks over one UDP socket again and again, a line for each answer, on each line of input.
TALK = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(1); s.bind(("0.0.0.0", 4711)); s.connect((sys.argv[1], 53))
for _ in sys.stdin:
    try: s.send(b"hi"); print(s.recv(99).decode(), flush=True)
    except OSError as e: print(type(e).__name__, flush=True)
"""


class World:
    def __init__(self, machine: Machine) -> None:
        self.machine, self.api = machine, Api()

    def service(self, balanced: tuple[str, ...] = (), **spec: Any) -> None:
        status = {"loadBalancer": {"ingress": [{"ip": ip, "ipMode": "VIP"} for ip in balanced]}}
        spec = {"clusterIP": VIP, "ports": PORTS, "externalIPs": [EXTERNAL], **spec}
        self.api.put(SERVICE, {"spec": spec, "status": status})

    def ends(self, *endpoints: tuple[str, str]) -> None:
        """(address, "ready" | "unready" | "ending" | "elsewhere")."""
        out: list[Obj] = []
        for address, state in endpoints:
            conditions = {
                "ready": state in ("ready", "elsewhere"),
                "serving": state != "unready",
                "terminating": state == "ending",
            }
            node = "other" if state == "elsewhere" else "n"
            out.append({"addresses": [address], "conditions": conditions, "nodeName": node})
        ports = [{"name": "http", "port": 80, "protocol": "TCP"}, {"name": "dns", "port": 53, "protocol": "UDP"}]
        labels = {"kubernetes.io/service-name": "web"}
        self.api.put(SLICE, {"metadata": {"labels": labels}, "addressType": "IPv4", "endpoints": out, "ports": ports})

    async def becomes(self, who: str, question: str, *answers: str) -> None:
        """Waits until a question gets this answer; asked many times, these answers, each at least once."""
        times = 12 if len(answers) > 1 else 1
        got: list[str] = []

        def check() -> bool:
            got[:] = self.machine.ask(who, *[question] * times)
            return set(got) == set(answers)

        try:
            await until(check)
        except TimeoutError:
            pytest.fail(f"{who}, {question}: {got}, not {answers}")


def test_services() -> None:
    with Machine(PODS) as machine:
        for who in PODS:
            machine.serve(who, "tcp:80", "udp:53")
        machine.run(_play(World(machine)))


async def _play(world: World) -> None:
    config = NetworkConfig(
        world.api.client(), table="t_services", pod_cidr="10.244.0.0/24", node_name="n", node_ips=(GATEWAY,)
    )
    world.service()
    task = asyncio.create_task(run(config))
    try:
        for scene in (_balancing, _udp, _ending, _local, _balancer, _sticky, _recovery):
            await scene(world)
            assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _balancing(world: World) -> None:
    udp, tcp = f"udp {VIP} 53", f"tcp {VIP} 80"
    for who in ("node", "c", "out"):
        await world.becomes(who, tcp, "ConnectionRefusedError")
    assert world.machine.ask("c", udp, f"tcp {EXTERNAL} 80") == ["ConnectionRefusedError"] * 2
    world.ends((A, "ready"), (B, "ready"), (C, "unready"))
    await world.becomes("c", udp, "a hi", "b hi")
    assert world.machine.ask("c", tcp, f"tcp {EXTERNAL} 80", f"tcp {GATEWAY} 30080") == [C] * 3
    assert world.machine.ask("out", tcp, f"tcp {EXTERNAL} 80", f"tcp {GATEWAY} 30080") == [OUTSIDE] * 3
    assert world.machine.ask("out", f"udp {GATEWAY} 30053", timeout=2)[0] in ("a hi", "b hi")
    # To itself: by the node's address, as the pod would not know its own answer.
    world.ends((A, "ready"))
    await world.becomes("a", tcp, GATEWAY)


async def _udp(world: World) -> None:
    """A client that keeps its port is led to the new endpoint, and told at once when there is none."""
    process = await asyncio.create_subprocess_exec(
        *("ip", "netns", "exec", world.machine.name("out"), "python3", "-c", TALK, VIP),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None and process.stdout is not None

    async def answer(wanted: str) -> None:
        got = ""
        async with asyncio.timeout(5):
            while got != wanted:
                process.stdin.write(b"\n")  # type: ignore[union-attr]
                got = (await process.stdout.readline()).decode().strip()  # type: ignore[union-attr]

    await answer("a hi")
    world.ends((B, "ready"))
    await answer("b hi")
    world.ends()
    await answer("ConnectionRefusedError")
    world.ends((A, "ready"))
    await answer("a hi")
    process.stdin.close()
    await process.wait()


async def _ending(world: World) -> None:
    """KEP-1669: endpoints that end serve as long as there are no ready ones."""
    world.ends((A, "ending"), (B, "unready"))
    await world.becomes("c", f"udp {VIP} 53", "a hi")
    world.ends((A, "ending"), (B, "ready"))
    await world.becomes("c", f"udp {VIP} 53", "b hi")


async def _local(world: World) -> None:
    node_port, virtual = f"udp {GATEWAY} 30053", f"udp {VIP} 53"
    world.ends((A, "elsewhere"), (B, "ready"))
    world.service(externalTrafficPolicy="Local")
    await world.becomes("out", node_port, "b hi")
    await world.becomes("c", node_port, "a hi", "b hi")  # from inside: all
    world.ends((A, "elsewhere"))
    await world.becomes("out", node_port, "timeout")
    await world.becomes("c", node_port, "a hi")
    world.service(internalTrafficPolicy="Local")
    await world.becomes("c", virtual, "timeout")
    await world.becomes("node", virtual, "PermissionError")
    world.ends((A, "elsewhere"), (B, "ending"))
    await world.becomes("c", virtual, "b hi")


async def _balancer(world: World) -> None:
    asked = f"tcp {LB} 80"
    world.ends((A, "ready"))
    spec = {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30099}
    world.service((LB,), **spec)
    await world.becomes("out", asked, OUTSIDE)
    world.service((LB,), **spec, loadBalancerSourceRanges=["10.244.0.0/24", "10.244.0.0/16", "fd00::/8"])
    await world.becomes("out", asked, "timeout")
    assert world.machine.ask("c", asked) == [C] and world.machine.ask("out", f"tcp {VIP} 80") == [OUTSIDE]
    assert await health(world) == (200, {"localEndpoints": 1, "name": "web"}, "1")
    world.ends((A, "elsewhere"))
    async with asyncio.timeout(5):
        while await health(world) != (503, {"localEndpoints": 0, "name": "web"}, "0"):
            await asyncio.sleep(0.02)
    world.service()
    async with asyncio.timeout(5):
        while await health(world):
            await asyncio.sleep(0.02)


async def health(world: World) -> tuple[int, Obj, str] | None:
    """(status, what matters of the body, weight); None when nothing listens."""
    code = (
        "import urllib.request, urllib.error, json\n"
        f"try: r = urllib.request.urlopen('http://{GATEWAY}:30099/healthz', timeout=2)\n"
        "except urllib.error.HTTPError as e: r = e\n"
        "except OSError: print('null'); raise SystemExit\n"
        "print(json.dumps([r.status, json.loads(r.read()), r.headers['X-Load-Balancing-Endpoint-Weight']]))"
    )
    got = json.loads(await asyncio.to_thread(world.machine.on, "out", "python3", "-c", code))
    if got is None:
        return None
    assert got[1]["serviceProxyHealthy"] is True and got[1]["service"]["namespace"] == "default"
    return got[0], {"localEndpoints": got[1]["localEndpoints"], "name": got[1]["service"]["name"]}, got[2]


async def _sticky(world: World) -> None:
    asked = f"udp {VIP} 53"
    world.service(sessionAffinity="ClientIP", sessionAffinityConfig={"clientIP": {"timeoutSeconds": 1}})
    world.ends((A, "ready"), (B, "ready"))

    await until(lambda: "clients_" in world.machine.nft("list", "table", "ip", "t_services"))
    first = world.machine.ask("c", asked)
    assert set(world.machine.ask("c", *[asked] * 8)) == set(first)
    assert world.machine.ask("out", asked)[0] in ("a hi", "b hi")

    # After its time the client is led anywhere again.
    def again() -> bool:
        forgotten = PODS["c"] not in world.machine.nft("list", "sets", "table", "ip", "t_services")
        return forgotten and world.machine.ask("c", asked) != first

    await until(again, 30)


async def _recovery(world: World) -> None:
    """Somebody deletes our table: the next change writes all of it again."""
    world.service()
    world.ends((A, "ready"))
    await world.becomes("c", f"udp {VIP} 53", "a hi")
    world.machine.nft("delete", "table", "ip", "t_services")
    world.ends((B, "ready"))
    await world.becomes("c", f"udp {VIP} 53", "b hi")
    world.api.drop(SERVICE)
    await until(lambda: VIP not in world.machine.nft("list", "ruleset"))
