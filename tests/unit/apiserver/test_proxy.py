"""The proxy subresources' pure side: names, paths, and links that lead back through the proxy."""

from __future__ import annotations

import gzip

import pytest

from stablehand.apiserver.contract import StatusError
from stablehand.apiserver.core import Core, ServerConfig
from stablehand.apiserver.registry import Registry
from stablehand.apiserver.storage.storage import Storage
from stablehand.apiserver.streams.proxy import check_address, split_name, split_path
from stablehand.apiserver.streams.rewrite import decoded, rewrite_html, rewrite_url
from stablehand.apiserver.streams.targets import service_addresses
from stablehand.machinery.resources import resource
from stablehand.store.memory import MemoryBackend

PREFIX, OWN = "/api/v1/namespaces/proxy-1/pods/web/proxy", ("10.0.0.5:80", "api:6443")


def test_paths() -> None:
    assert split_path(f"{PREFIX}/a/proxy/b", True) == (PREFIX, "/a/proxy/b")
    assert split_path(PREFIX, True) == (PREFIX, "") and split_path(f"{PREFIX}/", True) == (PREFIX, "/")
    assert split_path("/api/v1/nodes/proxy/proxy/metrics", False) == ("/api/v1/nodes/proxy/proxy", "/metrics")


def test_names() -> None:
    assert split_name("web") == ("", "web", "") and split_name("web:80") == ("", "web", "80")
    assert split_name("https:web:tls") == ("https", "web", "tls")


def test_urls() -> None:
    assert rewrite_url("/a/b?c=d#e", PREFIX, OWN) == f"{PREFIX}/a/b?c=d#e"
    assert rewrite_url("http://10.0.0.5:80/a/", PREFIX, OWN) == f"{PREFIX}/a/"
    for kept in ("a/b", "http://example.com/a", "#top", f"{PREFIX}/a", ""):
        assert rewrite_url(kept, PREFIX, OWN) == kept


def test_pages() -> None:
    page = b'<a href="/rewriteme">test</a><img src=/x.png alt="/y"><p title="/z">/a <br/> 1 < 2 <a href=\'/q\' >'
    want = page.replace(b"/rewriteme", f"{PREFIX}/rewriteme".encode()).replace(b"/x.png", f"{PREFIX}/x.png".encode())
    assert rewrite_html(page, PREFIX, OWN) == want.replace(b"/q", f"{PREFIX}/q".encode())
    assert (
        decoded(gzip.compress(page), "gzip") == page and decoded(page, "br") is None and decoded(b"x", "gzip") is None
    )


def test_the_machines_own_inside_is_out_of_reach() -> None:
    check_address("10.0.0.5")
    for claimed in ("127.0.0.1", "169.254.169.254", "0.0.0.0", "::1", "224.0.0.1", "", "web.example"):
        with pytest.raises(StatusError, match="address not allowed"):
            check_address(claimed)


async def test_a_service_without_endpoints_is_reached_by_its_slices() -> None:
    core = Core(Storage(MemoryBackend()), Registry(), ServerConfig())
    await core.storage.open()
    for name, service, port in (("a", "web", 3000), ("b", "web", 8080), ("c", "other", 3000)):
        piece = {
            "metadata": {"name": name, "namespace": "ns", "labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4",
            "endpoints": [
                {"addresses": [f"10.0.0.{port % 7}"]},
                {"addresses": ["10.9.9.9"], "conditions": {"ready": False}},
            ],
            "ports": [{"name": "http" if port == 3000 else "admin", "port": port}],
        }
        slices = core.storage.collection(resource("endpointslices.discovery.k8s.io"))
        await core.storage.put(slices, ("ns", name), piece, 0)
    assert service_addresses(core, "ns", "web", "http") == [("10.0.0.4", 3000)]
    assert service_addresses(core, "ns", "web", "") == []
    hand_made = {
        "metadata": {"name": "web", "namespace": "ns"},
        "subsets": [{"addresses": [{"ip": "10.1.1.1"}], "ports": [{"name": "http", "port": 1}]}],
    }
    await core.storage.put(core.storage.collection(resource("endpoints")), ("ns", "web"), hand_made, 0)
    assert service_addresses(core, "ns", "web", "http") == [("10.1.1.1", 1)]
