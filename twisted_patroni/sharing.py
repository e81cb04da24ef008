"""Answer any number of callers from one piece of work at a time, and none of them with old news."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")


class SharedNext(Generic[T]):
    """Run something for many callers, one run at a time, each run begun after they asked.

    A caller that arrives while a run is under way is promised the *next* run, which it shares
    with all others waiting for it: the answer of the current one may be older than the question.

    :param run: begins one run and returns its outcome. It may answer at once, and it may fail:
        the failure reaches the callers of that run and does not stop the next.
    """

    def __init__(self, run: Callable[[], Awaitable[T]]) -> None:
        self._run = run
        self._running = False
        self._current: deque[Deferred[T]] = deque()
        self._next: deque[Deferred[T]] = deque()

    def get(self) -> Deferred[T]:
        """Return the outcome of a run that begins now or later, never of one begun before.

        Cancelling it takes this caller off the list and disturbs nobody else: a run under way goes
        on, a run that nobody waits for any more does not begin.

        :return: fires with the outcome of the run, or with its failure.
        """
        caller: Deferred[T] = Deferred(self._forget)
        self._next.append(caller)
        if not self._running:
            Deferred.fromCoroutine(self._rounds())
        return caller

    async def _rounds(self) -> None:
        """Run as long as somebody waits. Never fails: the failures belong to the callers."""
        self._running = True
        while self._next:
            self._current, self._next = self._next, deque()
            outcome: T | Failure
            try:
                outcome = await self._run()
            except Exception:
                outcome = Failure()
            # A callback may cancel other callers or ask again, so look at the queue each time.
            while self._current:
                self._current.popleft().callback(outcome)
        self._running = False

    def _forget(self, caller: Deferred[T]) -> None:
        for waiting in (self._current, self._next):
            if caller in waiting:
                waiting.remove(caller)
