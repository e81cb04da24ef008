"""Attempts that follow each other closely, of which the first that succeeds counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred

from twisted_patroni.client.errors import ClientError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from twisted.internet.interfaces import IDelayedCall
    from twisted.python.failure import Failure

_T = TypeVar("_T")


@define(eq=False)
class Race(Generic[_T]):
    """Attempts of which the first that succeeds counts.

    :param clock: the reactor.
    :param pause: seconds until the next one begins, if none has failed before.
    :param attempts: begin one each; only a :class:`ClientError` lets the others go on.
    """

    clock: Any
    pause: float
    attempts: Sequence[Callable[[], Coroutine[Any, Any, _T]]]
    _running: set[Deferred[_T]] = field(factory=set, init=False)
    _begun: int = field(default=0, init=False)
    _timer: IDelayedCall | None = field(default=None, init=False)
    _ended: Deferred[_T | None] = field(factory=Deferred, init=False)

    async def run(self) -> _T | None:
        """Return the result of the first that succeeds, ``None`` if all have failed."""
        self._begin()
        try:
            return await self._ended
        finally:
            self._stop_waiting()
            for each in tuple(self._running):
                each.cancel()

    def _stop_waiting(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _begin(self) -> None:
        self._stop_waiting()
        if self._begun == len(self.attempts):
            if not self._running:
                self._ended.callback(None)
            return
        attempt = Deferred.fromCoroutine(self.attempts[self._begun]())
        self._begun += 1
        if self._begun < len(self.attempts):
            self._timer = self.clock.callLater(self.pause, self._begin)
        self._running.add(attempt)
        attempt.addCallbacks(
            self._succeeded, self._failed, callbackArgs=(attempt,), errbackArgs=(attempt,)
        )

    def _succeeded(self, result: _T, attempt: Deferred[_T]) -> None:
        self._running.discard(attempt)
        if not self._ended.called:
            self._ended.callback(result)

    def _failed(self, failure: Failure, attempt: Deferred[_T]) -> None:
        self._running.discard(attempt)
        if self._ended.called:  # it was cancelled, or is too late
            return
        if failure.check(ClientError):
            self._begin()
        else:
            self._ended.errback(failure)
