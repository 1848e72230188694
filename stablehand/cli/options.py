"""Options that several commands share, and turning them into configuration."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from stablehand.launch.config import (
    DEFAULT_DATA_DIR,
    DEFAULT_LISTEN,
    Paths,
    UpConfig,
    parse_cidr,
    parse_eviction,
    parse_interface,
    parse_listen,
    parse_node_name,
    parse_port,
)
from stablehand.launch.state import remembered_network
from stablehand.launch.stores import DEFAULT_STORE, parse_store

T = TypeVar("T")


def checked(parse: Callable[[str], T]) -> Callable[[str], T]:
    """A parser whose ValueError text reaches the user as argparse's own."""

    def parser(text: str) -> T:
        try:
            return parse(text)
        except ValueError as e:
            raise argparse.ArgumentTypeError(str(e)) from e

    return parser


def data_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-dir", type=Path, default=Path(DEFAULT_DATA_DIR), metavar="DIR", help="default: %(default)s"
    )


def kubeconfig(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--kubeconfig", metavar="FILE", help="default: $KUBECONFIG, in-cluster credentials, ~/.kube/config"
    )


def leader_elect(parser: argparse.ArgumentParser, default: bool) -> None:
    """On for a part that runs alone, since a second may stand beside it; off where all parts share a process."""
    parser.add_argument(
        "--leader-elect",
        action=argparse.BooleanOptionalAction,
        default=default,
        help=f"work only while holding a Lease in kube-system; default: {'on' if default else 'off'}",
    )


def pod_network(parser: argparse.ArgumentParser, *, remembered: bool = False) -> None:
    """`remembered`: of pods that run or ran; the default is what `up` was given last (see network_of)."""
    what = "default: as `up` last had it" if remembered else "default: %(default)s"
    parser.add_argument(
        "--bridge",
        type=checked(parse_interface),
        default=None if remembered else UpConfig.bridge,
        metavar="NAME",
        help=f"the pods' bridge; {what}",
    )
    parser.add_argument(
        "--pod-cidr",
        type=checked(parse_cidr),
        default=None if remembered else UpConfig.pod_cidr,
        metavar="CIDR",
        help=f"the pods' addresses; {what}",
    )


def network_of(args: argparse.Namespace) -> UpConfig:
    """The configuration that names the network of a data directory's pods, as given or as remembered."""
    paths = Paths(args.data_dir.absolute())
    given = {name: value for name in ("bridge", "pod_cidr") if (value := getattr(args, name)) is not None}
    return UpConfig(paths=paths, **{**remembered_network(paths), **given})


def cidr(parser: argparse.ArgumentParser, flag: str, default: str) -> None:
    parser.add_argument(flag, type=checked(parse_cidr), default=default, metavar="CIDR", help="default: %(default)s")


def server_options(parser: argparse.ArgumentParser) -> None:
    """What an API server is told."""
    data_dir(parser)
    parser.add_argument(
        "--listen",
        type=checked(parse_listen),
        default=parse_listen(DEFAULT_LISTEN),
        metavar="HOST:PORT",
        help=f"default: {DEFAULT_LISTEN}",
    )
    parser.add_argument(
        "--store",
        type=checked(parse_store),
        default=DEFAULT_STORE,
        metavar="URL",
        help="where objects are kept: sqlite (in the data directory), sqlite:///PATH, memory:, "
        "etcd://HOST:PORT[,HOST:PORT] or etcds://; default: %(default)s",
    )
    cidr(parser, "--service-cidr", UpConfig.service_cidr)


def node_options(parser: argparse.ArgumentParser) -> None:
    """What a node agent is told."""
    parser.add_argument("--node-name", type=checked(parse_node_name), metavar="NAME", help="default: the host name")
    pod_network(parser)
    parser.add_argument("--stop-pods", action="store_true", help="stop the pods when Stablehand stops")
    parser.add_argument(
        "--kubelet-port",
        type=checked(parse_port),
        default=UpConfig.kubelet_port,
        metavar="PORT",
        help="default: %(default)s",
    )
    parser.add_argument(
        "--registry-mirror",
        action="append",
        default=[],
        metavar="REGISTRY=URL",
        help="pull images of REGISTRY from URL (http:// URLs on loopback are allowed); may be repeated",
    )
    parser.add_argument(
        "--insecure-registry",
        action="append",
        default=[],
        metavar="HOST:PORT",
        help="speak plain HTTP to this registry (those on loopback need no saying); may be repeated",
    )
    parser.add_argument(
        "--pod-manifest-path",
        type=Path,
        metavar="DIR",
        help="run the pods (static pods) that the files of this folder describe; default: DATA_DIR/node/manifests",
    )
    eviction_options(parser)


def _seconds(text: str) -> float:
    from stablehand.node.signals import parse_duration  # the node agent is not loaded for every command

    return parse_duration(text)


def eviction_options(parser: argparse.ArgumentParser) -> None:
    """When the node is short of something: the kubelet's flags."""
    for flag, what in (
        (
            "--eviction-hard",
            "evict pods at once below these, such as memory.available<500Mi; default: 100Mi of memory, 1%% of disk and inodes",
        ),
        ("--eviction-soft", "evict pods after a grace period below these"),
        ("--eviction-soft-grace-period", "of each --eviction-soft, such as memory.available=1m30s"),
    ):
        metavar = "SIGNAL=DURATION,…" if flag.endswith("period") else "SIGNAL<QUANTITY,…"
        parser.add_argument(flag, type=checked(parse_eviction), metavar=metavar, help=what)
    parser.add_argument(
        "--eviction-pressure-transition-period",
        type=checked(_seconds),
        metavar="DURATION",
        help="how long a condition of pressure outlives its cause, such as 30s; default: 5m",
    )


def up_options(parser: argparse.ArgumentParser) -> None:
    server_options(parser)
    node_options(parser)
    parser.add_argument("--nfs", type=Path, metavar="PATH", help="serve this folder over NFS, with a StorageClass nfs")
    parser.add_argument("--no-node", action="store_true", help="a control plane without a node agent; needs no root")
    leader_elect(parser, False)


def up_config(args: argparse.Namespace) -> UpConfig:
    """The configuration of those of the options above that the command has; the others keep their defaults."""
    given = vars(args)
    names = ["listen", "stop_pods", "store", "pod_cidr", "service_cidr", "bridge", "kubelet_port", "leader_elect"]
    extra = {name: given[name] for name in names if name in given}
    if given.get("node_name"):
        extra["node_name"] = args.node_name
    for name, flag in (
        ("eviction_hard", "eviction_hard"),
        ("eviction_soft", "eviction_soft"),
        ("eviction_soft_grace", "eviction_soft_grace_period"),
        ("eviction_transition", "eviction_pressure_transition_period"),
    ):
        if given.get(flag) is not None:
            extra[name] = given[flag]
    if given.get("pod_manifest_path") is not None:
        extra["static_pods"] = args.pod_manifest_path.absolute()
    if given.get("nfs") is not None:
        extra["nfs"] = args.nfs.absolute()
    return UpConfig(
        paths=Paths(args.data_dir.absolute()),
        node=not given.get("no_node", False),
        registry_mirrors=tuple(given.get("registry_mirror", ())),
        insecure_registries=tuple(given.get("insecure_registry", ())),
        **extra,
    )
