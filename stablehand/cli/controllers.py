"""`stablehand controllers`: the controllers alone, against any conformant API server."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from stablehand.cli import options
from stablehand.cli.apart import run_part
from stablehand.client import Client
from stablehand.launch.errors import LaunchError


def arguments(parser: argparse.ArgumentParser) -> None:
    options.kubeconfig(parser)
    options.leader_elect(parser, True)
    parser.add_argument("--controllers", default="*", metavar="LIST", help='"*", names, or "-name" to leave one out')
    parser.add_argument("--root-ca-file", type=Path, metavar="FILE", help="published as kube-root-ca.crt")
    keys = "to sign CertificateSigningRequests with"
    parser.add_argument("--cluster-signing-cert-file", type=Path, metavar="FILE", help=f"the authority {keys}")
    parser.add_argument("--cluster-signing-key-file", type=Path, metavar="FILE", help="its private key")
    parser.add_argument(
        "--service-account-private-key-file",
        type=Path,
        metavar="FILE",
        help="fills Secrets of type kubernetes.io/service-account-token",
    )


def run(args: argparse.Namespace) -> int:
    from stablehand import controllers

    enable = tuple(name.strip() for name in args.controllers.split(",") if name.strip())
    known = controllers.names()
    for name in enable:
        if name != "*" and name.removeprefix("-") not in known:
            raise LaunchError(f"--controllers: there is no {name!r}: there are {', '.join(known)}")
    keys = _keys(args)

    async def part(client: Client) -> None:
        await controllers.run(
            controllers.ControllersConfig(client, enable=enable, leader_elect=args.leader_elect, **keys)
        )

    return run_part(args.kubeconfig, "kube-controller-manager", part)


def _keys(args: argparse.Namespace) -> dict[str, Any]:
    """The certificates and keys that were given, as ControllersConfig names them. Raises LaunchError."""
    from stablehand.controllers.certificates import Authority, AuthorityError
    from stablehand.controllers.serviceaccounttokens import Signer

    cert, key = args.cluster_signing_cert_file, args.cluster_signing_key_file
    if (cert is None) != (key is None):
        raise LaunchError("--cluster-signing-cert-file and --cluster-signing-key-file: give both or neither")
    found = {
        "ca_pem": _read("--root-ca-file", args.root_ca_file).decode(errors="replace"),
        "signing_cert": _read("--cluster-signing-cert-file", cert),
        "signing_key": _read("--cluster-signing-key-file", key),
        "account_key": _read("--service-account-private-key-file", args.service_account_private_key_file),
    }
    if key is not None:
        try:
            Authority(found["signing_cert"], found["signing_key"])
        except AuthorityError as e:
            raise LaunchError(f"--cluster-signing-cert-file {cert}, --cluster-signing-key-file {key}: {e}") from e
    if found["account_key"]:
        try:
            Signer(found["account_key"])
        except ValueError as e:
            file = args.service_account_private_key_file
            raise LaunchError(f"--service-account-private-key-file {file}: {e}") from e
    return found


def _read(flag: str, file: Path | None) -> Any:
    if file is None:
        return b""
    try:
        return file.read_bytes()
    except OSError as e:
        raise LaunchError(f"{flag} {file}: {e.strerror}") from e
