"""Tests of how twisted_patroni.operations judges what the DCS shows."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.doubles import make_cluster
from twisted_patroni.engine.interface import ClusterView, FailoverView, Look
from twisted_patroni.operations import KEY_GRACE, Action, EndingJudge, FailoverRequest, Outcome

KEY = FailoverView("alpha", "beta", None)
WAITING = make_cluster(failover=KEY)


class JudgeTests(SynchronousTestCase):
    """Looks at the DCS, judged one by one; the key was written at 0 after look number 5."""

    def judge(
        self, action: Action, candidate: str | None, looks: list[tuple[float, int, ClusterView]]
    ) -> Outcome | None:
        """Return the verdict on the last of some looks; the others must have none."""
        clock = Clock()
        judge = EndingJudge(FailoverRequest(action, "alpha", candidate), "alpha", 5, 0.0, clock)
        verdict = None
        for when, number, cluster in looks:
            self.assertIsNone(verdict)
            clock.advance(when - clock.seconds())
            verdict = judge(Look(number, cluster))
        return verdict

    def test_table(self) -> None:
        """Only looks begun after the write count, and the absence of the key after a moment."""
        plain, led = make_cluster(), make_cluster(leader="beta")
        leaderless = make_cluster(leader=None)
        stale = make_cluster(leader="beta", unlocked=True)
        both = evolve(led, failover=KEY)
        rows: list[tuple[str, Action, str | None, list[Any], tuple[int, str] | None]] = [
            ("nothing yet", "switchover", None, [(0.1, 6, WAITING)], None),
            ("older look, new leader", "switchover", None, [(0.1, 5, led)], None),
            ("older look, no key", "switchover", None, [(9, 4, plain)], None),
            (
                "changed",
                "switchover",
                None,
                [(0.1, 6, WAITING), (3, 7, led)],
                (200, 'Successfully switched over to "beta"'),
            ),
            (
                "changed as asked",
                "switchover",
                "beta",
                [(3, 7, led)],
                (200, 'Successfully switched over to "beta"'),
            ),
            (
                "changed at once",
                "switchover",
                None,
                [(0.0, 6, led)],
                (200, 'Successfully switched over to "beta"'),
            ),
            (
                "changed, key still there",
                "switchover",
                "beta",
                [(3, 7, both)],
                (200, 'Successfully switched over to "beta"'),
            ),
            (
                "another",
                "switchover",
                "gamma",
                [(3, 7, led)],
                (200, 'Switched over to "beta" instead of "gamma"'),
            ),
            (
                "failover",
                "failover",
                "beta",
                [(3, 7, led)],
                (200, 'Successfully failed over to "beta"'),
            ),
            (
                "failover, another",
                "failover",
                "gamma",
                [(3, 7, led)],
                (200, 'Failed over to "beta" instead of "gamma"'),
            ),
            (
                "no leader for now",
                "switchover",
                None,
                [(1, 6, evolve(leaderless, failover=KEY))],
                None,
            ),
            ("lock expired", "switchover", None, [(1, 6, evolve(stale, failover=KEY))], None),
            ("no key at once", "switchover", None, [(KEY_GRACE - 0.1, 6, plain)], None),
            (
                "no key later",
                "switchover",
                None,
                [(KEY_GRACE - 0.1, 6, plain), (KEY_GRACE, 7, plain)],
                (503, "Switchover failed"),
            ),
            (
                "key seen, then gone",
                "switchover",
                None,
                [(0.1, 6, WAITING), (0.2, 7, plain)],
                (503, "Switchover failed"),
            ),
            (
                "key seen by an older look",
                "switchover",
                None,
                [(0.1, 5, WAITING), (0.2, 6, plain)],
                None,
            ),
            (
                "key gone, nobody leads",
                "failover",
                "beta",
                [(0.1, 6, WAITING), (4, 7, leaderless)],
                (503, "Failover failed"),
            ),
        ]
        for what, action, candidate, looks, expected in rows:
            verdict = self.judge(action, candidate, looks)
            self.assertEqual(verdict, expected and Outcome(*expected), what)
