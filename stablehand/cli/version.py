"""`stablehand version`."""

from __future__ import annotations

import argparse

from stablehand import __version__


def arguments(parser: argparse.ArgumentParser) -> None:
    return None


def run(args: argparse.Namespace) -> int:
    from stablehand.apiserver.discovery import KUBERNETES

    print(f"stablehand {__version__} (Kubernetes {KUBERNETES})")
    return 0
