"""The cluster's DNS zone as data: what Services and EndpointSlices mean in names, and what a question is answered.

Pure: sockets and packets are dns.server's. One question costs one or two dict look-ups; a change of one Service
rewrites the names of that Service only.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from stablehand.machinery.meta import key as key_of
from stablehand.machinery.types import Obj

Key = tuple[str, str]
# (name, type, data): data is an address, a name, a text, or (priority, weight, port, target) of SRV
Record = tuple[str, str, Any]
Records = dict[str, dict[str, list[Any]]]
NOERROR, NXDOMAIN = 0, 3
_CHASE = 8


@dataclass(slots=True)
class Answer:
    """`soa` asks for the zone's SOA in the authority section; `dangling` is a CNAME target outside the zone."""

    rcode: int = NOERROR
    records: list[Record] = field(default_factory=list)
    additional: list[Record] = field(default_factory=list)
    soa: str = ""
    dangling: str = ""


def reverse_name(address: str) -> str:
    return ipaddress.ip_address(address).reverse_pointer


def address_of(reverse: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address a full in-addr.arpa or ip6.arpa name stands for."""
    try:
        if reverse.endswith(".in-addr.arpa"):
            return ipaddress.IPv4Address(".".join(reversed(reverse[:-13].split("."))))
        if reverse.endswith(".ip6.arpa"):
            digits = "".join(reversed(reverse[:-9].split(".")))
            return ipaddress.IPv6Address(int(digits, 16)) if len(digits) == 32 else None
    except ValueError:
        pass
    return None


def address_type(address: str) -> str:
    return "AAAA" if ":" in address else "A"


def endpoint_label(endpoint: Obj, address: str) -> str:
    """The label below the Service's name: the pod's hostname, or one made of the address."""
    if hostname := endpoint.get("hostname"):
        return str(hostname).lower()
    label = address.replace(".", "-").replace(":", "-")
    return f"0{label}" if label.startswith("-") else label


def service_records(service: Obj, slices: Iterable[Obj], domain: str) -> Records:
    """Every name one Service brings, with its records. The Service's own name has the SRV of all ports, as CoreDNS's."""
    namespace, name = key_of(service)
    base = f"{name}.{namespace}.svc.{domain}".lower()
    found: dict[str, dict[str, dict[Any, None]]] = {}  # each value once, in order

    def add(where: str, kind: str, value: Any) -> None:
        found.setdefault(where, {}).setdefault(kind, {})[value] = None

    _collect(service, slices, base, add)
    return {where: {kind: list(values) for kind, values in by_type.items()} for where, by_type in found.items()}


def _collect(service: Obj, slices: Iterable[Obj], base: str, add: Callable[[str, str, Any], None]) -> None:
    spec = service.get("spec") or {}
    if spec.get("type") == "ExternalName":
        if target := (spec.get("externalName") or "").rstrip(".").lower():
            add(base, "CNAME", target)
        return
    addresses = spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else [])
    if not addresses:
        return
    if addresses[0] != "None":
        for address in addresses:
            add(base, address_type(address), address)
            add(reverse_name(address), "PTR", base)
        for port in spec.get("ports") or ():
            add(base, "SRV", (0, 100, port["port"], base))
            if port.get("name"):
                where = f"_{port['name']}._{(port.get('protocol') or 'TCP')}.{base}".lower()
                add(where, "SRV", (0, 100, port["port"], base))
        return
    unready = bool(spec.get("publishNotReadyAddresses"))
    for piece in slices:
        if piece.get("addressType") == "FQDN":
            continue
        for endpoint in piece.get("endpoints") or ():
            if not unready and (endpoint.get("conditions") or {}).get("ready") is False:
                continue
            for address in endpoint.get("addresses") or ():
                host = f"{endpoint_label(endpoint, address)}.{base}"
                add(base, address_type(address), address)
                add(host, address_type(address), address)
                add(reverse_name(address), "PTR", host)
                for port in piece.get("ports") or ():
                    if port.get("port"):
                        add(base, "SRV", (0, 100, port["port"], host))
                    if port.get("name") and port.get("port"):
                        where = f"_{port['name']}._{(port.get('protocol') or 'TCP')}.{base}".lower()
                        add(where, "SRV", (0, 100, port["port"], host))


class Zone:
    """The records of all Services. `set_service` and `remove_service` change it; `lookup` answers."""

    def __init__(self, domain: str = "cluster.local", cluster_cidrs: Iterable[str] = ()) -> None:
        self.domain = domain.strip(".").lower()
        self._below = f".{self.domain}"
        self._cidrs = [ipaddress.ip_network(c) for c in cluster_cidrs]
        # name -> the Services that bring records for it (several, for a reverse name)
        self._names: dict[str, dict[Key, dict[str, list[Any]]]] = {}
        self._services: dict[Key, Records] = {}
        self._parents: dict[str, int] = {}
        self.serial = 1
        own: Key = ("", "")
        self._insert(own, {f"dns-version.{self.domain}": {"TXT": ["1.1.0"]}, f"ns.dns.{self.domain}": {}})
        self._parents[f"svc.{self.domain}"] = 1

    # -- changes

    def set_service(self, service: Obj, slices: Iterable[Obj]) -> None:
        key = key_of(service)
        records = service_records(service, slices, self.domain)
        if self._services.get(key) != records:
            self.remove_service(key)
            self._insert(key, records)

    def remove_service(self, key: Key) -> None:
        old = self._services.pop(key, None)
        if old is None:
            return
        self.serial += 1
        for name in old:
            owners = self._names[name]
            del owners[key]
            if not owners:
                del self._names[name]
            for parent in self._ancestors(name):
                self._parents[parent] -= 1
                if not self._parents[parent]:
                    del self._parents[parent]

    def _insert(self, key: Key, records: Records) -> None:
        self._services[key] = records
        self.serial += 1
        for name, by_type in records.items():
            self._names.setdefault(name, {})[key] = by_type
            for parent in self._ancestors(name):
                self._parents[parent] = self._parents.get(parent, 0) + 1

    def _ancestors(self, name: str) -> Iterator[str]:
        """Names between `name` and the zone's top, which exist although they hold nothing."""
        while name.endswith(self._below):
            name = name.partition(".")[2]
            yield name

    # -- questions

    def covers(self, name: str) -> bool:
        """Whether we, and not an upstream resolver, answer for this (lower-case, undotted) name."""
        if name == self.domain or name.endswith(self._below) or name in self._names:
            return True
        if name.endswith(".arpa") and (address := address_of(name)) is not None:
            return any(address.version == cidr.version and address in cidr for cidr in self._cidrs)
        return False

    def get(self, name: str, kind: str) -> list[Any]:
        return [v for by_type in self._names.get(name, {}).values() for v in by_type.get(kind, ())]

    def lookup(self, name: str, kind: str) -> Answer:
        """The answer to a question that `covers`. The name may be in any case."""
        answer = Answer()
        asked, name = name.rstrip("."), name.rstrip(".").lower()
        for _ in range(_CHASE):
            owners = self._names.get(name)
            if owners is None:
                self._without_records(answer, asked, name, kind)
                return answer
            for by_type in owners.values():
                for record_type, values in by_type.items():
                    if kind in (record_type, "ANY"):
                        answer.records.extend((asked, record_type, value) for value in values)
                        if record_type == "SRV":
                            self._targets(answer, values)
            alias = [] if kind in ("CNAME", "ANY") else self.get(name, "CNAME")
            if not alias:
                break
            answer.records.append((asked, "CNAME", alias[0]))
            asked = name = alias[0]
            if not self.covers(name):
                answer.dangling = name
                return answer
        if not answer.records:
            answer.soa = self._authority(name)
        return answer

    def _without_records(self, answer: Answer, asked: str, name: str, kind: str) -> None:
        if name == self.domain and kind in ("SOA", "NS", "ANY"):
            if kind != "NS":
                answer.records.append((asked, "SOA", None))
            if kind != "SOA":
                answer.records.append((asked, "NS", f"ns.dns.{self.domain}"))
            return
        address = self._pod_address(name)
        if address is not None and kind in (address_type(address), "ANY"):
            answer.records.append((asked, address_type(address), address))
            return
        answer.soa = self._authority(name)
        if address is None and name not in self._parents and name != self.domain:
            answer.rcode = NXDOMAIN

    def _pod_address(self, name: str) -> str | None:
        """1-2-3-4.<namespace>.pod.<domain> is the address it spells."""
        if not name.endswith(f".pod{self._below}"):
            return None
        labels = name[: -len(self._below) - 4].split(".")
        if len(labels) != 2:
            return None
        for separator in (".", ":"):
            try:
                return str(ipaddress.ip_address(labels[0].replace("-", separator)))
            except ValueError:
                continue
        return None

    def _targets(self, answer: Answer, values: list[Any]) -> None:
        for value in values:
            for kind in ("A", "AAAA"):
                for address in self.get(value[3], kind):
                    record = (value[3], kind, address)
                    if record not in answer.additional:
                        answer.additional.append(record)

    def _authority(self, name: str) -> str:
        if name == self.domain or name.endswith(self._below):
            return self.domain
        return name.partition(".")[2] or name
