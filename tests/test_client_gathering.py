"""Tests of twisted_patroni.client.gathering, with requests that end when the test says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from twisted_patroni.client.errors import NoLeader
from twisted_patroni.client.gathering import Gathering, Result, gather_responses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@define(eq=False)
class Requests:
    """Requests by the numbers of a range.

    :ivar made: those that were made, in order, and what they wait for.
    :ivar cancelled: the numbers of those that were cancelled.
    """

    made: list[Deferred[str]] = field(factory=list)
    cancelled: list[int] = field(factory=list)

    def request(self) -> Deferred[str]:
        """Make a request."""
        number = len(self.made)
        self.made.append(Deferred(lambda _: self.cancelled.append(number)))
        return self.made[-1]

    def some(self, number: int) -> list[Callable[[], Deferred[str]]]:
        """Return requests that know how many they are."""
        return [self.request] * number

    def endless(self) -> Iterator[Callable[[], Deferred[str]]]:
        """Give requests for ever."""
        while True:
            yield self.request


class GatheringTests(SynchronousTestCase):
    """Tests of gather_responses."""

    def setUp(self) -> None:
        """Begin without requests."""
        self.requests = Requests()
        self.read: list[Result[str]] = []

    def begin(self, gathering: Gathering[str]) -> Deferred[None]:
        """Read all results into a list."""

        async def read() -> None:
            async for result in gathering:
                self.read.append(result)

        return Deferred.fromCoroutine(read())

    def end(self, number: int, text: str = "done") -> None:
        """Let a request end well."""
        self.requests.made[number].callback(text)

    def test_order(self) -> None:
        """Results come in the order of completion, and say which request it was."""
        reading = self.begin(gather_responses(self.requests.some(3)))
        self.end(1, "b")
        self.end(2, "c")
        self.end(0, "a")
        self.successResultOf(reading)
        expected = [(1, "b"), (2, "c"), (0, "a")]
        self.assertEqual([(each.index, each.get()) for each in self.read], expected)

    def test_failures(self) -> None:
        """A request that fails is a result like others, also one that fails before it begins."""

        def broken() -> Deferred[str]:
            raise ZeroDivisionError

        reading = self.begin(gather_responses([broken, *self.requests.some(2)]))
        self.requests.made[0].errback(NoLeader("nobody"))
        self.end(1)
        self.successResultOf(reading)
        self.assertEqual([each.ok for each in self.read], [False, False, True])
        self.assertIsInstance(self.read[0].error, ZeroDivisionError)
        error = self.assertRaises(NoLeader, self.read[1].get)
        self.assertEqual(str(error), "nobody")
        self.assertIsNone(self.read[1].response)

    def test_coroutines(self) -> None:
        """Coroutines are as good as Deferreds, and so is what is known at once."""

        async def request() -> int:
            return 7

        async def total() -> int:
            return sum([each.get() async for each in gather_responses([request] * 3000, limit=2)])

        self.assertEqual(self.successResultOf(Deferred.fromCoroutine(total())), 21000)

    def test_nothing(self) -> None:
        """Without requests there are no results."""
        self.successResultOf(self.begin(gather_responses([])))
        self.assertEqual(self.read, [])

    def test_limit(self) -> None:
        """No more requests are made than may be on their way, from what may have no end."""
        gathering = gather_responses(self.requests.endless(), limit=3)
        self.assertEqual(gathering.begun, 0)
        self.begin(gathering)
        self.assertEqual((gathering.begun, gathering.pending), (3, 3))
        self.end(1)
        self.assertEqual((gathering.begun, gathering.pending), (4, 3))
        gathering.cancel()

    def test_bad_limit(self) -> None:
        """A limit that lets nothing begin is refused."""
        error = self.assertRaises(ValueError, gather_responses, [], limit=0)
        self.assertEqual(str(error), "limit is 0, and must be 1 or more")

    def test_slow_reader(self) -> None:
        """Requests go on while a result is looked at, until as many have ended as may be kept."""
        gathering, looked = gather_responses(self.requests.endless(), limit=2), Deferred[None]()

        async def read() -> None:
            async for result in gathering:
                self.read.append(result)
                await looked

        reading = Deferred.fromCoroutine(read())
        self.end(0)
        self.assertEqual(gathering.begun, 3)
        self.end(1)
        self.end(2)
        self.assertEqual((gathering.begun, gathering.pending), (3, 0))
        looked.callback(None)
        self.assertEqual([each.index for each in self.read], [0, 1, 2])
        self.assertEqual(gathering.pending, 2)
        reading.cancel()
        self.failureResultOf(reading, CancelledError)
        self.assertEqual(self.requests.cancelled, [3, 4])

    def test_pending(self) -> None:
        """Those still to be made are pending, too, if it is known how many they are."""
        gathering = gather_responses(self.requests.some(10), limit=2)
        self.assertEqual(gathering.pending, 10)
        reading = self.begin(gathering)
        for number in range(10):
            self.assertEqual(gathering.pending, 10 - number)
            self.end(number)
        self.successResultOf(reading)
        self.assertEqual(gathering.pending, 0)

    def test_leaving(self) -> None:
        """Leaving the loop cancels the rest at once, and nothing more is made."""
        gathering = gather_responses(self.requests.some(9), limit=3)

        async def first() -> int:
            async for result in gathering:
                return result.index
            return -1

        reading = Deferred.fromCoroutine(first())
        self.end(2)
        self.assertEqual(self.successResultOf(reading), 2)
        self.assertEqual(self.requests.cancelled, [0, 1, 3])
        self.assertEqual((gathering.pending, gathering.begun), (0, 4))

    def test_failing_reader(self) -> None:
        """So does an error in the loop."""

        async def read() -> None:
            async for _ in gather_responses(self.requests.some(4)):
                raise ZeroDivisionError

        reading = Deferred.fromCoroutine(read())
        self.end(0)
        self.failureResultOf(reading, ZeroDivisionError)
        self.assertEqual(self.requests.cancelled, [1, 2, 3])

    def test_reader_cancelled(self) -> None:
        """Whoever is cancelled while waiting for results cancels the requests."""
        reading = self.begin(gather_responses(self.requests.some(2)))
        reading.cancel()
        self.failureResultOf(reading, CancelledError)
        self.assertEqual(self.requests.cancelled, [0, 1])

    def test_cancel(self) -> None:
        """Cancelling ends the loop of who waits, cancels the requests, and is harmless later."""
        gathering = gather_responses(self.requests.some(5), limit=2)
        reading = self.begin(gathering)
        self.end(0)
        gathering.cancel()
        self.successResultOf(reading)
        self.assertEqual([each.index for each in self.read], [0])
        self.assertEqual(self.requests.cancelled, [1, 2])
        gathering.cancel()

    def test_cancel_by_request(self) -> None:
        """A request may cancel all, itself too."""
        gathering: Gathering[str]

        def request() -> Deferred[str]:
            gathering.cancel()
            return self.requests.request()

        gathering = gather_responses([request, *self.requests.some(2)])
        self.successResultOf(self.begin(gathering))
        self.assertEqual((self.requests.cancelled, self.read), ([0], []))

    def test_context(self) -> None:
        """The end of the context cancels what nobody reads any more."""
        kept = []

        async def read() -> None:
            async with gather_responses(self.requests.some(3)) as gathering:
                kept.append(aiter(gathering))  # kept alive, unlike that of a loop
                await anext(kept[0])

        reading = Deferred.fromCoroutine(read())
        self.end(1)
        self.successResultOf(reading)
        self.assertEqual(self.requests.cancelled, [0, 2])

    def test_once(self) -> None:
        """Results cannot be read twice."""
        gathering = gather_responses(self.requests.some(1))
        self.begin(gathering)
        self.failureResultOf(self.begin(gathering), RuntimeError)
        self.end(0)
        self.assertEqual(len(self.read), 1)

    def test_bad_source(self) -> None:
        """What fails to give the next request fails the reader, and cancels the others."""

        def source() -> Iterator[Callable[[], Deferred[str]]]:
            yield self.requests.request
            raise ZeroDivisionError

        reading = self.begin(gather_responses(source()))
        self.failureResultOf(reading, ZeroDivisionError)
        self.assertEqual(self.requests.cancelled, [0])
