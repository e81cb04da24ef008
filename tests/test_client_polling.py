"""Nodes without events are asked again and again, as long as there is no better one."""

from __future__ import annotations

from tests.event_nodes import EventNode, member, view
from tests.followcase import A, B, C, FollowCase


class PollTests(FollowCase):
    """Nodes without events, as upstream's are."""

    def setUp(self) -> None:
        """Have one node without events."""
        self.a = self.plain()

    def plain(self) -> EventNode:
        """Return a node without events."""
        node = EventNode()
        node.plain = True
        node.cluster = {"scope": "demo", "members": [member("a", "leader"), member("b")]}
        return node

    def test_polls(self) -> None:
        """It is asked for the cluster every two seconds; what is new is a snapshot."""
        self.follow({"a": self.a})
        self.assertTold(("connected", A, True), ("failed", B, "refuses connections"))
        [first] = self.notes.events
        self.assertEqual((first["type"], first["data"]["leader"]), ("snapshot", "a"))
        self.a.asked.clear()
        self.wait(10)
        self.assertEqual([target for target, _ in self.a.asked], ["/cluster"] * 5)
        self.assertEqual(len(self.notes.events), 1)
        self.a.cluster = {"scope": "demo", "members": [member("a"), member("b", "leader")]}
        self.wait(2)
        self.assertEqual(self.notes.events[1]["data"]["leader"], "b")

    def test_better_node_first(self) -> None:
        """A node with events is preferred."""
        b = EventNode()
        b.greeting = view()
        self.follow({"a": self.a, "b": b}, (A, B))
        self.assertTold(("connected", B, False))

    def test_better_node_later(self) -> None:
        """While it polls it looks for a node with events from time to time, and goes there."""
        self.follow({"a": self.a})
        self.wait(29)
        b = self.network.nodes["b"] = EventNode()
        b.greeting = view()
        self.wait(3)
        self.assertTold(
            ("connected", A, True),
            ("failed", B, "refuses connections"),
            ("disconnected", A, "has no events, another node has"),
            ("connected", B, False),
        )

    def test_upgrade(self) -> None:
        """A node that has got events is followed from then on."""
        self.follow({"a": self.a})
        new = self.network.nodes["a"] = EventNode()
        new.greeting, new.cluster = view(), self.a.cluster
        self.wait(31)
        self.assertEqual(self.notes.told[-1], ("connected", A, False))
        self.assertNotIn("disconnected", [each[0] for each in self.notes.told])

    def test_search_is_silent(self) -> None:
        """A search in vain is no interruption."""
        self.follow({"a": self.a})
        self.notes.told.clear()
        self.wait(100)
        self.assertEqual({each[0] for each in self.notes.told}, {"failed"})
        self.assertEqual({each[1] for each in self.notes.told}, {B})

    def test_dies(self) -> None:
        """When it does not answer any more the others are asked at once."""
        b = self.plain()
        self.follow({"a": self.a, "b": b})
        self.a.silent = True
        self.wait(8)
        self.assertTold(
            ("connected", A, True), ("disconnected", A, "does not answer"), ("connected", B, True)
        )

    def test_none_can_be_polled(self) -> None:
        """Where no node knows its cluster they are asked again after a pause, not at once."""
        nodes = {"a": self.a, "b": self.plain(), "c": self.plain()}
        for node in nodes.values():
            node.cluster = None
        self.follow(nodes, (A, B, C))
        self.assertEqual(self.network.attempts, ["a", "b", "c", "a", "b", "c"])
        self.a.cluster = {"scope": "demo", "members": [member("a", "leader")]}
        self.wait(1)
        self.assertEqual(self.notes.told[-1], ("connected", A, True))

    def test_turns_silent(self) -> None:
        """When the one that was polled cannot be any more each of the others is asked once."""
        nodes = {"a": self.a, "b": self.plain(), "c": self.plain()}
        nodes["b"].cluster = nodes["c"].cluster = None
        self.follow(nodes, (A, B, C))
        self.assertTold(("connected", A, True))
        self.a.cluster = None
        self.network.attempts.clear()
        self.wait(2)
        self.assertEqual(self.network.attempts, ["a", "b", "c", "b", "c"])

    def test_hurry(self) -> None:
        """Who is in a hurry has it asked four times in a second, not more."""
        self.follow({"a": self.a})
        self.a.asked.clear()
        for _ in range(8):
            self.follower.hurry()
            self.clock.advance(0.125)
            self.network.flush()
        self.assertEqual([target for target, _ in self.a.asked], ["/cluster"] * 4)

    def test_not_patroni(self) -> None:
        """What is no node at all is a failure."""
        self.a.cluster = None
        self.follow({"a": self.a})
        self.assertTold(("failed", A, "answers 404 (Not Found)"))
