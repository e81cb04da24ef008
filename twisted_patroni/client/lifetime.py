"""What is under way, and its end when that under which it goes on is closed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.logger import Logger

from twisted_patroni.client.pool import PoolClosed

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from twisted_patroni.client.values import Member

_T = TypeVar("_T")
_log = Logger()


@define(eq=False)
class Lifetime:
    """Runs what ends when this does, at the latest.

    :param end: what is said to those who still wait then.
    :ivar over: it has ended.
    """

    end: str
    over: bool = field(default=False, init=False)
    _running: set[Deferred[Any]] = field(factory=set, init=False)

    async def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Do something.

        :param work: what is to be done.
        :raise PoolClosed: if this has ended first.
        """
        if self.over:
            work.close()
            raise PoolClosed(self.end)
        running = Deferred.fromCoroutine(work)
        self._running.add(running)
        try:
            return await running
        except CancelledError:
            if self.over:
                raise PoolClosed(self.end) from None
            raise
        finally:
            self._running.discard(running)

    def close(self) -> None:
        """End what is under way, and begin nothing any more."""
        self.over = True
        for each in tuple(self._running):
            each.cancel()


@define(eq=False)
class Announcer:
    """Tells of each new leader: everybody, in order, whatever one of them makes of it."""

    _listeners: dict[object, Callable[[Member | None], object]] = field(factory=dict, init=False)
    _leader: Member | None = field(default=None, init=False)
    _news: list[Member | None] = field(factory=list, init=False)

    def listen(self, listener: Callable[[Member | None], object]) -> Callable[[], None]:
        """Have a function called with each new leader, and with ``None`` while there is none.

        :param listener: the function, or a coroutine's; what it fails with is logged.
        :return: call it to end that.
        """
        key = object()
        self._listeners[key] = listener

        def stop() -> None:
            self._listeners.pop(key, None)

        return stop

    def led_by(self, leader: Member | None) -> None:
        """Know who leads, and tell of it if that is news.

        :param leader: who leads now.
        """
        last, self._leader = self._leader, leader
        if (leader and leader.name) == (last and last.name):
            return
        self._news.append(leader)
        if len(self._news) > 1:  # somebody's reaction to the last news: all are told in order
            return
        while self._news:
            for listener in tuple(self._listeners.values()):
                told = maybeDeferred(listener, self._news[0])
                told.addErrback(lambda failure: _log.failure("a listener has failed", failure))
            self._news.pop(0)

    def close(self) -> None:
        """Tell nobody any more."""
        self._listeners.clear()
