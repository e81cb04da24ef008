"""The hub on the reactor that learns of each look at the DCS and tells whoever waits for a change.

The engine's own looks arrive here as they happen; while somebody waits for an outcome, the hub also
looks by itself once a second, once for all who wait.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IReactorTime

    from twisted_patroni.engine.interface import Look

_log = Logger()
_T = TypeVar("_T")

#: Seconds between the hub's own looks, as upstream polls for the result of a switchover.
POLL_INTERVAL = 1.0


@define(eq=False)
class _Waiter:
    """One who waits: a judge of looks, and the Deferred that its verdict ends."""

    judge: Callable[[Look], object | None]
    verdict: Deferred[object]


@define(eq=False)
class Hub:
    """Tells those who wait what the DCS shows.

    :param clock: for the fallback poll.
    :param look: takes a look at the DCS, which must end in :meth:`publish`.
    """

    clock: IReactorTime
    look: Callable[[], Deferred[Look]]
    latest: Look | None = field(default=None, init=False)
    _listeners: list[Callable[[Look], None]] = field(factory=list, init=False)
    _waiters: list[_Waiter] = field(factory=list, init=False)
    _poll: LoopingCall | None = field(default=None, init=False)

    def publish(self, look: Look) -> None:
        """Take a look that has been taken and tell everybody.

        :param look: what the DCS showed.
        """
        if self.latest is None or look.number > self.latest.number:
            self.latest = look
        for listener in list(self._listeners):
            listener(look)
        for waiter in list(self._waiters):
            verdict = waiter.judge(look)
            if verdict is not None and waiter in self._waiters:
                self._waiters.remove(waiter)
                waiter.verdict.callback(verdict)
        self._poll_as_needed()

    def listen(self, listener: Callable[[Look], None]) -> None:
        """Have a function called with each look from now on.

        :param listener: must not raise and must not block.
        """
        self._listeners.append(listener)

    def wait(self, judge: Callable[[Look], _T | None]) -> Deferred[_T]:
        """Wait until a look satisfies a judge.

        :param judge: returns the verdict for a look, or ``None`` to go on waiting.
        :return: the first verdict; cancelling it ends the waiting.
        """

        def forget(_: Deferred[_T]) -> None:
            self._waiters[:] = [each for each in self._waiters if each.verdict is not result]
            self._poll_as_needed()

        result: Deferred[_T] = Deferred(forget)
        self._waiters.append(_Waiter(judge, result))  # type: ignore[arg-type]
        self._poll_as_needed()
        return result

    def stop(self) -> None:
        """Wait for nothing any more; those who still wait are cancelled."""
        for waiter in list(self._waiters):
            waiter.verdict.cancel()

    def _poll_as_needed(self) -> None:
        if self._waiters and self._poll is None:
            self._poll = LoopingCall(self._poll_once)
            self._poll.clock = self.clock
            self._poll.start(POLL_INTERVAL, now=False).addErrback(
                lambda failure: _log.failure("The fallback poll ended", failure)
            )
        elif not self._waiters and self._poll is not None:
            poll, self._poll = self._poll, None
            poll.stop()

    def _poll_once(self) -> Deferred[None]:
        def failed(failure: object) -> None:
            _log.debug("A look at the DCS failed: {failure}", failure=failure)

        return self.look().addCallbacks(lambda _: None, failed)
