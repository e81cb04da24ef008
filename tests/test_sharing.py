"""Tests of twisted_patroni.sharing."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from twisted_patroni.sharing import Patience, SharedNext


class BrokenRunError(Exception):
    """The failure of a run, as the tests see it."""


class SharedNextTests(SynchronousTestCase):
    """Tests of SharedNext with runs that the test ends by hand."""

    def setUp(self) -> None:
        """Count the runs and keep each one's Deferred."""
        self.runs: list[Deferred[str]] = []
        self.shared = SharedNext(self.begin)

    def begin(self) -> Deferred[str]:
        """Begin a run that ends when the test says so."""
        run: Deferred[str] = Deferred()
        self.runs.append(run)
        return run

    def test_first_caller_begins_a_run(self) -> None:
        """Nothing runs unasked; the first caller gets the outcome of the run it began."""
        self.assertEqual(self.runs, [])
        caller = self.shared.get()
        self.assertNoResult(caller)
        self.runs[0].callback("one")
        self.assertEqual(self.successResultOf(caller), "one")
        self.assertEqual(len(self.runs), 1)

    def test_late_callers_share_the_next_run(self) -> None:
        """Callers that arrive during a run all get the outcome of the one after it."""
        early = self.shared.get()
        late = [self.shared.get() for _ in range(3)]
        self.assertEqual(len(self.runs), 1)
        self.runs[0].callback("one")
        self.assertEqual(self.successResultOf(early), "one")
        for caller in late:
            self.assertNoResult(caller)
        self.assertEqual(len(self.runs), 2)
        self.runs[1].callback("two")
        self.assertEqual([self.successResultOf(caller) for caller in late], ["two"] * 3)
        self.assertEqual(len(self.runs), 2)

    def test_gathering(self) -> None:
        """Callers that arrive before a run has gathered them share it; without one it is off."""
        gathering: list[Deferred[None]] = []

        def gather() -> Deferred[None]:
            gathering.append(Deferred())
            return gathering[-1]

        self.shared = SharedNext(self.begin, gather=gather)
        callers = [self.shared.get() for _ in range(3)]
        self.assertEqual(self.runs, [])
        gathering[0].callback(None)
        gone = self.shared.get()
        self.runs[0].callback("one")
        self.assertEqual([self.successResultOf(each) for each in callers], ["one"] * 3)
        gone.cancel()
        self.failureResultOf(gone, CancelledError)
        gathering[1].callback(None)
        again = self.shared.get()
        gathering[2].callback(None)
        self.runs[1].callback("two")
        self.assertEqual(self.successResultOf(again), "two")

    def test_failure_reaches_each_caller_and_not_the_next_run(self) -> None:
        """All callers of a failed run get its failure; those of the next run get an answer."""
        first = self.shared.get()
        second, third = self.shared.get(), self.shared.get()
        self.runs[0].callback("one")
        fourth = self.shared.get()
        self.runs[1].errback(BrokenRunError())
        self.successResultOf(first)
        self.failureResultOf(second, BrokenRunError)
        self.failureResultOf(third, BrokenRunError)
        self.runs[2].callback("three")
        self.assertEqual(self.successResultOf(fourth), "three")

    def test_failure_to_begin(self) -> None:
        """A run that raises instead of returning anything fails its callers and no others."""

        def broken() -> Deferred[str]:
            raise BrokenRunError

        shared = SharedNext(broken)
        self.failureResultOf(shared.get(), BrokenRunError)
        self.failureResultOf(shared.get(), BrokenRunError)

    def test_coroutines_and_immediate_answers(self) -> None:
        """A run may be a coroutine and may answer at once, well or badly."""

        async def run() -> str:
            return "at once"

        self.assertEqual(self.successResultOf(SharedNext(run).get()), "at once")
        self.assertEqual(self.successResultOf(SharedNext(lambda: succeed(1)).get()), 1)
        shared: SharedNext[str] = SharedNext(lambda: fail(BrokenRunError()))
        self.failureResultOf(shared.get(), BrokenRunError)

    def test_asking_again_in_a_callback(self) -> None:
        """A caller that asks again when it is answered is promised the run after that."""
        first = self.shared.get()
        again: list[Deferred[str]] = []
        first.addCallback(lambda _: again.append(self.shared.get()))
        late = self.shared.get()
        self.runs[0].callback("one")
        self.runs[1].callback("two")
        self.assertEqual(self.successResultOf(late), "two")
        self.assertEqual(self.successResultOf(again[0]), "two")

    def test_asking_again_when_answered_at_once(self) -> None:
        """With immediate answers every question has a run of its own."""
        answers: list[int] = []
        count = iter(range(20))
        shared = SharedNext(lambda: succeed(next(count)))

        def again(answer: int) -> None:
            answers.append(answer)
            if len(answers) < 20:
                shared.get().addCallback(again)

        shared.get().addCallback(again)
        self.assertEqual(answers, list(range(20)))

    def test_asking_within_the_run(self) -> None:
        """A caller that asks while the run is being begun is promised the next run."""
        inner: list[Deferred[int]] = []
        count = iter(range(2))

        def run() -> Deferred[int]:
            if not inner:
                inner.append(shared.get())
            return succeed(next(count))

        shared = SharedNext(run)
        self.assertEqual(self.successResultOf(shared.get()), 0)
        self.assertEqual(self.successResultOf(inner[0]), 1)

    def test_cancelled_caller_loses_only_its_own(self) -> None:
        """Cancelling one caller leaves the run and the other callers as they were."""
        self.shared.get().addErrback(lambda failure: failure.trap(CancelledError))
        gone, stays = self.shared.get(), self.shared.get()
        gone.cancel()
        self.failureResultOf(gone, CancelledError)
        self.runs[0].callback("one")
        self.runs[1].callback("two")
        self.assertEqual(self.successResultOf(stays), "two")

    def test_round_without_callers_does_not_begin(self) -> None:
        """When all who waited for the next run have gone, it does not begin."""
        self.shared.get()
        gone = [self.shared.get(), self.shared.get()]
        for caller in gone:
            caller.cancel()
            self.failureResultOf(caller, CancelledError)
        self.runs[0].callback("one")
        self.assertEqual(len(self.runs), 1)

    def test_running_round_without_callers_goes_on(self) -> None:
        """A run whose callers have all gone goes on; even its failure disturbs nobody."""
        gone = self.shared.get()
        gone.cancel()
        self.failureResultOf(gone, CancelledError)
        late = self.shared.get()
        self.assertEqual(len(self.runs), 1)
        self.runs[0].errback(BrokenRunError())
        self.runs[1].callback("two")
        self.assertEqual(self.successResultOf(late), "two")

    def test_caller_cancelled_by_another_ones_callback(self) -> None:
        """A caller cancelled while the answers are given out gets none, and the rest get theirs."""
        self.shared.get()
        first, second, third = (self.shared.get() for _ in range(3))
        first.addCallback(lambda _: second.cancel())
        self.runs[0].callback("one")
        self.runs[1].callback("two")
        self.successResultOf(first)
        self.failureResultOf(second, CancelledError)
        self.assertEqual(self.successResultOf(third), "two")


class PatienceTests(SynchronousTestCase):
    """Callers wait for so long and no longer."""

    def setUp(self) -> None:
        """Share runs that never end, for three seconds."""
        self.clock = Clock()
        self.shared = SharedNext(Deferred, Patience(self.clock, 3.0, lambda: "instead"))

    def test_of_those_whose_run_is_under_way(self) -> None:
        """They get the other outcome when the time is over."""
        caller = self.shared.get()
        self.clock.advance(2.9)
        self.assertNoResult(caller)
        self.clock.advance(0.1)
        self.assertEqual(self.successResultOf(caller), "instead")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_of_those_who_wait_for_the_next_run(self) -> None:
        """They wait as long as the others, the run before theirs included."""
        self.shared.get()
        self.clock.advance(1)
        waiting = [self.shared.get(), self.shared.get()]
        self.clock.advance(2.9)
        for caller in waiting:
            self.assertNoResult(caller)
        self.clock.advance(0.1)
        self.assertEqual([self.successResultOf(caller) for caller in waiting], ["instead"] * 2)

    def test_is_not_shortened_by_callers_who_have_left(self) -> None:
        """A caller whose companions have all left has the full time."""
        self.shared.get()
        gone = self.shared.get()
        self.clock.advance(2)
        gone.cancel()
        self.failureResultOf(gone, CancelledError)
        late = self.shared.get()
        self.clock.advance(2.9)
        self.assertNoResult(late)
        self.clock.advance(0.1)
        self.assertEqual(self.successResultOf(late), "instead")
