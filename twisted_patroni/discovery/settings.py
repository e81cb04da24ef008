"""What the command is to do: from its options, the environment and Patroni's configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from twisted_patroni.client.amounts import size_of
from twisted_patroni.client.finding import Aim
from twisted_patroni.watch.settings import CommandError, contact, timeout

if TYPE_CHECKING:
    import argparse

    from twisted_patroni.watch.settings import Contact, Surroundings

#: Seconds until the command gives up.
TIMEOUT = 10.0


@frozen
class Wish:
    """What is to be printed.

    :param contact: whom to ask, and how.
    :param aim: what to look for.
    :param follow: at each change.
    :param shape: ``plain``, ``json`` or ``conninfo``.
    :param timeout: seconds until it is given up.
    """

    contact: Contact
    aim: Aim
    follow: bool
    shape: str
    timeout: float


def wish(options: argparse.Namespace, around: Surroundings) -> Wish:
    """Find out what to do; blocks.

    :param options: the parsed options.
    :param around: what else counts.
    :raise CommandError: if something cannot be right.
    """
    shape = "json" if options.json else "conninfo" if options.conninfo else "plain"
    if shape == "conninfo" and options.port != "postgres":
        raise CommandError("--conninfo is for --port postgres: a REST API takes no libpq")
    if options.lag is not None and options.target == "primary":
        raise CommandError("--lag is for --target replica and any: a primary is never behind")
    try:
        lag = None if options.lag is None else size_of(options.lag)
    except ValueError as error:
        raise CommandError(f"--lag: {error}") from None
    return Wish(
        contact=contact(options, around),
        aim=Aim(options.target, options.port, lag),
        follow=options.follow,
        shape=shape,
        timeout=timeout(options.timeout, TIMEOUT) or TIMEOUT,
    )
