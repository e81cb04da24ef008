"""A cluster is followed whatever happens to its nodes."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError

from tests.event_nodes import EventNode, member, view
from tests.followcase import A, B, C, FollowCase
from twisted_patroni.client.asking import Login
from twisted_patroni.client.following import FAREWELL
from twisted_patroni.client.reasons import NoAnswer
from twisted_patroni.client.stream import SILENCE


class StreamTests(FollowCase):
    """One node."""

    def setUp(self) -> None:
        """Have one node, which greets."""
        self.a = EventNode()
        self.a.greeting = view(member("a", "leader"))

    def test_events(self) -> None:
        """Snapshot and events are passed on as they came, in order, as soon as they are there."""
        self.follow({"a": self.a})
        self.assertTold(("connected", A, False))
        self.assertEqual(self.a.asked, [("/events", {"Accept": "text/event-stream"})])
        self.assertEqual(self.notes.events[0]["data"], self.a.greeting)
        told = [self.say(self.a, "config", {"changed": {}}) for _ in range(3)]
        self.assertEqual(self.notes.events[1:], told)

    def test_login(self) -> None:
        """User and password are sent along."""
        self.follow({"a": self.a}, login=Login("joe", "s3cret"))
        self.assertEqual(self.a.asked[0][1]["Authorization"], "Basic am9lOnMzY3JldA==")
        self.assertNotIn("s3cret", repr(self.follower))

    def test_resumes(self) -> None:
        """The only node is asked again after a moment, and goes on after the last event."""
        self.follow({"a": self.a})
        self.say(self.a, "config", {"changed": {}})
        self.cut(self.a)
        self.assertTold(("connected", A, False), ("disconnected", A, "closed the connection"))
        self.wait(1.0)
        self.assertTold(("connected", A, False))
        self.assertEqual(self.a.asked[-1][1]["Last-Event-ID"], "102.6fa3c001")
        self.assertEqual(self.types(), ["snapshot", "config"])

    def test_strange_positions(self) -> None:
        """An id that cannot be sent back is no position."""
        self.follow({"a": self.a})
        for text in ("\x1b", "\N{EURO SIGN}", "x" * 201, ""):
            self.a.send(f'id: {text}\ndata: {{"type": "x"}}\n\n'.encode())
        self.network.flush()
        self.cut(self.a)
        self.wait(1)
        self.assertEqual(self.a.asked[-1][1]["Last-Event-ID"], "101.6fa3c001")

    def test_types(self) -> None:
        """Only the types asked for are passed on, with snapshots; members are asked for as well."""
        self.follow({"a": self.a}, types=frozenset({"leader", "config"}))
        self.assertEqual(self.a.asked[0][0], "/events?types=config,leader,member")
        self.say(self.a, "member", {"name": "b", "change": "joined", "member": member("b")})
        self.say(self.a, "leader", {"old": "a", "new": "b", "timeline": 4})
        self.say(self.a, "gap", {"after": 1, "oldest": 2})
        self.assertEqual(self.types(), ["snapshot", "leader", "gap"])

    def test_after(self) -> None:
        """It begins after a position, and learns of the members from the cluster's document."""
        self.a.cluster = {"members": [member("a", "leader"), member("b")]}
        b = EventNode()
        self.follow({"a": self.a, "b": b}, after="99.6fa3c001")
        self.assertEqual([target for target, _ in self.a.asked], ["/cluster", "/events"])
        self.assertEqual(self.a.asked[-1][1]["Last-Event-ID"], "99.6fa3c001")
        self.assertEqual(self.types(), [])
        del self.network.nodes["a"]
        self.say(self.a, "config", {"changed": {}})
        self.cut(self.a)
        self.assertEqual(self.notes.told[-1], ("connected", B, False))
        self.assertNotIn("Last-Event-ID", b.asked[-1][1])

    def test_silence(self) -> None:
        """A node that is silent for two and a half heartbeats is given up; comments are life."""
        self.follow({"a": self.a})
        for _ in range(4):
            self.wait(SILENCE - 1)
            self.a.send(b": \n\n")
            self.network.flush()
        self.assertTold(("connected", A, False))
        self.wait(SILENCE)
        self.assertTold(("disconnected", A, "has been silent for 37.5 seconds"))
        self.assertEqual(self.a.open, [])

    def test_farewell(self) -> None:
        """A node's own reason for the end is passed on."""
        self.follow({"a": self.a})
        self.a.send(b'event: end\ndata: {"reason": "the node shuts down"}\n\n')
        self.network.flush()
        self.assertEqual(self.notes.told[-1], ("disconnected", A, "ended it: the node shuts down"))

    def test_leave_taking(self) -> None:
        """It is told when the connection has ended, and nobody waits for long for that."""
        for patience in (0.0, FAREWELL):
            self.follow({"a": self.a})
            self.running.cancel()
            self.failureResultOf(self.running, CancelledError)
            gone = self.follower.gone()
            self.assertNoResult(gone)
            if patience:
                self.clock.advance(patience)
            else:
                self.network.flush()
            self.successResultOf(gone)
            self.network.flush()

    def test_nonsense(self) -> None:
        """What is no event ends the connection, not the follower."""
        cases = (
            (b"data: {\n\n", "answers with what is not JSON"),
            (b"data: 1\n\n", "answers with JSON that is no object"),
            (b'data: {"type": 1}\n\n', "tells of an event without a type"),
            (b"data: " + b"[" * 100_000 + b"\n\n", "answers with what is not JSON"),
            (b"x" * 1_100_000, "tells too much: a line has more than 1048576 bytes"),
        )
        self.follow({"a": self.a})
        for data, reason in cases:
            self.notes.told.clear()
            self.a.send(data)
            self.network.flush()
            self.assertTold(("disconnected", A, reason))
            self.wait(20)
            self.assertTold(("connected", A, False))

    def test_strange_members(self) -> None:
        """Members without a usable address are no nodes."""
        urls = [
            None,
            7,
            "",
            "x",
            "ftp://b",
            "http://u:p@b",
            "http://b:99999",
            "http://[",
            "http://é",
        ]
        documents = [member(str(n), api_url=url) for n, url in enumerate(urls)]
        self.a.greeting = view(*documents, 7, [])  # type: ignore[arg-type]
        self.follow({"a": self.a})
        self.assertEqual(self.types(), ["snapshot"])
        self.cut(self.a)
        self.assertEqual(self.network.attempts, ["a"])

    def test_end_in_listener(self) -> None:
        """Who ends it when told of an event is told of no other one."""
        self.follow({"a": self.a})
        self.notes.when_told = lambda event: self.running.cancel()
        self.a.send(b'data: {"type": "x"}\n\ndata: {"type": "y"}\n\n')
        self.network.flush()
        self.failureResultOf(self.running, CancelledError)
        self.assertEqual(self.types(), ["snapshot", "x"])

    def test_broken_listener(self) -> None:
        """What goes wrong in the listener is the result, it is not hidden."""
        self.follow({"a": self.a})

        def break_down(event: Any) -> None:
            raise ZeroDivisionError

        self.notes.when_told = break_down
        self.say(self.a, "config", {})
        self.failureResultOf(self.running, ZeroDivisionError)


class FailoverTests(FollowCase):
    """Several nodes."""

    def setUp(self) -> None:
        """Have three nodes that greet."""
        self.nodes = {name: EventNode(f"stream{name}") for name in "abc"}
        for node in self.nodes.values():
            node.greeting = view(member("a", "leader"), member("b"), member("c"))
        self.a, self.b, self.c = self.nodes.values()

    def test_next_at_once(self) -> None:
        """When its node dies it goes to the next one that it has learned of, at once."""
        self.follow(self.nodes)
        del self.network.nodes["a"]
        self.cut(self.a)
        self.assertTold(
            ("connected", A, False),
            ("disconnected", A, "closed the connection"),
            ("connected", B, False),
        )
        self.assertNotIn("Last-Event-ID", self.b.asked[0][1])
        self.assertEqual(self.types(), ["snapshot", "snapshot"])

    def test_learns_of_members(self) -> None:
        """It knows who has joined and who has left."""
        self.a.greeting = view(member("a", "leader"), member("b"))
        self.follow(self.nodes)
        joined = {"name": "c", "change": "joined", "member": member("c")}
        self.say(self.a, "member", joined)
        self.say(self.a, "member", {"name": "b", "change": "left", "member": None})
        self.cut(self.a)
        self.assertEqual(self.network.attempts, ["a", "c"])

    def test_refusals(self) -> None:
        """Nodes that refuse, do not answer, or fail are passed over, each with its reason."""
        self.a.answer = (401, b'{"error": "who are you?"}')
        self.b.silent = True
        self.c.answer = (500, b"")
        self.follow(self.nodes, (A, B, C, "http://d:8008"))
        self.wait(5)
        self.assertTold(
            ("failed", A, "answers 401 (Unauthorized): who are you?"),
            ("failed", B, "does not answer"),
            ("failed", C, "answers 500 (Internal Server Error)"),
            ("failed", "http://d:8008", "refuses connections"),
        )

    def test_backoff(self) -> None:
        """When all have failed it waits, longer each time, and half a minute at most."""
        self.follow({}, (A, B))
        rounds = []
        for _ in range(300):
            self.wait(0.5)
            rounds.append(len(self.network.attempts) // 2)
        pauses = [0.5 * rounds.count(number) for number in sorted(set(rounds))]
        self.assertEqual(pauses[1:7], [2, 4, 8, 16, 30, 30])

    def test_no_hot_loop(self) -> None:
        """Nodes that take connections and end them at once are not asked without a pause."""
        for node in self.nodes.values():
            node.answer = None
        self.follow(self.nodes)
        for _ in range(20):
            for node in (self.a, self.b, self.c):
                self.cut(node)
        self.assertEqual(self.network.attempts, ["a", "b", "c"])

    def test_stable(self) -> None:
        """After a while of good service all other nodes are worth an attempt at once."""
        self.follow(self.nodes)
        self.cut(self.a)
        self.wait(20)
        self.cut(self.b)
        self.assertEqual(self.network.attempts, ["a", "b", "c"])
        self.cut(self.c)
        self.assertEqual(self.network.attempts, ["a", "b", "c", "a"])

    def test_no_downgrade(self) -> None:
        """Who asks over TLS does not follow to an address without, and sends no password there."""
        self.follow(self.nodes, ("https://a:8008",), login=Login("joe", "s3cret"))
        self.cut(self.a)
        self.assertEqual(self.network.attempts, ["a"])

    def test_leave(self) -> None:
        """It goes to the next node when it is sent on, if it is with the one that is meant."""
        self.follow(self.nodes)
        self.notes.told.clear()
        self.follower.leave(B, "is strange")
        self.wait(1)
        self.assertTold()
        self.follower.leave(A, "is strange")
        self.network.flush()
        self.assertTold(("disconnected", A, "is strange"), ("connected", B, False))
        self.assertEqual(self.a.open, [])

    def test_refused_by_listener(self) -> None:
        """It goes on, too, when the listener has no use for what it is told."""

        def refuse(event: Any) -> None:
            if event["type"] == "config":
                raise NoAnswer("is strange")

        self.follow(self.nodes)
        self.notes.when_told = refuse
        self.notes.told.clear()
        self.say(self.a, "config", {})
        self.assertTold(("disconnected", A, "is strange"), ("connected", B, False))

    def test_hurry(self) -> None:
        """Who is in a hurry has the next round of attempts a second after the last one."""
        self.follow({}, (A,))
        self.wait(20)
        self.network.attempts.clear()
        self.follower.hurry()
        self.wait(0.5)
        self.follower.hurry()
        self.wait(0.5)
        self.follower.hurry()
        self.wait(1)
        self.assertEqual(len(self.network.attempts), 2)

    def test_bounded(self) -> None:
        """It remembers no more than a hundred nodes."""
        self.a.greeting = view(*(member(f"m{n}") for n in range(500)))
        self.follow({"a": self.a})
        self.cut(self.a)
        self.assertEqual(len(self.network.attempts), 1 + 100)
