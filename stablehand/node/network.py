"""The pod network of the node: its gateway interface, the CNI configuration, masquerading, host ports, and undoing it.

Pods hang on point-to-point links (CNI ptp) with the gateway address at the other end, so that traffic between pods
is routed and never bridged: a Service's address translation is then undone on the way back without br_netfilter.
The interface named in the configuration only carries the gateway address, so that servers can listen on it before
the first pod. Masquerading and host ports are rules of our own nft table, set once: the CNI plugins' way costs
several iptables runs for each pod. Services' virtual addresses are stablehand.network's.

Connections from 127.0.0.1 to pods (host ports, node ports) need route_localnet on a pod's link; the chain `guard` keeps
the pod from the servers on the host's loopback all the same (CVE-2020-8558).
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import itertools
import json
import logging
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from stablehand.aiokit.conntrack import clear_udp
from stablehand.machinery.types import Obj
from stablehand.node.config import NodeConfig, NodeError
from stablehand.node.files import write_if_changed

log = logging.getLogger("stablehand.node.network")

_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
# What it was before the first Stablehand on this machine; gone with the last, and with a reboot.
_FORWARD_BEFORE = Path("/run/stablehand.ip_forward")


def cni_config(config: NodeConfig) -> str:
    """The conflist that containerd reads."""
    return json.dumps(
        {
            "cniVersion": "0.4.0",
            "name": "stablehand",
            "plugins": [
                {
                    "type": "ptp",
                    "ipMasq": False,
                    "ipam": {
                        "type": "host-local",
                        "ranges": [[{"subnet": config.pod_cidr, "gateway": config.gateway}]],
                        "routes": [{"dst": "0.0.0.0/0"}],
                        "dataDir": str(config.data_dir / "cni" / "addresses"),
                    },
                }
            ],
        },
        indent=2,
    )


def table_of(config: NodeConfig) -> str:
    """The nft table; one per bridge, as two Stablehands on one machine are told apart by their bridges."""
    return "stablehand_node" if config.bridge == "stablehand0" else f"{config.bridge}_node"


def rules(config: NodeConfig) -> str:
    """Our nft table: replaced as a whole, so host ports are added again for adopted pods."""
    table = table_of(config)
    cidr = config.pod_cidr
    dnat = """fib daddr type local dnat ip addr . port to ip daddr . meta l4proto . th dport map @hostaddresses
    fib daddr type local dnat ip addr . port to meta l4proto . th dport map @hostports"""
    return f"""add table ip {table}
delete table ip {table}
table ip {table} {{
  map hostports {{ type inet_proto . inet_service : ipv4_addr . inet_service; }}
  map hostaddresses {{ type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }}
  set hairpin {{ type ipv4_addr . ipv4_addr; }}
  chain prerouting {{
    type nat hook prerouting priority dstnat; policy accept;
    {dnat}
  }}
  chain output {{
    type nat hook output priority -100; policy accept;
    {dnat}
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {cidr} ip daddr != {{ {cidr}, 224.0.0.0/4 }} masquerade
    ip saddr 127.0.0.0/8 ip daddr {cidr} masquerade
    ct status dnat ip saddr . ip daddr @hairpin masquerade
  }}
  chain guard {{
    type filter hook input priority filter; policy accept;
    iifname != "lo" ip daddr 127.0.0.0/8 ct state != established drop
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class HostPort:
    """A port of the host that leads into a pod. `address` "": on every address of the host."""

    protocol: str
    address: str
    port: int
    inner: int

    def element(self) -> tuple[str, str]:
        """(map of our table, key)."""
        if self.address:
            return "hostaddresses", f"{self.address} . {self.protocol} . {self.port}"
        return "hostports", f"{self.protocol} . {self.port}"


def host_ports(pod: Obj) -> list[HostPort]:
    """The host ports of a pod with a network of its own. Those on IPv6 addresses are left out: pods have none."""
    if pod["spec"].get("hostNetwork"):
        return []
    out = []
    for container in [*pod["spec"]["containers"], *(pod["spec"].get("initContainers") or ())]:
        for port in container.get("ports") or ():
            address = port.get("hostIP") or ""
            if port.get("hostPort") and (":" not in address or address == "::"):
                address = "" if address in ("0.0.0.0", "::") else address
                protocol = (port.get("protocol") or "TCP").lower()
                out.append(HostPort(protocol, address, port["hostPort"], port["containerPort"]))
    return out


def udp_ends(
    changed: Iterable[tuple[str, str]], open_: Iterable[Mapping[tuple[str, str], str]], own: Iterable[str]
) -> dict[tuple[str, int], frozenset[tuple[str, int]]]:
    """Where (address, UDP port) of the host lead, for the changed entries (map of our table, key); `open_`: all entries
    there are now, with their values; `own`: the host's addresses."""
    ends = {entry: value for entries in open_ for entry, value in entries.items()}
    out = {}
    for where, key in changed:
        words = key.split(" . ")
        if where == "hairpin" or words[-2] != "udp":
            continue
        for address in own if where == "hostports" else words[:1]:
            value = ends.get(("hostaddresses", f"{address} . udp . {words[-1]}")) or ends.get(
                ("hostports", f"udp . {words[-1]}")
            )
            inner = value.split(" . ") if value else None
            out[address, int(words[-1])] = frozenset() if inner is None else frozenset({(inner[0], int(inner[1]))})
    return out


async def run_program(*command: str, stdin: str = "") -> tuple[int, str]:
    feed = asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        *command, stdin=feed, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await process.communicate(stdin.encode() or None)
    return process.returncode or 0, out.decode(errors="replace").strip()


class Network:
    """The node's side of the pod network. `setup` before the first pod, `teardown` at `down --pods`."""

    def __init__(self, config: NodeConfig) -> None:
        self._config = config
        self._ports: dict[str, dict[tuple[str, str], str]] = {}  # uid -> (map or set, key): value, "" in a set
        self._written: dict[tuple[str, str], str] = {}  # what of these is in the kernel
        self._writing = asyncio.Lock()
        self._nft = shutil.which("nft")

    async def setup(self) -> None:
        config = self._config
        conf_dir = config.data_dir / "cni" / "net.d"
        write_if_changed(conf_dir / "10-stablehand.conflist", cni_config(config))
        config.run_dir.mkdir(parents=True, exist_ok=True)
        _remember_forwarding()
        self._clear_stale_addresses()
        await asyncio.gather(self._link(), self._table())
        with contextlib.suppress(OSError):
            _FORWARD.write_text("1")

    def _clear_stale_addresses(self) -> None:
        # host-local's leases survive a reboot, the pods' network namespaces do not.
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        marker = self._config.data_dir / "cni" / "boot_id"
        if not marker.exists() or marker.read_text() != boot:
            shutil.rmtree(self._config.data_dir / "cni" / "addresses", ignore_errors=True)
            marker.write_text(boot)

    async def _link(self) -> None:
        config = self._config
        gateway, name = config.gateway, config.bridge
        if Path(f"/sys/class/net/{name}").exists():
            lines = [f"addr replace {gateway}/32 dev {name}", f"link set {name} up"]
        else:
            mac = "0a:58:" + ":".join(f"{int(part):02x}" for part in gateway.split("."))
            lines = [
                f"link add name {name} address {mac} type bridge",
                f"addr add {gateway}/32 dev {name}",
                f"link set {name} up",
            ]
        lines.append(f"route replace unreachable {config.pod_cidr} metric 4096")
        code, out = await run_program("ip", "-batch", "-", stdin="\n".join(lines) + "\n")
        if code != 0:
            raise NodeError(f"cannot set up the pod network on {name}: {out}")

    async def _table(self) -> None:
        if self._nft is None:
            log.warning("nft not found: pods reach nothing outside this machine (apt-get install nftables)")
            return
        async with self._writing:
            wanted = {entry: value for entries in self._ports.values() for entry, value in entries.items()}
            code, out = await run_program(self._nft, "-f", "-", stdin=rules(self._config) + self._additions(wanted))
            if code != 0:
                raise NodeError(f"nft refused the pod network's rules: {out}")
            self._written = wanted

    def _additions(self, entries: Mapping[tuple[str, str], str]) -> str:
        table = table_of(self._config)
        elements = ((where, f"{key} : {value}" if value else key) for (where, key), value in entries.items())
        return "".join(f"add element ip {table} {where} {{ {element} }}\n" for where, element in elements)

    # -- what others took away

    async def mend_link(self) -> None:
        """Interface, gateway address and forwarding, where somebody took them away. Raises NodeError."""
        config = self._config
        with contextlib.suppress(OSError):
            if _FORWARD.read_text().strip() == "0":
                log.warning("somebody turned IPv4 forwarding off: turning it on again, pods need it")
                _FORWARD.write_text("1")
        if not is_up(config.bridge) or config.gateway not in host_addresses():
            log.warning("the pod network's interface %s was taken away or down: setting it up again", config.bridge)
            await self._link()

    async def mend_table(self) -> None:
        """Our nft table, where somebody deleted it (a firewall that was loaded anew, say). Raises NodeError."""
        if self._nft is None:
            return
        code, out = await run_program(self._nft, "list", "tables", "ip")
        if code == 0 and f"table ip {table_of(self._config)}" not in out.splitlines():
            log.warning("somebody deleted the nft table %s: writing it again", table_of(self._config))
            await self._table()

    async def mend_route(self, address: str, veth: str) -> bool:
        """Leads to a pod again over its link, if that is there."""
        if not veth or not Path(f"/sys/class/net/{veth}").exists():
            return False
        log.warning("the route to %s over %s was taken away: setting it up again", address, veth)
        lines = [
            f"addr replace {self._config.gateway}/32 dev {veth}",
            f"link set {veth} up",
            f"route replace {address} dev {veth} scope host",
        ]
        code, out = await run_program("ip", "-batch", "-", stdin="\n".join(lines) + "\n")
        if code != 0:
            log.warning("route to %s: %s", address, out)
        return code == 0

    # -- host ports

    async def open_ports(self, uid: str, address: str, ports: Iterable[HostPort]) -> None:
        """Forwards the host's ports to a pod, and lets the host's loopback address reach it through them and through
        node ports; again for the same pod is fine."""
        if veth := veth_of(address):
            with contextlib.suppress(OSError):
                Path(f"/proc/sys/net/ipv4/conf/{veth}/route_localnet").write_text("1")
        ports = list(ports)
        if not ports or self._nft is None or uid in self._ports:
            return
        entries = {("hairpin", f"{address} . {address}"): ""}
        entries |= {port.element(): f"{address} . {port.inner}" for port in ports}
        self._ports[uid] = entries
        if why := await self._write(entries):
            del self._ports[uid]
            log.warning("host ports %s of pod %s: %s", ports, uid, why)

    async def close_ports(self, uid: str) -> None:
        entries = self._ports.pop(uid, None)
        if entries and self._nft is not None and (why := await self._write(entries)):
            log.warning("closing the host ports of pod %s: %s", uid, why)

    async def _write(self, changed: Iterable[tuple[str, str]]) -> str:
        """Brings these entries in step with `_ports`; why it cannot. A pod that replaces another may come before the
        other is gone: the one that came last has the port."""
        changed, table = list(changed), table_of(self._config)
        async with self._writing:
            wanted: dict[tuple[str, str], str] = {}
            for entries in self._ports.values():
                wanted |= {entry: entries[entry] for entry in changed if entry in entries}
            new = {entry: value for entry, value in wanted.items() if self._written.get(entry) != value}
            old = [e for e in changed if e in self._written and (e in new or e not in wanted)]
            lines = [f"delete element ip {table} {where} {{ {key} }}\n" for where, key in old]
            if not old and not new:
                return ""
            assert self._nft is not None
            code, out = await run_program(self._nft, "-f", "-", stdin="".join(lines) + self._additions(new))
            if code != 0:
                return out
            for entry in old:
                del self._written[entry]
            self._written |= new
        await self._clear_udp(changed)
        return ""

    async def _clear_udp(self, entries: Iterable[tuple[str, str]]) -> None:
        """Clients that keep their port are led as the rules are now, and not as before these entries came or went."""
        if wanted := udp_ends(entries, self._ports.values(), host_addresses()):
            try:
                await asyncio.to_thread(clear_udp, wanted)
            except OSError as e:
                log.warning("cannot clear UDP connections to host ports: %s", e)

    # -- undoing

    async def teardown(self) -> None:
        """Removes interface, routes, links, rules and leases, and puts ip_forward back."""
        config = self._config
        # Another Stablehand may have been given the same network: an address that we lent is ours.
        leases = config.data_dir / "cni" / "addresses" / "stablehand"
        ours = ((a, d) for a, d in routes().items() if d.startswith("veth") and (leases / a).exists())
        lines = [f"link del {device}" for _, device in ours]
        lines.append(f"route del unreachable {config.pod_cidr} metric 4096")
        lines.append(f"link del {config.bridge}")
        await run_program("ip", "-force", "-batch", "-", stdin="\n".join(lines) + "\n")
        if self._nft is not None:
            table = table_of(config)
            await run_program(self._nft, "-f", "-", stdin=f"add table ip {table}\ndelete table ip {table}\n")
        shutil.rmtree(config.data_dir / "cni", ignore_errors=True)
        await self.restore_forwarding()

    async def restore_forwarding(self) -> None:
        """Unless another Stablehand's pods, which its table tells of, still need it."""
        if self._nft is not None:
            _, out = await run_program(self._nft, "list", "tables", "ip")
            others = {line.split()[-1] for line in out.splitlines() if line.endswith("_node")} - {
                table_of(self._config)
            }
            if others:
                log.info("IPv4 forwarding stays on for %s", ", ".join(sorted(others)))
                return
        with contextlib.suppress(OSError):
            _FORWARD.write_text(_FORWARD_BEFORE.read_text())
            _FORWARD_BEFORE.unlink()


def _remember_forwarding() -> None:
    with contextlib.suppress(FileExistsError), _FORWARD_BEFORE.open("x") as before:
        before.write(_FORWARD.read_text())


def veth_of(address: str) -> str:
    """The host's end of a pod's link: the device of the route to its address."""
    return routes().get(address, "")


def routes() -> dict[str, str]:
    """The devices of the routes to single IPv4 addresses."""
    found = {}
    try:
        with open("/proc/net/route") as table:
            for line in table:
                fields = line.split()
                if len(fields) > 7 and fields[7] == "FFFFFFFF":
                    found[str(ipaddress.IPv4Address(int(fields[1], 16).to_bytes(4, "little")))] = fields[0]
    except OSError:
        pass
    return found


def is_up(name: str) -> bool:
    """Whether there is an interface of that name, and turned on."""
    try:
        return bool(int(Path(f"/sys/class/net/{name}/flags").read_text(), 16) & 1)
    except (OSError, ValueError):
        return False


def link_mtu(name: str) -> int:
    try:
        return int(Path(f"/sys/class/net/{name}/mtu").read_text())
    except (OSError, ValueError):
        return 1500


def host_addresses() -> set[str]:
    """This machine's own IPv4 addresses (from the kernel's local table; no fork)."""
    found = {"127.0.0.1"}
    try:
        lines = Path("/proc/net/fib_trie").read_text().splitlines()
    except OSError:
        return found
    for previous, line in itertools.pairwise(lines):
        if "/32 host LOCAL" in line:
            found.add(previous.split()[-1])
    return found


def is_own_host(name: str) -> bool:
    """Whether a server name or address is this machine."""
    return name in host_addresses() or name in ("localhost", os.uname().nodename)
