"""What is under way, and its end when that under which it goes on is closed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred

from twisted_patroni.client.pool import PoolClosed

if TYPE_CHECKING:
    from collections.abc import Coroutine

_T = TypeVar("_T")


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
