"""`stablehand kubeconfig`: prints the admin kubeconfig, or merges it into the user's own."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import yaml

from stablehand.cli import options
from stablehand.launch.config import Paths
from stablehand.launch.errors import LaunchError


def arguments(parser: argparse.ArgumentParser) -> None:
    options.data_dir(parser)
    parser.add_argument("--merge", action="store_true", help="into $KUBECONFIG's first file, else ~/.kube/config")


def run(args: argparse.Namespace) -> int:
    path = Paths(args.data_dir.absolute()).kubeconfig
    try:
        text = path.read_text()
    except PermissionError as e:
        raise LaunchError(f"{path} is readable by root alone: use sudo") from e
    except OSError as e:
        raise LaunchError(f"{path} does not exist: run `stablehand up` first, or give --data-dir") from e
    if not args.merge:
        print(text, end="")
        return 0
    target = Path((os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")).split(":")[0])
    ours = yaml.safe_load(text)
    merged = (yaml.safe_load(target.read_text()) or {}) if target.exists() else {}
    merged.setdefault("apiVersion", "v1")
    merged.setdefault("kind", "Config")
    for key in ("clusters", "users", "contexts"):
        names = {entry["name"] for entry in ours[key]}
        merged[key] = [e for e in merged.get(key) or [] if e["name"] not in names] + ours[key]
    merged["current-context"] = ours["current-context"]
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = target.with_name(target.name + ".new")
    fresh.touch(0o600)
    fresh.write_text(yaml.safe_dump(merged, sort_keys=False))
    fresh.replace(target)
    print(f"context {ours['current-context']} is now the current one in {target}")
    return 0
