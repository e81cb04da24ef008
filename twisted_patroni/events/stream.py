"""The numbered events of this node: the last thousand, for all who follow."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from itertools import islice
from operator import attrgetter
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from attrs import define, field, frozen
from twisted.logger import Logger

from twisted_patroni.events.model import Event, View

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twisted.internet.interfaces import IReactorTime

_log = Logger()

#: Events that are kept for those who come back.
KEPT = 1000
#: Followers told in one turn of the reactor, so that a thousand of them halt nobody else.
SLICE = 50


@frozen
class Position:
    """How far somebody has read.

    :param number: of the last event read.
    :param stream: the name of the stream it was of, ``None`` if that was not said.
    """

    number: int
    stream: str | None = None

    def __str__(self) -> str:
        return str(self.number) if self.stream is None else f"{self.number}.{self.stream}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """Read a position as clients write it: ``NUMBER`` or ``NUMBER.STREAM``.

        :param text: the text.
        :raises ValueError: if it is neither.
        """
        number, dot, stream = text.partition(".")
        if not (number.isascii() and number.isdigit()) or len(number) > 18:
            raise ValueError(f"expected the number of an event, but got {text[:40]!r}")
        if dot and not (0 < len(stream) <= 16 and stream.isascii() and stream.isalnum()):
            raise ValueError(f"expected the name of a stream after the dot, but got {text[:40]!r}")
        return cls(int(number), stream if dot else None)


@frozen
class Backlog:
    """What somebody has not read yet.

    :param events: the events, oldest first.
    :param complete: whether no other event is missing between his position and these.
    """

    events: tuple[Event, ...]
    complete: bool


@define(eq=False)
class EventStream:
    """Numbers events, keeps the last ones, and tells those who follow that there are new ones.

    Who follows keeps a position and reads from it when he can: there is no queue for anybody.

    :param clock: the time.
    :ivar name: the stream's, another one after each start of the daemon.
    :ivar newest: the number of the last event. They begin where Unix time in milliseconds is, so
        that they grow over a restart, too.
    :ivar view: node and cluster as last known.
    :ivar published: how many events of each type there have been.
    :ivar telling: some of those who follow do not know yet of what is new.
    """

    clock: IReactorTime
    name: str = field(factory=lambda: token_hex(4))
    newest: int = field(init=False)
    view: View | None = field(default=None, init=False)
    published: dict[str, int] = field(factory=dict, init=False)
    _start: int = field(init=False)
    _events: deque[Event] = field(factory=lambda: deque(maxlen=KEPT), init=False)
    _followers: dict[object, Callable[[], None]] = field(factory=dict, init=False)
    _untold: dict[object, None] = field(factory=dict, init=False)
    telling: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self.newest = self._start = int(self.clock.seconds() * 1000)

    @property
    def oldest(self) -> int:
        """The number of the oldest event that is kept, or that the first one will have."""
        return self._events[0].number if self._events else self.newest + 1

    @property
    def position(self) -> Position:
        """Where somebody is who has read everything."""
        return Position(self.newest, self.name)

    @property
    def followers(self) -> int:
        """How many follow."""
        return len(self._followers)

    def publish(self, type: str, data: Mapping[str, Any]) -> Event:  # noqa: A002
        """Number an event, keep it, and tell those who follow.

        :param type: one of :data:`~twisted_patroni.events.model.TYPES`.
        :param data: what has changed; JSON-able.
        """
        self.newest += 1
        event = Event(self.newest, self.clock.seconds(), type, data, self.view)
        self._events.append(event)
        self.published[type] = self.published.get(type, 0) + 1
        for key in self._followers:  # those who wait already keep their place
            self._untold.setdefault(key)
        if not self.telling and self._untold:
            self.telling = True
            self.clock.callLater(0, self._tell)
        return event

    def since(self, position: Position) -> Backlog:
        """Return what somebody has not read yet.

        :param position: how far he has.
        """
        number = position.number
        mine = position.stream in (None, self.name)
        if not mine or not max(self._start, self.oldest - 1) <= number <= self.newest:
            return Backlog((), complete=False)
        index = bisect_right(self._events, number, key=attrgetter("number"))
        return Backlog(tuple(islice(self._events, index, None)), complete=True)

    def follow(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Have somebody told whenever there is something new.

        :param listener: called without arguments in a later turn of the reactor, once for all that
            has come by then; must not raise.
        :return: ends it.
        """
        key = object()
        self._followers[key] = listener

        def leave() -> None:
            self._followers.pop(key, None)

        return leave

    def _tell(self) -> None:
        for key in list(islice(self._untold, SLICE)):
            del self._untold[key]
            listener = self._followers.get(key)
            if listener is not None:
                try:
                    listener()
                except Exception:  # the others follow all the same
                    _log.failure("A follower of the events has failed")
        if self._untold:
            self.clock.callLater(0, self._tell)
        else:
            self.telling = False
