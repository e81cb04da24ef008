"""Tests of operations that go on after their answer: schedules, restarts, copies, reloads."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred

from tests.doubles import NOW, STARTED, make_cluster, make_node, make_replica, primary_row
from tests.operationcase import KEY, SWITCH, SWITCHED, WAITING, OperationCase
from twisted_patroni.engine.interface import FailoverView, Stir

SOON = NOW + timedelta(seconds=30)
SCHEDULE = {"leader": "alpha", "candidate": "beta", "scheduled_at": SOON.isoformat()}
SCHEDULED = make_cluster(failover=FailoverView("alpha", "beta", SOON))


class ScheduledSwitchoverTests(OperationCase):
    """A switchover at its time."""

    def setUp(self) -> None:
        """Schedule one."""
        super().setUp()
        self.path = self.order("POST", "/switchover", SCHEDULE)

    def end(self) -> tuple[str, int, str]:
        """Return state, status and text of the end."""
        document = self.document(self.path)
        return (document["state"], document["result"]["status"], document["result"]["text"])

    def test_done(self) -> None:
        """It runs when its time has come, and succeeds when the leader has changed."""
        before = self.engine.begun
        self.api.wait(20)
        self.assertEqual(self.engine.begun, before)
        self.look(SCHEDULED)
        document = self.document(self.path)
        self.assertEqual((document["state"], document["scheduled_at"]),
                         ("accepted", SOON.isoformat()))  # fmt: skip
        self.api.wait(10)
        self.look(SCHEDULED)
        self.assertEqual(self.document(self.path)["state"], "running")
        self.look(make_cluster(leader=None, failover=SCHEDULED.failover))
        self.look(SWITCHED)
        self.assertEqual(self.end(), ("succeeded", 200, 'Successfully switched over to "beta"'))

    def test_somebody_else(self) -> None:
        """That another one has taken over is told."""
        self.api.wait(30)
        self.look(make_cluster(leader="gamma"))
        self.assertEqual(self.end()[2], 'Switched over to "gamma" instead of "beta"')

    def test_failed(self) -> None:
        """If the key is gone at its time and nothing has changed, it has failed."""
        self.look(SCHEDULED)
        self.api.wait(30)
        self.look(make_cluster())
        self.assertEqual(self.end(), ("failed", 503, "Switchover failed"))

    def test_failover_before(self) -> None:
        """A failover before that ends the schedule, if the new leader removes the key."""
        self.look(SCHEDULED)
        self.look(make_cluster(leader="gamma", failover=SCHEDULED.failover))
        self.assertEqual(self.document(self.path)["state"], "accepted")
        self.api.wait(30)
        self.look(make_cluster(leader="gamma", failover=SCHEDULED.failover))
        self.assertEqual(self.document(self.path)["state"], "running")
        self.look(make_cluster(leader="gamma"))
        self.assertEqual(self.end()[0], "failed")

    def test_failover_removes_it(self) -> None:
        """That is told, too."""
        self.look(SCHEDULED)
        self.look(make_cluster(leader="gamma"))
        self.assertEqual(self.end()[0], "failed")
        self.assertIn("before the scheduled time", self.end()[2])

    def test_cached_look(self) -> None:
        """That the key is not seen in the first moment means nothing."""
        self.look(make_cluster())
        self.assertEqual(self.document(self.path)["state"], "accepted")
        self.api.wait(1)
        self.look(make_cluster())
        self.assertEqual(self.end()[0], "cancelled")

    def test_never(self) -> None:
        """Ten minutes after its time nobody waits any more."""
        self.api.clock.advance(629)
        self.look(SCHEDULED)
        self.assertEqual(self.document(self.path)["state"], "running")
        self.api.clock.advance(1)
        self.look(SCHEDULED)
        self.assertEqual(self.end()[0], "unknown")

    def test_far_away(self) -> None:
        """A time that is far away needs no timer, which the reactor could not wait for."""
        body = {"leader": "alpha", "scheduled_at": "9999-12-31T23:59:59-12:00"}
        path = self.order("POST", "/switchover", body)
        at = datetime.fromisoformat(body["scheduled_at"])
        self.look(make_cluster(failover=FailoverView("alpha", None, at)))
        self.assertEqual(self.document(path)["state"], "accepted")
        times = [call.getTime() for call in self.api.clock.getDelayedCalls()]
        self.assertLess(max(times, default=0.0), self.api.clock.seconds() + 10**6)


class AdoptionTests(OperationCase):
    """Changes of leader that others have asked for."""

    def test_running(self) -> None:
        """A failover key that belongs to no operation becomes one."""
        self.look(WAITING)
        adopted = self.newest()
        self.assertEqual(
            (adopted["kind"], adopted["state"], adopted["request"]),
            ("switchover", "running", {**SWITCH, "scheduled_at": None}),
        )
        self.assertTrue(adopted["by"]["dcs"])
        before = self.engine.begun
        self.api.wait(25)
        self.assertEqual(self.engine.begun, before)
        self.look(SWITCHED)
        self.assertEqual(self.newest()["state"], "succeeded")
        self.assertEqual(len(self.api.api.operations.documents()), 1)

    def test_failover(self) -> None:
        """Without a leader in the key it is a failover."""
        self.look(make_cluster(leader=None, failover=FailoverView(None, "beta", None)))
        self.look(SWITCHED)
        newest = self.newest()
        self.assertEqual((newest["kind"], newest["result"]["text"]),
                         ("failover", 'Successfully failed over to "beta"'))  # fmt: skip

    def test_scheduled(self) -> None:
        """A scheduled one can be cancelled here, whoever has asked for it."""
        self.look(SCHEDULED)
        adopted = self.newest()
        self.assertEqual((adopted["state"], adopted["cancellable"]), ("accepted", True))
        self.assertEqual(adopted["scheduled_at"], SOON.isoformat())
        reply = self.request("DELETE", f"/operations/{adopted['id']}")
        self.assertEqual((reply.code, reply.json()["state"]), (200, "cancelled"))

    def test_without_zone(self) -> None:
        """A time without a zone, which the API accepts from nobody, does no harm."""
        key = FailoverView("alpha", "beta", SOON.replace(tzinfo=None))
        self.look(make_cluster(failover=key))
        self.assertEqual(self.newest()["state"], "accepted")
        self.look(make_cluster())
        self.assertEqual(self.newest()["state"], "cancelled")

    def test_own(self) -> None:
        """What this node was asked for is not adopted, before, at and after its end."""
        self.order("POST", "/switchover", SWITCH)
        self.look(WAITING)
        self.look(evolve(SWITCHED, failover=KEY))
        self.assertEqual(self.newest()["state"], "succeeded")
        self.look(evolve(SWITCHED, failover=KEY))
        self.look(SWITCHED)
        self.assertEqual(len(self.api.api.operations.documents()), 1)

    def test_stale_look(self) -> None:
        """A look from a cache does not bring back a key that is gone; a new one later counts."""
        self.look(WAITING)
        self.look(SWITCHED)
        self.look(WAITING)
        self.look(SWITCHED)
        self.assertEqual(len(self.api.api.operations.documents()), 1)
        self.api.wait(2)
        self.look(WAITING)
        self.assertEqual(len(self.api.api.operations.documents()), 2)

    def test_full_book(self) -> None:
        """Where there is no room it is left alone."""
        self.engine.outcomes["restart"] = Deferred()
        for _ in range(100):
            self.order("POST", "/restart")
        self.look(WAITING)
        self.assertEqual({each["kind"] for each in self.api.api.operations.documents()},
                         {"restart"})  # fmt: skip


class RestartTests(OperationCase):
    """Restarts that nobody waits for."""

    def state(self, text: str) -> None:
        """Let PostgreSQL be in another state."""
        self.engine.view = evolve(self.engine.view, state=text)
        self.api.api.watcher.stirred(Stir.NODE)
        self.api.clock.advance(0)

    def started(self) -> None:
        """Let the postmaster have been started just now."""
        self.link.row = primary_row(start_time=NOW + self.now())
        self.state("running")

    def now(self) -> timedelta:
        """Return how much time has passed."""
        return timedelta(seconds=self.api.clock.seconds() - NOW.timestamp())

    def test_steps(self) -> None:
        """PostgreSQL's states are told while it restarts."""
        self.look(make_cluster())
        held: Deferred[Any] = Deferred()
        self.engine.outcomes["restart"] = held
        path = self.order("POST", "/restart")
        for text in ("stopping", "starting", "running"):
            self.state(text)
        held.callback((True, "restarted successfully"))
        document = self.document(path)
        self.assertEqual(
            self.steps(document),
            [
                "PostgreSQL is to be restarted",
                "PostgreSQL's state is: stopping",
                "PostgreSQL's state is: starting",
                "PostgreSQL's state is: running",
            ],
        )
        self.assertEqual(document["result"], {"status": 200, "text": "restarted successfully"})

    def schedule(self) -> str:
        """Schedule a restart and return where it is."""
        self.engine.view = make_node(scheduled_restart={"schedule": SOON.isoformat()})
        path = self.order("POST", "/restart", {"schedule": SOON.isoformat()})
        self.cycle(3)
        self.assertEqual(self.document(path)["state"], "accepted")
        return path

    def test_scheduled(self) -> None:
        """It succeeds when PostgreSQL is up again with a new postmaster."""
        path = self.schedule()
        self.api.clock.advance(30)
        self.engine.view = make_node(state="starting")
        self.cycle()
        self.assertEqual(self.document(path)["state"], "running")
        self.cycle(5)
        self.started()
        self.cycle()
        document = self.document(path)
        self.assertEqual((document["state"], document["result"]["status"]), ("succeeded", 200))

    def test_conditions(self) -> None:
        """It fails when its time has come and PostgreSQL goes on as before."""
        path = self.schedule()
        self.api.clock.advance(30)
        self.engine.view = make_node()
        self.link.row = primary_row(start_time=STARTED)
        self.cycle(4)
        document = self.document(path)
        self.assertEqual(document["state"], "failed")
        self.assertIn("conditions", document["result"]["text"])

    def test_start_time_unknown(self) -> None:
        """Nobody knows, where PostgreSQL does not tell."""
        path = self.schedule()
        self.api.clock.advance(30)
        self.engine.view = make_node()
        self.link.row = primary_row(start_time=None)
        self.cycle(4)
        self.assertEqual(self.document(path)["state"], "unknown")

    def test_deleted(self) -> None:
        """It is cancelled when the schedule is gone before its time."""
        path = self.schedule()
        self.engine.view = make_node()
        self.cycle()
        self.assertEqual(self.document(path)["state"], "cancelled")

    def test_client_leaves(self) -> None:
        """One whose client has left is seen to succeed, or not to have begun."""
        for begins in (True, False):
            self.link.row = primary_row(start_time=STARTED)
            cancelled: list[Deferred[Any]] = []
            self.engine.outcomes = {"restart": Deferred(cancelled.append)}
            self.api.begin("POST", "/restart").vanish()
            self.assertEqual(len(cancelled), 1)
            self.cycle()
            self.assertEqual(self.newest()["state"], "running")
            if begins:
                self.started()
            self.cycle(3)
            self.assertEqual(self.newest()["state"], "succeeded" if begins else "cancelled")


class ReinitializeTests(OperationCase):
    """A replica that is rebuilt."""

    def test_done(self) -> None:
        """It succeeds when PostgreSQL runs again."""
        self.use().open()
        self.engine.view = make_replica()
        self.assertReply(self.request("POST", "/reinitialize"), 200, "reinitialize started")
        self.cycle()
        self.engine.view = make_replica(state="creating replica")
        self.cycle(100)
        self.assertEqual(self.newest()["state"], "running")
        self.engine.view = make_replica()
        self.cycle()
        self.assertEqual((self.newest()["state"], self.newest()["result"]["text"]),
                         ("succeeded", "reinitialize finished"))  # fmt: skip

    def test_nothing_seen(self) -> None:
        """Nobody knows, if PostgreSQL was never seen in another state."""
        self.order("POST", "/reinitialize")
        self.cycle(4)
        self.assertEqual(self.newest()["state"], "unknown")

    def test_refused(self) -> None:
        """The engine's reason is the result."""
        self.engine.outcomes["reinitialize"] = "I am the leader, can not reinitialize"
        self.request("POST", "/reinitialize")
        result = {"status": 503, "text": "I am the leader, can not reinitialize"}
        self.assertEqual(self.newest()["result"], result)


class ReloadTests(OperationCase):
    """A reload, which the HA loop does."""

    def test_done(self) -> None:
        """It has ended with the first cycle after which none is pending."""
        path = self.order("POST", "/reload")
        self.engine.outcomes["reload_pending"] = True
        self.cycle()
        self.assertEqual(self.document(path)["state"], "running")
        self.engine.outcomes["reload_pending"] = False
        self.assertEqual(self.document(path)["state"], "running")
        self.cycle()
        self.assertEqual(self.document(path)["state"], "succeeded")

    def test_wrong_section(self) -> None:
        """If the section was wrong, it has failed."""
        path = self.order("POST", "/reload")
        self.api.api.reloads["failure"] += 1
        self.cycle()
        document = self.document(path)
        self.assertEqual((document["state"], document["result"]["status"]), ("failed", 500))

    def test_never(self) -> None:
        """After five minutes nobody waits any more."""
        self.engine.outcomes["reload_pending"] = True
        path = self.order("POST", "/reload")
        self.api.clock.advance(300)
        self.cycle()
        self.assertEqual(self.document(path)["state"], "unknown")

    def test_hanging_loop(self) -> None:
        """Neither does anybody wait for an HA loop that hangs."""
        self.engine.outcomes["reload_pending"] = True
        path = self.order("POST", "/reload")
        self.api.clock.pump([30.0] * 10)
        self.assertEqual(self.document(path)["state"], "unknown")
