"""`stablehand dns`: the DNS server alone, for the Services and pods of any conformant API server."""

from __future__ import annotations

import argparse

from stablehand.cli import options
from stablehand.cli.apart import run_part
from stablehand.client import Client
from stablehand.launch.config import UpConfig, parse_listen

_LISTEN = ("127.0.0.1", 10053)


def arguments(parser: argparse.ArgumentParser) -> None:
    options.kubeconfig(parser)
    parser.add_argument(
        "--listen",
        action="append",
        type=options.checked(parse_listen),
        metavar="HOST:PORT",
        help="UDP and TCP; may be repeated; default: {}:{}".format(*_LISTEN),
    )
    parser.add_argument("--domain", default=UpConfig.cluster_domain, help="the cluster's domain; default: %(default)s")
    parser.add_argument(
        "--upstream",
        action="append",
        metavar="HOST[:PORT]",
        help="where other names are asked for; may be repeated; default: /etc/resolv.conf's",
    )
    options.cidr(parser, "--pod-cidr", UpConfig.pod_cidr)
    options.cidr(parser, "--service-cidr", UpConfig.service_cidr)
    parser.add_argument(
        "--service-ip",
        metavar="IP",
        help="make the Service kube-system/kube-dns at this address, leading to the first --listen "
        "(an identity that may write Services and EndpointSlices is needed)",
    )


def run(args: argparse.Namespace) -> int:
    from stablehand import dns

    listen = tuple(args.listen or [_LISTEN])

    async def part(client: Client) -> None:
        if args.service_ip is not None:
            await dns.ensure_dns_service(client, args.service_ip, *listen[0])
        await dns.run(
            dns.DnsConfig(
                client,
                domain=args.domain,
                listen=listen,
                upstreams=None if args.upstream is None else tuple(args.upstream),
                cluster_cidrs=(args.pod_cidr, args.service_cidr),
            )
        )

    return run_part(args.kubeconfig, "stablehand-dns", part)
