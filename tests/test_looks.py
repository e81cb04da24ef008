"""Tests of twisted_patroni.looks with looks that the test takes."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.doubles import make_cluster
from twisted_patroni.engine.interface import DcsUnavailable, Look
from twisted_patroni.looks import POLL_INTERVAL, RACE_INTERVAL, RACE_TIME, Looks


def leader_of(look: Look) -> str | None:
    """Judge: has the leader changed? The verdict is the new one."""
    return None if look.cluster.leader == "alpha" else look.cluster.leader


class LooksTests(SynchronousTestCase):
    """Looks at a DCS of one attribute."""

    def setUp(self) -> None:
        """Count the looks, which show :attr:`leader` when they end."""
        self.clock = Clock()
        self.count = 0
        self.leader: str | None = "alpha"
        self.pending: Deferred[Look] | None = None
        self.failing = False
        self.looks = Looks(self.clock, self.look)

    def look(self) -> Deferred[Look]:
        """Take a look."""
        self.count += 1
        if self.pending is not None:
            return self.pending
        if self.failing:
            return fail(DcsUnavailable("away"))
        look = Look(self.count, make_cluster(leader=self.leader))
        self.looks.publish(look)
        return succeed(look)

    def publish(self, number: int, leader: str) -> None:
        """Publish a look of the engine's."""
        self.looks.publish(Look(number, make_cluster(leader=leader)))

    def test_nobody_waits(self) -> None:
        """While nobody waits, there are no looks but the engine's."""
        self.clock.pump([1.0] * 10)
        self.publish(1, "alpha")
        self.assertEqual((self.count, self.clock.getDelayedCalls()), (0, []))

    def test_looks_of_the_engine_are_judged(self) -> None:
        """A waiter gets the first verdict, from a look somebody else took."""
        verdict = self.looks.wait(leader_of)
        self.publish(1, "alpha")
        self.assertNoResult(verdict)
        self.publish(2, "beta")
        self.assertEqual(self.successResultOf(verdict), "beta")
        self.publish(3, "gamma")
        self.assertEqual((self.count, self.clock.getDelayedCalls()), (0, []))

    def test_fallback_poll(self) -> None:
        """While somebody waits, there is a look once a second; not before, not after."""
        verdict = self.looks.wait(leader_of)
        self.assertEqual(self.count, 0)
        self.clock.advance(POLL_INTERVAL - 0.1)
        self.assertEqual(self.count, 0)
        self.clock.advance(0.1)
        self.assertEqual(self.count, 1)
        self.leader = "beta"
        self.assertNoResult(verdict)
        self.clock.advance(POLL_INTERVAL)
        self.assertEqual(self.successResultOf(verdict), "beta")
        self.clock.pump([1.0] * 5)
        self.assertEqual((self.count, self.clock.getDelayedCalls()), (2, []))

    def test_hundred_waiters_share_one_poll(self) -> None:
        """The number of looks does not depend on how many wait."""
        verdicts = [self.looks.wait(leader_of) for _ in range(100)]
        self.clock.pump([1.0] * 3)
        self.assertEqual(self.count, 3)
        self.leader = "beta"
        self.clock.advance(1.0)
        self.assertEqual({self.successResultOf(each) for each in verdicts}, {"beta"})
        self.assertEqual((self.count, self.clock.getDelayedCalls()), (4, []))

    def test_cancelled_waiter_is_forgotten(self) -> None:
        """Cancelling ends one's waiting; the poll ends with the last one."""
        gone, stays = self.looks.wait(leader_of), self.looks.wait(leader_of)
        gone.cancel()
        self.failureResultOf(gone, CancelledError)
        self.clock.advance(1.0)
        self.assertEqual(self.count, 1)
        stays.cancel()
        self.failureResultOf(stays, CancelledError)
        self.clock.pump([1.0] * 3)
        self.assertEqual((self.count, self.clock.getDelayedCalls()), (1, []))
        self.publish(9, "beta")

    def test_waiting_again_polls_again(self) -> None:
        """The poll can start a second time."""
        self.looks.wait(leader_of).addErrback(lambda failure: failure.trap(CancelledError)).cancel()
        verdict = self.looks.wait(leader_of)
        self.leader = "beta"
        self.clock.advance(1.0)
        self.assertEqual(self.successResultOf(verdict), "beta")

    def test_failed_look_does_not_end_the_poll(self) -> None:
        """A DCS that is away for a while delays the verdict and no more."""
        verdict = self.looks.wait(leader_of)
        self.failing = True
        self.clock.pump([1.0] * 3)
        self.assertNoResult(verdict)
        self.failing, self.leader = False, "beta"
        self.clock.advance(1.0)
        self.assertEqual(self.successResultOf(verdict), "beta")

    def test_slow_look(self) -> None:
        """While a look takes its time, no second one is begun."""
        verdict = self.looks.wait(leader_of)
        self.pending = pending = Deferred[Look]()
        self.clock.pump([1.0] * 5)
        self.assertEqual(self.count, 1)
        self.pending = None
        pending.callback(Look(1, make_cluster()))
        self.leader = "beta"
        self.clock.pump([0.5] * 3)
        self.assertEqual(self.successResultOf(verdict), "beta")
        self.assertEqual(self.count, 2)

    def test_verdict_cancels_another_waiter(self) -> None:
        """A waiter that another one's verdict cancels gets no verdict of its own."""
        first = self.looks.wait(leader_of)
        second = self.looks.wait(leader_of)
        first.addCallback(lambda _: second.cancel())
        self.publish(1, "beta")
        self.successResultOf(first)
        self.failureResultOf(second, CancelledError)

    def test_listeners(self) -> None:
        """Listeners are called with each look from then on."""
        seen: list[int] = []
        self.publish(1, "alpha")
        self.looks.listen(lambda look: seen.append(look.number))
        self.publish(2, "alpha")
        self.publish(3, "beta")
        self.assertEqual(seen, [2, 3])

    def test_broken_listener(self) -> None:
        """A listener that fails is logged, and keeps nothing from others or from who waits."""
        seen: list[int] = []
        self.looks.listen(lambda look: 1 / 0)  # type: ignore[arg-type]
        self.looks.listen(lambda look: seen.append(look.number))
        verdict = self.looks.wait(leader_of)
        self.publish(1, "beta")
        self.assertEqual((seen, self.successResultOf(verdict)), ([1], "beta"))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_latest(self) -> None:
        """The latest look is the one begun last, in whatever order they end."""
        self.assertIsNone(self.looks.latest)
        self.publish(2, "beta")
        self.publish(1, "alpha")
        assert self.looks.latest is not None
        self.assertEqual((self.looks.latest.number, self.looks.latest.cluster.leader), (2, "beta"))

    def test_stop(self) -> None:
        """At the end, all who wait are cancelled and nothing ticks."""
        waiting = [self.looks.wait(leader_of) for _ in range(3)]
        self.looks.stop()
        for each in waiting:
            self.failureResultOf(each, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_waiting_after_the_end(self) -> None:
        """Who begins to wait after the end causes no looks."""
        self.looks.stop()
        waiting = self.looks.wait(leader_of)
        self.clock.pump([1.0] * 3)
        self.assertEqual((self.count, self.clock.getDelayedCalls()), (0, []))
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)

    def test_race(self) -> None:
        """While nobody leads there is a look ten times a second, though not for ever."""
        verdict = self.looks.wait(leader_of)
        self.leader = None
        self.clock.advance(POLL_INTERVAL)
        self.clock.pump([RACE_INTERVAL] * 5)
        self.assertEqual(self.count, 6)
        self.leader = "beta"
        self.clock.advance(RACE_INTERVAL)
        self.assertEqual(self.successResultOf(verdict), "beta")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_race_without_winner(self) -> None:
        """A cluster that stays without a leader is looked at once a second again."""
        verdict = self.looks.wait(leader_of)
        self.leader = None
        self.clock.pump([RACE_INTERVAL] * round((POLL_INTERVAL + RACE_TIME) / RACE_INTERVAL))
        before = self.count
        self.clock.pump([POLL_INTERVAL] * 3)
        self.assertEqual(self.count - before, 3)
        self.looks.stop()
        self.failureResultOf(verdict, CancelledError)

    def test_a_look_of_the_engine_starts_the_race(self) -> None:
        """Nobody waits for the rest of a second once the engine has seen that nobody leads."""
        verdict = self.looks.wait(leader_of)
        self.clock.advance(0.1)
        self.looks.publish(Look(100, make_cluster(leader=None)))
        self.leader, self.count = "beta", 100
        self.clock.advance(RACE_INTERVAL)
        self.assertEqual(self.successResultOf(verdict), "beta")

    def test_patience(self) -> None:
        """Who may wait for hours causes no looks."""
        verdict = self.looks.wait(leader_of, poll=False)
        self.clock.pump([POLL_INTERVAL] * 5)
        self.assertEqual((self.count, self.clock.getDelayedCalls()), (0, []))
        self.looks.publish(Look(1, make_cluster(leader="beta")))
        self.assertEqual(self.successResultOf(verdict), "beta")

    def test_look_now(self) -> None:
        """What has happened is looked at now; failing to is no error."""
        self.looks.look_now()
        self.failing = True
        self.looks.look_now()
        self.assertEqual(self.count, 2)
        self.looks.stop()
        self.looks.look_now()
        self.assertEqual(self.count, 2)
