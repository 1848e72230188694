"""Options that several commands share, and turning them into configuration."""

from __future__ import annotations

import argparse
from pathlib import Path

from stablehand.launch.config import DEFAULT_DATA_DIR, DEFAULT_LISTEN, Paths, UpConfig, parse_listen


def data_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-dir", type=Path, default=Path(DEFAULT_DATA_DIR), metavar="DIR", help="default: %(default)s"
    )


def kubeconfig(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--kubeconfig", metavar="FILE", help="default: $KUBECONFIG, in-cluster credentials, ~/.kube/config"
    )


def listen(text: str) -> tuple[str, int]:
    try:
        return parse_listen(text)
    except ValueError as e:
        raise argparse.ArgumentTypeError(str(e)) from e


def up_options(parser: argparse.ArgumentParser) -> None:
    data_dir(parser)
    parser.add_argument(
        "--listen",
        type=listen,
        default=parse_listen(DEFAULT_LISTEN),
        metavar="HOST:PORT",
        help=f"default: {DEFAULT_LISTEN}",
    )
    parser.add_argument("--nfs", type=Path, metavar="PATH", help="serve this folder over NFS, with a StorageClass nfs")
    parser.add_argument("--no-node", action="store_true", help="a control plane without a node agent; needs no root")
    parser.add_argument("--stop-pods", action="store_true", help="stop the pods when Stablehand stops")
    parser.add_argument(
        "--store", default="sqlite", choices=("sqlite", "memory"), help="where objects are kept; default: %(default)s"
    )
    parser.add_argument("--node-name", metavar="NAME", help="default: the host name")
    parser.add_argument("--pod-cidr", default=UpConfig.pod_cidr, metavar="CIDR", help="default: %(default)s")
    parser.add_argument("--service-cidr", default=UpConfig.service_cidr, metavar="CIDR", help="default: %(default)s")
    parser.add_argument(
        "--bridge", default=UpConfig.bridge, metavar="NAME", help="the pods' bridge; default: %(default)s"
    )
    parser.add_argument(
        "--kubelet-port", type=int, default=UpConfig.kubelet_port, metavar="PORT", help="default: %(default)s"
    )
    parser.add_argument(
        "--registry-mirror",
        action="append",
        default=[],
        metavar="REGISTRY=URL",
        help="pull images of REGISTRY from URL (http:// URLs on loopback are allowed); may be repeated",
    )


def up_config(args: argparse.Namespace) -> UpConfig:
    extra = {"node_name": args.node_name} if args.node_name else {}
    return UpConfig(
        paths=Paths(args.data_dir.absolute()),
        listen=args.listen,
        nfs=args.nfs.absolute() if args.nfs else None,
        node=not args.no_node,
        stop_pods=args.stop_pods,
        store=args.store,
        pod_cidr=args.pod_cidr,
        service_cidr=args.service_cidr,
        bridge=args.bridge,
        kubelet_port=args.kubelet_port,
        registry_mirrors=tuple(args.registry_mirror),
        **extra,
    )
