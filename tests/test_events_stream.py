"""Tests of twisted_patroni.events.stream: numbers, what is kept, and who is told."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.event_views import view
from twisted_patroni.events import EventStream, Position
from twisted_patroni.events.stream import KEPT, SLICE

START = 1782907200.5


class StreamCase(SynchronousTestCase):
    """A stream whose clock the test sets."""

    def setUp(self) -> None:
        """Start a stream."""
        self.clock = Clock()
        self.clock.advance(START)
        self.stream = EventStream(self.clock)
        self.start = self.stream.newest

    def turn(self) -> None:
        """Let one turn of the reactor pass; a clock that is advanced would make several."""
        (call,) = self.clock.calls
        self.clock.calls.clear()
        call.func(*call.args)

    def publish(self, number: int = 1) -> None:
        """Publish some events.

        :param number: how many.
        """
        for _ in range(number):
            self.stream.publish("node", {})


class NumberTests(StreamCase):
    """Numbers."""

    def test_by_one(self) -> None:
        """They grow by one, from where the time is in milliseconds."""
        self.assertEqual(self.start, int(START * 1000))
        numbers = [self.stream.publish("node", {}).number for _ in range(3)]
        self.assertEqual(numbers, [self.start + 1, self.start + 2, self.start + 3])
        self.assertEqual(self.stream.newest, numbers[-1])

    def test_restart(self) -> None:
        """After a restart they are greater than before, and the stream has another name."""
        self.publish(50)
        self.clock.advance(1.0)
        again = EventStream(self.clock)
        self.assertGreater(again.newest, self.stream.newest)
        self.assertNotEqual(again.name, self.stream.name)
        self.assertRegex(again.name, "^[0-9a-f]{8}$")

    def test_event(self) -> None:
        """An event has its time, and the view that belongs to it."""
        self.stream.view = view()
        event = self.stream.publish("leader", {"new": "beta"})
        self.assertEqual((event.time, event.type, event.data), (START, "leader", {"new": "beta"}))
        self.assertIs(event.view, self.stream.view)

    def test_counted(self) -> None:
        """It is known how many of each type there were."""
        self.publish(3)
        self.stream.publish("leader", {})
        self.assertEqual(self.stream.published, {"node": 3, "leader": 1})


class BacklogTests(StreamCase):
    """What somebody has missed."""

    def since(self, number: int, stream: str | None = None) -> tuple[list[int], bool]:
        """Return the numbers since a position, and whether none is missing."""
        backlog = self.stream.since(Position(number, stream))
        return [event.number for event in backlog.events], backlog.complete

    def test_nothing(self) -> None:
        """Who has read everything gets nothing, before the first event and after any."""
        self.assertEqual(self.since(self.start), ([], True))
        self.publish(3)
        self.assertEqual(self.since(self.stream.newest), ([], True))
        self.assertEqual(self.stream.since(self.stream.position).complete, True)

    def test_rest(self) -> None:
        """Who comes back gets what came meanwhile, in order."""
        self.publish(5)
        self.assertEqual(self.since(self.start + 3), ([self.start + 4, self.start + 5], True))
        mine = self.since(self.start + 3, self.stream.name)
        self.assertEqual(mine, ([self.start + 4, self.start + 5], True))

    def test_ring(self) -> None:
        """The last thousand are kept; who needs an older one is told that it is lost."""
        self.assertEqual(self.stream.oldest, self.start + 1)
        self.publish(KEPT + 5)
        self.assertEqual(self.stream.oldest, self.start + 6)
        self.assertEqual(self.since(self.start + 4), ([], False))
        numbers, complete = self.since(self.start + 5)
        self.assertEqual((len(numbers), numbers[0], complete), (KEPT, self.start + 6, True))

    def test_foreign(self) -> None:
        """A position of another stream is worth nothing, nor one before this or in the future."""
        self.publish(5)
        for number, stream in (
            (self.start + 3, "00000000"),
            (self.start + 3, ""),
            (self.start - 1, None),
            (self.start - 1, self.stream.name),
            (self.stream.newest + 1, None),
            (self.stream.newest + 1, self.stream.name),
            (0, None),
        ):
            self.assertEqual(self.since(number, stream), ([], False), (number, stream))


class PositionTests(SynchronousTestCase):
    """Positions as text."""

    def test_read_and_written(self) -> None:
        """What is written can be read."""
        for position in (Position(1790000000123), Position(0), Position(7, "6fa3c001")):
            self.assertEqual(Position.parse(str(position)), position)
        self.assertEqual(str(Position(7, "6fa3c001")), "7.6fa3c001")

    def test_wrong(self) -> None:
        """Anything else is refused."""
        for text in ("", "x", "-1", "1.", ".a", "1.2.3", " 1", "1e3", "٣", "1" * 19, "1.é", "1\n",
                     "1." + "a" * 17, "1.a b"):  # fmt: skip
            self.assertRaises(ValueError, Position.parse, text)


class FollowTests(StreamCase):
    """Telling those who follow."""

    def setUp(self) -> None:
        """Note who was told."""
        super().setUp()
        self.told: list[Any] = []

    def follow(self, *names: object) -> list[Any]:
        """Have some follow; return what ends it for each."""
        return [self.stream.follow(lambda name=name: self.told.append(name)) for name in names]  # type: ignore[misc]

    def test_told_later_and_once(self) -> None:
        """They are told in a later turn, once for all that has come by then."""
        self.follow("a", "b")
        self.publish(3)
        self.assertEqual(self.told, [])
        self.clock.advance(0)
        self.assertEqual(self.told, ["a", "b"])
        self.publish()
        self.clock.advance(0)
        self.assertEqual(self.told, ["a", "b"] * 2)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_nobody(self) -> None:
        """Without anybody who follows, nothing is scheduled."""
        self.publish()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.follow("late")
        self.clock.advance(0)
        self.assertEqual(self.told, [])

    def test_slices(self) -> None:
        """However many follow, few are told in a turn of the reactor, and all in the end."""
        self.follow(*range(SLICE * 2 + 1))
        self.publish()
        sizes = []
        while self.clock.getDelayedCalls():
            before = len(self.told)
            self.turn()
            sizes.append(len(self.told) - before)
        self.assertEqual(sizes, [SLICE, SLICE, 1])
        self.assertEqual(self.told, [*range(SLICE * 2 + 1)])

    def test_nobody_starves(self) -> None:
        """With an event in each turn, the last are told as often as the first."""
        self.follow(*range(SLICE * 3))
        for _ in range(30):
            self.publish()
            self.turn()
        counts = [self.told.count(each) for each in range(SLICE * 3)]
        self.assertEqual((min(counts), max(counts)), (10, 10))

    def test_leaving(self) -> None:
        """Who has left is not told, not even of what came before; leaving twice is no error."""
        leave, _ = self.follow("a", "b")
        self.publish()
        leave()
        leave()
        self.clock.advance(0)
        self.assertEqual((self.told, self.stream.followers), (["b"], 1))

    def test_leaving_while_told(self) -> None:
        """One who is told may have another one leave, who is then not told."""
        ends: list[Any] = []
        self.stream.follow(lambda: ends[0]())
        ends += self.follow("b")
        self.follow("c")
        self.publish()
        self.clock.advance(0)
        self.assertEqual(self.told, ["c"])

    def test_following_while_told(self) -> None:
        """One who begins to follow while others are told is told of the next event."""
        self.stream.follow(lambda: self.told.extend(map(str, self.follow("new")[1:])))
        self.publish()
        self.clock.advance(0)
        self.assertEqual(self.told, [])
        self.publish()
        self.clock.advance(0)
        self.assertEqual(self.told, ["new"])

    def test_publishing_while_told(self) -> None:
        """An event that a follower causes is told in a turn of its own."""
        self.follow("a")
        self.stream.follow(lambda: self.publish() if self.stream.newest < self.start + 3 else None)
        self.publish()
        for _ in range(3):
            self.clock.advance(0)
        self.assertEqual(self.told, ["a"] * 3)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_broken(self) -> None:
        """One who fails is logged, and disturbs nobody else, now or later."""
        self.stream.follow(lambda: 1 / 0)  # type: ignore[arg-type]
        self.follow("b")
        for _ in range(2):
            self.publish()
            self.clock.advance(0)
        self.assertEqual(self.told, ["b", "b"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)
