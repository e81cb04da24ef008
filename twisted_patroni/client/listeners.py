"""Who is told when something changes: all of them, whatever one of them makes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger

from twisted_patroni.client.pool import PoolClosed

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IReactorTime

    from twisted_patroni.client.values import Member

_T = TypeVar("_T")
_log = Logger()


@define(eq=False)
class Changes:
    """Those who look after each change, and those who wait for one.

    :param clock: for waiting.
    :param end: what is said to those who still wait at the end.
    """

    clock: IReactorTime
    end: str
    _listeners: list[Callable[[], None]] = field(factory=list, init=False)
    _waiting: set[Deferred[Any]] = field(factory=set, init=False)
    _closed: bool = field(default=False, init=False)

    @property
    def awaited(self) -> bool:
        """Whether somebody waits for one."""
        return bool(self._waiting)

    def listen(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have a function called after each change.

        :param callback: the function; what it fails with is logged.
        :return: ends it.
        """
        self._listeners.append(callback)

        def stop() -> None:
            if callback in self._listeners:
                self._listeners.remove(callback)

        return stop

    def tell(self) -> None:
        """Know that something has changed."""
        for callback in tuple(self._listeners):
            try:
                callback()
            except Exception:
                _log.failure("Who was told of a change of the cluster has failed")

    def until(self, look: Callable[[], _T | None], timeout: float) -> Deferred[_T]:
        """Return what a function returns, as soon as that is true.

        :param look: the function: it is called at once, and after each change.
        :param timeout: seconds to wait.
        :return: fails with the ``TimeoutError`` of :mod:`twisted.internet.defer` if it took
            longer, and with :class:`PoolClosed` at the end.
        """
        waiting: Deferred[_T] = Deferred()

        def check() -> None:
            if waiting.called:
                return
            try:
                found = look()
            except Exception:
                waiting.errback()
            else:
                if found:
                    waiting.callback(found)

        def over(result: _T) -> _T:
            self._waiting.discard(waiting)
            stop()
            return result

        stop = self.listen(check)
        self._waiting.add(waiting)
        check()
        if self._closed and not waiting.called:
            waiting.errback(PoolClosed(self.end))
        waiting.addTimeout(max(0.0, timeout), self.clock)
        return waiting.addBoth(over)

    def close(self) -> None:
        """End all waiting."""
        self._closed = True
        for waiting in tuple(self._waiting):
            if not waiting.called:
                waiting.errback(PoolClosed(self.end))


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
                told.addErrback(lambda failure: _log.failure("A listener has failed", failure))
            self._news.pop(0)

    def close(self) -> None:
        """Tell nobody any more."""
        self._listeners.clear()
