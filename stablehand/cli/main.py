"""The command `stablehand`: reads the arguments and calls one command's module. A client only; no logic here.

Exit status: 0 done, 1 it failed (one line says why), 2 wrong usage.
"""

from __future__ import annotations

import argparse
import importlib
import sys

_COMMANDS = {
    "up": "start everything",
    "down": "stop it",
    "status": "what runs: parts, versions, node, pods, memory",
    "kubeconfig": "print the admin kubeconfig, or merge it into your own",
    "doctor": "what this machine lacks, and the command that mends it",
    "image": "load, build or list container images",
    "version": "print the version",
    "apiserver": "run the API server alone",
    "controllers": "run the controllers alone, against any API server",
    "scheduler": "run the scheduler alone",
    "node": "run the node agent alone",
    "dns": "run the DNS server alone",
    "provisioner": "run a volume provisioner alone",
}


def main(argv: list[str] | None = None) -> None:
    """Runs one command and exits."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(
        prog="stablehand",
        description="Runs stateful services from ordinary Kubernetes manifests on one Linux machine.",
        epilog="`stablehand COMMAND --help` explains a command.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    wanted = next((a for a in argv if not a.startswith("-")), None)
    for name, text in _COMMANDS.items():
        sub = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if name == wanted:  # only the wanted command's module is imported: start-up time is a feature
            importlib.import_module(f"stablehand.cli.{name}").arguments(sub)
    args = parser.parse_args(argv)
    module = importlib.import_module(f"stablehand.cli.{args.command}")
    try:
        code = module.run(args)
    except KeyboardInterrupt:
        code = 130
    except Exception as e:
        if not _expected(e):
            raise
        print(f"stablehand {args.command}: {e}", file=sys.stderr)
        code = 1
    sys.exit(code or 0)


def _expected(error: Exception) -> bool:
    """Errors that carry their own advice; anything else is a bug and shows its traceback."""
    from stablehand.client import ApiError, ConfigError, Unavailable
    from stablehand.launch.errors import LaunchError

    if isinstance(error, ApiError | ConfigError | Unavailable | LaunchError):
        return True
    return type(error).__name__ in ("NodeError", "StorageError")
