"""Those who follow the events: how many there may be, what they want, and their heartbeats."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, ClassVar, Protocol

from attrs import define, field, frozen
from twisted.logger import Logger

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from twisted_patroni.events import Event, EventStream, Position
    from twisted_patroni.web.channel import ApiChannel
    from twisted_patroni.web.request import ApiRequest

_log = Logger()

#: Seconds between two signs of life.
HEARTBEAT = 15.0
#: Bytes of events that are handed to a connection before it is asked whether it takes more.
PORTION = 64 * 1024
#: The ways to follow.
WAYS = ("websocket", "sse", "long_poll")
_TICK = HEARTBEAT / 3
_SLICE = 50


@frozen
class Wish:
    """What a subscriber asks for.

    :param types: the types of events, ``None`` for all.
    :param position: how far he has read; ``None`` for a newcomer.
    """

    types: frozenset[str] | None = None
    position: Position | None = None

    def chosen(self, events: Iterable[Event]) -> list[Event]:
        """Return those events that are wanted.

        :param events: the events.
        """
        if self.types is None:
            return list(events)
        return [event for event in events if event.type in self.types]


class Subscriber(Protocol):
    """Somebody who waits for events."""

    way: ClassVar[str]

    def look_after(self, now: float) -> None:
        """Do what is due at this time; called every few seconds."""

    def dismiss(self) -> None:
        """Let the client go, who is to come back and be judged anew."""


@define(eq=False)
class Subscribers:
    """All who wait for events, in whatever way.

    :param stream: the events.
    :param clock: for the heartbeats.
    :ivar refused: how many were turned away because there were too many.
    :ivar dropped: how many had to go, by the reason.
    """

    stream: EventStream
    clock: IReactorTime
    refused: int = field(default=0, init=False)
    dropped: Counter[str] = field(factory=Counter, init=False)
    _present: dict[Subscriber, None] = field(factory=dict, init=False)
    _due: list[Subscriber] = field(factory=list, init=False)
    _resting: list[ApiChannel] = field(factory=list, init=False)
    _timer: IDelayedCall | None = field(default=None, init=False)

    def __len__(self) -> int:
        return len(self._present)

    @property
    def by_way(self) -> Counter[str]:
        """How many there are."""
        return Counter(subscriber.way for subscriber in self._present)

    def admits(self, request: ApiRequest) -> bool:
        """Decide on one more; this machine and the cluster's members always find room.

        :param request: what he has sent.
        """
        if len(self) < request.site.limits.subscribers or request.channel.trusted:
            return True
        self.refused += 1
        return False

    def join(self, subscriber: Subscriber) -> None:
        """Take note of a new one.

        :param subscriber: who it is.
        """
        self._present[subscriber] = None
        if self._timer is None:
            self._timer = self.clock.callLater(_TICK, self._tick)

    def leave(self, subscriber: Subscriber) -> None:
        """Forget one.

        :param subscriber: who it is; may be forgotten already.
        """
        self._present.pop(subscriber, None)
        if not self._present and self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._due.clear()

    def rest(self, channel: ApiChannel) -> None:
        """Do not hear a client, who will ask for more at once, before all others are told, too.

        :param channel: the client's connection, on which an answer is about to be given.
        """
        if not self.stream.telling or len(self) < _SLICE:
            return
        if not self._resting:
            self.clock.callLater(0, self._wake)
        channel.resting = True
        self._resting.append(channel)

    def _wake(self) -> None:
        some: list[ApiChannel] = []
        if not self.stream.telling:
            some, self._resting = self._resting[:_SLICE], self._resting[_SLICE:]
        if self._resting:
            self.clock.callLater(0, self._wake)
        for channel in some:
            channel.wake()

    def dismiss(self) -> None:
        """Let all go who are there now: they come back, if the rules that count now let them."""
        self._dismiss(list(self._present))

    def _dismiss(self, some: list[Subscriber]) -> None:
        for subscriber in some[:_SLICE]:
            if subscriber in self._present:
                subscriber.dismiss()
        if len(some) > _SLICE:
            self.clock.callLater(0, self._dismiss, some[_SLICE:])

    def _tick(self) -> None:
        """Look after all, a few in each turn of the reactor, so that nobody else waits for it."""
        if not self._due:
            self._due = list(self._present)
        some, self._due = self._due[:_SLICE], self._due[_SLICE:]
        self._timer = self.clock.callLater(0 if self._due else _TICK, self._tick)
        now = self.clock.seconds()
        for subscriber in some:
            if subscriber in self._present:
                try:
                    subscriber.look_after(now)
                except Exception:  # must not be the end of all heartbeats
                    _log.failure("Looking after a subscriber failed")


def portion(events: Sequence[Event]) -> Sequence[Event]:
    """Return the first of some events, as many as are handed over at once; never none of some.

    :param events: the events.
    """
    size = 0
    for count, event in enumerate(events):
        size += len(event.text)
        if size > PORTION:
            return events[: max(1, count)]
    return events


def gap_data(stream: EventStream, position: Position) -> dict[str, int]:
    """Return what is said when events are lost.

    :param stream: the events.
    :param position: after which they should have begun.
    """
    return {"after": position.number, "oldest": stream.oldest}
