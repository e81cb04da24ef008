"""The options of the command; what runs it is imported when it runs."""

from __future__ import annotations

import argparse

from twisted_patroni.watch.arguments import add_identity, add_nodes

DESCRIPTION = """\
Print where the primary of a cluster is, or its replicas are, as HOST:PORT.

Nothing is printed on trust: each member that the cluster names is asked itself, by the health
check of a load balancer (GET /primary, /standby-leader, /replica). So a replica that is being
drained, or that is too far behind, is left out, and so is a leader that is still being promoted.
"""
DETAILS = """\
output:
  Without --follow there is one line for each member that fits, in the order of their names. If
  there is none, it is asked for again until --timeout is over.

  With --follow there is one line now and one at each change: all members that fit, separated by
  commas; an empty line while there is none. Changes come from the cluster's events, and from
  asking these members every 2 seconds. A member stays in while its API alone cannot be reached,
  until the cluster replaces it or it says itself that it does not fit.

  With --json a line is an object: {"target": ..., "members": [{"name", "role", "host", "port",
  "lag"}, ...]}. With --conninfo it is a connection string of libpq; with --follow one that holds
  all members.

exit status:
  0    it was printed; or --follow was ended by a signal, or by who has read its output
  1    there was none in time, or no node has answered
  2    the options, or a file that they name, cannot be used
  130, 143
       it was ended by SIGINT or SIGTERM before there was one to print

examples:
  psql "$(twisted-patroni endpoint --conninfo http://10.0.0.11:8008) dbname=app"
  pg_basebackup -d "$(twisted-patroni endpoint --target replica --lag 16MB --conninfo | head -n 1)"
  twisted-patroni endpoint --follow | while read -r primary; do ./route.sh "$primary"; done
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options.

    :param parser: the parser of the sub-command.
    """
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = DESCRIPTION, DETAILS
    add_nodes(parser)
    parser.add_argument(
        "--target",
        choices=("primary", "replica", "any"),
        default="primary",
        help="which members (default: primary); the leader of a standby cluster counts as primary",
    )
    parser.add_argument(
        "--port",
        choices=("postgres", "rest"),
        default="postgres",
        help="which of their ports (default: postgres)",
    )
    parser.add_argument(
        "--lag", metavar="SIZE", help="only replicas that are no further behind, as 1MB"
    )
    parser.add_argument(
        "--follow", action="store_true", help="print a line now and one at each change"
    )
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="print JSON")
    shape.add_argument("--conninfo", action="store_true", help="print connection strings for libpq")
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        help="give up, with exit status 1, if there is none for so long; with --follow if no node"
        " answers at the start for so long (default: 10)",
    )
    add_identity(parser)
