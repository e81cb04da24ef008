"""The options of the command; what runs it is imported when it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options.

    :param parser: the parser of the sub-command.
    """
    add_nodes(parser)
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument(
        "--lines",
        action="store_true",
        help="print a line for each event; the default where the output is no terminal",
    )
    shape.add_argument("--json", action="store_true", help="print a JSON object for each event")
    parser.add_argument(
        "--types",
        metavar="TYPE[,TYPE...]",
        help="only events of these types: leader, member, node, cluster, config, operation,"
        " history",
    )
    parser.add_argument(
        "--after",
        metavar="POSITION",
        help="begin after this event instead of with a snapshot: an event's number, or"
        " NUMBER.STREAM; with --lines or --json",
    )
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        help="give up, with exit code 2, if no node answers at the start for so long"
        " (default: never on a terminal, else 30)",
    )
    add_identity(parser)


def add_nodes(parser: argparse.ArgumentParser) -> None:
    """Declare where the cluster is, as all commands have it that ask one.

    :param parser: the parser of the sub-command.
    """
    parser.add_argument(
        "urls",
        metavar="URL",
        nargs="*",
        help="REST APIs of the cluster's nodes; one is enough, the others are learned from it"
        " (default: the one in the configuration file, else http://127.0.0.1:8008)",
    )
    parser.add_argument(
        "-c",
        "--config-file",
        metavar="FILE",
        help="Patroni's or patronictl's configuration, for TLS and the password"
        " (default: as patronictl: $PATRONICTL_CONFIG_FILE, ~/.config/patroni/patronictl.yaml)",
    )


def add_identity(parser: argparse.ArgumentParser) -> None:
    """Declare whom to trust and who asks, as all commands have it that ask a cluster.

    :param parser: the parser of the sub-command.
    """
    parser.add_argument("--cacert", metavar="FILE", help="authorities of the nodes' certificates")
    parser.add_argument("--cert", metavar="FILE", help="the client certificate to show")
    parser.add_argument("--key", metavar="FILE", help="its key, if it is in another file")
    parser.add_argument(
        "--insecure", action="store_true", help="do not verify the nodes' certificates"
    )
    parser.add_argument(
        "--user",
        metavar="NAME",
        help="the user; the password is $PATRONI_RESTAPI_PASSWORD, or asked for on the terminal",
    )
