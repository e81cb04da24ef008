"""What all contests share: they run on the reactor, in a directory of their own, and say so."""

from __future__ import annotations

import json
import resource
import sys
import tempfile
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from twisted_patroni.demo import CannotStart

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator

#: Files that a process opens besides a crowd's connections.
_SPARE_FILES = 1000


def run(
    contest: Callable[[Any, argparse.Namespace], Coroutine[Any, Any, None]],
    options: argparse.Namespace,
) -> None:
    """Run a contest and end the process; what cannot start is told in one line.

    :param contest: is given the reactor and the options.
    :param options: the command line.
    """

    async def guarded(reactor: Any) -> None:
        try:
            await contest(reactor, options)
        except CannotStart as error:
            raise SystemExit(str(error)) from None

    react(lambda reactor: Deferred.fromCoroutine(guarded(reactor)))


def add_options(parser: argparse.ArgumentParser, base_port: int) -> None:
    """Declare the options that all contests have.

    :param parser: the parser.
    :param base_port: where to look for free ports by default.
    """
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")
    parser.add_argument(
        "--base-port", type=int, default=base_port, help=f"default: {base_port}, or above"
    )


def write_down(results: object, file: Path | None) -> None:
    """Write all numbers to a file.

    :param results: the numbers.
    :param file: where to; ``None`` for nowhere.
    """
    if file is not None:
        file.write_text(json.dumps(results, indent=1))


@asynccontextmanager
async def stopped_after(
    reactor: Any, stop: Callable[[], Coroutine[Any, Any, None]]
) -> AsyncIterator[None]:
    """Have something stopped at the end, also if the process is asked to end before its time.

    :param reactor: the reactor.
    :param stop: stops it.
    """
    trigger = reactor.addSystemEventTrigger(
        "before", "shutdown", lambda: Deferred.fromCoroutine(stop())
    )
    try:
        yield
    finally:
        await stop()
        with suppress(ValueError):  # it is gone when the reactor is ending
            reactor.removeSystemEventTrigger(trigger)


@contextmanager
def scratch(name: str) -> Iterator[Path]:
    """Give a directory for clusters, as long as the context lasts.

    :param name: what its name begins with.
    """
    with tempfile.TemporaryDirectory(prefix=f"{name}-") as path:
        directory = Path(path)
        directory.chmod(0o755)  # PostgreSQL's account must get in
        yield directory


def say(text: str) -> None:
    """Tell how far the contest is.

    :param text: what to tell.
    """
    print(text, file=sys.stderr, flush=True)


def allow_files(crowd: int = 0) -> None:
    """Let this process and its children open as many files as the system allows.

    :param crowd: how many connections one of them must be able to hold.
    :raise CannotStart: if they are not allowed that many.
    """
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    wanted = crowd + _SPARE_FILES if crowd else 0
    if limit not in (resource.RLIM_INFINITY, -1) and limit < wanted:
        raise CannotStart(
            f"{limit} open files per process are too few: allow {wanted} (ulimit -Hn)"
        )
