"""The command itself: what was asked for is followed and shown until a signal comes."""

from __future__ import annotations

import os
import random
import signal
import sys
from getpass import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import (
    IReactorFromThreads,
    IReactorPluggableNameResolver,
    IReactorTCP,
    IReactorTime,
)
from twisted.internet.task import deferLater, react
from twisted.web.client import Agent, HTTPConnectionPool

from twisted_patroni.client.asking import PATIENCE, Asker
from twisted_patroni.client.following import Follower, Listener
from twisted_patroni.client.tls import TlsError, load_policy
from twisted_patroni.watch.lags import Lags
from twisted_patroni.watch.settings import CommandError, Surroundings, wanted
from twisted_patroni.watch.terminal import Output, Terminal
from twisted_patroni.watch.text import clean
from twisted_patroni.watch.views import JsonView, LineView, ScreenView

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping

    from twisted.web.iweb import IAgent

    from twisted_patroni.watch.settings import Wanted

#: Exit codes besides 0.
UNUSABLE, NO_ANSWER = 1, 2


class IWatchReactor(IReactorTime, IReactorTCP, IReactorFromThreads, IReactorPluggableNameResolver):
    """What the command needs of the reactor."""


class View(Listener, Protocol):
    """Shows what it is told."""

    def begin(self) -> None:
        """Take the terminal, if that is needed."""

    def end(self) -> None:
        """Give it back."""


@define(eq=False)
class Watching:
    """One run: passes on to a view what is told, and gives up if no node answers at the start.

    :param clock: for the time after which it gives up.
    :param want: what is to be watched.
    :param asker: asks the nodes.
    :param view: shows it.
    :ivar troubles: why each node that was given could not be reached, while none was.
    """

    clock: IReactorTime
    want: Wanted
    asker: Asker
    view: View
    troubles: dict[str, str] = field(factory=dict, init=False)
    _answered: bool = field(default=False, init=False)
    _session: Deferred[None] | None = field(default=None, init=False)
    _lags: Lags | None = field(default=None, init=False)
    _ended: bool = field(default=False, init=False)

    async def run(self) -> None:
        """Watch until :meth:`end` is called.

        :raise CommandError: if no node answers at the start.
        """
        if self._ended:
            return
        want = self.want
        follower = Follower(
            self.clock, self.asker, want.urls, self, random.random, self._types(), want.after
        )
        self.view.begin()
        timer = None
        if want.timeout is not None:
            timer = self.clock.callLater(want.timeout, self._give_up)
        asking = self._ask_for_lags()
        try:
            self._session = Deferred.fromCoroutine(follower.run())
            await self._session
        except CancelledError:
            if self.troubles and not self._ended:
                reasons = "; ".join(f"{url} {why}" for url, why in self.troubles.items())
                raise CommandError(f"no node answers: {reasons}") from None
        finally:
            if timer is not None and timer.active():
                timer.cancel()
            asking.cancel()
            self.view.end()

    def end(self) -> None:
        """End it."""
        self._ended = True
        if self._session is not None:
            self._session.cancel()

    def _ask_for_lags(self) -> Deferred[None]:
        if not isinstance(self.view, ScreenView):
            return succeed(None)
        self._lags = Lags(self.clock, self.asker, self.view.lags)
        asking = Deferred.fromCoroutine(self._lags.run())
        asking.addErrback(lambda failure: failure.trap(CancelledError))
        return asking

    def _types(self) -> frozenset[str]:
        # A screen needs all events for its picture.
        return frozenset() if self.want.shape == "screen" else self.want.types

    def _give_up(self) -> None:
        if not self._answered and self._session is not None:
            for url in self.want.urls:
                self.troubles.setdefault(url, "does not answer")
            self._session.cancel()

    def connected(self, url: str, polling: bool) -> None:
        """Pass on that a node answers."""
        self._answered = True
        self.troubles.clear()
        if self._lags is not None:
            self._lags.url = None if polling else url
        self.view.connected(url, polling)

    def disconnected(self, url: str, reason: str) -> None:
        """Pass on that it does no more."""
        if self._lags is not None:
            self._lags.url = None
        self.view.disconnected(url, reason)

    def failed(self, url: str, reason: str) -> None:
        """Pass on that a node cannot be reached."""
        if not self._answered:
            self.troubles[url] = reason
        self.view.failed(url, reason)

    def received(self, event: Mapping[str, Any]) -> None:
        """Pass on an event."""
        self.view.received(event)


def run(options: argparse.Namespace) -> None:
    """Run the command and end the process.

    :param options: the parsed options.
    """
    try:
        want = wanted(options, surroundings())
        policy = load_policy(want.tls)
    except KeyboardInterrupt:  # while the password was asked for
        sys.exit(0)
    except (CommandError, TlsError) as error:
        sys.stderr.write(f"twisted-patroni watch: {clean(str(error))}\n")
        sys.exit(UNUSABLE)

    def make_agent(reactor: IWatchReactor) -> IAgent:
        pool = HTTPConnectionPool(reactor, persistent=False)
        agent: IAgent = Agent(reactor, policy, connectTimeout=PATIENCE, pool=pool)
        return agent

    react(main, [want, make_agent])


async def main(
    reactor: IWatchReactor, want: Wanted, make_agent: Callable[[IWatchReactor], IAgent]
) -> None:
    """Watch until a signal comes, and end the process with its exit code.

    :param reactor: runs everything.
    :param want: what is to be watched.
    :param make_agent: makes what does the requests.
    """
    # The reactor sets its own signal handlers when it starts to run, which is after this coroutine
    # has begun.
    await deferLater(reactor, 0)
    output = Output(sys.stdout)
    terminal = Terminal(output, sys.stdin.fileno() if _is_terminal(sys.stdin) else None)
    view = _view(reactor, want, terminal)
    watching = Watching(reactor, want, Asker(reactor, make_agent(reactor), want.login), view)
    output.when_gone = watching.end
    restore = _on_signals(reactor, watching, terminal, view)
    try:
        await watching.run()
    except CommandError as error:
        sys.stderr.write(f"twisted-patroni watch: {clean(str(error), 2000)}\n")
        raise SystemExit(NO_ANSWER) from None
    finally:
        restore()
        if output.gone:
            # Python would complain at its end that it cannot write the rest.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _view(reactor: IWatchReactor, want: Wanted, terminal: Terminal) -> View:
    if want.shape == "screen":
        colour = not os.environ.get("NO_COLOR")
        return ScreenView(reactor, terminal, want.types, colour)
    return (JsonView if want.shape == "json" else LineView)(reactor, terminal.output)


def _is_terminal(stream: Any) -> bool:
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):  # there is none
        return False


def surroundings() -> Surroundings:
    """Find out where the process runs, and have its output show what it can."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")  # a terminal that lacks a letter is no reason to end
    return Surroundings(
        environ=os.environ,
        home=Path.home(),
        is_terminal=_is_terminal(sys.stdout) and os.environ.get("TERM", "dumb") != "dumb",
        ask=getpass if _is_terminal(sys.stdin) else None,
    )


def _on_signals(
    reactor: IWatchReactor, watching: Watching, terminal: Terminal, view: View
) -> Callable[[], None]:
    """Have signals end the run, draw the screen, or stop it; return what undoes that."""

    def suspend() -> None:
        view.end()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTSTP)  # and here it goes on one day
        signal.signal(signal.SIGTSTP, arrived)
        resume()

    def resume() -> None:
        if isinstance(view, ScreenView):
            terminal.enter()
            view.redraw()

    actions: dict[int, Callable[[], None]] = {
        signal.SIGINT: watching.end,
        signal.SIGTERM: watching.end,
        signal.SIGHUP: watching.end,
    }
    if isinstance(view, ScreenView):
        actions |= {signal.SIGWINCH: view.redraw, signal.SIGTSTP: suspend}

    def arrived(number: int, frame: object) -> None:
        reactor.callFromThread(actions[number])

    previous = {number: signal.signal(number, arrived) for number in actions}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    return restore
