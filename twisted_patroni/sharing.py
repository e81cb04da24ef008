"""Answer any number of callers from one piece of work at a time, and none of them with old news."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from twisted.internet.interfaces import IDelayedCall, IReactorTime

T = TypeVar("T")


@frozen
class Patience(Generic[T]):
    """How long callers wait for an outcome.

    :param clock: measures it.
    :param seconds: counted from the first of those who share a run.
    :param instead: makes the outcome, or failure, they get then.
    """

    clock: IReactorTime
    seconds: float
    instead: Callable[[], T | Failure]


class _Round(Generic[T]):
    """Those who share one run, and the timer that releases them if it takes too long."""

    def __init__(self) -> None:
        self.callers: deque[Deferred[T]] = deque()
        self.timer: IDelayedCall | None = None

    def stop_timer(self) -> None:
        """Release nobody."""
        if self.timer is not None and self.timer.active():
            self.timer.cancel()

    def answer(self, outcome: T | Failure) -> None:
        """Tell everybody; a callback may cancel other callers or ask again meanwhile."""
        self.stop_timer()
        while self.callers:
            self.callers.popleft().callback(outcome)


class SharedNext(Generic[T]):
    """Run something for many callers, one run at a time, each run begun after they asked.

    A caller that arrives while a run is under way is promised the *next* run, which it shares
    with all others waiting for it: the answer of the current one may be older than the question.

    :param run: begins one run and returns its outcome. It may answer at once, and it may fail:
        the failure reaches the callers of that run and does not stop the next.
    :param patience: how long callers wait, if not for ever.
    :param gather: called when a run is wanted; the run begins when its outcome is there, and is
        shared by all who arrive meanwhile. By default a run begins at once.
    """

    def __init__(
        self,
        run: Callable[[], Awaitable[T]],
        patience: Patience[T] | None = None,
        gather: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        self._run = run
        self._patience = patience
        self._gather = gather
        self._running = False
        self._next: _Round[T] = _Round()

    def get(self) -> Deferred[T]:
        """Return the outcome of a run that begins now or later, never of one begun before.

        Cancelling it takes this caller off the list and disturbs nobody else: a run under way goes
        on, a run that nobody waits for any more does not begin.

        :return: fires with the outcome of the run, or with its failure.
        """
        joined = self._next
        caller: Deferred[T] = Deferred(joined.callers.remove)
        if not joined.callers and self._patience is not None:
            patience = self._patience
            joined.stop_timer()  # of callers who have left before the run began
            joined.timer = patience.clock.callLater(
                patience.seconds, self._give_up, joined, patience
            )
        joined.callers.append(caller)
        if not self._running:
            Deferred.fromCoroutine(self._rounds())
        return caller

    async def _rounds(self) -> None:
        """Run as long as somebody waits. Never fails: the failures belong to the callers."""
        self._running = True
        while self._next.callers:
            if self._gather is not None:
                await self._gather()
                if not self._next.callers:
                    continue
            current, self._next = self._next, _Round()
            outcome: T | Failure
            try:
                outcome = await self._run()
            except Exception:
                outcome = Failure()
            current.answer(outcome)
        self._running = False

    def _give_up(self, late: _Round[T], patience: Patience[T]) -> None:
        if late is self._next:
            self._next = _Round()
        late.answer(patience.instead())
