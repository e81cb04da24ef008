"""What the command is to do: from its options, the environment and Patroni's configuration."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from attrs import evolve, frozen

from twisted_patroni.client.amounts import seconds_of
from twisted_patroni.client.asking import Login
from twisted_patroni.client.configuration import Configuration, ConfigurationError
from twisted_patroni.client.urls import AddressError, seed_urls

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from twisted_patroni.client.tls import TlsFiles

TYPES = ("leader", "member", "node", "cluster", "config", "operation", "history")
#: Seconds until the command gives up where nobody looks on.
TIMEOUT = 30.0

_POSITION = re.compile(r"[0-9]{1,18}(\.[0-9A-Za-z_-]{1,64})?")


class CommandError(Exception):
    """A command cannot do what it was asked for; the text says why, in one line."""


@frozen
class Contact:
    """Whom to ask, and how.

    :param urls: where to begin.
    :param tls: how to speak TLS.
    :param login: who asks.
    """

    urls: tuple[str, ...]
    tls: TlsFiles
    login: Login | None


@frozen
class Wanted(Contact):
    """What is to be watched, whom to ask for it, and how.

    :param types: the types of events; none for all.
    :param after: the position to begin after.
    :param timeout: seconds until the first attempts are given up; ``None`` for never.
    :param shape: ``screen``, ``lines`` or ``json``.
    """

    types: frozenset[str]
    after: str | None
    timeout: float | None
    shape: str


@frozen
class Surroundings:
    """What the command finds around it.

    :param environ: the environment.
    :param home: the user's home directory.
    :param is_terminal: the output is shown on a terminal.
    :param ask: asks for a password with this prompt; ``None`` if nobody is there to be asked.
    """

    environ: Mapping[str, str]
    home: Path
    is_terminal: bool
    ask: Callable[[str], str] | None = None


def wanted(options: argparse.Namespace, around: Surroundings) -> Wanted:
    """Find out what to do; blocks.

    :param options: the parsed options.
    :param around: what else counts.
    :raise CommandError: if something cannot be right.
    """
    shape = "json" if options.json else "lines"
    if around.is_terminal and not options.json and not options.lines:
        shape = "screen"
    if options.after is not None and shape == "screen":
        raise CommandError("--after is for --lines and --json: a screen begins with what is now")
    if options.after is not None and not _POSITION.fullmatch(options.after):
        raise CommandError(f"--after: {options.after!r} is not NUMBER or NUMBER.STREAM")
    asked = contact(options, around)
    return Wanted(
        urls=asked.urls,
        tls=asked.tls,
        login=asked.login,
        types=_types(options.types),
        after=options.after,
        timeout=timeout(options.timeout, None if shape == "screen" else TIMEOUT),
        shape=shape,
    )


def contact(options: argparse.Namespace, around: Surroundings) -> Contact:
    """Find out whom to ask, and how; blocks.

    :param options: the parsed options.
    :param around: what else counts.
    :raise CommandError: if something cannot be right.
    """
    try:
        config = Configuration.found(options.config_file, around.environ, around.home)
        urls = seed_urls(options.urls or [config.url()])
        return Contact(urls, _tls(options, config.tls()), _login(options.user, config, around))
    except (AddressError, ConfigurationError) as error:
        raise CommandError(str(error)) from error


def _tls(options: argparse.Namespace, files: TlsFiles) -> TlsFiles:
    # A certificate of the options comes with its own key.
    keyfile = options.key or (None if options.cert else files.keyfile)
    return evolve(
        files,
        cafile=options.cacert or files.cafile,
        certfile=options.cert or files.certfile,
        keyfile=keyfile,
        insecure=options.insecure or files.insecure,
    )


def _types(given: str | None) -> frozenset[str]:
    names = [] if given is None else [each.strip() for each in given.split(",")]
    for name in names:
        if name not in TYPES:
            raise CommandError(f"--types: {name!r} is none of {', '.join(TYPES)}")
    return frozenset(names)


def timeout(given: str | None, default: float | None) -> float | None:
    """Read the option ``--timeout``.

    :param given: what was given.
    :param default: what counts if that is nothing.
    :raise CommandError: if it is no number of seconds.
    """
    if given is None:
        return default
    try:
        return seconds_of(given)
    except ValueError as error:
        raise CommandError(f"--timeout: {error}") from None


def _login(user: str | None, config: Configuration, around: Surroundings) -> Login | None:
    configured = config.login()
    if user is None:
        return configured
    if ":" in user or not user.isprintable() or not user:
        raise CommandError(
            "--user takes the name alone, which has no colon; the password is asked"
            " for, or is in PATRONI_RESTAPI_PASSWORD"
        )
    password = around.environ.get("PATRONI_RESTAPI_PASSWORD")
    if password is None and configured is not None and configured.user == user:
        return configured
    if password is None and around.ask is not None:
        try:
            password = around.ask(f"Password of {user}: ")
        except (EOFError, OSError, UnicodeError):
            password = None
    if password is None:
        raise CommandError(f"--user: there is no password for {user}: set PATRONI_RESTAPI_PASSWORD")
    return Login(user, password)
