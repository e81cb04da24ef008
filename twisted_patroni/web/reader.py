"""One who reads events from a connection of his own, for as long as he keeps up.

He keeps nothing but his position and what he wants, and takes from the stream's last thousand
events whenever his connection takes more. There is no queue for anybody: slowness costs no memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from attrs import define, field, frozen
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from twisted_patroni.events import Event, Position
from twisted_patroni.web.subscribers import HEARTBEAT, Subscribers, Wish, gap_data, portion

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twisted.python.failure import Failure

    from twisted_patroni.web.phases import Phase
    from twisted_patroni.web.request import ApiRequest

#: Seconds that a reader may take nothing.
PATIENCE = 30.0
#: Bytes that one who only listens may send from one heartbeat to the next.
MOST_INPUT = 4096


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
RELOADED = Goodbye(1012, "the rules of access have changed: come back")
HALF_CLOSED = Goodbye(1000, "the client sends no more")
SLOW = Goodbye(1008, f"too slow: nothing was read for {PATIENCE:.0f} seconds", "slow")
OVERRUN = Goodbye(1008, "too slow: events were lost that had not been read", "overrun")
TOO_MUCH = Goodbye(1009, f"more than {MOST_INPUT} bytes were sent to a stream of events", "input")


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
        messages = [self.snapshot()]
        if position is not None:
            lost, time = gap_data(stream, position), messages[0].time
            messages.insert(0, Event(stream.newest, time, "gap", lost))
        self.send(messages)

    def end(self, goodbye: Goodbye) -> None:
        """Let the client go.

        :param goodbye: why.
        """
        if not self._over:
            if goodbye.counted:
                self.subscribers.dropped[goodbye.counted] += 1
            self._leave()
            self.say(goodbye)

    def dismiss(self) -> None:
        """Let the client go, who is to come back and be judged anew."""
        self.end(RELOADED)

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
