"""`stablehand kubeconfig`: prints the admin kubeconfig, merges it into the user's own, or makes one for a part."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import yaml

from stablehand.cli import options
from stablehand.launch.config import Paths, UpConfig, parse_node_name
from stablehand.launch.errors import LaunchError
from stablehand.launch.identities import PARTS, part_kubeconfig
from stablehand.launch.usersconfig import NAME, merge_into, users_file


def arguments(parser: argparse.ArgumentParser) -> None:
    options.data_dir(parser)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--merge", action="store_true", help="into $KUBECONFIG, else ~/.kube/config")
    what.add_argument(
        "--part", choices=PARTS, help="write one with this part's own identity, and print the file's name"
    )
    parser.add_argument(
        "--node-name", type=options.checked(parse_node_name), metavar="NAME", help="of --part node; default: host name"
    )


def run(args: argparse.Namespace) -> int:
    paths = Paths(args.data_dir.absolute())
    text = _read(paths.kubeconfig)
    if args.part is not None:
        node_name = args.node_name or UpConfig(paths=paths).node_name
        print(part_kubeconfig(paths, args.part, node_name, _parsed(text, paths)["clusters"][0]["cluster"]["server"]))
    elif args.merge:
        target = users_file(os.environ.get("KUBECONFIG"), Path.home())
        merge_into(target, _parsed(text, paths))
        print(f"context {NAME} is now the current one in {target}")
    else:
        print(text, end="")
    return 0


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except PermissionError as e:
        raise LaunchError(f"{path} is readable by root alone: use sudo") from e
    except OSError as e:
        raise LaunchError(f"{path} does not exist: run `stablehand up` first, or give --data-dir") from e


def _parsed(text: str, paths: Paths) -> dict[str, Any]:
    try:
        config = yaml.safe_load(text)
        if config["clusters"][0]["cluster"]["server"] and config["users"][0]["user"]:
            return dict(config)
    except (yaml.YAMLError, KeyError, IndexError, TypeError):
        pass
    raise LaunchError(f"{paths.kubeconfig} is damaged: remove it, and `stablehand up` writes it anew")
