"""Tests of streams of events whose answer is in memory, with time that the test lets pass."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from twisted_patroni.client.errors import Disconnected
from twisted_patroni.client.events import (
    ClusterEvent,
    ConfigEvent,
    Event,
    Gap,
    HistoryEvent,
    LeaderEvent,
    MemberEvent,
    NodeEvent,
    OperationEvent,
    Snapshot,
    event_of,
)
from twisted_patroni.client.eventstream import WAITING
from twisted_patroni.client.stream import SILENCE
from twisted_patroni.client.testing import MemoryCluster

if TYPE_CHECKING:
    from twisted_patroni.client.eventstream import EventStream


class StreamCase(SynchronousTestCase):
    """A cluster in memory, and what one of its nodes tells."""

    def setUp(self) -> None:
        """Have a cluster."""
        self.memory = MemoryCluster()
        self.taken: deque[Event] = deque()

    def follow(self, events: EventStream, pause: Deferred[Any] | None = None) -> Deferred[None]:
        """Take events as they come, the second one not before something else has happened."""

        async def follow() -> None:
            async for each in events:
                self.taken.append(each)
                if pause is not None:
                    await pause

        return Deferred.fromCoroutine(follow())


class SilenceTests(StreamCase):
    """Nodes that do not tell anything any more."""

    def test_silent(self) -> None:
        """A node that has been silent for too long is given up."""
        following = self.follow(self.memory.node("a").follow())
        self.assertEqual([each.type for each in self.taken], ["snapshot"])
        self.memory.hang("a")
        self.memory.clock.advance(SILENCE - 1.0)
        self.assertNoResult(following)
        self.memory.clock.advance(2.0)
        error = self.failureResultOf(following, Disconnected).value
        self.assertIn("has been silent for 37.5 seconds", str(error))

    def test_slow(self) -> None:
        """While nothing is read silence means nothing; afterwards it does again."""
        pause: Deferred[None] = Deferred()
        following = self.follow(self.memory.node("a").follow(), pause)
        for number in range(WAITING + 1):
            self.memory.lag("b", 10**9 if number % 2 else 0)
        self.memory.hang("a")
        self.memory.clock.advance(10 * SILENCE)
        self.assertNoResult(following)
        pause.callback(None)
        self.assertNoResult(following)
        self.assertGreater(len(self.taken), WAITING)
        self.memory.clock.advance(SILENCE + 1.0)
        self.failureResultOf(following, Disconnected)

    def test_position(self) -> None:
        """A position is one that can be sent."""
        for after in ("", "7\r\nX: y", "x" * 201, "\u00e9"):
            self.assertRaises(ValueError, self.memory.node("a").follow, after=after)

    def test_nothing_left(self) -> None:
        """When it has ended neither the request nor a timer is left."""
        following = self.follow(self.memory.node("a").follow())
        following.cancel()
        self.failureResultOf(following, CancelledError)
        self.assertEqual((self.memory.open, self.memory.clock.getDelayedCalls()), (0, []))


class EventTests(SynchronousTestCase):
    """Documents, and the events that they are."""

    def test_types(self) -> None:
        """Each type has its class; one that is not known yet is an event like any other."""
        for kind, expected in (
            ("snapshot", Snapshot),
            ("gap", Gap),
            ("leader", LeaderEvent),
            ("member", MemberEvent),
            ("cluster", ClusterEvent),
            ("node", NodeEvent),
            ("config", ConfigEvent),
            ("history", HistoryEvent),
            ("operation", OperationEvent),
            ("weather", Event),
        ):
            document = {"type": kind, "number": 7, "data": {"name": "a"}}
            event = event_of(document, "7.x")
            self.assertIs(type(event), expected)
            self.assertEqual((event.type, event.number, event.position), (kind, 7, "7.x"))
            self.assertEqual((event.data, event.document), ({"name": "a"}, document))

    def test_strange(self) -> None:
        """Whatever a node sends is an event; what is wrong in it is not there."""
        strange: tuple[Any, ...] = (None, 7, "x", [], {}, [7], {"a": 7}, 2**100)
        keys = ("members", "operations", "member", "changed", "switchover", "leader", "name",
                "timeline", "old", "new", "after", "id", "lsn", "time", "reason")  # fmt: skip
        for kind in ("snapshot", "gap", "leader", "member", "cluster", "node", "config",
                     "history", "operation", None, 7):  # fmt: skip
            for value in strange:
                for data in (value, dict.fromkeys(keys, value)):
                    event = event_of({"type": kind, "number": value, "time": value, "data": data})
                    self.assertIsInstance(event, Event)
                    repr(event)
