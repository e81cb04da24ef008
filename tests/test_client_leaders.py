"""Tests of what twisted_patroni.client.replicas tells of who leads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred

from tests.replicascase import ReplicasCase
from twisted_patroni.client.errors import NoLeader

if TYPE_CHECKING:
    from twisted_patroni.client.values import Member


class LeaderTests(ReplicasCase):
    """Who leads."""

    def lose_leader(self) -> None:
        """Have the leader die, and the client know that there is none."""
        self.memory.kill("a")
        self.pass_time(40.0)
        self.assertIsNone(self.replicas.current_leader)

    def test_leader(self) -> None:
        """A leader is returned at once, or as soon as there is one."""
        self.assertEqual(self.get(self.replicas.leader()).name, "a")
        self.lose_leader()
        waiting = [self.begin(self.replicas.leader()), self.begin(self.replicas.primary())]
        self.pass_time(2.0)
        self.memory.switchover("c")
        self.pass_time(0.1)
        self.assertEqual(self.successResultOf(waiting[0]).name, "c")
        self.assertEqual(self.successResultOf(waiting[1]).url, self.memory.url("c"))

    def test_no_leader(self) -> None:
        """If there is none in time, that is told in time."""
        self.started()
        self.lose_leader()
        waiting = self.begin(self.replicas.leader(timeout=3.0))
        self.pass_time(2.9)
        self.assertNoResult(waiting)
        self.pass_time(0.15)
        self.fails(waiting, NoLeader, "no member leads within 3 seconds")
        waiting = self.begin(self.replicas.primary())
        self.pass_time(10.1)
        self.fails(waiting, NoLeader, "10 seconds")
        waiting = self.begin(self.replicas.leader(timeout=0.0))
        self.clock.advance(0)
        self.fails(waiting, NoLeader)

    def test_wait(self) -> None:
        """The next leader is another one than the last, by name or as a member."""
        replicas = self.started()
        self.assertEqual(self.get(replicas.wait_for_leader()).name, "a")
        self.assertEqual(self.get(replicas.wait_for_leader(not_="b")).name, "a")
        waiting = [
            self.begin(replicas.wait_for_leader(not_="a")),
            self.begin(replicas.wait_for_leader(not_=replicas.current_leader)),
        ]
        self.pass_time(1.0)
        for each in waiting:
            self.assertNoResult(each)
        self.memory.switchover("b")
        self.pass_time(0.1)
        for each in waiting:
            self.assertEqual(self.successResultOf(each).name, "b")

    def test_wait_in_vain(self) -> None:
        """If nobody else leads in time, that is told in time; a wait can be called off."""
        replicas = self.started()
        before = len(self.clock.getDelayedCalls())
        waiting = self.begin(replicas.wait_for_leader(not_="a", timeout=2.0))
        other = self.begin(replicas.wait_for_leader(not_="a"))
        self.pass_time(1.9)
        self.assertNoResult(waiting)
        self.pass_time(0.15)
        self.fails(waiting, NoLeader, "no other member than a leads within 2 seconds")
        other.cancel()
        self.failureResultOf(other, CancelledError)
        self.assertLessEqual(len(self.clock.getDelayedCalls()), before)

    def test_told(self) -> None:
        """Listeners are told of each new leader, and that there is none, until they have enough."""
        heard: list[str | None] = []
        stop = self.replicas.on_leader_change(
            lambda leader: heard.append(leader.name if leader else None)
        )
        self.started()
        self.memory.switchover("b")
        self.pass_time(0.5)
        self.assertEqual(heard, ["a", "b"])
        self.memory.kill("b")
        self.pass_time(40.0)
        self.assertEqual(heard, ["a", "b", None])
        stop()
        stop()
        self.memory.switchover("c")
        self.pass_time(0.5)
        self.assertEqual(heard, ["a", "b", None])

    def test_failing_listeners(self) -> None:
        """What a listener fails with is logged, and all others are told."""
        heard: list[str] = []

        def fails(_: object) -> None:
            raise ArithmeticError("of a function")

        async def fails_later(_: object) -> None:
            raise ArithmeticError("of a coroutine")

        async def hears(leader: Member | None) -> None:
            heard.append(leader.name if leader else "")

        self.started()
        for each in (fails, fails_later, hears):
            self.replicas.on_leader_change(each)
        self.memory.switchover("c")
        self.pass_time(0.5)
        self.memory.switchover("b")
        self.pass_time(0.5)
        self.assertEqual(heard, ["c", "b"])
        self.assertEqual(len(self.flushLoggedErrors(ArithmeticError)), 4)

    def test_order(self) -> None:
        """All are told in the same order, also of what one of them has brought about."""
        heard: list[str] = []

        def acts(leader: Member | None) -> None:
            if leader is not None and leader.name == "b":
                self.memory.switchover("c")
                self.clock.advance(0)

        self.started()
        self.replicas.on_leader_change(acts)
        self.replicas.on_leader_change(lambda leader: heard.append(leader.name if leader else ""))
        self.memory.switchover("b")
        self.pass_time(0.5)
        self.assertEqual(heard, ["b", "c"])

    def test_close_when_told(self) -> None:
        """A listener may close the client."""
        closing: list[Deferred[Any]] = []
        replicas = self.client()

        def close(leader: Member | None) -> None:
            closing.append(self.begin(replicas.close()))

        replicas.on_leader_change(close)
        for each in closing:
            self.successResultOf(each)
        self.assertEqual(len(closing), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_two_leaders(self) -> None:
        """Of two that claim to lead the one with the higher timeline is asked, and it is told."""
        replicas = self.started()
        self.memory.claim("b", 9)
        self.memory.answer("a", "/restart", 503, "not the leader")
        asking = self.begin(replicas.request("POST", "/restart", json={}, retry=True))
        self.pass_time(2.0)
        self.assertEqual(self.successResultOf(asking).url[:8], "http://b")
        self.assertEqual([each.name for each in replicas.conflict], ["b", "a"])
        self.assertEqual(self.get(replicas.leader()).name, "b")
