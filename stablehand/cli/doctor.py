"""`stablehand doctor`: what this machine lacks, and the command that mends it. Changes nothing."""

from __future__ import annotations

import argparse

from stablehand.cli import options
from stablehand.launch.machine import MISSING, findings
from stablehand.launch.state import read_state


def arguments(parser: argparse.ArgumentParser) -> None:
    options.up_options(parser)


def run(args: argparse.Namespace) -> int:
    config = options.up_config(args)
    state = read_state(config.paths)
    found = findings(config, state["pid"] if state is not None else None)
    for finding in found:
        text = f": {finding.text}" if finding.text else ""
        print(f"{finding.level:<8}  {finding.what}{text}")
        if finding.fix:
            print(f"{'':<10}  mend it: {finding.fix}")
    bad = [finding.what for finding in found if finding.level == MISSING]
    print(f"not ready: {', '.join(bad)}" if bad else "this machine can run Stablehand")
    return 1 if bad else 0
