"""Tests of operations.gate and operations.cycles: things that are waited for."""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from twisted_patroni.operations.cycles import LONGEST, Cycles
from twisted_patroni.operations.gate import Gate


class GateTests(SynchronousTestCase):
    """Something that happens once."""

    def test_open(self) -> None:
        """Who waits and who comes later get the first value."""
        gate: Gate[int] = Gate()
        early = [gate.wait(), gate.wait()]
        self.assertEqual((gate.waiting, gate.is_open), (2, False))
        gate.open(1)
        gate.open(2)
        self.assertEqual([self.successResultOf(each) for each in [*early, gate.wait()]], [1] * 3)
        self.assertEqual((gate.waiting, gate.is_open), (0, True))

    def test_tell(self) -> None:
        """Who is told while it stays closed is told alone."""
        gate: Gate[int] = Gate()
        early = gate.wait()
        gate.tell(1)
        self.assertEqual(self.successResultOf(early), 1)
        late = gate.wait()
        self.assertNoResult(late)
        gate.open(2)
        self.assertEqual(self.successResultOf(late), 2)

    def test_failure(self) -> None:
        """A failure is one for all."""
        gate: Gate[int] = Gate()
        early = gate.wait()
        gate.open(Failure(ValueError("oops")))
        for each in (early, gate.wait()):
            self.failureResultOf(each, ValueError)

    def test_leaving(self) -> None:
        """Only the last who leaves is noticed."""
        left: list[int] = []
        gate: Gate[int] = Gate(lambda: left.append(1))
        one, other = gate.wait(), gate.wait()
        for each, seen in ((one, []), (other, [1])):
            each.cancel()
            self.failureResultOf(each, CancelledError)
            self.assertEqual(left, seen)
        gate.open(1)

    def test_leaving_while_told(self) -> None:
        """Who leaves because another one was told disturbs nobody."""
        left: list[int] = []
        gate: Gate[int] = Gate(lambda: left.append(1))
        one, other, last = gate.wait(), gate.wait(), gate.wait()
        one.addCallback(lambda _: other.cancel())
        gate.open(1)
        self.failureResultOf(other, CancelledError)
        self.assertEqual((self.successResultOf(last), left), (1, []))

    def test_forget(self) -> None:
        """A value that nobody wants any more is not kept."""
        gate: Gate[int] = Gate()
        early = gate.wait()
        gate.forget()
        gate.open(1)
        self.assertEqual(self.successResultOf(early), 1)
        self.assertNoResult(gate.wait())


class CyclesTests(SynchronousTestCase):
    """The next HA cycle."""

    def test_tell(self) -> None:
        """Each waits for the next one, which leaves no timer."""
        clock = Clock()
        cycles = Cycles(clock)
        first = cycles.wait()
        cycles.tell()
        self.successResultOf(first)
        self.assertEqual(clock.getDelayedCalls(), [])
        self.assertNoResult(cycles.wait())

    def test_hanging(self) -> None:
        """Nobody waits for ever."""
        clock = Clock()
        waiting = Cycles(clock).wait()
        clock.advance(LONGEST - 1)
        self.assertNoResult(waiting)
        clock.advance(1)
        self.successResultOf(waiting)
