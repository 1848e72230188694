"""URLs, IP addresses and CIDRs."""

from __future__ import annotations

import ipaddress
from urllib.parse import parse_qs, urlsplit
from urllib.parse import quote as percent_encoded

from stablehand.machinery.cel.errors import CelError
from stablehand.machinery.cel.functions import opaque, overload
from stablehand.machinery.fielderrors import quote

# --- URLs


class Url:
    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Url) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)


opaque("kubernetes.URL", Url)


def _url(text: str) -> Url | None:
    """What Go's url.ParseRequestURI takes: an absolute URI or an absolute path; spaces are for the path to escape."""
    if not text or any(ord(c) < 0x20 or ord(c) == 0x7F for c in text):
        return None
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018  raises for a bad port
    except ValueError:
        return None
    absolute = bool(parts.scheme) or text.startswith("/")
    return Url(text) if absolute and not set(parts.netloc) & set(' <>"') else None


@overload("url(string) -> kubernetes.URL")
def _make_url(text: str) -> Url:
    made = _url(text)
    if made is None:
        raise CelError(f"URL parse error during conversion from string: parse {quote(text)}: invalid URI for request")
    return made


@overload("isURL(string) -> bool")
def _is_url(text: str) -> bool:
    return _url(text) is not None


@overload("kubernetes.URL::getScheme() -> string")
def _scheme(url: Url) -> str:
    return urlsplit(url.text).scheme


@overload("kubernetes.URL::getHost() -> string")
def _host(url: Url) -> str:
    return urlsplit(url.text).netloc.rpartition("@")[2]


@overload("kubernetes.URL::getHostname() -> string")
def _hostname(url: Url) -> str:
    host = _host(url)
    if host.startswith("["):
        return host[1 : host.find("]")]
    return host.rpartition(":")[0] if ":" in host else host


@overload("kubernetes.URL::getPort() -> string")
def _port(url: Url) -> str:
    port = urlsplit(url.text).port
    return "" if port is None else str(port)


@overload("kubernetes.URL::getEscapedPath() -> string")
def _path(url: Url) -> str:
    return percent_encoded(urlsplit(url.text).path, safe="/-_.~$&+,:;=@!'()*[]%")


@overload("kubernetes.URL::getQuery() -> map(string, list(string))")
def _query(url: Url) -> dict[str, list[str]]:
    return parse_qs(urlsplit(url.text).query, keep_blank_values=True)


# --- addresses


class Ip:
    __slots__ = ("address",)

    def __init__(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
        self.address = address

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ip) and other.address == self.address

    def __hash__(self) -> int:
        return hash(self.address)


class Cidr:
    """Keeps the address as it was written: cidr("10.0.0.5/8").ip() is 10.0.0.5."""

    __slots__ = ("interface",)

    def __init__(self, interface: ipaddress.IPv4Interface | ipaddress.IPv6Interface) -> None:
        self.interface = interface

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cidr) and other.interface == self.interface

    def __hash__(self) -> int:
        return hash(self.interface)


opaque("net.IP", Ip)
opaque("net.CIDR", Cidr)


def _ip(text: str) -> Ip | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and (address.ipv4_mapped or address.scope_id):
        return None
    return Ip(address)


def _cidr(text: str) -> Cidr | None:
    head, slash, length = text.partition("/")
    if not slash or not length.isdigit() or (len(length) > 1 and length[0] == "0") or _ip(head) is None:
        return None
    try:
        return Cidr(ipaddress.ip_interface(text))
    except ValueError:
        return None


@overload("ip(string) -> net.IP")
def _make_ip(text: str) -> Ip:
    made = _ip(text)
    if made is None:
        raise CelError(
            f"IP Address {quote(text)} parse error during conversion from string: ParseAddr({quote(text)}): "
            "unable to parse IP"
        )
    return made


@overload("isIP(string) -> bool")
def _is_ip(text: str) -> bool:
    return _ip(text) is not None


@overload("ip.isCanonical(string) -> bool")
def _is_canonical(text: str) -> bool:
    return str(_make_ip(text).address) == text


@overload("string(net.IP) -> string")
def _ip_text(value: Ip) -> str:
    return str(value.address)


@overload("net.IP::family() -> int")
def _family(value: Ip) -> int:
    return value.address.version


@overload("net.IP::isUnspecified() -> bool")
def _unspecified(value: Ip) -> bool:
    return value.address.is_unspecified


@overload("net.IP::isLoopback() -> bool")
def _loopback(value: Ip) -> bool:
    return value.address.is_loopback


@overload("net.IP::isLinkLocalMulticast() -> bool")
def _link_local_multicast(value: Ip) -> bool:
    raw = value.address.packed
    return raw[:3] == b"\xe0\x00\x00" if len(raw) == 4 else raw[0] == 0xFF and raw[1] & 0x0F == 2


@overload("net.IP::isLinkLocalUnicast() -> bool")
def _link_local_unicast(value: Ip) -> bool:
    return value.address.is_link_local


@overload("net.IP::isGlobalUnicast() -> bool")
def _global_unicast(value: Ip) -> bool:
    a = value.address
    broadcast = a.packed == b"\xff\xff\xff\xff"
    return not (a.is_unspecified or a.is_loopback or a.is_multicast or a.is_link_local or broadcast)


@overload("cidr(string) -> net.CIDR")
def _make_cidr(text: str) -> Cidr:
    made = _cidr(text)
    if made is None:
        raise CelError(
            f"network address parse error during conversion from string: "
            f"network address: netip.ParsePrefix({quote(text)}): unable to parse"
        )
    return made


@overload("isCIDR(string) -> bool")
def _is_cidr(text: str) -> bool:
    return _cidr(text) is not None


@overload("string(net.CIDR) -> string")
def _cidr_text(value: Cidr) -> str:
    return str(value.interface)


@overload("net.CIDR::containsIP(net.IP) -> bool")
def _contains_ip(value: Cidr, ip: Ip) -> bool:
    return ip.address in value.interface.network


@overload("net.CIDR::containsIP(string) -> bool")
def _contains_ip_text(value: Cidr, text: str) -> bool:
    return _contains_ip(value, _make_ip(text))


@overload("net.CIDR::containsCIDR(net.CIDR) -> bool")
def _contains_cidr(value: Cidr, other: Cidr) -> bool:
    mine, theirs = value.interface.network, other.interface.network
    return mine.version == theirs.version and theirs.subnet_of(mine)  # type: ignore[arg-type]


@overload("net.CIDR::containsCIDR(string) -> bool")
def _contains_cidr_text(value: Cidr, text: str) -> bool:
    return _contains_cidr(value, _make_cidr(text))


@overload("net.CIDR::ip() -> net.IP")
def _cidr_ip(value: Cidr) -> Ip:
    return Ip(value.interface.ip)


@overload("net.CIDR::masked() -> net.CIDR")
def _masked(value: Cidr) -> Cidr:
    return Cidr(ipaddress.ip_interface(str(value.interface.network)))


@overload("net.CIDR::prefixLength() -> int")
def _prefix_length(value: Cidr) -> int:
    return value.interface.network.prefixlen
