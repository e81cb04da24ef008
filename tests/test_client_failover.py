"""Tests of calls to a cluster whose members fail, or whose leader changes, while they are asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure
from twisted.web.client import ResponseNeverReceived

from tests.replicascase import ReplicasCase
from twisted_patroni.client.calls import GRACE
from twisted_patroni.client.errors import (
    BrokenAnswer,
    NoLeader,
    NoMember,
    OutcomeUnknown,
    Unreachable,
)

if TYPE_CHECKING:
    from tests.replicascase import Held


def lost() -> ResponseNeverReceived:
    """Return what a request fails with whose connection is lost before the answer."""
    return ResponseNeverReceived([Failure(ConnectionLost())])


class FlightTests(ReplicasCase):
    """What is on its way when the leader changes."""

    def setUp(self) -> None:
        """Keep requests back."""
        super().setUp()
        self.started()
        self.gate.paths = {"/config", "/switchover"}

    def held(self, *names: str) -> Held:
        """Assert who was asked so far, and return the last of these requests."""
        self.assertEqual([each.name for each in self.gate.held], list(names))
        return self.gate.held[-1]

    def switchover(self, name: str) -> None:
        """Have another member lead, and the client know of it."""
        self.memory.switchover(name)
        self.pass_time(0.5)
        leader = self.replicas.current_leader
        self.assertEqual(leader and leader.name, name)

    def test_safe(self) -> None:
        """What only reads is given up at the old leader, and asked of the new one."""
        asking = self.begin(self.replicas.get("/config", target="leader"))
        old = self.held("a")
        self.switchover("b")
        self.assertTrue(old.given_up)
        self.held("a", "b").let_go()
        response = self.successResultOf(asking)
        self.assertEqual(response.status, 200)
        self.assertEqual(response.url, f"{self.memory.url('b')}/config")

    def test_unsafe(self) -> None:
        """What changes something may be answered for a while yet, and is never sent again."""
        asking = self.begin(self.replicas.request("PATCH", "/config", json={}, retry=True))
        old = self.held("a")
        self.memory.switchover("b")
        self.pass_time(GRACE - 0.1)
        self.assertNoResult(asking)
        self.assertFalse(old.given_up)
        self.pass_time(0.6)
        error = self.fails(asking, OutcomeUnknown, "since b leads", "may have been done")
        self.assertEqual(error.url, f"{self.memory.url('a')}/config")
        self.assertTrue(old.given_up)
        self.held("a")

    def test_switchover(self) -> None:
        """A switchover that is answered after the change has succeeded."""
        body = {"leader": "a", "candidate": "b"}
        asking = self.begin(self.replicas.request("POST", "/switchover", json=body))
        self.switchover("b")
        self.pass_time(3.0)
        self.assertNoResult(asking)
        self.memory.answer("a", "/switchover", 200, 'Successfully switched over to "b"')
        self.held("a").let_go()
        self.assertEqual(self.successResultOf(asking).status, 200)
        self.pass_time(GRACE)

    def test_back(self) -> None:
        """A leader that is back before its time is up keeps what it was asked."""
        asking = self.begin(self.replicas.request("PATCH", "/config", json={}))
        self.switchover("b")
        self.switchover("a")
        self.pass_time(GRACE + 1.0)
        self.assertNoResult(asking)
        self.held("a").let_go()
        self.assertEqual(self.successResultOf(asking).status, 200)

    def test_replica(self) -> None:
        """A replica that is asked is not disturbed."""
        asking = self.begin(self.replicas.get("/config"))
        name = self.gate.held[0].name
        self.assertIn(name, ("b", "c"))
        self.switchover("c" if name == "b" else "b")
        self.held(name).let_go()
        self.assertEqual(self.successResultOf(asking).status, 200)

    def test_cut(self) -> None:
        """What only reads, and is cut off as the leader dies, is asked of the next leader."""
        asking = self.begin(self.replicas.get("/config", target="leader"))
        self.memory.kill("a")
        self.held("a").fail(lost())
        self.pass_time(1.0)
        self.assertNoResult(asking)
        self.switchover("b")
        self.held("a", "b").let_go()
        self.assertEqual(self.successResultOf(asking).status, 200)

    def test_cut_in_vain(self) -> None:
        """If there is no next leader in time, that is told in time."""
        asking = self.begin(self.replicas.get("/config", target="leader", timeout=3.0))
        self.memory.kill("a")
        self.held("a").fail(lost())
        self.gate.paths.clear()
        self.pass_time(2.9)
        self.assertNoResult(asking)
        self.pass_time(0.15)
        self.failureResultOf(asking, Unreachable, NoLeader)

    def test_cut_twice(self) -> None:
        """A leader that cuts off the same request again is not asked for a third time."""
        asking = self.begin(self.replicas.get("/config", target="leader"))
        self.held("a").fail(lost())
        self.pass_time(0.5)
        self.held("a", "a").fail(lost())
        self.fails(asking, OutcomeUnknown, "closed the connection")

    def test_cut_unsafe(self) -> None:
        """What changes something, and is cut off, is never sent again."""
        asking = self.begin(self.replicas.request("PATCH", "/config", json={}, retry=True))
        self.held("a").fail(lost())
        self.fails(asking, OutcomeUnknown, "may have been done")
        self.switchover("b")
        self.held("a")

    def test_cut_replica(self) -> None:
        """What a replica does not answer to the end is asked of another one, at once."""
        asking = self.begin(self.replicas.get("/config"))
        self.gate.held[0].fail(lost())
        first, second = self.gate.held
        self.assertEqual({first.name, second.name}, {"b", "c"})
        second.fail(lost())
        self.assertEqual(self.gate.held[2].name, "a")
        self.gate.held[2].let_go()
        self.assertEqual(self.successResultOf(asking).status, 200)

    def test_cancel(self) -> None:
        """Cancelling closes the connection, and leaves nothing behind."""
        before = len(self.clock.getDelayedCalls())
        asking = self.begin(self.replicas.request("PATCH", "/config", json={}))
        self.switchover("b")
        asking.cancel()
        self.failureResultOf(asking, CancelledError)
        self.assertTrue(self.held("a").given_up)
        self.assertLessEqual(len(self.clock.getDelayedCalls()), before)
        self.pass_time(GRACE)


class RetryTests(ReplicasCase):
    """Members that cannot be asked, or that refuse."""

    def setUp(self) -> None:
        """Find out about the cluster."""
        super().setUp()
        self.started()

    def test_next(self) -> None:
        """A replica that cannot be reached is no obstacle, nor are two if there is the leader."""
        self.memory.refuse("b")
        for _ in range(4):
            self.assertEqual(self.get(self.replicas.get("/patroni")).status, 200)
        self.memory.refuse("c")
        response = self.get(self.replicas.get("/patroni"))
        self.assertEqual(response.url, f"{self.memory.url('a')}/patroni")

    def test_nobody(self) -> None:
        """If nobody can be reached, that is told at once, unless it is to be waited for."""
        for name in ("a", "b", "c"):
            self.memory.refuse(name)
        self.fails(self.replicas.get("/patroni"), Unreachable, "refuses connections")
        self.fails(self.replicas.request("PATCH", "/config", json={}), Unreachable, "http://a")
        asking = self.begin(self.replicas.get("/patroni", timeout=2.0, retry=True))
        self.pass_time(1.9)
        self.assertNoResult(asking)
        self.pass_time(0.15)
        self.fails(asking, Unreachable)

    def test_no_time(self) -> None:
        """Without any time nobody is asked."""
        asking = self.replicas.request("POST", "/restart", json={}, timeout=0.0)
        self.fails(asking, Unreachable, "http://a:8008 was not asked, for the time was up")
        self.assertEqual(self.asked("/restart"), [])

    def test_asked_again(self) -> None:
        """Who waits asks again when the leader can be reached, also what changes something."""
        self.memory.refuse("a")
        asking = self.begin(self.replicas.request("PATCH", "/config", json={}, retry=True))
        self.pass_time(2.0)
        self.assertNoResult(asking)
        self.memory.revive("a")
        self.pass_time(1.5)
        self.assertEqual(self.successResultOf(asking).status, 200)

    def test_refusal(self) -> None:
        """A refusal for now is an answer, unless it is to be waited out."""
        self.memory.answer("a", "/restart", 503, "not now")
        response = self.get(self.replicas.request("POST", "/restart", json={}))
        self.assertEqual(response.status, 503)
        asking = self.begin(self.replicas.request("POST", "/restart", json={}, retry=True))
        self.pass_time(3.0)
        self.assertNoResult(asking)
        count = len(self.asked("/restart"))
        self.assertTrue(4 <= count <= 12, count)
        self.memory.answer("a", "/restart", 200, "done")
        self.pass_time(1.5)
        self.assertEqual(self.successResultOf(asking).status, 200)

    def test_refusal_for_long(self) -> None:
        """It is waited out until the time is up, and no longer; then it is the answer."""
        self.memory.answer("a", "/restart", 503, "not now")
        asked = self.replicas.request("POST", "/restart", json={}, timeout=2.0, retry=True)
        asking = self.begin(asked)
        self.pass_time(1.9)
        self.assertNoResult(asking)
        self.pass_time(0.15)
        self.assertEqual(self.successResultOf(asking).status, 503)

    def test_refusal_of_one(self) -> None:
        """What one replica refuses for now another one may not; only who waits finds out."""
        for name in ("b", "c"):
            self.memory.answer(name, "/replica", 503, "not now")
        self.assertEqual(self.get(self.replicas.get("/replica")).status, 503)
        self.memory.answer("c", "/replica", 200, "yes")
        for _ in range(4):
            response = self.get(self.replicas.get("/replica", retry=True))
            self.assertEqual((response.status, response.url[:8]), (200, "http://c"))

    def test_refusal_elsewhere(self) -> None:
        """Who waits out the refusal of an old leader asks the new one as soon as it is known."""
        self.memory.answer("a", "/restart", 503, "not now")
        asking = self.begin(self.replicas.request("POST", "/restart", json={}, retry=True))
        self.memory.answer("b", "/restart", 200, "done")
        self.pass_time(3.0)
        self.memory.switchover("b")
        self.clock.advance(0)
        self.clock.advance(0.01)
        self.assertEqual(self.successResultOf(asking).url[:8], "http://b")

    def lose_leader(self) -> None:
        """Have the leader die, and the client know that there is none."""
        self.memory.kill("a")
        self.pass_time(40.0)
        self.assertIsNone(self.replicas.current_leader)

    def test_no_leader(self) -> None:
        """That there is no leader is told at once, unless one is to be waited for."""
        self.lose_leader()
        self.fails(self.replicas.request("PATCH", "/config", json={}), NoLeader, "no leader")
        asked = self.replicas.request("PATCH", "/config", json={}, timeout=2.0, retry=True)
        asking = self.begin(asked)
        self.pass_time(1.9)
        self.assertNoResult(asking)
        self.pass_time(0.15)
        self.fails(asking, NoLeader)

    def test_next_leader(self) -> None:
        """Who waits for a leader asks it as soon as it is known."""
        self.lose_leader()
        asking = self.begin(self.replicas.request("PATCH", "/config", json={}, retry=True))
        self.pass_time(3.0)
        self.assertNoResult(asking)
        self.memory.switchover("b")
        self.clock.advance(0.01)
        self.assertEqual(self.successResultOf(asking).url[:8], "http://b")

    def test_broken(self) -> None:
        """An answer that is none of a node's is no obstacle to reading, and an error otherwise."""
        elsewhere = {"Location": "http://x/"}
        self.memory.answer("b", "/config", 302, "", elsewhere)
        self.memory.answer("a", "/config", 302, "", elsewhere)
        for _ in range(4):
            self.assertEqual(self.get(self.replicas.get("/config")).status, 200)
        asked = self.replicas.request("PATCH", "/config", json={}, retry=True)
        self.fails(asked, BrokenAnswer, "sends elsewhere")

    def test_hanging(self) -> None:
        """A replica that answers nobody any more is found out before the time is up."""
        for name in ("b", "c"):
            self.memory.hang(name)
        asking = self.begin(self.replicas.get("/patroni"))
        self.pass_time(9.5)
        self.assertEqual(self.successResultOf(asking).url[:8], "http://a")

    def test_slow(self) -> None:
        """One that only takes its time is not."""
        self.gate.paths = {"/operations/1"}
        asking = self.begin(self.replicas.get("/operations/1?wait=30", timeout=40.0))
        self.pass_time(30.0)
        self.assertEqual(len(self.gate.held), 1)
        self.assertFalse(self.gate.held[0].given_up)
        self.assertLess(len(self.asked("/patroni")), 60)
        asking.cancel()
        self.failureResultOf(asking, CancelledError)

    def test_lag(self) -> None:
        """Only replicas within the bound are asked, and there is no leader in their stead."""
        self.memory.lag("b", 1 << 20)
        self.pass_time(15.0)
        for _ in range(4):
            response = self.get(self.replicas.get("/patroni", lag=1000))
            self.assertEqual(response.url[:8], "http://c")
        self.memory.lag("c", 1 << 20)
        self.pass_time(15.0)
        self.fails(self.replicas.get("/patroni", lag=1000), NoMember, "within 1000 bytes")
        asking = self.begin(self.replicas.get("/patroni", lag=1000, timeout=60.0, retry=True))
        self.pass_time(5.0)
        self.assertNoResult(asking)
        self.memory.lag("c", 10)
        self.pass_time(15.0)
        self.assertEqual(self.successResultOf(asking).url[:8], "http://c")

    def test_cancel_waiting(self) -> None:
        """Who waits can be called off, and leaves nothing behind."""
        self.memory.answer("a", "/restart", 503, "not now")
        before = len(self.clock.getDelayedCalls())
        asking = self.begin(self.replicas.request("POST", "/restart", json={}, retry=True))
        self.pass_time(1.0)
        asking.cancel()
        self.failureResultOf(asking, CancelledError)
        self.pass_time(0.5)
        self.assertLessEqual(len(self.clock.getDelayedCalls()), before)
