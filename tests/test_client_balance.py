"""Requests go to members that fit, and rather to those that are fast and free."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_patroni.client.balance import SHUNNED, Candidate, choose, fitting
from twisted_patroni.client.settings import ClientSettings
from twisted_patroni.client.values import Member

if TYPE_CHECKING:
    from twisted_patroni.client.pool import Pool


@define(eq=False)
class Load:
    """What can be seen of a pool."""

    in_use: int = 0
    idle: int = 0
    waiting: int = 0
    settings: ClientSettings = field(factory=lambda: ClientSettings(connections=8))


def candidate(name: str, latency: float | None = 0.01, **load: Any) -> Candidate:
    """Return a member that may be asked."""
    pool = cast("Pool", Load(**load))
    return Candidate(Member(name, "replica", "streaming"), pool, latency=latency)


def shares(*candidates: Candidate, now: float = 100.0) -> dict[str, float]:
    """Return how often each is chosen."""
    numbers = [(number + 0.5) / 2000 for number in range(2000)]
    found = Counter(choose(candidates, partial(float, n), now).member.name for n in numbers)
    return {each.member.name: found[each.member.name] / 2000 for each in candidates}


class ChooseTests(SynchronousTestCase):
    """The choice."""

    def assertShares(self, found: dict[str, float], **expected: float) -> None:
        """Fail unless each is chosen as often as expected."""
        for name, share in expected.items():
            self.assertAlmostEqual(found[name], share, places=2)

    def test_equal(self) -> None:
        """Those that are alike are chosen alike."""
        self.assertShares(shares(candidate("a"), candidate("b")), a=0.5, b=0.5)

    def test_latency(self) -> None:
        """Who answers in half the time is asked twice as often."""
        found = shares(candidate("a", 0.01), candidate("b", 0.02))
        self.assertShares(found, a=2 / 3, b=1 / 3)

    def test_tiny_latencies(self) -> None:
        """Within a millisecond all are equal."""
        self.assertShares(shares(candidate("a", 0.0), candidate("b", 0.001)), a=0.5, b=0.5)

    def test_slow_is_not_forgotten(self) -> None:
        """Who was very slow is asked now and then, to learn when it is fast again."""
        share = shares(candidate("a", 0.01), candidate("b", 60.0))["b"]
        self.assertGreater(share, 0)
        self.assertLess(share, 0.05)

    def test_new(self) -> None:
        """Who was never asked is taken for as fast as the fastest."""
        found = shares(candidate("a", 0.01), candidate("b", 0.04), candidate("c", None))
        self.assertShares(found, a=4 / 9, b=1 / 9, c=4 / 9)

    def test_busy(self) -> None:
        """Who has fewer free connections is asked less; open ones count twice."""
        self.assertShares(shares(candidate("a", in_use=6), candidate("b")), a=0.2, b=0.8)
        self.assertShares(shares(candidate("a", idle=8), candidate("b")), a=2 / 3, b=1 / 3)

    def test_full(self) -> None:
        """Nobody waits for a connection while somebody else has a free one."""
        found = shares(candidate("a", 0.001, in_use=8), candidate("b", 0.002, in_use=7))
        self.assertShares(found, a=0.0, b=1.0)

    def test_queues(self) -> None:
        """When all have to wait it is rather where the queue is short."""
        found = shares(candidate("a", in_use=8), candidate("b", in_use=8, waiting=9))
        self.assertShares(found, a=10 / 11, b=1 / 11)

    def test_failed(self) -> None:
        """Who has failed lately is asked only if everybody has, and after a while again."""
        a, b = candidate("a"), candidate("b")
        a.failed(99.0)
        self.assertShares(shares(a, b), a=0.0, b=1.0)
        b.failed(99.5)
        self.assertShares(shares(a, b), a=1.0, b=0.0)
        self.assertShares(shares(a, b, now=99.5 + SHUNNED), a=0.5, b=0.5)

    def test_recovered(self) -> None:
        """Who has answered since its failure is as good as the others."""
        a, b = candidate("a"), candidate("b")
        a.failed(99.0)
        a.answered(0.01)
        self.assertShares(shares(a, b), a=0.5, b=0.5)

    def test_latency_is_smoothed(self) -> None:
        """One slow answer does not make a slow member, many do."""
        a = candidate("a", None)
        a.answered(0.01)
        self.assertEqual(a.latency, 0.01)
        a.answered(0.11)
        self.assertAlmostEqual(a.latency or 0, 0.03)
        for _ in range(30):
            a.answered(0.11)
        self.assertAlmostEqual(a.latency or 0, 0.11, places=3)

    @settings(derandomize=True, database=None, deadline=None)
    @given(st.lists(st.tuples(st.floats(0, 99), st.integers(0, 9)), min_size=1), st.floats(0, 1))
    def test_any_number(self, loads: list[tuple[float, int]], number: float) -> None:
        """Whatever the loads and the number, somebody is chosen."""
        candidates = [candidate("x", latency, in_use=used) for latency, used in loads]
        self.assertIn(choose(candidates, lambda: number, 0.0), candidates)


LEADER = Member("a", "leader", "running")


def replica(name: str, **changes: Any) -> Member:
    """Return a replica."""
    return Member(**{"name": name, "role": "replica", "state": "streaming", "lag": 0, **changes})


class FittingTests(SynchronousTestCase):
    """Who fits."""

    def names(self, *members: Member, target: Any = "replica", lag: int | None = None) -> str:
        """Return who does."""
        return "".join(each.name for each in fitting(members, target, lag))

    def test_targets(self) -> None:
        """Leader, replicas, or all of them."""
        members = (LEADER, replica("b"), replica("c", role="sync_standby"))
        self.assertEqual(self.names(*members, target="leader"), "a")
        self.assertEqual(self.names(*members, target="replica"), "bc")
        self.assertEqual(self.names(*members, target="any"), "abc")

    def test_standby_cluster(self) -> None:
        """The leader of a standby cluster is a leader."""
        leader = Member("a", "standby_leader", "streaming")
        self.assertEqual(self.names(leader, replica("b"), target="leader"), "a")
        self.assertEqual(self.names(leader, replica("b")), "b")

    def test_no_such_target(self) -> None:
        """Other targets are an error that names those that exist."""
        error = self.assertRaises(ValueError, fitting, [], "master", None)
        self.assertEqual(str(error), "target: 'master' is none of leader, primary, replica, any")

    def test_states(self) -> None:
        """A replica whose PostgreSQL does not run fits no one."""
        states = ("streaming", "running", "in archive recovery", "stopped", "starting", None)
        members = [replica(str(n), state=state) for n, state in enumerate(states)]
        self.assertEqual(self.names(*members), "012")
        self.assertEqual(self.names(*members, target="any"), "012")

    def test_unknown_role(self) -> None:
        """Who is neither leader nor replica, as far as is known, fits no one."""
        members = (replica("b", role=None), replica("c", role="strange"))
        self.assertEqual(self.names(*members, target="any"), "")

    def test_tags(self) -> None:
        """Replicas that say that they are not for reading are not read from."""
        members = (replica("b", tags={"noloadbalance": True}), replica("c", tags={"nofailover": 1}))
        self.assertEqual(self.names(*members), "c")
        self.assertEqual(self.names(*members, target="any"), "c")

    def test_lag(self) -> None:
        """A bound leaves out those who are further behind, and of whom it is not known."""
        lags = {"b": 0, "c": 100, "d": 101, "e": None}
        members = (LEADER, *(replica(name, lag=lag) for name, lag in lags.items()))
        self.assertEqual(self.names(*members, lag=100), "bc")
        self.assertEqual(self.names(*members, lag=0), "b")
        self.assertEqual(self.names(*members), "bcde")
        self.assertEqual(self.names(*members, target="any", lag=100), "abc")
