"""The three shapes in which the command shows what it is told."""

from __future__ import annotations

import json
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from attrs import define, evolve, field

from twisted_patroni.client.picture import Picture
from twisted_patroni.client.shapes import text
from twisted_patroni.watch.screen import Link, Told, ansi, draw
from twisted_patroni.watch.sentences import sentences
from twisted_patroni.watch.text import at, clean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from twisted_patroni.watch.terminal import Output, Terminal

#: Events that are remembered for the screen.
REMEMBERED = 200
#: Seconds in which changes are shown together.
TOGETHER = 0.05
#: Seconds between two looks at the clock.
TICK = 1.0
#: Failures that are told once each while nobody answers.
MAX_TROUBLES = 200


def moment_of(clock: IReactorTime) -> str:
    """Return the present time as the wire format has it.

    :param clock: tells it.
    """
    return datetime.fromtimestamp(clock.seconds(), UTC).isoformat()


@define(eq=False)
class JsonView:
    """Each event as a JSON object on a line of its own, as it was received.

    :param clock: the time of what is not an event of the cluster.
    :param output: where to.
    """

    clock: IReactorTime
    output: Output

    def begin(self) -> None:
        """Do nothing: there is nothing to show yet."""

    def end(self) -> None:
        """Do nothing: all is written."""

    def connected(self, url: str, polling: bool) -> None:
        """Write that a node answers."""
        self._write(
            {"type": "connected", "time": moment_of(self.clock), "url": url, "polling": polling}
        )

    def disconnected(self, url: str, reason: str) -> None:
        """Write that it does no more."""
        self._write(
            {"type": "disconnected", "time": moment_of(self.clock), "url": url, "reason": reason}
        )

    def failed(self, url: str, reason: str) -> None:
        """Do nothing: it is no event."""

    def received(self, event: Mapping[str, Any]) -> None:
        """Write an event."""
        self._write(event)

    def _write(self, document: Mapping[str, Any]) -> None:
        # In ASCII, so that nothing in it can steer a terminal.
        self.output.write(f"{json.dumps(document)}\n".replace("\x7f", "\\u007f"))


@define(eq=False)
class LineView:
    """A line for each event, the time first.

    :param clock: the time of what is not an event of the cluster.
    :param output: where to.
    """

    clock: IReactorTime
    output: Output
    _picture: Picture = field(factory=Picture, init=False)
    _troubles: set[tuple[str, str]] = field(factory=set, init=False)
    _answered: bool = field(default=False, init=False)

    def begin(self) -> None:
        """Do nothing: there is nothing to show yet."""

    def end(self) -> None:
        """Do nothing: all is written."""

    def connected(self, url: str, polling: bool) -> None:
        """Write that a node answers."""
        self._answered = True
        self._troubles.clear()
        how = ", which has no events and is asked every 2 seconds" if polling else ""
        self._write(None, f"connected to {url}{how}")

    def disconnected(self, url: str, reason: str) -> None:
        """Write that it does no more."""
        self._answered = False
        self._write(None, f"{url} {reason}")

    def failed(self, url: str, reason: str) -> None:
        """Write why a node cannot be reached, once, while none can."""
        known = (url, reason) in self._troubles or len(self._troubles) >= MAX_TROUBLES
        if not self._answered and not known:
            self._troubles.add((url, reason))
            self._write(None, f"{url} {reason}")

    def received(self, event: Mapping[str, Any]) -> None:
        """Write an event."""
        for sentence in sentences(event, self._picture):
            self._write(event.get("time"), sentence)
        self._picture = self._picture.after(event)

    def _write(self, when: object, sentence: str) -> None:
        time = clean(at(when or moment_of(self.clock)), 40)
        self.output.write(f"{time} {clean(sentence, 2000)}\n")


@define(eq=False)
class ScreenView:
    """A picture of the cluster on a terminal, drawn anew at each change.

    :param clock: for drawing a little later, and for the age of things.
    :param terminal: where to.
    :param types: the types of events that are listed; none for all.
    :param colour: whether there are colours.
    """

    clock: IReactorTime
    terminal: Terminal
    types: frozenset[str] = frozenset()
    colour: bool = True
    _picture: Picture = field(factory=Picture, init=False)
    _link: Link = field(factory=Link, init=False)
    _told: deque[Told] = field(factory=lambda: deque(maxlen=REMEMBERED), init=False)
    _next: IDelayedCall | None = field(default=None, init=False)

    def begin(self) -> None:
        """Take the terminal."""
        self._link = Link(since=self.clock.seconds())
        self.terminal.enter()
        self.redraw()

    def end(self) -> None:
        """Give it back."""
        if self._next is not None and self._next.active():
            self._next.cancel()
        self._next = None
        self.terminal.leave()

    def connected(self, url: str, polling: bool) -> None:
        """Show who tells."""
        self._link = Link(url, polling, self.clock.seconds())
        self._note(None, f"connected to {url}")

    def disconnected(self, url: str, reason: str) -> None:
        """Show that nobody does."""
        self._link = Link(since=self.clock.seconds(), trouble=f"{url} {reason}")
        self._note(None, f"{url} {reason}")

    def failed(self, url: str, reason: str) -> None:
        """Show why nobody does."""
        if self._link.url is None:
            self._link = evolve(self._link, trouble=f"{url} {reason}")
            self._soon()

    def received(self, event: Mapping[str, Any]) -> None:
        """Show what has changed."""
        kind = text(event.get("type"))
        before = self._picture
        self._picture = before.after(event)
        is_first = kind == "snapshot" and not before.known  # of which all is in the picture
        if not is_first and (not self.types or kind in self.types):
            for sentence in sentences(event, before):
                self._note(event.get("time"), sentence)
        self._soon()

    def lags(self, members: list[dict[str, Any]]) -> None:
        """Show how far the members are behind.

        :param members: their documents.
        """
        self._picture = self._picture.with_lags(members)
        self._soon()

    def redraw(self) -> None:
        """Draw all anew."""
        if self._next is not None and self._next.active():
            self._next.cancel()
        columns, rows = self.terminal.size()
        now = self.clock.seconds()
        lines = draw(self._picture, self._link, self._told, now, columns, rows)
        self._next = self.clock.callLater(TICK, self.redraw)
        self.terminal.show(ansi(line, self.colour) for line in lines)

    def _note(self, when: object, sentence: str) -> None:
        time = at(when or moment_of(self.clock), "%H:%M:%S")
        self._told.append(Told(clean(time, 10), clean(sentence)))
        self._soon()

    def _soon(self) -> None:
        """Draw in a moment, together with what comes until then."""
        if self._next is not None and self._next.active():
            left = self._next.getTime() - self.clock.seconds()
            if left > TOGETHER:
                self._next.reset(TOGETHER)
