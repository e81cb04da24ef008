"""The ``twisted-patroni`` command: one sub-command per task."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from twisted.internet.task import react

from twisted_patroni import __version__
from twisted_patroni.demo import command as demo
from twisted_patroni.discovery import arguments as discovery
from twisted_patroni.passwords import PasswordError, hash_password, read_password
from twisted_patroni.watch import arguments as watch

if TYPE_CHECKING:
    from collections.abc import Sequence


def build_parser() -> argparse.ArgumentParser:
    """Build the parser; each sub-command sets ``run``, which is called with the options."""
    parser = argparse.ArgumentParser(
        prog="twisted-patroni", description="Tools around Patroni's event-driven REST API."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    summary = "run a real PostgreSQL cluster on this machine, on loopback only"
    shown = commands.add_parser("demo", help=summary, description=f"{summary.capitalize()}.")
    demo.add_arguments(shown)
    shown.set_defaults(run=lambda options: react(demo.main, [options]))
    summary = "show what happens in a cluster, while it happens"
    shown = commands.add_parser("watch", help=summary, description=f"{summary.capitalize()}.")
    watch.add_arguments(shown)
    shown.set_defaults(run=_watch)
    summary = "print where the primary of a cluster is, or the replicas are, once or at each change"
    shown = commands.add_parser("endpoint", help=summary)
    discovery.add_arguments(shown)
    shown.set_defaults(run=_endpoint)
    summary = "print the hash of a password, for restapi.users"
    hashed = commands.add_parser(
        "password",
        help=summary,
        description=f"{summary.capitalize()}. The password is typed twice, or is one line of the"
        " standard input if that is no terminal.",
    )
    hashed.set_defaults(run=_password)
    return parser


def _watch(options: argparse.Namespace) -> None:
    from twisted_patroni.watch import command  # it needs more than the other commands

    command.run(options)


def _endpoint(options: argparse.Namespace) -> None:
    from twisted_patroni.discovery import command  # it needs more than the other commands

    command.run(options)


def _password(options: argparse.Namespace) -> None:
    try:
        print(hash_password(read_password(sys.stdin)))
    except PasswordError as error:
        sys.exit(f"twisted-patroni: {error}")
    except UnicodeError:  # whose text shows a part of the password
        sys.exit("twisted-patroni: the password is not UTF-8")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command.

    :param arguments: the words after the command's name; by default those of the process.
    """
    options = build_parser().parse_args(arguments)
    options.run(options)


if __name__ == "__main__":
    main()
