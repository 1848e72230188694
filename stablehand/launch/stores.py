"""Which store a --store URL names, and opening it. What a store does is stablehand.store's.

sqlite                       state.db in the data directory (the default)
sqlite:///PATH               that file
memory:                      nothing is kept
etcd://HOST:PORT[,HOST:PORT][?prefix=/stablehand&user=NAME&password=WORD]
etcds://…[?cacert=FILE&cert=FILE&key=FILE]     the same over TLS
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from stablehand.launch.errors import LaunchError

if TYPE_CHECKING:
    from stablehand.store.contract import Backend

DEFAULT_STORE = "sqlite"
_FORMS = "sqlite, sqlite:///PATH, memory: or etcd://HOST:PORT (etcds:// for TLS)"
_ETCD_OPTIONS = ("prefix", "user", "password", "cacert", "cert", "key")


def parse_store(text: str) -> str:
    """Checks a --store URL and answers it. Raises ValueError with a text for the user."""
    if text in ("sqlite", "memory"):
        return text
    url = urlsplit(text)
    if url.scheme == "sqlite":
        if url.netloc or url.query or not url.path.startswith("/") or url.path.endswith("/"):
            raise ValueError(f"{text!r} names no file: give sqlite:///PATH, with three slashes")
    elif url.scheme in ("etcd", "etcds"):
        _etcd_endpoints(text)
        _etcd_options(text)
    elif text not in ("memory:", "memory://"):
        raise ValueError(f"{text!r} is no store: give {_FORMS}")
    return text


def store_text(text: str) -> str:
    """Where the store is, for people: a file's path stays out of it. ("sqlite", "memory", "etcd 127.0.0.1:2379")."""
    url = urlsplit(text)
    return f"etcd {url.netloc}" if url.scheme in ("etcd", "etcds") else url.scheme or text


def _etcd_endpoints(text: str) -> tuple[str, ...]:
    url = urlsplit(text)
    endpoints = tuple(url.netloc.split(","))
    for endpoint in endpoints:
        host, _, port = endpoint.rpartition(":")
        if "@" in endpoint:
            raise ValueError("give etcd's user and password as ?user=NAME&password=WORD")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise ValueError(f"{endpoint!r} is not HOST:PORT: give {url.scheme}://HOST:PORT[,HOST:PORT]")
    if url.path not in ("", "/"):
        raise ValueError(f"{url.path!r} in --store: give the keys' prefix as ?prefix={url.path}")
    return endpoints


def _etcd_options(text: str) -> dict[str, str]:
    url = urlsplit(text)
    options = dict(parse_qsl(url.query, keep_blank_values=True))
    for name in options:
        if name not in _ETCD_OPTIONS:
            raise ValueError(f"{name!r} is no option of {url.scheme}://: there are {', '.join(_ETCD_OPTIONS)}")
    tls = [name for name in ("cacert", "cert", "key") if name in options]
    if tls and url.scheme == "etcd":
        raise ValueError(f"{tls[0]!r} needs TLS: give etcds://")
    if ("cert" in options) != ("key" in options):
        raise ValueError("a client certificate needs both cert=FILE and key=FILE")
    if ("user" in options) != ("password" in options):
        raise ValueError("give both user=NAME and password=WORD")
    return options


def make_backend(text: str, default_file: Path) -> Backend:
    """The store, not yet opened; `default_file` is SQLite's in the data directory. Raises LaunchError."""
    url = urlsplit(text)
    if text == "sqlite" or url.scheme == "sqlite":
        from stablehand.store.sqlite import SqliteBackend

        path = Path(url.path) if url.scheme == "sqlite" else default_file
        if not path.parent.is_dir():
            raise LaunchError(f"--store {text}: there is no folder {path.parent}")
        return SqliteBackend(path)
    if url.scheme in ("etcd", "etcds"):
        from stablehand.store.etcd import EtcdBackend, EtcdConfig

        options = _etcd_options(text)

        def file(name: str) -> bytes | None:
            if name not in options:
                return None
            try:
                return Path(options[name]).read_bytes()
            except OSError as e:
                raise LaunchError(f"--store {name}={options[name]}: {e.strerror}") from e

        return EtcdBackend(
            EtcdConfig(
                endpoints=_etcd_endpoints(text),
                prefix=options.get("prefix", EtcdConfig.prefix),
                tls=url.scheme == "etcds",
                ca_pem=file("cacert"),
                cert_pem=file("cert"),
                key_pem=file("key"),
                user=options.get("user", ""),
                password=options.get("password", ""),
            )
        )
    from stablehand.store.memory import MemoryBackend

    return MemoryBackend()
