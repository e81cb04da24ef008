"""The ``twisted-patroni`` command: one sub-command per task."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from twisted.internet.task import react

from twisted_patroni import __version__
from twisted_patroni.demo import command as demo

if TYPE_CHECKING:
    from collections.abc import Sequence


def build_parser() -> argparse.ArgumentParser:
    """Build the parser; each sub-command sets ``run``, a coroutine function for ``react``."""
    parser = argparse.ArgumentParser(
        prog="twisted-patroni", description="Tools around Patroni's event-driven REST API."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    summary = "run a real PostgreSQL cluster on this machine, on loopback only"
    shown = commands.add_parser("demo", help=summary, description=f"{summary.capitalize()}.")
    demo.add_arguments(shown)
    shown.set_defaults(run=demo.main)
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command.

    :param arguments: the words after the command's name; by default those of the process.
    """
    options = build_parser().parse_args(arguments)
    react(options.run, [options])


if __name__ == "__main__":
    main()
