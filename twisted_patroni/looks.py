"""Tells whoever waits for a change what each look at the DCS shows.

The engine's own looks arrive here as they happen. While somebody waits for an outcome there is
also a look once a second, once for all who wait, and while nobody leads ten times a second: some
DCS have no way to wake whoever watches them, and a race for the leader key is short.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.logger import Logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IDelayedCall, IReactorTime
    from twisted.python.failure import Failure

    from twisted_patroni.engine.interface import Look

_log = Logger()
_T = TypeVar("_T")

#: Seconds between the looks taken for those who wait, as upstream polls for a switchover's result.
POLL_INTERVAL = 1.0
#: The same while nobody leads, for the first :data:`RACE_TIME` seconds of that.
RACE_INTERVAL = 0.1
RACE_TIME = 10.0


@define(eq=False)
class _Waiter:
    """One who waits: a judge of looks, and the Deferred that its verdict ends."""

    judge: Callable[[Look], object | None]
    verdict: Deferred[object]
    poll: bool


@define(eq=False)
class Looks:
    """Tells those who wait what the DCS shows.

    :param clock: for the fallback poll.
    :param look: takes a look at the DCS, which must end in :meth:`publish`.
    """

    clock: IReactorTime
    look: Callable[[], Deferred[Look]]
    latest: Look | None = field(default=None, init=False)
    _listeners: list[Callable[[Look], None]] = field(factory=list, init=False)
    _waiters: list[_Waiter] = field(factory=list, init=False)
    _poll: IDelayedCall | None = field(default=None, init=False)
    _looking: Deferred[None] | None = field(default=None, init=False)
    _leaderless_since: float | None = field(default=None, init=False)
    _stopped: bool = field(default=False, init=False)

    def publish(self, look: Look) -> None:
        """Take a look that has been taken and tell everybody.

        :param look: what the DCS showed.
        """
        if self.latest is None or look.number > self.latest.number:
            self.latest = look
            if not look.cluster.unlocked:
                self._leaderless_since = None
            elif self._leaderless_since is None:
                self._leaderless_since = self.clock.seconds()
        for listener in list(self._listeners):
            try:
                listener(look)
            except Exception:  # those who wait for an outcome get it all the same
                _log.failure("A listener to looks at the DCS has failed")
        for waiter in list(self._waiters):
            verdict = waiter.judge(look)
            if verdict is not None and waiter in self._waiters:
                self._waiters.remove(waiter)
                waiter.verdict.callback(verdict)
        self._poll_as_needed()

    def listen(self, listener: Callable[[Look], None]) -> None:
        """Have a function called with each look from now on.

        :param listener: must not block.
        """
        self._listeners.append(listener)

    def wait(self, judge: Callable[[Look], _T | None], *, poll: bool = True) -> Deferred[_T]:
        """Wait until a look satisfies a judge.

        :param judge: returns the verdict for a look, or ``None`` to go on waiting.
        :param poll: look at the DCS meanwhile; what may take hours only minds the engine's looks.
        :return: the first verdict; cancelling it ends the waiting.
        """

        def forget(_: Deferred[_T]) -> None:
            self._waiters[:] = [each for each in self._waiters if each.verdict is not result]
            self._poll_as_needed()

        result: Deferred[_T] = Deferred(forget)
        self._waiters.append(_Waiter(judge, result, poll))  # type: ignore[arg-type]
        self._poll_as_needed()
        return result

    def look_now(self) -> None:
        """Have a look taken, because something has happened; one that fails is only logged."""
        if not self._stopped:
            self.look().addErrback(_failed)

    def stop(self) -> None:
        """Wait for nothing any more; those who still wait are cancelled."""
        self._stopped = True
        for waiter in list(self._waiters):
            waiter.verdict.cancel()

    @property
    def _interval(self) -> float:
        since = self._leaderless_since
        racing = since is not None and self.clock.seconds() - since < RACE_TIME
        return RACE_INTERVAL if racing else POLL_INTERVAL

    def _poll_as_needed(self) -> None:
        wanted = not self._stopped and any(waiter.poll for waiter in self._waiters)
        if self._poll is not None and (not wanted or self._poll.getTime() > self._next_poll()):
            self._poll.cancel()
            self._poll = None
        if wanted and self._poll is None and self._looking is None:
            self._poll = self.clock.callLater(self._interval, self._poll_once)

    def _next_poll(self) -> float:
        return self.clock.seconds() + self._interval

    def _poll_once(self) -> None:
        self._poll = None
        looking = self._looking = self.look().addCallbacks(lambda _: None, _failed)
        looking.addCallback(self._polled)  # after the attribute is set: it may fire at once

    def _polled(self, _: None) -> None:
        self._looking = None
        self._poll_as_needed()


def _failed(failure: Failure) -> None:
    _log.debug("A look at the DCS failed: {error}", error=failure.value)
