"""Events by long polling: an answer that waits until there is something to tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from attrs import define, field
from twisted.internet.defer import Deferred

from twisted_patroni.events import Position
from twisted_patroni.events.model import encoded
from twisted_patroni.web.answers import JSON, Answer
from twisted_patroni.web.subscribers import Subscribers, Wish, gap_data, portion

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted_patroni.events import Event
    from twisted_patroni.web.request import ApiRequest

#: Seconds that an answer waits, by default and at most.
TIMEOUT, LONGEST = 30.0, 60.0


@define(eq=False)
class LongPoll:
    """One question for events.

    :param subscribers: all who wait.
    :param wish: what is asked for.
    :param snapshot: returns node and cluster as they are, as a message.
    """

    subscribers: Subscribers
    wish: Wish
    snapshot: Callable[[], Event]
    _position: Position | None = field(init=False)
    _events: list[Event] = field(factory=list, init=False)
    _lost: bool = field(default=False, init=False)
    _done: Deferred[None] = field(factory=Deferred, init=False)

    way: ClassVar[str] = "long_poll"

    def __attrs_post_init__(self) -> None:
        self._position = self.wish.position
        self._look()

    @property
    def ready(self) -> bool:
        """Whether there is something to tell."""
        return bool(self._position is None or self._lost or self._events)

    async def wait(self, request: ApiRequest, seconds: float) -> None:
        """Wait until there is something to tell, or the time is up, or the node shuts down.

        :param request: the question; its client may leave, which cancels this.
        :param seconds: how long at most.
        """
        clock = self.subscribers.clock
        request.channel.wait(self._finish)
        self.subscribers.join(self)
        unfollow = self.subscribers.stream.follow(self._told)
        timer = clock.callLater(seconds, self._finish)
        try:
            await self._done
        finally:
            self.subscribers.leave(self)
            unfollow()
            if timer.active():
                timer.cancel()
        self.subscribers.rest(request.channel)
        request.started = clock.seconds()  # what it waited for tells nothing of how fast we are

    def look_after(self, now: float) -> None:
        """Do nothing: there is a time for the answer."""

    def dismiss(self) -> None:
        """Answer now, with what there is."""
        self._finish()

    def _told(self) -> None:
        self._look()
        if self.ready:
            self._finish()

    def _finish(self) -> None:
        if not self._done.called:
            self._done.callback(None)

    def _look(self) -> None:
        """Find the first events that are wanted, and pass over others."""
        stream = self.subscribers.stream
        while not self.ready:
            assert self._position is not None
            backlog = stream.since(self._position)
            events = portion(backlog.events)
            self._lost = not backlog.complete
            self._events = self.wish.chosen(events)
            if not events:
                return
            self._position = Position(events[-1].number, stream.name)

    def answer(self) -> Answer:
        """Return what there is to tell."""
        stream, asked = self.subscribers.stream, self.wish.position
        parts = {"events": f"[{','.join(event.text for event in self._events)}]"}
        if self._position is None or self._lost:
            picture = self.snapshot()
            parts["next"] = encoded(f"{picture.number}.{stream.name}")
            parts["snapshot"] = encoded(picture.data)
        else:
            parts["next"] = encoded(f"{self._position.number}.{stream.name}")
        if self._lost and asked is not None:
            parts["gap"] = encoded(gap_data(stream, asked))
        body = ",".join(f'"{name}":{text}' for name, text in parts.items())
        headers = (("Cache-Control", "no-store"),)
        return Answer(200, f"{{{body}}}".encode("ascii"), JSON, headers)
