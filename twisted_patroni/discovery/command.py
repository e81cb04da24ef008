"""The command itself: members are looked for and printed, once or until a signal comes."""

from __future__ import annotations

import os
import random
import signal
import stat
import sys
from typing import TYPE_CHECKING, Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.task import deferLater, react
from zope.interface import implementer

from twisted_patroni.client.asking import bounded
from twisted_patroni.client.endpoint import PatroniEndpoint
from twisted_patroni.client.errors import ClientError
from twisted_patroni.client.settings import ClientSettings
from twisted_patroni.client.tls import TlsError
from twisted_patroni.client.topology import Topology
from twisted_patroni.discovery.following import Following
from twisted_patroni.discovery.settings import wish
from twisted_patroni.discovery.shapes import lines
from twisted_patroni.watch.command import surroundings
from twisted_patroni.watch.settings import CommandError
from twisted_patroni.watch.terminal import Output
from twisted_patroni.watch.text import clean

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from twisted.internet.interfaces import IReactorFDSet
    from twisted.python.failure import Failure

    from twisted_patroni.client.finding import Place
    from twisted_patroni.discovery.settings import Wish

#: Exit statuses besides 0; ended by a signal before there was anything to print, it is 128 and
#: the signal's number.
NONE, UNUSABLE, ENDED = 1, 2, 128
#: Seconds between two searches.
PAUSE = 0.5


def run(options: argparse.Namespace) -> None:
    """Run the command and end the process.

    :param options: the parsed options.
    """
    try:
        wanted = wish(options, surroundings())
        settings = ClientSettings(
            tls=wanted.contact.tls, login=wanted.contact.login, timeout=wanted.timeout
        )
        _ = settings.policy  # its files are read here, where that may take its time
    except KeyboardInterrupt:  # while the password was asked for
        sys.exit(ENDED + signal.SIGINT)
    except (CommandError, TlsError) as error:
        _complain(error)
        sys.exit(UNUSABLE)
    react(main, [wanted, settings])


def _complain(error: Exception) -> None:
    sys.stderr.write(f"twisted-patroni endpoint: {clean(str(error), 2000)}\n")


async def main(reactor: Any, wanted: Wish, settings: ClientSettings) -> None:
    """Print what is wanted, and end the process with its exit status.

    :param reactor: runs everything.
    :param wanted: what is to be printed.
    :param settings: how to ask for it.
    """
    # The reactor sets its own signal handlers when it starts to run, which is after this coroutine
    # has begun.
    await deferLater(reactor, 0)
    endpoint = PatroniEndpoint(reactor, wanted.contact.urls, settings, wanted.aim)
    printing = Printing(wanted, Output(sys.stdout))
    if wanted.follow:
        working = Deferred.fromCoroutine(follow(endpoint, wanted.timeout, printing.show))
    else:
        working = Deferred.fromCoroutine(once(endpoint, wanted.timeout, printing.show))
    ended: list[int] = []
    restore = _on_signals(reactor, working, ended)

    def gone() -> None:
        reactor.callLater(0, working.cancel)  # for it may be what has just tried to print

    printing.output.when_gone = gone
    reader = Reader.of(reactor, sys.stdout, gone) if wanted.follow else None
    try:
        await working
    except CancelledError:
        if ended and not printing.printed:
            raise SystemExit(ENDED + ended[0]) from None
    except ClientError as error:
        _complain(error)
        raise SystemExit(NONE) from None
    finally:
        restore()
        if reader is not None:
            reader.stop()
        if printing.output.gone:
            # Python would complain at its end that it cannot write the rest.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@define(eq=False)
class Printing:
    """Prints members.

    :param wanted: how.
    :param output: where.
    :ivar printed: it has.
    """

    wanted: Wish
    output: Output
    printed: bool = field(default=False, init=False)

    def show(self, places: Sequence[Place]) -> None:
        """Print where members are.

        :param places: where they are.
        """
        self.printed = True
        self.output.write("".join(f"{line}\n" for line in lines(places, self.wanted)))


async def once(
    endpoint: PatroniEndpoint, timeout: float, show: Callable[[Sequence[Place]], None]
) -> None:
    """Look for members until there are some, and show them.

    :param endpoint: finds them.
    :param timeout: seconds until there must be some.
    :param show: shows them.
    :raise ClientError: if there are none in time.
    """
    finder = endpoint.finder()
    reason: ClientError | None = None

    async def search() -> list[Place]:
        nonlocal finder, reason
        while True:
            try:
                return await finder.places()
            except ClientError as error:
                reason = error
            await deferLater(endpoint.reactor, PAUSE)
            finder = endpoint.finder()

    searching = Deferred.fromCoroutine(search())
    try:
        found = await bounded(searching, timeout, endpoint.reactor)
    except DeferredTimeout:
        raise reason or finder.failure() from None
    show(sorted(found, key=lambda place: place.member.name))


async def follow(
    endpoint: PatroniEndpoint, timeout: float, show: Callable[[Sequence[Place]], None]
) -> None:
    """Show members now and at each change, until this is cancelled.

    :param endpoint: knows whom to ask, and for what.
    :param timeout: seconds until a node must have answered.
    :param show: shows them.
    :raise ClientError: if none has.
    """
    topology = Topology(
        endpoint.reactor, endpoint.seeds, endpoint.settings, endpoint.agent, random.random
    )
    await Following(topology, endpoint.aim, endpoint.finder().checker, show).run(timeout)


@implementer(IReadDescriptor)
@define(eq=False)
class Reader:
    """Notices that nobody reads the output any more, before there is anything to write.

    :param reactor: the reactor.
    :param descriptor: the output's.
    :param gone: called then.
    """

    reactor: IReactorFDSet
    descriptor: int
    gone: Callable[[], None]

    @classmethod
    def of(cls, reactor: Any, stream: Any, gone: Callable[[], None]) -> Reader | None:
        """Begin to look at an output, if it is a pipe.

        :param reactor: the reactor.
        :param stream: the output.
        :param gone: called when nobody reads it any more.
        """
        try:
            descriptor = stream.fileno()
            is_pipe = stat.S_ISFIFO(os.fstat(descriptor).st_mode)
        except (AttributeError, OSError, ValueError):  # there is none
            return None
        if not is_pipe:
            return None
        reader = cls(reactor, descriptor, gone)
        reactor.addReader(reader)
        return reader

    def stop(self) -> None:
        """Look no more."""
        self.reactor.removeReader(self)

    def fileno(self) -> int:
        """Return the output's descriptor."""
        return self.descriptor

    def doRead(self) -> None:
        """Know that the end that writes can be read from, which is so only when it is broken."""
        self.stop()
        self.gone()

    def connectionLost(self, reason: Failure) -> None:
        """Know that the pipe is broken."""
        self.doRead()

    def logPrefix(self) -> str:
        """Return what its failures are logged under."""
        return "output"


def _on_signals(reactor: Any, working: Deferred[None], ended: list[int]) -> Callable[[], None]:
    """Have signals end the work, and note which one has; return what undoes that."""

    def arrived(number: int, frame: object) -> None:
        reactor.callFromThread(end, number)

    def end(number: int) -> None:
        ended.append(number)
        working.cancel()

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    previous = {number: signal.signal(number, arrived) for number in numbers}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    return restore
