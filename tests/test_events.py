"""Tests of twisted_patroni.events with looks that the test takes."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.doubles import make_cluster
from twisted_patroni.engine.interface import DcsUnavailable, Look
from twisted_patroni.events import POLL_INTERVAL, Hub


def leader_of(look: Look) -> str | None:
    """Judge: has the leader changed? The verdict is the new one."""
    return None if look.cluster.leader == "alpha" else look.cluster.leader


class HubTests(SynchronousTestCase):
    """The hub, with a DCS of one attribute."""

    def setUp(self) -> None:
        """Make a hub whose looks count, and show :attr:`leader` when they end."""
        self.clock = Clock()
        self.looks = 0
        self.leader = "alpha"
        self.pending: Deferred[Look] | None = None
        self.failing = False
        self.hub = Hub(self.clock, self.look)

    def look(self) -> Deferred[Look]:
        """Take a look."""
        self.looks += 1
        if self.pending is not None:
            return self.pending
        if self.failing:
            return fail(DcsUnavailable("away"))
        look = Look(self.looks, make_cluster(leader=self.leader))
        self.hub.publish(look)
        return succeed(look)

    def publish(self, number: int, leader: str) -> None:
        """Publish a look of the engine's."""
        self.hub.publish(Look(number, make_cluster(leader=leader)))

    def test_nobody_waits(self) -> None:
        """While nobody waits, the hub takes no looks of its own."""
        self.clock.pump([1.0] * 10)
        self.publish(1, "alpha")
        self.assertEqual((self.looks, self.clock.getDelayedCalls()), (0, []))

    def test_looks_of_the_engine_are_judged(self) -> None:
        """A waiter gets the first verdict, from a look somebody else took."""
        verdict = self.hub.wait(leader_of)
        self.publish(1, "alpha")
        self.assertNoResult(verdict)
        self.publish(2, "beta")
        self.assertEqual(self.successResultOf(verdict), "beta")
        self.publish(3, "gamma")
        self.assertEqual((self.looks, self.clock.getDelayedCalls()), (0, []))

    def test_fallback_poll(self) -> None:
        """While somebody waits, the hub looks once a second; not before, not after."""
        verdict = self.hub.wait(leader_of)
        self.assertEqual(self.looks, 0)
        self.clock.advance(POLL_INTERVAL - 0.1)
        self.assertEqual(self.looks, 0)
        self.clock.advance(0.1)
        self.assertEqual(self.looks, 1)
        self.leader = "beta"
        self.assertNoResult(verdict)
        self.clock.advance(POLL_INTERVAL)
        self.assertEqual(self.successResultOf(verdict), "beta")
        self.clock.pump([1.0] * 5)
        self.assertEqual((self.looks, self.clock.getDelayedCalls()), (2, []))

    def test_hundred_waiters_share_one_poll(self) -> None:
        """The number of looks does not depend on how many wait."""
        verdicts = [self.hub.wait(leader_of) for _ in range(100)]
        self.clock.pump([1.0] * 3)
        self.assertEqual(self.looks, 3)
        self.leader = "beta"
        self.clock.advance(1.0)
        self.assertEqual({self.successResultOf(each) for each in verdicts}, {"beta"})
        self.assertEqual((self.looks, self.clock.getDelayedCalls()), (4, []))

    def test_cancelled_waiter_is_forgotten(self) -> None:
        """Cancelling ends one's waiting; the poll ends with the last one."""
        gone, stays = self.hub.wait(leader_of), self.hub.wait(leader_of)
        gone.cancel()
        self.failureResultOf(gone, CancelledError)
        self.clock.advance(1.0)
        self.assertEqual(self.looks, 1)
        stays.cancel()
        self.failureResultOf(stays, CancelledError)
        self.clock.pump([1.0] * 3)
        self.assertEqual((self.looks, self.clock.getDelayedCalls()), (1, []))
        self.publish(9, "beta")

    def test_waiting_again_polls_again(self) -> None:
        """The poll can start a second time."""
        self.hub.wait(leader_of).addErrback(lambda failure: failure.trap(CancelledError)).cancel()
        verdict = self.hub.wait(leader_of)
        self.leader = "beta"
        self.clock.advance(1.0)
        self.assertEqual(self.successResultOf(verdict), "beta")

    def test_failed_look_does_not_end_the_poll(self) -> None:
        """A DCS that is away for a while delays the verdict and no more."""
        verdict = self.hub.wait(leader_of)
        self.failing = True
        self.clock.pump([1.0] * 3)
        self.assertNoResult(verdict)
        self.failing, self.leader = False, "beta"
        self.clock.advance(1.0)
        self.assertEqual(self.successResultOf(verdict), "beta")

    def test_slow_look(self) -> None:
        """While a look takes its time, no second one is begun."""
        verdict = self.hub.wait(leader_of)
        self.pending = pending = Deferred[Look]()
        self.clock.pump([1.0] * 5)
        self.assertEqual(self.looks, 1)
        self.pending = None
        pending.callback(Look(1, make_cluster()))
        self.leader = "beta"
        self.clock.pump([0.5] * 3)
        self.assertEqual(self.successResultOf(verdict), "beta")
        self.assertEqual(self.looks, 2)

    def test_verdict_cancels_another_waiter(self) -> None:
        """A waiter that another one's verdict cancels gets no verdict of its own."""
        first = self.hub.wait(leader_of)
        second = self.hub.wait(leader_of)
        first.addCallback(lambda _: second.cancel())
        self.publish(1, "beta")
        self.successResultOf(first)
        self.failureResultOf(second, CancelledError)

    def test_listeners(self) -> None:
        """Listeners are called with each look from then on."""
        seen: list[int] = []
        self.publish(1, "alpha")
        self.hub.listen(lambda look: seen.append(look.number))
        self.publish(2, "alpha")
        self.publish(3, "beta")
        self.assertEqual(seen, [2, 3])

    def test_latest(self) -> None:
        """The latest look is the one begun last, in whatever order they end."""
        self.assertIsNone(self.hub.latest)
        self.publish(2, "beta")
        self.publish(1, "alpha")
        assert self.hub.latest is not None
        self.assertEqual((self.hub.latest.number, self.hub.latest.cluster.leader), (2, "beta"))

    def test_stop(self) -> None:
        """When the hub stops, all who wait are cancelled and nothing ticks."""
        waiting = [self.hub.wait(leader_of) for _ in range(3)]
        self.hub.stop()
        for each in waiting:
            self.failureResultOf(each, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])
