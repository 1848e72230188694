"""The command `stablehand`: reads the arguments and calls one command's module. A client only; no logic here.

Exit status: 0 done, 1 it failed (one line says why), 2 wrong usage (one line too), 130 interrupted.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from typing import NoReturn

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


class _Parser(argparse.ArgumentParser):
    """One line for a wrong usage, with the way to the right one."""

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message}; `{self.prog} --help` explains", file=sys.stderr)
        sys.exit(2)


def main(argv: list[str] | None = None) -> None:
    """Runs one command and exits."""
    argv = sys.argv[1:] if argv is None else argv
    parser = _Parser(
        prog="stablehand",
        description="Runs stateful services from ordinary Kubernetes manifests on one Linux machine.",
        epilog="`stablehand COMMAND --help` explains a command.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    wanted = next((a for a in argv if not a.startswith("-")), None)
    if wanted is not None and wanted not in _COMMANDS:
        parser.error(f"there is no command {wanted!r}: there are {', '.join(_COMMANDS)}")
    subparsers: dict[str, argparse.ArgumentParser] = {}
    for name, text in _COMMANDS.items():
        sub = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if name == wanted:  # only the wanted command's module is imported: start-up time is a feature
            importlib.import_module(f"stablehand.cli.{name}").arguments(sub)
        subparsers[name] = sub
    args, rest = parser.parse_known_args(argv)
    if rest:
        subparsers[args.command].error(
            f"there is no option {rest[0]!r}" if rest[0][0] == "-" else f"what is {rest[0]!r}?"
        )
    module = importlib.import_module(f"stablehand.cli.{args.command}")
    try:
        code = module.run(args) or 0
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:  # the reader has gone (`stablehand image ls | head`); nothing more may be written at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    except Exception as e:
        from stablehand.launch.errors import cause, is_expected, one_line

        error = cause(e)
        if not is_expected(error):
            raise  # a bug: its traceback is wanted
        print(f"stablehand {args.command}: {one_line(error)}", file=sys.stderr)
        code = 1
    sys.exit(code)
