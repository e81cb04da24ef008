"""Clusters without events, what no event tells, and waiting for what one tells."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout

from tests.event_nodes import member
from tests.topologycase import A, B, TopologyCase, status
from twisted_patroni.client.pool import PoolClosed
from twisted_patroni.client.topology import SELDOM, SOON


class PollTests(TopologyCase):
    """Upstream's daemon, which has no events."""

    def setUp(self) -> None:
        """Have three nodes without events."""
        super().setUp()
        for node in self.nodes.values():
            node.plain = True
        self.show("a")

    def show(self, leader: str, **changes: Any) -> None:
        """Let the nodes tell who leads."""
        for name, node in self.nodes.items():
            members = (member(each, "leader" if each == leader else "replica") for each in "abc")
            node.cluster = {"scope": "demo", "members": list(members), **changes}
            node.status = status(name, "primary" if name == leader else "replica")

    def test_polls(self) -> None:
        """It is asked again and again, and a new leader is known within two seconds."""
        self.make()
        self.assertEqual((self.names(), self.leader()), (["a", "b", "c"], "a"))
        self.show("b")
        self.wait(2)
        self.assertEqual(self.leader(), "b")

    def test_doubt(self) -> None:
        """Who doubts does not have to wait for that."""
        self.make()
        self.wait(1)
        self.show("b")
        self.topology.doubt()
        self.wait(0.25)
        self.assertEqual(self.leader(), "b")

    def test_leaves(self) -> None:
        """A member that is listed no more is none."""
        self.make()
        self.show("a", members=[member("a", "leader"), member("b")])
        self.wait(2)
        self.assertEqual(self.names(), ["a", "b"])

    def test_conflict(self) -> None:
        """Now and then all are asked whether they agree."""
        self.make()
        self.wait(1)
        assert self.c.status is not None
        self.c.status.update(role="master", timeline=7)
        self.wait(SELDOM)
        self.assertEqual([each.name for each in self.topology.conflict], ["c", "a"])

    def test_dcs_is_down(self) -> None:
        """When the DCS is down what was known is known, and who knows nothing asks each node."""
        self.make()
        for node in self.nodes.values():
            node.cluster = None
        self.wait(10)
        self.assertEqual((self.names(), self.leader()), (["a", "b", "c"], "a"))
        self.end()
        self.make((A, B))
        self.wait(5)
        self.assertEqual((self.names(), self.leader()), (["a", "b"], "a"))
        self.assertEqual([each.role for each in self.topology.members], ["leader", "replica"])
        self.assertEqual(self.topology.leader and self.topology.leader.api_url, A)
        self.show("b")
        self.wait(SELDOM)
        self.assertEqual((self.names(), self.leader()), (["a", "b", "c"], "b"))


class LagTests(TopologyCase):
    """How far members are behind."""

    def lags(self) -> dict[str, int | None]:
        """Return how far they are."""
        return {each.name: each.lag for each in self.topology.members}

    def hold(self, *request: Any) -> Deferred[Any]:
        """Have a request answered later."""
        self.held: Deferred[Any] = Deferred()
        return self.held.addCallback(lambda _: self.network.request(*request))

    def refresh(self, **more: float) -> Deferred[None]:
        """Learn it."""
        learning = Deferred.fromCoroutine(self.topology.refresh(**more))
        self.flush()
        return learning

    def setUp(self) -> None:
        """Follow a cluster that changes without saying so."""
        super().setUp()
        self.make()
        self.a.cluster = {
            "members": [member("a", "leader"), member("b", lag=7), member("c", lag="unknown")]
        }
        self.wait(2)

    def test_learned(self) -> None:
        """It is asked for, and not again within a second, however many want to know it."""
        self.assertEqual(self.lags(), {"a": None, "b": 0, "c": 0})
        patch = self.patch(self.network, "request", self.hold)
        learning = [Deferred.fromCoroutine(self.topology.refresh()) for _ in range(5)]
        patch.restore()
        learning[-1].cancel()
        self.failureResultOf(learning.pop(), CancelledError)
        self.held.callback(None)
        self.flush()
        for each in learning:
            self.successResultOf(each)
        self.assertEqual(self.lags(), {"a": None, "b": 7, "c": None})
        self.successResultOf(self.refresh())
        self.assertEqual([target for target, _ in self.a.asked].count("/cluster"), 1)
        self.wait(1.125)
        self.successResultOf(self.refresh())
        self.assertEqual([target for target, _ in self.a.asked].count("/cluster"), 2)

    def test_old_is_good_enough(self) -> None:
        """Who is content with what is older has it at once."""
        self.successResultOf(self.refresh(age=5))
        self.assertEqual([target for target, _ in self.a.asked].count("/cluster"), 0)

    def test_in_vain(self) -> None:
        """What cannot be learned is unknown, rather than as it was."""
        self.a.cluster = None
        self.successResultOf(self.refresh())
        self.assertEqual(self.lags(), {"a": None, "b": None, "c": None})

    def test_closed(self) -> None:
        """When it is closed nobody waits any more."""
        self.a.silent = True
        learning = self.refresh()
        self.assertNoResult(learning)
        self.end()
        self.successResultOf(learning)


class UntilTests(TopologyCase):
    """Waiting for something."""

    def wait_for(self, name: str, timeout: float = 10.0) -> Deferred[Any]:
        """Wait for a leader."""

        def look() -> Any:
            leader = self.topology.leader
            return leader if leader is not None and leader.name == name else None

        return Deferred.fromCoroutine(self.topology.until(look, timeout))

    def test_already(self) -> None:
        """What is true already is not waited for, not even without any time."""
        self.make()
        self.assertEqual(self.successResultOf(self.wait_for("a", 0)).name, "a")

    def test_later(self) -> None:
        """What becomes true is returned at once."""
        self.make()
        waiting = self.wait_for("b")
        self.wait(5)
        self.assertNoResult(waiting)
        self.say(self.a, "leader", {"old": "a", "new": "b", "timeline": 4})
        self.assertEqual(self.successResultOf(waiting).name, "b")

    def test_time_is_up(self) -> None:
        """What does not in time fails, at the latest when there is no time left."""
        self.make()
        waiting = self.wait_for("b", 2)
        self.wait(2)
        self.failureResultOf(waiting, DeferredTimeout)
        waiting = self.wait_for("b", -1)
        self.clock.advance(0)
        self.failureResultOf(waiting, DeferredTimeout)

    def test_cancelled(self) -> None:
        """Who is cancelled looks no more."""
        self.make()
        seen: list[str | None] = []
        waiting: Deferred[Any] = Deferred.fromCoroutine(
            self.topology.until(lambda: seen.append(self.leader()), 10)
        )
        self.assertEqual(seen, ["a"])
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.wait(SOON)
        self.say(self.a, "leader", {"old": "a", "new": "b", "timeline": 4})
        self.assertEqual((self.leader(), seen), ("b", ["a"]))

    def test_closed(self) -> None:
        """Who still waits when it is closed is told so, and so is who begins to wait."""
        self.make()
        waiting = self.wait_for("b")
        self.end()
        self.failureResultOf(waiting, PoolClosed)
        self.failureResultOf(self.wait_for("b"), PoolClosed)

    def test_broken_look(self) -> None:
        """What goes wrong in looking is the result."""
        self.make()

        def look() -> int:
            return 1 // (self.leader() == "a") if self.leader() == "a" else 1 // 0

        waiting = Deferred.fromCoroutine(self.topology.until(lambda: look() > 1, 5))
        self.say(self.a, "leader", {"old": "a", "new": "b", "timeline": 4})
        self.failureResultOf(waiting, ZeroDivisionError)

    def test_closed_while_asking(self) -> None:
        """It can be closed whatever is under way, also twice, and begins nothing after that."""
        self.a.silent = True
        self.make()
        self.end()
        self.topology.start()
        self.topology.doubt()
        self.end()
