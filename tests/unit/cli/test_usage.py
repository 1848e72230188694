"""Wrong usage: one line, exit status 2, and the way to the right one."""

from __future__ import annotations

import argparse

import pytest

from stablehand.cli import options
from stablehand.cli.main import main
from stablehand.launch.config import parse_cidr, parse_interface, parse_listen, parse_node_name, parse_port
from stablehand.launch.stores import parse_store


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ([], "COMMAND"),
        (["fly"], "no command 'fly'"),
        (["up", "--fly"], "no option '--fly'"),
        (["up", "here"], "'here'"),
        (["up", "--listen", "nowhere"], "HOST:PORT"),
        (["up", "--pod-cidr", "10.1.2.3/24"], "host bits"),
        (["up", "--bridge", "a name far too long"], "interface"),
        (["up", "--store", "mysql://x"], "no store"),
        (["up", "--kubelet-port", "0"], "port"),
        (["up", "--eviction-hard", "memory"], "SIGNAL<QUANTITY"),
        (["up", "--eviction-pressure-transition-period", "soon"], "invalid duration"),
        (["up", "--node-name", "Not_A_Name"], "node name"),
        (["kubeconfig", "--merge", "--part", "dns"], "not allowed with"),
        (["image", "build", "windows"], "invalid choice"),
        (["dns", "--listen", "x"], "HOST:PORT"),
    ],
)
def test_wrong_usage_is_one_line(argv: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(argv)
    assert end.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert says in captured.err
    assert "--help` explains" in captured.err


def test_values() -> None:
    assert parse_listen(":0") == ("127.0.0.1", 0)
    assert parse_listen("[::1]:6443") == ("::1", 6443)
    assert parse_cidr("10.0.0.0/16") == "10.0.0.0/16"
    assert parse_port("65535") == 65535
    assert parse_interface("br0") == "br0"
    assert parse_node_name("node-1.example") == "node-1.example"
    for bad in ("10.0.0.0/30", "fd00::/64", "all"):
        with pytest.raises(ValueError, match=r"10\.244|addresses"):
            parse_cidr(bad)


@pytest.mark.parametrize(
    "good",
    [
        "sqlite",
        "sqlite:///var/lib/x.db",
        "memory:",
        "memory",
        "etcd://127.0.0.1:2379",
        "etcd://a:1,b:2?prefix=/x",
        "etcds://a:1?cacert=/ca&cert=/c&key=/k&user=u&password=p",
    ],
)
def test_stores(good: str) -> None:
    assert parse_store(good) == good


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("sqlite://x.db", "three slashes"),
        ("etcd://host", "HOST:PORT"),
        ("etcd://a:1?cacert=/ca", "etcds"),
        ("etcds://a:1?cert=/c", "cert=FILE and key=FILE"),
        ("etcd://a:1/registry", "prefix=/registry"),
        ("etcd://a:1?timeout=3", "no option"),
        ("etcd://root:x@a:1", "user=NAME"),
    ],
)
def test_wrong_stores(bad: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_store(bad)


def test_only_the_options_that_a_command_has_are_read() -> None:
    parser = argparse.ArgumentParser()
    options.server_options(parser)
    config = options.up_config(parser.parse_args(["--data-dir", "/x", "--listen", "127.0.0.1:1"]))
    assert config.listen == ("127.0.0.1", 1)
    assert config.bridge == "stablehand0"
    assert not config.leader_elect
