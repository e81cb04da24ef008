"""Tests of twisted_patroni.engine.lanes with its threads, held and released by the test."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorFromThreads
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from twisted_patroni.engine.interface import LaneFull
from twisted_patroni.engine.lanes import Lane, Lanes, LaneSize

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = 10.0


class WorkError(Exception):
    """What a call raises."""


@implementer(IReactorFromThreads)
class Turns:
    """A reactor that makes the calls from other threads when the test says so."""

    def __init__(self) -> None:
        self.calls: queue.SimpleQueue[tuple[Callable[..., Any], tuple[Any, ...]]] = (
            queue.SimpleQueue()
        )

    def callFromThread(self, callable: Callable[..., Any], *args: Any, **kwargs: Any) -> None:  # noqa: A002
        """Remember a call."""
        self.calls.put((callable, args))

    def turn(self, calls: int = 1) -> None:
        """Make that many calls, waiting for each to arrive."""
        for _ in range(calls):
            function, arguments = self.calls.get(timeout=PATIENCE)
            function(*arguments)


class Gate:
    """A call that blocks until it is let go."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.open = threading.Event()

    def __call__(self) -> str:
        """Block."""
        self.begun.set()
        self.open.wait(PATIENCE)
        return "through"


class LaneTests(SynchronousTestCase):
    """One lane with one worker and room for one more."""

    def setUp(self) -> None:
        """Start the lane."""
        self.turns = Turns()
        self.lane = Lane("test", self.turns, LaneSize(1, 1, retry_after=7))
        self.lane.start()
        self.addCleanup(self.lane.stop)
        self.gate = Gate()
        self.addCleanup(self.gate.open.set)

    def test_result(self) -> None:
        """A call runs in a thread of the lane, and its result arrives in the reactor's."""

        def name() -> str:
            return threading.current_thread().name

        result = self.lane.call(name)
        self.assertNoResult(result)
        self.turns.turn()
        self.assertIn("lane-test", self.successResultOf(result))

    def test_arguments(self) -> None:
        """Arguments reach the function."""
        result = self.lane.call(int, "ff", base=16)
        self.turns.turn()
        self.assertEqual(self.successResultOf(result), 255)

    def test_failure(self) -> None:
        """What the function raises is the failure."""

        def fail() -> None:
            raise WorkError

        result = self.lane.call(fail)
        self.turns.turn()
        self.failureResultOf(result, WorkError)
        self.assertEqual(self.lane.busy, 0)

    def test_full(self) -> None:
        """A call for which there is no room fails at once and says when to try again."""
        first, second = self.lane.call(self.gate), self.lane.call(int)
        refused = self.failureResultOf(self.lane.call(int), LaneFull).value
        self.assertEqual((refused.lane, refused.retry_after), ("test", 7))
        self.assertEqual((self.lane.busy, self.lane.refused), (2, 1))
        self.gate.open.set()
        self.turns.turn(2)
        self.assertEqual(self.successResultOf(first), "through")
        self.assertEqual(self.successResultOf(second), 0)
        again = self.lane.call(int)
        self.turns.turn()
        self.successResultOf(again)
        self.assertEqual((self.lane.busy, self.lane.refused), (0, 1))

    def test_cancelled_while_it_runs(self) -> None:
        """A call that has begun runs to its end, but nobody is told."""
        result = self.lane.call(self.gate)
        self.assertTrue(self.gate.begun.wait(PATIENCE))
        result.cancel()
        self.failureResultOf(result, CancelledError)
        self.assertEqual(self.lane.busy, 1)
        self.gate.open.set()
        self.turns.turn()
        self.assertEqual(self.lane.busy, 0)

    def test_cancelled_before_it_runs(self) -> None:
        """A call that has not begun does not run for nobody."""
        ran: list[bool] = []
        first = self.lane.call(self.gate)
        second = self.lane.call(ran.append, True)
        second.cancel()
        self.failureResultOf(second, CancelledError)
        self.gate.open.set()
        self.turns.turn(2)
        self.successResultOf(first)
        self.assertEqual((ran, self.lane.busy), ([], 0))

    def test_threads_do_not_keep_the_process(self) -> None:
        """A worker that hangs cannot keep a finished process alive."""
        result = self.lane.call(lambda: threading.current_thread().daemon)
        self.turns.turn()
        self.assertTrue(self.successResultOf(result))


class LanesTests(SynchronousTestCase):
    """The lanes of an engine."""

    def test_bounds(self) -> None:
        """Each lane has a name of its own, workers, and an end to its queue."""
        lanes = Lanes.on(Turns())
        names = [lane.name for lane in lanes.each()]
        expected = ["local", "read", "write", "long", "probe", "names", "passwords", "webhooks"]
        self.assertEqual(names, expected)
        for lane in lanes.each():
            self.assertGreaterEqual(lane.size.workers, 1, lane.name)
            self.assertLess(lane.size.workers + lane.size.queue, 100, lane.name)
            self.assertGreaterEqual(lane.size.retry_after, 1, lane.name)
