"""Bounded lanes for calls that block: few threads, a short queue, and "full" as an answer.

A call that has begun always runs to its end; a caller that goes away only stops waiting for it. A
call that has not begun is dropped when its caller goes away.
"""

from __future__ import annotations

from threading import Thread
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from attrs import define, field, frozen
from twisted.internet.defer import Deferred, fail
from twisted.python.threadpool import ThreadPool

from twisted_patroni.engine.interface import LaneFull

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IReactorFromThreads
    from twisted.python.failure import Failure

_P = ParamSpec("_P")
_T = TypeVar("_T")


@frozen
class LaneSize:
    """How much a lane takes.

    :param workers: calls that run at the same time.
    :param queue: calls that may wait for a worker.
    :param retry_after: what a refused caller is told, in seconds.
    """

    workers: int
    queue: int
    retry_after: int = 1


class _DaemonPool(ThreadPool):
    """Twisted's thread pool with threads that cannot keep a finished process alive."""

    @staticmethod
    def threadFactory(*args: Any, **kwargs: Any) -> Thread:  # type: ignore[override]
        return Thread(*args, **{**kwargs, "daemon": True})


@define(eq=False)
class Lane:
    """Threads for one kind of blocking call.

    :param name: for thread names and errors.
    :param reactor: results are delivered in its thread.
    :param size: the bounds.
    """

    name: str
    reactor: IReactorFromThreads
    size: LaneSize
    busy: int = field(default=0, init=False)
    refused: int = field(default=0, init=False)
    _pool: ThreadPool = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._pool = _DaemonPool(0, self.size.workers, name=f"lane-{self.name}")

    def start(self) -> None:
        """Let the lane take calls."""
        self._pool.start()

    def stop(self) -> None:
        """Take no more calls and wait for those that run."""
        self._pool.stop()

    def call(
        self, function: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> Deferred[_T]:
        """Run a blocking function in this lane.

        :param function: called in one of the lane's threads.
        :return: its result; fails with what it raises, or with :class:`LaneFull`.
        """
        if self.busy >= self.size.workers + self.size.queue:
            self.refused += 1
            return fail(LaneFull(self.name, self.size.retry_after))
        self.busy += 1
        abandoned = False

        def abandon(_: Deferred[_T]) -> None:
            nonlocal abandoned
            abandoned = True

        result: Deferred[_T] = Deferred(abandon)

        def work() -> _T | None:
            return None if abandoned else function(*args, **kwargs)

        def deliver(success: bool, outcome: Any) -> None:
            self.busy -= 1
            if abandoned:
                return
            if success:
                result.callback(outcome)
            else:
                result.errback(outcome)

        def done(success: bool, outcome: _T | Failure | None) -> None:
            self.reactor.callFromThread(deliver, success, outcome)

        self._pool.callInThreadWithCallback(done, work)
        return result


@frozen
class Lanes:
    """The lanes of one engine.

    :param local: what concerns this machine only: pid files, ``pg_controldata``, the timeline.
    :param read: looks at the DCS.
    :param write: short writes to the DCS.
    :param long: restarts and reinitialisations.
    :param probe: HTTP requests to members.
    :param names: DNS, which may take its time and must not hold up what is local.
    :param passwords: hashes of passwords, whose cost must not delay anything else.
    :param webhooks: names and files of those who are told of events, which may be out of order.
    """

    local: Lane
    read: Lane
    write: Lane
    long: Lane
    probe: Lane
    names: Lane
    passwords: Lane
    webhooks: Lane

    @classmethod
    def on(cls, reactor: IReactorFromThreads) -> Lanes:
        """Build the lanes with their usual sizes.

        :param reactor: results are delivered in its thread.
        """
        return cls(
            local=Lane("local", reactor, LaneSize(2, 16)),
            read=Lane("read", reactor, LaneSize(2, 64)),
            write=Lane("write", reactor, LaneSize(2, 32, retry_after=2)),
            long=Lane("long", reactor, LaneSize(8, 24, retry_after=10)),
            probe=Lane("probe", reactor, LaneSize(8, 64, retry_after=2)),
            names=Lane("names", reactor, LaneSize(2, 64)),
            passwords=Lane("passwords", reactor, LaneSize(2, 16)),
            webhooks=Lane("webhooks", reactor, LaneSize(8, 32)),
        )

    def each(self) -> tuple[Lane, ...]:
        """Return all lanes."""
        return (
            self.local,
            self.read,
            self.write,
            self.long,
            self.probe,
            self.names,
            self.passwords,
            self.webhooks,
        )
