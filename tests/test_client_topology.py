"""What is known of a cluster is what its nodes tell, whichever of them live."""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import DNSLookupError

from tests.event_nodes import member, view
from tests.topologycase import A, B, C, TopologyCase, status
from twisted_patroni.client.asking import Login
from twisted_patroni.client.errors import BrokenAnswer, TimedOut, Unauthorized, Unreachable
from twisted_patroni.client.looking import PATIENCE
from twisted_patroni.client.topology import SELDOM, SETTLE, SOON


class LearnTests(TopologyCase):
    """What is learned."""

    def test_members(self) -> None:
        """One seed is enough to know the members and the leader."""
        self.make()
        self.assertEqual((self.names(), self.leader()), (["a", "b", "c"], "a"))
        self.assertTrue(self.topology.known)

    def test_nothing_before(self) -> None:
        """Before anything is learned there are no members, and nobody leads."""
        self.a.silent = True
        self.make()
        self.assertEqual((self.topology.known, self.names(), self.leader()), (False, [], None))

    def test_no_seeds(self) -> None:
        """Without a seed there is nothing to begin with, which is an error that says so."""
        error = self.assertRaises(ValueError, self.make, ())
        self.assertIn("seeds", str(error))

    def test_not_a_url(self) -> None:
        """A seed that is no URL is an error that says so."""
        error = self.assertRaises(ValueError, self.make, ("a:8008",))
        self.assertIn("a:8008", str(error))

    def test_started_twice(self) -> None:
        """Starting it again changes nothing."""
        self.make()
        asked = len(self.a.asked)
        self.topology.start()
        self.flush()
        self.assertEqual(len(self.a.asked), asked)

    def test_events(self) -> None:
        """It is told of a new leader, of members that join, change and leave, as it happens."""
        self.make()
        told: list[tuple[list[str], str | None]] = []
        self.topology.changed(lambda: told.append((self.names(), self.leader())))
        self.say(self.a, "leader", {"old": "a", "new": "b", "timeline": None})
        self.assertEqual(told, [(["a", "b", "c"], "b")])
        joined = {"name": "d", "change": "joined", "member": member("d")}
        self.say(self.a, "member", joined)
        self.say(self.a, "member", {"name": "c", "change": "left", "member": None})
        self.assertEqual(told[1:], [(["a", "b", "c", "d"], "b"), (["a", "b", "d"], "b")])
        self.say(self.a, "member", joined)
        self.assertEqual(len(told), 3)

    def test_one_leader(self) -> None:
        """Who has just taken over leads; what the old leader is now is not known yet."""
        self.make()
        self.say(self.a, "leader", {"old": "a", "new": "b", "timeline": None})
        roles = {each.name: each.role for each in self.topology.members}
        self.assertEqual(roles, {"a": None, "b": "leader", "c": "replica"})

    def test_standby_cluster(self) -> None:
        """In a standby cluster, too."""
        self.a.greeting = view(member("a", "standby_leader"), member("b"))
        self.make()
        assert self.topology.leader is not None
        self.assertEqual(self.topology.leader.role, "standby_leader")
        self.say(self.a, "leader", {"old": "a", "new": "b", "timeline": None})
        self.assertEqual(self.topology.leader.role, "standby_leader")

    def test_no_leader(self) -> None:
        """While nobody holds the leader key nobody leads, not even who did."""
        self.make()
        self.say(self.a, "cluster", {"changed": ["locked"], "leader": None, "locked": False})
        self.assertIsNone(self.topology.leader)
        self.assertFalse(any(each.leads for each in self.topology.members))
        self.say(self.a, "cluster", {"changed": ["locked"], "leader": "a", "locked": True})
        self.assertEqual(self.leader(), "a")

    def test_callback_ends(self) -> None:
        """Who does not want to be told any more is not; a broken callback stops nobody else."""
        self.make()
        told: list[int] = []

        def broken() -> None:
            raise ZeroDivisionError

        self.topology.changed(broken)
        stop = self.topology.changed(lambda: told.append(1))
        self.say(self.a, "leader", {"old": "a", "new": "b", "timeline": None})
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        stop()
        stop()
        self.say(self.a, "leader", {"old": "b", "new": "c", "timeline": None})
        self.assertEqual(told, [1])
        self.flushLoggedErrors(ZeroDivisionError)


class SeedTests(TopologyCase):
    """Seeds that are of no use."""

    def test_down(self) -> None:
        """A seed that is a replica that is down is no obstacle if another one answers."""
        del self.network.nodes["c"]
        self.make((C, B))
        self.assertEqual((self.names(), self.leader()), (["a", "b", "c"], "a"))
        self.assertEqual(list(self.topology.failures), [C])
        self.assertIsInstance(self.topology.failures[C], Unreachable)

    def test_silent(self) -> None:
        """A seed that does not answer costs half a second, not its whole patience."""
        self.c.silent = True
        self.make((C, B))
        self.wait(SETTLE - 0.125)
        self.assertFalse(self.topology.known)
        self.wait(0.125)
        self.assertEqual((self.names(), self.leader()), (["a", "b", "c"], "a"))
        self.wait(PATIENCE)
        self.assertIsInstance(self.topology.failures[C], TimedOut)

    def test_none_answers(self) -> None:
        """Where nobody answers each seed has its reason; the first one that is back is asked."""
        self.network.nodes.clear()
        self.make((A, B))
        self.wait(5)
        self.assertFalse(self.topology.known)
        self.assertEqual(
            {url: str(error) for url, error in self.topology.failures.items()},
            {url: f"{url}/patroni refuses connections" for url in (A, B)},
        )
        self.network.nodes["b"] = self.b
        self.wait(SELDOM + 1)
        self.assertEqual((self.names(), self.leader()), (["a", "b", "c"], "a"))

    def test_unknown_host(self) -> None:
        """A name that cannot be resolved is such a reason."""
        self.patch(self.network, "request", lambda *_: fail(DNSLookupError()))
        self.make()
        self.assertEqual(
            str(self.topology.failures[A]), f"{A}/patroni has a name that cannot be resolved"
        )

    def test_refused(self) -> None:
        """A node that wants to know who asks has that as its reason."""
        self.a.answer = (401, b'{"error": "who are you?"}')
        self.make()
        self.wait(1)
        self.assertFalse(self.topology.known)
        self.assertIsInstance(self.topology.failures[A], Unauthorized)

    def test_not_patroni(self) -> None:
        """So has one that is no Patroni."""
        self.a.answer = (200, b"<html>It works!</html>")
        self.make()
        self.wait(1)
        self.assertFalse(self.topology.known)
        self.assertIsInstance(self.topology.failures[A], BrokenAnswer)

    def test_another_cluster(self) -> None:
        """A seed of another cluster is none of this one, whoever leads there."""
        self.b.greeting = view(member("x", "leader"), scope="other", leader="x", timeline=9)
        self.b.status = status("x", "primary", 9)
        self.b.status["patroni"]["scope"] = "other"
        self.make((A, B))
        self.assertEqual((self.names(), self.leader()), (["a", "b", "c"], "a"))
        self.assertEqual(self.topology.conflict, ())
        told = f"{B} is a node of the cluster 'other', not of 'demo'"
        self.assertEqual(str(self.topology.failures[B]), told)
        del self.network.nodes["a"], self.network.nodes["c"]
        self.a.cut()
        self.wait(3)
        self.assertEqual(self.names(), ["a", "b", "c"])

    def test_no_downgrade(self) -> None:
        """Who begins with TLS asks nobody without it, and sends no password there."""
        self.make(("https://a:8008",), login=Login("joe", "s3cret"))
        self.wait(1)
        self.assertEqual(self.names(), ["a", "b", "c"])
        self.assertEqual(set(self.network.attempts), {"a"})


class FailoverTests(TopologyCase):
    """The node that tells dies."""

    def setUp(self) -> None:
        """Follow a cluster."""
        super().setUp()
        self.make()
        self.wait(1)

    def test_leader_killed(self) -> None:
        """When the leader that it was told by is killed, the next one tells who leads then."""
        del self.network.nodes["a"]
        self.a.cut()
        self.wait(0.5)
        self.assertEqual(self.leader(), "a")
        self.assertIsInstance(self.topology.failures[A], Unreachable)
        self.say(self.b, "leader", {"old": "a", "new": "c", "timeline": 4})
        self.assertEqual(self.leader(), "c")

    def test_avoids_the_dead(self) -> None:
        """Where several are away it does not try to be told by one that is known to be."""
        self.b.silent = True
        self.topology.doubt()
        self.wait(PATIENCE)
        self.a.cut()
        self.wait(0.125)
        self.assertEqual((len(self.b.open), len(self.c.open)), (0, 1))

    def test_cut_off(self) -> None:
        """While the node that tells does not reach the DCS the others are asked now and then."""
        self.say(self.a, "cluster", {"changed": ["dcs"], "leader": "a", "dcs": False})
        self.wait(1)
        self.a.status, self.b.status = status("a"), status("b", "primary", 4)
        self.wait(SELDOM)
        self.assertEqual(self.leader(), "b")

    def test_vanished(self) -> None:
        """A node that does not even close its connections is left as soon as somebody doubts."""
        self.a.silent = True
        self.topology.doubt()
        self.wait(PATIENCE)
        self.assertIsInstance(self.topology.failures[A], TimedOut)
        self.assertEqual((len(self.a.open), len(self.b.open)), (0, 1))

    def test_waiting_is_doubt(self) -> None:
        """It is enough that somebody waits for something."""
        self.a.silent = True
        waiting = Deferred.fromCoroutine(self.topology.until(lambda: self.leader() == "b", 60))
        self.wait(SOON + PATIENCE)
        self.say(self.b, "leader", {"old": "a", "new": "b", "timeline": 4})
        self.assertTrue(self.successResultOf(waiting))

    def test_back_soon(self) -> None:
        """After all nodes were away it follows again soon after one of them is back."""
        nodes = dict(self.network.nodes)
        self.network.nodes.clear()
        self.a.cut()
        self.wait(100)
        self.network.nodes.update(nodes)
        self.wait(SELDOM + 1)
        self.assertEqual(sum(len(node.open) for node in nodes.values()), 1)
