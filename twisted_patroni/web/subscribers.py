"""Those who follow the events: how many there may be, how far each has read, and who must go.

A subscriber keeps nothing but his position and what he wants. He reads from the stream's last
thousand events whenever his connection takes more; there is no queue for anybody, so that slowness
costs no memory.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from attrs import define, field, frozen
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from zope.interface import implementer

from twisted_patroni.events import Event, Position

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from twisted.internet.interfaces import IDelayedCall, IReactorTime
    from twisted.python.failure import Failure

    from twisted_patroni.events import EventStream
    from twisted_patroni.web.phases import Phase
    from twisted_patroni.web.request import ApiRequest

_log = Logger()

#: Seconds between two signs of life.
HEARTBEAT = 15.0
#: Seconds that a reader may take nothing.
PATIENCE = 30.0
#: Bytes that one who only listens may send from one heartbeat to the next.
MOST_INPUT = 4096
#: Bytes of events that are handed to a connection before it is asked whether it takes more.
PORTION = 64 * 1024
#: The ways to follow.
WAYS = ("websocket", "sse", "long_poll")
_TICK = HEARTBEAT / 3
_SLICE = 50


@frozen
class Goodbye:
    """Why a stream ends.

    :param code: the close code, for a WebSocket.
    :param reason: the sentence that its reader gets, of 123 bytes at most.
    :param counted: what it is called in the metrics; empty if nobody was dropped.
    """

    code: int
    reason: str
    counted: str = ""


SHUTDOWN = Goodbye(1001, "the node shuts down")
HALF_CLOSED = Goodbye(1000, "the client sends no more")
SLOW = Goodbye(1008, f"too slow: nothing was read for {PATIENCE:.0f} seconds", "slow")
OVERRUN = Goodbye(1008, "too slow: events were lost that had not been read", "overrun")
TOO_MUCH = Goodbye(1009, f"more than {MOST_INPUT} bytes were sent to a stream of events", "input")


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


@implementer(IPushProducer)
@define(eq=False)
class Reader:
    """A subscriber with a connection of his own, to which events are written as they come.

    :param subscribers: all of them.
    :param wish: what he asks for.
    :param snapshot: returns node and cluster as they are, as a message.
    """

    subscribers: Subscribers
    wish: Wish
    snapshot: Callable[[], Event]
    _channel: Any = field(default=None, init=False)
    _number: int = field(default=0, init=False)
    _paused: float | None = field(default=None, init=False)
    _beaten: float = field(default=0.0, init=False)
    _input: int = field(default=0, init=False)
    _over: bool = field(default=False, init=False)
    _unfollow: Callable[[], None] | None = field(default=None, init=False)

    way: ClassVar[str]
    #: What the connection is in while it is read from, and the status that the request gets.
    phase: ClassVar[Phase]
    code: ClassVar[int]

    # What each way does in its own manner.

    def greet(self, request: ApiRequest) -> None:
        """Write what comes before the events.

        :param request: what the client has sent.
        """
        raise NotImplementedError

    def send(self, events: Sequence[Event]) -> None:
        """Write messages.

        :param events: one or more.
        """
        raise NotImplementedError

    def beat(self) -> None:
        """Give a sign of life."""
        raise NotImplementedError

    def say(self, goodbye: Goodbye) -> None:
        """Say why this is the end, and close.

        :param goodbye: why.
        """
        raise NotImplementedError

    def hear(self, data: bytes) -> None:
        """Take what the client has sent; there is never much of it.

        :param data: the bytes.
        """

    # Beginning and end.

    def take(self, request: ApiRequest) -> None:
        """Answer a request by events without end.

        :param request: the request; it is counted now, for its end would tell nothing.
        """
        channel = self._channel = request.channel
        request.startedWriting = 1
        channel.hand_over(self, self.phase)
        self.greet(request)
        request.code = self.code
        request.site.log(request)
        self._beaten = self.subscribers.clock.seconds()
        self.subscribers.join(self)
        self._unfollow = self.subscribers.stream.follow(self._told)
        channel.registerProducer(self, True)
        self._open()
        self._pump()
        channel.hear_early()

    def _open(self) -> None:
        stream, position = self.subscribers.stream, self.wish.position
        if position is not None and stream.since(position).complete:
            self._number = position.number
            return
        self._number = stream.newest
        first = self.snapshot()
        self.send([first] if position is None else [gap(stream, position, first.time), first])

    def end(self, goodbye: Goodbye) -> None:
        """Let the client go.

        :param goodbye: why.
        """
        if not self._over:
            if goodbye.counted:
                self.subscribers.dropped[goodbye.counted] += 1
            self._leave()
            self.say(goodbye)

    def retire(self) -> None:
        """Let the client go: he has closed his side, or the node shuts down."""
        self.end(SHUTDOWN if self._channel.site.closing else HALF_CLOSED)

    def connectionLost(self, reason: Failure) -> None:
        """Forget the client."""
        self._leave()

    def _leave(self) -> None:
        self._over = True
        self.subscribers.leave(self)
        if self._unfollow is not None:
            self._unfollow()
            self._unfollow = None

    # Events, as fast as the client takes them.

    def _told(self) -> None:
        if self._paused is None:
            self._pump()
        elif self._number < self.subscribers.stream.oldest - 1:
            self.end(OVERRUN)

    def _pump(self) -> None:
        stream = self.subscribers.stream
        while self._paused is None and not self._over:
            backlog = stream.since(Position(self._number))
            if not backlog.complete:
                self.end(OVERRUN)
                return
            events = portion(backlog.events)
            if not events:
                return
            self._number = events[-1].number
            wanted = self.wish.chosen(events)
            if wanted:
                self.send(wanted)

    def pauseProducing(self) -> None:
        """Write no more: the client does not read."""
        self._paused = self.subscribers.clock.seconds()

    def resumeProducing(self) -> None:
        """Go on: the client has read."""
        self._paused = None
        self._pump()

    def stopProducing(self) -> None:
        """Do nothing: the end of the connection follows."""

    # What the client does.

    def look_after(self, now: float) -> None:
        """Give a sign of life when one is due; drop a client that does not read.

        :param now: the time.
        """
        if self._paused is not None and now - self._paused > PATIENCE:
            self.end(SLOW)
        elif now - self._beaten >= HEARTBEAT:
            self._beaten = now
            self._input = 0
            if self._paused is None:
                self.beat()

    def dataReceived(self, data: bytes) -> None:
        """Take what the client has sent, but not much of it.

        :param data: the bytes.
        """
        if self._over:
            return
        self._input += len(data)
        if self._input > MOST_INPUT:
            self.end(TOO_MUCH)
        else:
            self.hear(data)


def gap(stream: EventStream, position: Position, time: float) -> Event:
    """Return the message that says that events are lost.

    :param stream: the events.
    :param position: after which they should have begun.
    :param time: the time of the message.
    """
    return Event(stream.newest, time, "gap", gap_data(stream, position))


def gap_data(stream: EventStream, position: Position) -> dict[str, int]:
    """Return what is said when events are lost.

    :param stream: the events.
    :param position: after which they should have begun.
    """
    return {"after": position.number, "oldest": stream.oldest}
