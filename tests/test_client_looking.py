"""Nodes are asked what they are as often as it is needed, and contradictions are noticed."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, capturedLogs, formatEvent

from tests.event_nodes import EventNode, member, view
from tests.topologycase import A, B, C, TopologyCase, status
from twisted_patroni.client.looking import PATIENCE, PAUSE, Looks
from twisted_patroni.client.settings import ClientSettings
from twisted_patroni.client.topology import SOON


class LookTests(TopologyCase):
    """Looks at all nodes."""

    def looks(self, node: EventNode) -> int:
        """Return how often a node was asked what it is."""
        return [target for target, _ in node.asked].count("/patroni")

    def test_quiet(self) -> None:
        """While all is well and nobody waits, nobody is asked after the start."""
        self.make()
        self.wait(1)
        self.assertEqual([self.looks(node) for node in self.nodes.values()], [2, 1, 1])
        self.wait(30)
        self.assertEqual([self.looks(node) for node in self.nodes.values()], [2, 1, 1])

    def test_doubt(self) -> None:
        """A doubt has all nodes asked at once."""
        self.make()
        self.wait(1)
        self.topology.doubt()
        self.flush()
        self.assertEqual([self.looks(node) for node in self.nodes.values()], [3, 2, 2])

    def test_many_doubts(self) -> None:
        """Many doubts lead to four looks in a second, and a node is asked once at a time."""
        self.make()
        self.wait(1)
        self.c.silent = True
        for _ in range(100):
            for _ in range(100):
                self.topology.doubt()
            self.clock.advance(0.01)
            self.flush()
        self.assertEqual([self.looks(node) for node in self.nodes.values()], [6, 5, 2])

    def test_width(self) -> None:
        """No more than sixteen nodes are asked at the same time."""
        self.a.greeting = view(*(member(f"m{number}") for number in range(50)))
        silent = EventNode()
        silent.silent = True
        self.network.nodes.update({f"m{number}": silent for number in range(50)})
        self.make()
        self.wait(0.5)
        self.assertEqual(self.looks(silent), 16)
        self.wait(4 * PATIENCE)
        self.assertEqual(len(self.topology.failures), 50)

    def test_forgets(self) -> None:
        """Nodes that are no members any more have no failures any more."""
        del self.network.nodes["c"]
        self.make()
        self.wait(1)
        self.assertEqual(list(self.topology.failures), [C])
        self.say(self.a, "member", {"name": "c", "change": "left", "member": None})
        self.topology.doubt()
        self.wait(1)
        self.assertEqual(dict(self.topology.failures), {})


class Blunderer:
    """Wants to know what a node is, and cannot take it."""

    def urls(self) -> list[str]:
        """Return the node."""
        return [A]

    def heard(self, url: str, result: object) -> None:
        """Fail."""
        raise ZeroDivisionError

    def looked(self) -> None:
        """Do nothing."""


class BlunderTests(TopologyCase):
    """Looks whose results cannot be taken."""

    def test_logged(self) -> None:
        """What goes wrong then is logged, and does not end the looks."""
        looks = Looks(self.clock, self.network, ClientSettings(), Blunderer())
        for _ in range(2):
            looks.within(0)
            self.clock.advance(PAUSE)
            self.flush()
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(looks.close(), [])


class ConflictTests(TopologyCase):
    """Two members that claim to lead."""

    def names_of_conflict(self) -> list[str]:
        """Return their names."""
        return [each.name for each in self.topology.conflict]

    def test_newer_timeline(self) -> None:
        """The higher timeline wins, whatever the node says that tells; it is reported, once."""
        self.b.status = status("b", "primary", 4)
        with capturedLogs() as logs:
            self.make((A, B))
            self.assertEqual(self.leader(), "b")
            self.assertEqual(self.names_of_conflict(), ["b", "a"])
            self.wait(20)
        roles = {each.name: each.role for each in self.topology.members}
        self.assertEqual(roles, {"a": None, "b": "leader", "c": "replica"})
        [told] = [formatEvent(each) for each in logs if each["log_level"] is LogLevel.warn]
        self.assertEqual(
            told,
            "b (4) and a (3) claim to lead demo at the same time: b is taken for the leader, its"
            " timeline is the newest",
        )

    def test_stale_leader(self) -> None:
        """One that does not know that it leads no more does not win, it is reported as well."""
        self.b.status = status("b", "primary", 2)
        self.make()
        self.wait(1)
        self.assertEqual((self.leader(), self.names_of_conflict()), ("a", ["a", "b"]))
        roles = {each.name: each.role for each in self.topology.members}
        self.assertEqual(roles["b"], "replica")

    def test_solved(self) -> None:
        """It is soon noticed that they agree again."""
        self.b.status = status("b", "primary", 4)
        self.make()
        self.wait(1)
        self.a.status = status("a", "replica", 4)
        self.wait(SOON)
        self.assertEqual((self.leader(), self.names_of_conflict()), ("b", []))
        self.say(self.a, "leader", {"old": "a", "new": "b", "timeline": 4})
        self.b.status = status("b", "primary", 4)
        self.wait(5)
        self.assertEqual((self.leader(), self.names_of_conflict()), ("b", []))

    def test_switchover_is_none(self) -> None:
        """While the leader's role is handed over the new holder of the key leads."""
        self.make()
        self.wait(1)
        self.say(self.a, "leader", {"old": "a", "new": "b", "timeline": None})
        self.topology.doubt()
        self.wait(1)
        self.assertEqual((self.leader(), self.names_of_conflict()), ("b", []))

    def test_answers_from_before(self) -> None:
        """What a node was asked before the leader changed is asked again."""
        self.make()
        self.wait(1)
        held: Deferred[None] = Deferred()
        ask = self.network.request

        def request(method: bytes, url: bytes, *more: Any) -> Deferred[Any]:
            answer = ask(method, url, *more)
            return held.addCallback(lambda _: answer) if url.startswith(B.encode()) else answer

        patch = self.patch(self.network, "request", request)
        self.b.status = status("b", "primary", 4)
        self.topology.doubt()
        self.b.status = status("b")
        self.say(self.a, "leader", {"old": "a", "new": "c", "timeline": None})
        asked = len(self.b.asked)
        patch.restore()
        held.callback(None)
        self.flush()
        self.assertEqual((self.leader(), len(self.b.asked)), ("c", asked))
        self.wait(0.25)
        self.assertEqual((self.leader(), len(self.b.asked)), ("c", asked + 1))

    def test_stopping(self) -> None:
        """One that stops, or that knows that it has no leader key, claims nothing."""
        for strange in ({"state": "stopping"}, {"cluster_unlocked": True}, {"state": None}):
            self.b.status = status("b", "primary", 4, **strange)
            self.make()
            self.wait(1)
            self.assertEqual((self.leader(), self.names_of_conflict()), ("a", []), strange)
            self.end()

    def test_goes_on(self) -> None:
        """A conflict that was known before somebody else has led, too, is known again at once."""
        self.b.status = status("b", "primary", 4)
        self.make()
        self.wait(1)
        self.say(self.a, "leader", {"old": "a", "new": "b", "timeline": 4})
        self.wait(0.125)
        self.assertEqual((self.leader(), self.names_of_conflict()), ("b", ["b", "a"]))

    def test_does_not_step_down(self) -> None:
        """An old leader that still leads soon after the new one does is noticed."""
        self.make()
        self.wait(1)
        self.say(self.a, "leader", {"old": "a", "new": "b", "timeline": 4})
        self.b.status = status("b", "primary", 4)
        self.wait(SOON)
        self.assertEqual((self.leader(), self.names_of_conflict()), ("b", ["b", "a"]))

    def test_one_more_address(self) -> None:
        """A node that is known by two addresses does not contradict itself."""
        self.network.nodes["alias"] = self.a
        self.make((A, "http://alias:8008"))
        self.wait(1)
        self.assertEqual((self.leader(), self.names_of_conflict()), ("a", []))
