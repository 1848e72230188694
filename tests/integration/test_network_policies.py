"""NetworkPolicies in a real kernel: the enforcer on a fake API, pods as namespaces, real connections."""

from __future__ import annotations

import asyncio
import os
import shutil
from typing import Any

import pytest

from stablehand.machinery.types import Obj
from stablehand.network import NetworkConfig, run, teardown
from tests.integration.netns import GATEWAY, OUTSIDE, Machine, until
from tests.unit.node.fakeapi import FakeApi

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or shutil.which("nft") is None, reason="needs root and nft")
PODS = {"web": "10.244.0.5", "db": "10.244.0.6", "far": "10.244.0.7"}
WEB, DB, FAR = PODS.values()
POLICIES = "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies/"
FAR_POD = "/api/v1/namespaces/other/pods/far"
DNS_RULE = {
    "to": [
        {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
            "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
        }
    ]
}


class Api(FakeApi):
    @staticmethod
    def _is_collection(path: str) -> bool:
        return path.rsplit("/", 1)[1] in ("pods", "services", "endpointslices", "namespaces", "networkpolicies")

    def pod(self, name: str, namespace: str = "default", **labels: str) -> None:
        ports = [{"name": "http", "containerPort": 80}, {"name": "query", "containerPort": 53, "protocol": "UDP"}]
        self.put(
            f"/api/v1/namespaces/{namespace}/pods/{name}",
            {
                "metadata": {"labels": {"app": name, **labels}},
                "spec": {"nodeName": "n", "containers": [{"name": "c", "ports": ports}]},
                "status": {"podIP": PODS[name], "phase": "Running"},
            },
        )

    def policy(self, name: str, **spec: Any) -> None:
        self.put(POLICIES + name, {"spec": {"podSelector": {"matchLabels": {"app": "web"}}, **spec}})


def cluster() -> Api:
    api = Api()
    for name in ("default", "other", "kube-system"):
        api.put(f"/api/v1/namespaces/{name}", {"metadata": {"labels": {"kubernetes.io/metadata.name": name}}})
    api.pod("web")
    api.pod("db")
    api.pod("far", "other")
    dns = {
        "metadata": {"labels": {"kubernetes.io/service-name": "kube-dns"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [GATEWAY]}],
        "ports": [{"name": "dns", "protocol": "UDP", "port": 5353}],
    }
    api.put("/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices/dns", dns)
    return api


def test_policies_are_enforced() -> None:
    with Machine(PODS) as machine:
        for who in PODS:
            machine.serve(who, "tcp:80", "tcp:81", "tcp:8000", "udp:53")
        machine.serve("out", "tcp:80")
        machine.serve("node", "tcp:22", "udp:5353")
        machine.run(_scenes(machine, cluster()))


def web_is(machine: Machine, ends: dict[str, tuple[str, str]]) -> Any:
    """Waits until these questions ("who": (question, answer)) are all answered so."""

    def check() -> bool:
        return all(machine.ask(who.split("/")[0], question) == [answer] for who, (question, answer) in ends.items())

    return until(check)


async def _scenes(machine: Machine, api: Api) -> None:
    def tables() -> str:
        return machine.nft("list", "tables")

    config = NetworkConfig(
        api.client(), table="t_services", pod_cidr="10.244.0.0/24", node_name="n", node_ips=(GATEWAY,)
    )
    task = asyncio.create_task(run(config))
    try:
        await until(lambda: "t_services" in tables())
        assert "t_policies" not in tables()
        watched = {str(c) for c in asyncio.all_tasks() if "informer/pods" in c.get_name()}
        assert not watched  # nothing is followed for no policy
        await _ingress(machine, api)
        await _egress(machine, api)
        await _odd(machine, api)
        for name in ("deny", "open"):
            api.drop(POLICIES + name)
        await until(lambda: "t_policies" not in tables())
        assert machine.ask("web", f"tcp {OUTSIDE} 80") == [WEB]
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await teardown("t_services")
    assert tables() == ""


async def _ingress(machine: Machine, api: Api) -> None:
    # A connection that is there already goes on.
    reader, writer = await _open(machine, "db")
    api.policy("deny")
    await web_is(machine, {"db": (f"tcp {WEB} 80", "timeout")})
    writer.write(b"still\n")
    assert await asyncio.wait_for(reader.readline(), 5) == b"still\n"
    writer.close()
    # A pod of which nothing is known yet is cut off in every direction, as policies may be meant for it.
    api.drop("/api/v1/namespaces/default/pods/db")
    await web_is(machine, {"db": (f"tcp {FAR} 80", "timeout")})
    assert machine.ask("db", f"tcp {GATEWAY} 22", f"tcp {OUTSIDE} 80") == ["timeout"] * 2
    assert machine.ask("web", f"tcp {DB} 80") == ["timeout"] and machine.ask("node", f"tcp {DB} 80") == [GATEWAY]
    assert machine.ask("node", f"tcp {GATEWAY} 22") == [GATEWAY]
    api.pod("db")
    await web_is(machine, {"db": (f"tcp {FAR} 80", DB)})
    asked = [f"tcp {WEB} 80", f"udp {WEB} 53", f"tcp {WEB} 8000"]
    assert machine.ask("far", *asked) == machine.ask("out", *asked) == ["timeout"] * 3
    # The node always gets through, and the pod to others and to itself.
    assert machine.ask("node", f"tcp {WEB} 80") == [GATEWAY]
    assert machine.ask("web", f"tcp {DB} 80", f"tcp {GATEWAY} 22") == [WEB, WEB]
    assert machine.ask("web", f"tcp {WEB} 80") == [WEB]
    # By pod label, named port, range and block.
    ports = [{"port": "http"}, {"port": 7990, "endPort": 8010}]
    other = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "other"}}}
    block = {"ipBlock": {"cidr": "192.0.2.0/24", "except": [f"{OUTSIDE}/32"]}}
    rules: list[Obj] = [
        {"from": [{"podSelector": {"matchLabels": {"app": "db"}}}, block], "ports": ports},
        {
            "from": [{**other, "podSelector": {"matchLabels": {"tier": "x"}}}],
            "ports": [{"port": 53, "protocol": "UDP"}],
        },
    ]
    api.policy("open", ingress=rules)
    await web_is(machine, {"db": (f"tcp {WEB} 80", DB)})
    asked.append(f"tcp {WEB} 81")
    assert machine.ask("db", *asked) == [DB, "timeout", DB, "timeout"]
    assert machine.ask("far", *asked) == machine.ask("out", *asked) == ["timeout"] * 4
    # A pod's label, a namespace's label, an exception that is gone: each is followed.
    api.pod("far", "other", tier="x")
    await web_is(machine, {"far": (f"udp {WEB} 53", "web hi")})
    assert machine.ask("far", *asked)[0] == "timeout"
    api.put("/api/v1/namespaces/other", {"metadata": {"labels": {}}})
    await web_is(machine, {"far": (f"udp {WEB} 53", "timeout")})
    del block["ipBlock"]["except"]
    api.policy("open", ingress=rules)
    await web_is(machine, {"out": (f"tcp {WEB} 80", OUTSIDE)})


async def _egress(machine: Machine, api: Api) -> None:
    api.policy("deny", policyTypes=["Egress"])
    await web_is(machine, {"web": (f"tcp {DB} 80", "timeout")})
    asked = [f"tcp {DB} 80", f"tcp {OUTSIDE} 80", f"tcp {GATEWAY} 22", f"udp {GATEWAY} 5353", f"udp {FAR} 53"]
    assert machine.ask("web", *asked) == ["timeout"] * 5
    assert machine.ask("node", f"tcp {WEB} 80") == [GATEWAY]  # and its answers come back
    named = {"to": [{"podSelector": {}}], "ports": [{"port": "http"}]}
    api.policy("open", policyTypes=["Egress"], egress=[DNS_RULE, named])
    await web_is(machine, {"web": (f"udp {GATEWAY} 5353", "node hi")})
    assert machine.ask("web", *asked) == [WEB, "timeout", "timeout", "node hi", "timeout"]
    api.policy("open", policyTypes=["Egress"], egress=[{}])
    await web_is(machine, {"web": (f"tcp {OUTSIDE} 80", WEB)})
    assert machine.ask("web", *asked) == [WEB, WEB, WEB, "node hi", "far hi"]


async def _odd(machine: Machine, api: Api) -> None:
    """What nft refuses (the API would, too) keeps nothing else from being enforced; it lets nothing through itself."""
    for name in ("deny", "open"):
        api.drop(POLICIES + name)
    selector = {"matchLabels": {"app": "db"}}
    api.policy("odd", podSelector=selector, ingress=[{"ports": [{"port": 90, "endPort": 80}]}])
    api.policy("deny", policyTypes=["Egress"])
    await web_is(machine, {"web": (f"tcp {FAR} 80", "timeout"), "far": (f"tcp {DB} 80", "timeout")})
    api.policy("open", policyTypes=["Egress"], egress=[{}])
    await web_is(machine, {"web": (f"tcp {FAR} 80", WEB), "far": (f"tcp {DB} 80", "timeout")})
    told = [body for method, path, body in api.writes if method == "POST" and path.endswith("/events")]
    assert [(e["involvedObject"]["name"], e["reason"]) for e in told] == [("odd", "RulesRefused")]
    api.policy("odd", podSelector=selector, ingress=[{"ports": [{"port": 80, "endPort": 90}]}])
    await web_is(machine, {"far": (f"tcp {DB} 80", FAR)})
    api.drop(POLICIES + "odd")


async def _open(machine: Machine, who: str) -> tuple[asyncio.StreamReader, Any]:
    """A connection from a pod to web's port 80 that echoes, past its greeting."""
    code = (
        "import socket,sys,threading\n"
        f"s = socket.create_connection(({WEB!r}, 80)); s.recv(99); print('open', flush=True)\n"
        "for line in sys.stdin:\n s.sendall(line.encode()); print(s.recv(99).decode(), end='', flush=True)"
    )
    process = await asyncio.create_subprocess_exec(
        *("ip", "netns", "exec", machine.name(who), "python3", "-c", code),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert await asyncio.wait_for(process.stdout.readline(), 5) == b"open\n"
    return process.stdout, process.stdin
