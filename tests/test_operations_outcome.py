"""Tests of how operations of twisted_patroni.operations end, over an engine in memory."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.doubles import NOW, FakeEngine, make_cluster, make_node
from tests.test_operations import LATER, LATER_AS_TIME, SYNC
from twisted_patroni.engine.interface import (
    Candidate,
    ClusterView,
    DcsUnavailable,
    FailoverView,
    LaneFull,
    Look,
    ModeView,
)
from twisted_patroni.events import EventStream
from twisted_patroni.looks import Looks
from twisted_patroni.operations import Action, Desk, Kind, Origin, Outcome

KEY = FailoverView("alpha", "beta", None)
WAITING = make_cluster(failover=KEY)
PAUSED = make_cluster(mode=ModeView(paused=True))


class OperationsCase(SynchronousTestCase):
    """Operations over an engine in memory."""

    def setUp(self) -> None:
        """Put the parts together."""
        self.clock = Clock()
        self.engine = FakeEngine()
        self.looks = Looks(self.clock, self.engine.look)
        self.engine.on_look = self.looks.publish
        self.desk = Desk(
            self.engine,
            self.looks,
            self.clock,
            lambda: NOW,
            EventStream(self.clock),
            lambda: succeed(None),
        )

    def ask(self, kind: Kind, body: dict[str, Any]) -> Deferred[Outcome]:
        """Ask for an operation and wait for the answer, as a client does."""
        operation = self.desk.begin(kind, body, Origin())
        return Deferred.fromCoroutine(self.desk.answer(operation))

    def change(self, action: Action, **body: Any) -> Deferred[Outcome]:
        """Ask for a change of leader."""
        return self.ask(action, body)

    def restart(self, **body: Any) -> Deferred[Outcome]:
        """Ask for a restart."""
        return self.ask("restart", body)

    def assertOutcome(self, result: Deferred[Outcome], code: int, sentence: str) -> None:
        """Fail unless an operation has ended so."""
        self.assertEqual(self.successResultOf(result), Outcome(code, sentence))


class RestartTests(OperationsCase):
    """Restarts."""

    def test_now(self) -> None:
        """The engine's verdict and sentence are the answer's."""
        for done, sentence, code in (
            (True, "restarted successfully", 200),
            (False, "restart conditions are not satisfied", 503),
            (False, "reinitialize already in progress", 503),
            (False, "postgres is still starting", 503),
        ):
            self.engine.outcomes["restart"] = done, sentence
            self.assertOutcome(self.restart(timeout="1min"), code, sentence)
        self.assertEqual(self.engine.called("restart"), [[{"timeout": 60}]] * 4)

    def test_in_a_pause(self) -> None:
        """A pause forbids a schedule, not a restart."""
        self.engine.dcs = PAUSED
        self.assertOutcome(self.restart(role="primary"), 200, "restarted successfully")
        refused = "Can't schedule restart in the paused state"
        self.assertOutcome(self.restart(role="x", schedule="soon"), 500, refused)

    def test_scheduled(self) -> None:
        """A schedule is passed on, parsed; only one can be."""
        self.assertOutcome(self.restart(schedule=LATER), 202, "Restart scheduled")
        self.engine.outcomes["schedule_restart"] = False
        already = "Another restart is already scheduled"
        self.assertOutcome(self.restart(schedule=LATER), 409, already)
        self.assertEqual(
            self.engine.called("schedule_restart"), [[{"schedule": LATER_AS_TIME}]] * 2
        )
        self.assertEqual(self.engine.called("restart"), [])

    def test_invalid(self) -> None:
        """What is not valid does not reach the engine."""
        sentence = "Unknown filter for the scheduled restart: x"
        self.assertOutcome(self.restart(x=1), 400, sentence)
        self.assertEqual(self.engine.calls, [])

    def test_exception(self) -> None:
        """A restart that raises is a failed restart, and logged."""
        self.engine.outcomes["restart"] = RuntimeError("oops")
        self.assertOutcome(self.restart(), 400, "restart failed")
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_known_errors_pass(self) -> None:
        """A full lane and an absent DCS are told as such."""
        self.engine.outcomes["restart"] = LaneFull("long", 10)
        self.failureResultOf(self.restart(), LaneFull)
        self.engine.outcomes["look"] = DcsUnavailable("away")
        self.failureResultOf(self.restart(schedule=LATER), DcsUnavailable)

    def test_client_leaves(self) -> None:
        """Waiting for a restart can be cancelled."""
        self.engine.outcomes["restart"] = Deferred()
        waiting = self.restart()
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)


class RefusedChangeTests(OperationsCase):
    """Changes of leader that do not begin."""

    def test_invalid(self) -> None:
        """What is not valid does not reach the DCS, and nobody is asked."""
        sentence = "Switchover could be performed only from a specific leader"
        self.assertOutcome(self.change("switchover"), 400, sentence)
        self.engine.dcs = PAUSED
        sentence = "Switchover is possible only to a specific candidate in a paused state"
        self.assertOutcome(self.change("switchover", leader="alpha"), 400, sentence)
        self.assertEqual(self.engine.called("probe") + self.engine.called("write_failover"), [])

    def test_not_possible(self) -> None:
        """What cannot be is answered 412, with the name of the action in it."""
        no_sync = make_cluster(mode=SYNC)
        rows: list[tuple[Action, ClusterView, dict[str, Any], str]] = [
            ("switchover", make_cluster(), {"leader": "beta"}, "leader name does not match"),
            (
                "switchover",
                no_sync,
                {"leader": "alpha"},
                "switchover is not possible: can not find sync_standby",
            ),
            ("failover", make_cluster(), {"candidate": "x"}, "candidate does not exists"),
            (
                "failover",
                no_sync,
                {"leader": "alpha", "candidate": "beta"},
                "candidate name does not match with sync_standby",
            ),
        ]
        for action, cluster, body, sentence in rows:
            self.engine.dcs = cluster
            self.assertOutcome(self.change(action, **body), 412, sentence)
        self.assertEqual(self.engine.called("probe") + self.engine.called("write_failover"), [])

    def test_no_good_candidate(self) -> None:
        """If none of those asked could take over, nothing is written."""
        self.engine.outcomes["probe"] = [Candidate("beta", "not allowed to promote")]
        for action, body in (
            ("switchover", {"leader": "alpha"}),
            ("failover", {"candidate": "beta"}),
        ):
            outcome = self.successResultOf(self.change(action, **body))  # type: ignore[arg-type]
            self.assertEqual(outcome.code, 412)
            self.assertTrue(
                outcome.sentence.startswith(
                    f"{action} is not possible: no good candidates have been found"
                ),
                outcome.sentence,
            )
        self.assertEqual(self.engine.called("probe"), [[("beta", "gamma")], [("beta",)]])
        self.assertEqual(self.engine.called("write_failover"), [])

    def test_one_good_candidate_is_enough(self) -> None:
        """One of those asked must be able to take over, not all."""
        self.engine.outcomes["probe"] = [Candidate("beta", "lags"), Candidate("gamma", None)]
        self.assertNoResult(self.change("switchover", leader="alpha"))
        self.assertEqual(self.engine.called("write_failover"), [["alpha", None, None]])

    def test_not_written(self) -> None:
        """If the key cannot be written, that is the answer."""
        self.engine.outcomes["write_failover"] = False
        sentence = "failed to write failover key into DCS"
        self.assertOutcome(self.change("switchover", leader="alpha"), 503, sentence)
        self.assertOutcome(
            self.change("switchover", leader="alpha", scheduled_at=LATER), 503, sentence
        )

    def test_errors_pass(self) -> None:
        """A full lane and an absent DCS are told as such."""
        for step, error in (
            ("look", DcsUnavailable("away")),
            ("probe", LaneFull("probe", 2)),
            ("write_failover", DcsUnavailable("away")),
        ):
            self.engine.outcomes = {step: error}
            self.failureResultOf(self.change("switchover", leader="alpha"), type(error))

    def test_scheduled(self) -> None:
        """A schedule is written without asking whether it is possible."""
        result = self.change("switchover", leader="x", candidate="y", scheduled_at=LATER)
        self.assertOutcome(result, 202, "Switchover scheduled")
        self.assertEqual(self.engine.called("write_failover"), [["x", "y", LATER_AS_TIME]])
        self.assertEqual(self.engine.called("probe"), [])


class EndingTests(OperationsCase):
    """Changes of leader that begin, and how they end."""

    def begin(self, action: Action = "switchover", **body: Any) -> Deferred[Outcome]:
        """Ask for a change; the DCS has the key from then on."""
        waiting = self.change(action, **{"leader": "alpha", "candidate": "beta"} | body)
        self.assertNoResult(waiting)
        self.engine.dcs = WAITING
        return waiting

    def test_poll(self) -> None:
        """Without any look of the engine's, the looks's own show how it ended."""
        waiting = self.begin()
        self.clock.pump([1.0] * 3)
        self.assertNoResult(waiting)
        self.engine.dcs = make_cluster(leader="beta")
        self.clock.advance(1.0)
        self.assertOutcome(waiting, 200, 'Successfully switched over to "beta"')
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_look_of_the_engine(self) -> None:
        """A look of the engine's ends the waiting at once."""
        waiting = self.begin()
        self.engine.dcs = make_cluster(leader="gamma")
        self.engine.look()
        self.assertOutcome(waiting, 200, 'Switched over to "gamma" instead of "beta"')

    def test_failed(self) -> None:
        """The key is gone and the leader the same: it failed."""
        waiting = self.begin()
        self.clock.advance(1.0)
        self.engine.dcs = make_cluster()
        self.clock.advance(1.0)
        self.assertOutcome(waiting, 503, "Switchover failed")

    def test_failover_with_leader_is_a_switchover(self) -> None:
        """The sentences of a failover that names the leader are those of a switchover."""
        waiting = self.begin("failover")
        self.engine.dcs = make_cluster(leader="beta")
        self.clock.advance(1.0)
        self.assertOutcome(waiting, 200, 'Successfully switched over to "beta"')

    def test_failover(self) -> None:
        """A failover has sentences of its own."""
        waiting = self.begin("failover", leader=None)
        self.engine.dcs = make_cluster(leader="beta")
        self.clock.advance(1.0)
        self.assertOutcome(waiting, 200, 'Successfully failed over to "beta"')

    def test_failover_without_leader(self) -> None:
        """Where nobody led, whoever leads afterwards is the new leader."""
        self.engine.dcs = make_cluster(leader=None)
        waiting = self.change("failover", candidate="beta")
        self.engine.dcs = make_cluster(leader="beta")
        self.clock.advance(1.0)
        self.assertOutcome(waiting, 200, 'Successfully failed over to "beta"')

    def test_deadline(self) -> None:
        """After twice ten seconds, or twice the cycle, nobody knows."""
        for action, loop_wait, seconds in (("switchover", 5, 20), ("failover", 30, 60)):
            self.engine.view = make_node(loop_wait=loop_wait)
            self.engine.dcs = make_cluster()
            waiting = self.change(action, candidate="beta", leader="alpha")  # type: ignore[arg-type]
            self.engine.dcs = WAITING
            self.clock.pump([1.0] * (seconds - 1))
            self.assertNoResult(waiting)
            self.clock.advance(1.0)
            outcome = self.successResultOf(waiting)
            self.assertEqual(outcome.code, 503)
            self.assertTrue(outcome.sentence.startswith("Switchover status unknown"))
            self.assertIn(f"{seconds} seconds", outcome.sentence)
            before = self.engine.begun
            self.clock.pump([1.0] * 30)
            self.assertEqual(self.engine.begun, before)

    def test_deadline_of_a_failover(self) -> None:
        """A failover of unknown end says so in its own name."""
        waiting = self.begin("failover", leader=None)
        self.clock.pump([1.0] * 20)
        outcome = self.successResultOf(waiting)
        self.assertEqual(outcome.code, 503)
        self.assertTrue(outcome.sentence.startswith("Failover status unknown"))

    def test_dcs_outage_while_waiting(self) -> None:
        """Looks that fail are ignored: the next that succeeds counts."""
        waiting = self.begin()
        self.engine.outcomes["look"] = DcsUnavailable("away")
        self.clock.pump([1.0] * 5)
        self.assertNoResult(waiting)
        del self.engine.outcomes["look"]
        self.engine.dcs = make_cluster(leader="beta")
        self.clock.advance(1.0)
        self.assertOutcome(waiting, 200, 'Successfully switched over to "beta"')

    def test_hundred_who_wait(self) -> None:
        """A hundred requests are answered by the same looks, one a second."""
        waiting = [self.change("switchover", leader="alpha") for _ in range(100)]
        self.engine.dcs = WAITING
        before = self.engine.begun
        self.clock.pump([1.0] * 4)
        self.assertEqual(self.engine.begun - before, 4)
        self.engine.dcs = make_cluster(leader="beta")
        self.clock.advance(1.0)
        for each in waiting:
            self.assertOutcome(each, 200, 'Successfully switched over to "beta"')

    def test_client_leaves(self) -> None:
        """When nobody waits any more nothing is polled, and the switchover goes on."""
        waiting = self.begin()
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        before = self.engine.begun
        self.clock.pump([1.0] * 30)
        self.assertEqual(self.engine.begun, before)
        self.assertEqual(self.engine.called("delete_failover"), [])

    def test_written_while_a_look_was_under_way(self) -> None:
        """A look begun before the key was written does not count, whenever it ends."""
        write: Deferred[bool] = Deferred()
        self.engine.outcomes["write_failover"] = write
        waiting = self.change("switchover", leader="alpha", candidate="beta")
        self.engine.begun += 1
        early = Look(self.engine.begun, make_cluster(leader="gamma"))
        write.callback(True)
        self.looks.publish(early)
        self.assertNoResult(waiting)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
